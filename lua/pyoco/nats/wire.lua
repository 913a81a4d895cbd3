--- JetStream's wire formats: error answers, acknowledgement subjects, stored messages, times.
local json = require "host.json"
local crypto = require "host.crypto"

local M = {}

--- err_code of an API error -> our code, where the HTTP-like `code` of the answer says too little.
M.error_codes = {
  [10003] = "invalid", -- bad request
  [10014] = "not_found", -- consumer not found
  [10023] = "unavailable", -- insufficient resources
  [10037] = "not_found", -- no message found
  [10039] = "unavailable", -- JetStream not enabled for the account
  [10047] = "unavailable", -- insufficient storage
  [10054] = "too_large", -- message larger than the stream allows
  [10057] = "not_found", -- no such sequence to delete
  [10058] = "conflict", -- a stream of this name with another configuration
  [10059] = "not_found", -- stream not found
  [10060] = "conflict", -- the subject belongs to another stream than expected
  [10065] = "conflict", -- subjects overlap with another stream
  [10071] = "conflict", -- wrong last sequence
  [10076] = "unavailable", -- JetStream not enabled
  [10077] = "unavailable", -- the stream is full
  [10099] = "conflict", -- work queue: a second consumer without filter
  [10100] = "conflict", -- work queue: filters overlap
  [10105] = "conflict", -- consumer name in use
  [10148] = "conflict", -- consumer already exists
}

local by_http = { [400] = "invalid", [401] = "unauthorized", [403] = "forbidden", [404] = "not_found",
  [408] = "timeout", [409] = "conflict", [503] = "unavailable" }

--- Decodes the answer of a JetStream API call or a publish acknowledgement.
---@param msg table reply message
---@param what string what was asked, for the message
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return integer|nil err_code JetStream's own
function M.answer(msg, what)
  local answer, message = json.decode(msg.data)
  if type(answer) ~= "table" then
    return nil, ("%s: the answer is no JSON object: %s"):format(what, message or msg.data:sub(1, 80)), "internal"
  end
  local err = answer.error
  if type(err) ~= "table" then return answer end
  local code = M.error_codes[err.err_code] or by_http[err.code] or "internal"
  return nil, ("%s: %s"):format(what, err.description or "failed"), code, err.err_code
end

--- Unix seconds of an RFC 3339 time in UTC with up to nine decimals.
---@param text string as "2026-11-24T19:55:49.123456789Z"
---@return number|nil seconds nil when it is no such time
function M.unix_time(text)
  local y, mo, d, h, mi, s, frac = tostring(text):match("^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)(%.?%d*)Z$")
  if not y then return nil end
  y, mo, d = math.tointeger(y), math.tointeger(mo), math.tointeger(d)
  -- days from 1970-01-01: years counted from March, so that the leap day is a year's last
  if mo <= 2 then y = y - 1 end
  local era_year = (mo + 9) % 12
  local days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * era_year + 2) // 5 + d - 1 - 719468
  return days * 86400 + h * 3600 + mi * 60 + s + (tonumber("0" .. frac) or 0)
end

--- Headers of a stored message, from its header block.
---@param block string "NATS/1.0\r\nName: value\r\n\r\n"
---@return table<string,string> headers first value of each name
function M.parse_headers(block)
  local headers = {}
  for name, value in block:gmatch("\r\n([^:\r\n]+): *([^\r\n]*)") do
    headers[name] = headers[name] or value
  end
  return headers
end

--- A stored message from an answer of STREAM.MSG.GET.
---@param stored table the answer's `message`
---@return table {subject, data, headers, seq, time} time in unix seconds
function M.stored(stored)
  return {
    subject = stored.subject, seq = stored.seq, time = M.unix_time(stored.time),
    data = stored.data and crypto.base64_decode(stored.data) or "",
    headers = stored.hdrs and M.parse_headers(crypto.base64_decode(stored.hdrs)) or {},
  }
end

--- A stored message from an answer of DIRECT.GET.
---@param msg table reply message
---@return table {subject, data, headers, seq, time}
function M.direct(msg)
  local headers = msg.headers
  return {
    subject = headers["Nats-Subject"], seq = math.tointeger(headers["Nats-Sequence"]),
    time = M.unix_time(headers["Nats-Time-Stamp"]), data = msg.data, headers = headers,
  }
end

--- What a delivered message's reply subject says.
---@param reply string "$JS.ACK...."
---@return table|nil {stream, consumer, delivered, stream_seq, consumer_seq, time, pending}; time in unix seconds;
---nil when it is no acknowledgement subject
function M.parse_reply(reply)
  local stream, consumer, delivered, seq, consumer_seq, time, pending =
    tostring(reply):match("^%$JS%.ACK%.([^.]+)%.([^.]+)%.(%d+)%.(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  if stream then
    local int = math.tointeger
    return { stream = stream, consumer = consumer, delivered = int(delivered), stream_seq = int(seq),
      consumer_seq = int(consumer_seq), time = int(time) / 1e9, pending = int(pending) }
  end
  local tokens = {}
  for token in tostring(reply):gmatch("[^.]+") do tokens[#tokens + 1] = token end
  if tokens[1] ~= "$JS" or tokens[2] ~= "ACK" or #tokens < 9 then return nil end
  local at = #tokens >= 11 and 5 or 3 -- newer servers put the domain and the account's hash first
  local int = math.tointeger
  local nanoseconds = int(tokens[at + 5])
  return {
    stream = tokens[at], consumer = tokens[at + 1], delivered = int(tokens[at + 2]),
    stream_seq = int(tokens[at + 3]), consumer_seq = int(tokens[at + 4]),
    time = nanoseconds and nanoseconds / 1e9, pending = int(tokens[at + 6]),
  }
end

return M
