--- JetStream over request and reply: streams, consumers, publish with expectations, stored messages.
--- Every call goes through `rpc`, so it serves blocking and loop mode alike (pyoco.nats.rpc makes it).
--- Failures are nil, message, code, err_code (JetStream's own number, when the server gave one).
local json = require "host.json"
local wire = require "pyoco.nats.wire"

local M = {}
local JetStream = {}
JetStream.__index = JetStream

local MORE_MS, MOST_MORE_MS = 8, 2500 -- for each of many requests in flight, and for all of them

--- Acknowledgements, published to a delivered message's reply subject.
M.ACK = "+ACK"
M.NAK = "-NAK"
M.PROGRESS = "+WPI"
M.TERM = "+TERM"

M.parse_reply = wire.parse_reply

--- A negative acknowledgement that asks for redelivery after a delay.
---@param delay_sec number
---@return string payload
function M.nak(delay_sec)
  return ('-NAK {"delay":%d}'):format(math.floor(delay_sec * 1e9))
end

--- The payload of a pull request.
---@param opts table batch (default 1), expires_ns, no_wait, idle_heartbeat (ns)
---@return string payload
function M.pull_request(opts)
  local request = { batch = opts.batch or 1, expires = opts.expires_ns, no_wait = opts.no_wait or nil,
    idle_heartbeat = opts.idle_heartbeat }
  return assert(json.encode(request))
end

--- The subject that a pull request is published to (its reply subject gets the messages).
---@param stream string
---@param consumer string durable or ephemeral name
---@return string subject
function M.pull_subject(stream, consumer)
  return ("$JS.API.CONSUMER.MSG.NEXT.%s.%s"):format(stream, consumer)
end

--- A JetStream context.
---@param rpc fun(subject, data, timeout_ms, headers):table|nil, string|nil, string|nil
---@param many nil|fun(requests, timeout_ms):table several requests in flight; default: one after the other
---@param opts table|nil timeout_ms (default 5000)
---@return table js
function M.new(rpc, many, opts)
  return setmetatable({ rpc = rpc, many = many, timeout_ms = opts and opts.timeout_ms or 5000 }, JetStream)
end

--- A name that may stand in an API subject: "invalid" otherwise.
local function check_name(kind, name)
  if type(name) == "string" and name:find("^[^%s.*>/\\%c]+$") then return true end
  return nil, ("%s name '%s' holds a dot, a space, a wildcard or a slash, or is empty"):format(kind, tostring(name)),
    "invalid"
end

--- One API call. Names are checked before, as they become part of the subject.
local function call(js, what, subject, body)
  local msg, message, code = js.rpc("$JS.API." .. subject, body and assert(json.encode(body)), js.timeout_ms)
  if not msg then return nil, ("%s: %s"):format(what, message), code end
  return wire.answer(msg, what)
end

local function stream_call(js, verb, stream, body)
  local ok, message, code = check_name("stream", stream)
  if not ok then return nil, message, code end
  return call(js, ("stream %s"):format(stream), ("STREAM.%s.%s"):format(verb, stream), body)
end

local function consumer_call(js, verb, stream, consumer, body)
  local ok, message, code = check_name("stream", stream)
  if ok then ok, message, code = check_name("consumer", consumer) end
  if not ok then return nil, message, code end
  return call(js, ("consumer %s of %s"):format(consumer, stream), ("CONSUMER.%s.%s.%s"):format(verb, stream, consumer),
    body)
end

--- What the server says of this account; the way to tell a server without JetStream.
---@return table|nil info
---@return string|nil message
---@return string|nil code "unavailable" when there is no JetStream
function JetStream:account_info()
  local info, message, code, err_code = call(self, "JetStream", "INFO")
  if not info and code == "unavailable" and message:find("nobody answers", 1, true) then
    message = "this NATS server has no JetStream; start it with -js"
  end
  return info, message, code, err_code
end

--- A stream's configuration and state.
---@param stream string
---@param query table|nil subjects_filter (count per subject in state.subjects), offset
---@return table|nil info
---@return string|nil message
---@return string|nil code "not_found"
function JetStream:stream_info(stream, query) return stream_call(self, "INFO", stream, query) end

--- Creates a stream. The same configuration again is fine.
---@param config table as JetStream's API has it, with name
---@return table|nil info
---@return string|nil message
---@return string|nil code "conflict" when one of that name differs or subjects overlap
function JetStream:stream_create(config) return stream_call(self, "CREATE", config.name, config) end

--- Changes a stream's configuration.
---@param config table with name
---@return table|nil info
---@return string|nil message
---@return string|nil code
function JetStream:stream_update(config) return stream_call(self, "UPDATE", config.name, config) end

--- Deletes a stream with all that it holds.
---@param stream string
---@return table|nil answer
---@return string|nil message
---@return string|nil code "not_found"
function JetStream:stream_delete(stream) return stream_call(self, "DELETE", stream) end

--- Creates a stream unless one of that name exists, which is left as it is.
---@param config table with name
---@return table|nil info
---@return string|nil message
---@return string|nil code
function JetStream:stream_ensure(config)
  local info, message, code, err_code = self:stream_info(config.name)
  if info or code ~= "not_found" then return info, message, code, err_code end
  info, message, code, err_code = self:stream_create(config)
  if code == "conflict" then return self:stream_info(config.name) end
  return info, message, code, err_code
end

--- Deletes messages of a stream.
---@param stream string
---@param filter table|nil subject (filter), seq (those below it), keep (all but the last n)
---@return integer|nil purged
---@return string|nil message
---@return string|nil code
function JetStream:purge(stream, filter)
  local body = filter and { filter = filter.subject, seq = filter.seq, keep = filter.keep }
  local answer, message, code, err_code = stream_call(self, "PURGE", stream, body)
  if not answer then return nil, message, code, err_code end
  return answer.purged
end

--- A consumer's configuration and state.
---@param stream string
---@param consumer string
---@return table|nil info
---@return string|nil message
---@return string|nil code "not_found"
function JetStream:consumer_info(stream, consumer) return consumer_call(self, "INFO", stream, consumer) end

--- Creates a consumer: durable when the configuration has durable_name, else ephemeral (the answer's name).
--- nats-server 2.9 changes an existing durable; ask consumer_info first to leave it as it is.
---@param stream string
---@param config table as JetStream's API has it
---@return table|nil info
---@return string|nil message
---@return string|nil code "conflict" when a work queue has one for these subjects
function JetStream:consumer_create(stream, config)
  local body = { stream_name = stream, config = config }
  if config.durable_name then return consumer_call(self, "DURABLE.CREATE", stream, config.durable_name, body) end
  local ok, message, code = check_name("stream", stream)
  if not ok then return nil, message, code end
  return call(self, "consumer of " .. stream, "CONSUMER.CREATE." .. stream, body)
end

--- Deletes a consumer.
---@param stream string
---@param consumer string
---@return table|nil answer
---@return string|nil message
---@return string|nil code "not_found"
function JetStream:consumer_delete(stream, consumer) return consumer_call(self, "DELETE", stream, consumer) end

--- The message in a reply to STREAM.MSG.GET or DIRECT.GET; public for callers with many such requests in flight.
---@param msg table reply
---@param stream string
---@param what string|integer subject or sequence that was asked for
---@param is_direct boolean the reply is one to DIRECT.GET
---@return table|nil message {subject, data, headers, seq, time} time in unix seconds, the server's
---@return string|nil text
---@return string|nil code "not_found"
function M.stored_reply(msg, stream, what, is_direct)
  local status = msg.headers and msg.headers.Status
  if is_direct and not status then return wire.direct(msg) end
  if is_direct and status ~= "404" then
    return nil, ("stream %s: %s %s"):format(stream, status, msg.headers.Description or ""), "internal"
  end
  local answer, text, code, err_code
  if is_direct then
    err_code = 10037
  else
    answer, text, code, err_code = wire.answer(msg, "stream " .. stream)
  end
  if answer then return wire.stored(answer.message) end
  if err_code == 10037 then
    return nil, ("stream %s has no message at %s"):format(stream, what), "not_found", err_code
  end
  return nil, text, code, err_code
end

local function get_stored(js, stream, body, what)
  local ok, text, code = check_name("stream", stream)
  if not ok then return nil, text, code end
  local msg
  msg, text, code = js.rpc("$JS.API.STREAM.MSG.GET." .. stream, assert(json.encode(body)), js.timeout_ms)
  if not msg then return nil, ("stream %s: %s"):format(stream, text), code end
  return M.stored_reply(msg, stream, what, false)
end

--- A stored message by its sequence.
---@param stream string
---@param seq integer
---@return table|nil message {subject, data, headers, seq, time} time in unix seconds, the server's
---@return string|nil text
---@return string|nil code "not_found"
function JetStream:get_msg(stream, seq) return get_stored(self, stream, { seq = seq }, seq) end

--- The first stored message at or after a sequence whose subject matches.
---@param stream string
---@param seq integer
---@param subject string a filter
---@return table|nil message
---@return string|nil text
---@return string|nil code "not_found"
function JetStream:next_msg(stream, seq, subject)
  return get_stored(self, stream, { seq = seq, next_by_subj = subject }, ("%d or later on %s"):format(seq, subject))
end

--- The last stored message of a subject.
---@param stream string
---@param subject string
---@param opts table|nil direct: ask with DIRECT.GET (a stream with allow_direct; quicker, but any replica may answer)
---@return table|nil message {subject, data, headers, seq, time}
---@return string|nil text
---@return string|nil code "not_found"
function JetStream:last_msg(stream, subject, opts)
  if not (opts and opts.direct) then return get_stored(self, stream, { last_by_subj = subject }, subject) end
  local ok, text, code = check_name("stream", stream)
  if not ok then return nil, text, code end
  local msg
  msg, text, code = self.rpc(("$JS.API.DIRECT.GET.%s.%s"):format(stream, subject), nil, self.timeout_ms)
  if not msg then return nil, text, code end
  return M.stored_reply(msg, stream, subject, true)
end

--- Deletes one stored message (from a work queue: the job goes, delivered or not).
---@param stream string
---@param seq integer
---@return boolean|nil done
---@return string|nil message
---@return string|nil code "not_found" when it is gone already
function JetStream:delete_msg(stream, seq)
  local answer, message, code, err_code = stream_call(self, "MSG.DELETE", stream, { seq = seq })
  if not answer then return nil, message, code, err_code end
  return true
end

local function publish_headers(opts)
  if not opts then return nil end
  local headers = {}
  for name, value in pairs(opts.headers or {}) do headers[name] = value end
  if opts.msg_id then headers["Nats-Msg-Id"] = opts.msg_id end
  if opts.expect_stream then headers["Nats-Expected-Stream"] = opts.expect_stream end
  if opts.expect_last_subject_seq then
    headers["Nats-Expected-Last-Subject-Sequence"] = ("%d"):format(opts.expect_last_subject_seq)
  end
  return next(headers) and headers
end

local function pub_ack(msg, subject)
  local ack, message, code, err_code = wire.answer(msg, "publish to " .. subject)
  if not ack then return nil, message, code, err_code end
  return { seq = ack.seq, duplicate = ack.duplicate == true, stream = ack.stream }
end

--- Publishes into whatever stream listens on a subject and waits for its acknowledgement. After "timeout" and
--- after "unavailable" because the connection broke, the message may or may not have been stored.
---@param subject string
---@param data string
---@param opts table|nil msg_id, expect_stream, expect_last_subject_seq (0: no message yet), headers, timeout_ms
---@return table|nil ack {seq, duplicate, stream}
---@return string|nil message
---@return string|nil code "conflict" (an expectation failed; err_code 10071), "too_large", "unavailable"
---@return integer|nil err_code
function JetStream:publish(subject, data, opts)
  local msg, message, code = self.rpc(subject, data, opts and opts.timeout_ms or self.timeout_ms, publish_headers(opts))
  if not msg then
    if code == "unavailable" and message:find("nobody answers", 1, true) then
      message = ("no stream takes %s: it is missing, or the NATS server runs without JetStream (-js)"):format(subject)
    end
    return nil, message, code
  end
  return pub_ack(msg, subject)
end

--- Publishes several messages with all of them in flight at once, in order, and waits for every acknowledgement.
---@param list table[] { subject, data, opts } as publish takes them
---@param timeout_ms integer|nil for all together
---@return table[] results as many as list: an ack, or { message, code, err_code }
---@return integer failed how many are failures
function JetStream:publish_many(list, timeout_ms)
  local requests, results, failed = {}, {}, 0
  for i, it in ipairs(list) do requests[i] = { it[1], it[2], publish_headers(it[3]) } end
  local replies, text, why = self:request_many(requests, timeout_ms)
  for i, it in ipairs(list) do
    local reply = replies and replies[i] or { message = text, code = why }
    local ack, message, code, err_code = nil, reply.message, reply.code, nil
    if not reply.code then ack, message, code, err_code = pub_ack(reply, it[1]) end
    results[i] = ack or { message = message, code = code, err_code = err_code }
    if not ack then failed = failed + 1 end
  end
  return results, failed
end

--- Sends several requests, all in flight at once when the transport can.
---@param requests table[] { subject, data, headers }
---@param timeout_ms integer|nil for all together; default: that of one, and more for each (a server that has to read
---  many old blocks from its disk takes its time)
---@return table[]|nil replies each a message, or { message, code }
---@return string|nil message
---@return string|nil code
function JetStream:request_many(requests, timeout_ms)
  if self.many then
    return self.many(requests, timeout_ms or self.timeout_ms + math.min(MORE_MS * #requests, MOST_MORE_MS))
  end
  timeout_ms = timeout_ms or self.timeout_ms
  local replies = {}
  for i, it in ipairs(requests) do
    local msg, message, code = self.rpc(it[1], it[2], timeout_ms, it[3])
    replies[i] = msg or { message = message, code = code }
  end
  return replies
end

return M
