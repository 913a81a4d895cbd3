--- Dead letters: messages of the stream dlq_stream, read by sequence; no consumer is made.
local json = require "host.json"
local wire = require "pyoco.run.wire"

local M = {}
local Letters = {}
Letters.__index = Letters

local REQUEST_TIMEOUT_MS = 2000

--- Adds a dead letter.
---@param token string last token of the subject: the job's tag
---@param body table CONTRACT 11.2
---@param msg_id string|nil the same letter again within two minutes is stored once
---@return table|nil ack
---@return string|nil message
---@return string|nil code
function Letters:publish(token, body, msg_id)
  local bytes, message, code = wire.letter(body)
  if not bytes then return nil, message, code end
  return self.backend.publish(self.prefix .. "." .. token, bytes,
    { msg_id = msg_id, expect_stream = self.stream, timeout_ms = REQUEST_TIMEOUT_MS })
end

--- How many dead letters the stream holds.
---@return integer|nil
---@return string|nil message
---@return string|nil code "not_found" when there is no such stream
function Letters:count()
  return self.backend.count(self.stream)
end

--- A letter of a stored message.
local function letter_of(msg)
  local body = json.decode(msg.data)
  local is_object = type(body) == "table" and not json.is_array(body)
  return { seq = msg.seq, stored_at = msg.time, subject = msg.subject, body = is_object and body or nil,
    data = msg.data }
end

--- The stream's messages; opened when they are first read.
local function messages_of(letters)
  letters.messages = letters.messages or letters.backend.work(letters.stream)
  return letters.messages
end

--- One letter.
---@param seq integer
---@return table|nil letter { seq, stored_at (unix seconds, the server's), subject, body (nil: no JSON object), data }
---@return string|nil message
---@return string|nil code "not_found"
function Letters:get(seq)
  local msg, message, code = messages_of(self):get(seq)
  if not msg then return nil, message, code end
  return letter_of(msg)
end

--- Some letters below a sequence, newest first.
---@param before integer|nil only those with a lower sequence; nil: from the newest on
---@param count integer how many sequences to look at
---@return table[]|nil letters as get gives them; fewer than count where some were deleted
---@return integer|string|nil before for those that are older, nil when there are none; or the message
---@return string|nil code "not_found" when there is no such stream
function Letters:page(before, count)
  local messages = messages_of(self)
  local info, message, code = messages:info()
  if not info then return nil, message, code end
  local last = math.min(info.last_seq, (before or math.maxinteger) - 1)
  local first = math.max(info.first_seq, last - count + 1)
  local list, from = {}, first
  while from and from <= last do
    local part, next_from, failed = messages:read(from, last)
    if not part then return nil, next_from, failed end
    for _, msg in ipairs(part) do table.insert(list, 1, letter_of(msg)) end
    from = next_from
  end
  return list, first > info.first_seq and info.messages > 0 and first or nil
end

--- The verbs over a backend.
---@param cfg table dlq_stream, dlq_subject_prefix
---@param backend table (store/verbs.lua)
---@return table letters
function M.new(cfg, backend)
  return setmetatable({ backend = backend, prefix = cfg.dlq_subject_prefix, stream = cfg.dlq_stream }, Letters)
end

return M
