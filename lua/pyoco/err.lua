--- The closed list of error codes, and what the two edges make of each: the gateway an HTTP status (http/app), the
--- worker an ack action (worker/outcome). Failures travel as `nil, message, code`; error() is for bugs.
local M = {}

--- code -> { status = HTTP status, ack = what a worker does with the job's message, doc = meaning }.
--- ack: "ack" done with it, "nak" again after 2 s, "term" never again.
M.codes = {
  invalid = { status = 422, ack = "term", doc = "what was given does not fit; the message names field and place" },
  not_found = { status = 404, ack = "ack", doc = "there is no such thing" },
  conflict = { status = 409, ack = "nak", doc = "somebody else changed or holds it" },
  timeout = { status = 503, ack = "nak", doc = "no answer in time; the fate of a write is unknown" },
  unavailable = { status = 503, ack = "nak", doc = "NATS or a part of ours cannot be reached now" },
  unauthorized = { status = 401, ack = "ack", doc = "a key is needed" },
  forbidden = { status = 403, ack = "ack", doc = "the key, or the caller, may not do this" },
  too_large = { status = 413, ack = "ack", doc = "over a limit" },
  unsupported = { status = 415, ack = "ack", doc = "a form that we do not take" },
  limited = { status = 429, ack = "nak", doc = "asked too often; the answer says when to try again" },
  cancelled = { status = 409, ack = "ack", doc = "stopped on request" },
  internal = { status = 500, ack = "ack", doc = "a bug of ours; the log has the traceback" },
}

--- Ids that log lines of the contract carry: event -> number (ERR-PYOCO-00nn and MSG-PYOCO-00nn) and level.
M.events = {
  bad_input = { 2, "INFO" },
  nats = { 3, "ERROR" },
  run_not_found = { 5, "INFO" },
  flow_not_found = { 6, "ERROR" },
  execution = { 7, "ERROR" },
  invalid_job = { 12, "ERROR" },
  missing_key = { 14, "INFO" },
  invalid_key = { 15, "INFO" },
  yaml_too_large = { 16, "INFO" },
  bad_list_query = { 17, "INFO" },
  bad_workers_query = { 19, "INFO" },
  worker_not_found = { 20, "INFO" },
  cancel_grace_exceeded = { 21, "WARNING" },
}

---@param code any
---@return boolean whether it is one of the closed list
function M.is_code(code) return M.codes[code] ~= nil end

---@param code string|nil
---@return integer HTTP status; an unknown code is a bug of ours, so 500
function M.status(code) return (M.codes[code] or M.codes.internal).status end

---@param code string|nil
---@return string "ack" | "nak" | "term"
function M.ack(code) return (M.codes[code] or M.codes.internal).ack end

local cause -- of the failure that is being passed on, for the log

--- Keeps what failed below, and where, for the log line of the request that fails with it. The same message again,
--- as it is passed upwards, changes nothing.
---@param kind string code
---@param message string
function M.note_cause(kind, message)
  if cause and cause.message == message then return end
  cause = { type = kind, message = message, traceback = debug.traceback(message, 3) }
end

--- What a failure is called in an answer: the contract's class of it where NATS is the cause (CONTRACT 6). Callers may
--- be strangers: where NATS is, and what it said, stays in the log.
---@param message string
---@return string
function M.public(message)
  local said = message:match "^nats unavailable: (.*)$"
  if not said then return message end
  local kind = cause and cause.message == said and cause.type
  if kind == "timeout" then return "nats unavailable: TimeoutError" end
  if kind == "too_large" then return "nats unavailable: MaxPayloadError" end
  if said:find("not connected to NATS", 1, true) or said:find "^NATS is " then
    return "nats unavailable: ConnectionError"
  end
  return message
end

--- The cause noted last, once.
---@return table|nil { type, message, traceback }
function M.take_cause()
  local noted = cause
  cause = nil
  return noted
end

---@param event string key of M.events
---@return string err_id
---@return string msg_id
---@return string level
function M.ids(event)
  local row = M.events[event] or error("no log event is called " .. tostring(event), 2)
  return ("ERR-PYOCO-%04d"):format(row[1]), ("MSG-PYOCO-%04d"):format(row[1]), row[2]
end

return M
