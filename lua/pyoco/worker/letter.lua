--- Dead letters (CONTRACT 11.2) and what a worker logs of a job's end.
local json = require "host.json"

local M = {}

local PAYLOAD_MAX_BYTES = 4096

local FIELDS = { "run_id", "flow_name", "tag", "tags", "tenant_id", "api_key_id" }

--- The first bytes of a message as text: what is no UTF-8 is replaced.
local function as_text(data)
  local head, parts, at = data:sub(1, PAYLOAD_MAX_BYTES), {}, 1
  while at <= #head do
    local _, bad = utf8.len(head, at)
    if not bad then
      parts[#parts + 1] = head:sub(at)
      break
    end
    parts[#parts + 1] = head:sub(at, bad - 1)
    parts[#parts + 1] = "\u{FFFD}"
    at = bad + 1
  end
  return table.concat(parts)
end

--- The dead letter's body.
---@param reason string
---@param job table the supervisor's job
---@param fields table the slot's report: error and what is known of the run
---@param worker_id string
---@param now number unix seconds
---@return table
function M.make(reason, job, fields, worker_id, now)
  local body = { reason = reason, error = fields.error or json.null, timestamp = now, worker_id = worker_id }
  if reason == "invalid_job" then
    body.subject, body.num_delivered, body.payload = job.subject, job.delivery, as_text(job.data)
    return body
  end
  for _, name in ipairs(FIELDS) do
    local value = fields[name]
    if value == nil then value = json.null end
    body[name] = value
  end
  return body
end

--- The last token of its subject: the job's tag, or the message's for what is no job.
---@param reason string
---@param job table
---@param fields table
---@return string
function M.token(reason, job, fields)
  local tag = reason ~= "invalid_job" and fields.tag or nil
  if type(tag) == "string" and tag:find("^[%w_-]+$") then return tag end
  return job.subject:match("[^.]+$")
end

--- outcome -> log event of pyoco.err and its message, as the contract words them.
local LINES = {
  invalid_job = { "invalid_job", "invalid job payload" },
  flow_not_found = { "flow_not_found", "flow not found" },
  invalid_flow = { "execution", "invalid workflow for job" },
  failed = { "execution", "execution error" },
  worker_crashed = { "execution", "execution error" },
  max_attempts = { "execution", "execution error" },
  unavailable = { "nats", "transient nats error during job processing" },
  internal = { "execution", "unexpected error during job processing" },
}

--- Logs a job's end; one that went well says nothing.
---@param log table logger
---@param outcome string
---@param job table
---@param fields table { error, traceback, flow_name }
function M.log(log, outcome, job, fields)
  local line = LINES[outcome]
  if not line then return end
  log:event(line[1], line[2], { run_id = job.run_id, flow_name = fields.flow_name,
    tag = M.token(outcome, job, fields),
    reason = outcome == "invalid_job" and fields.error or nil },
    fields.error and { type = outcome, message = fields.error, traceback = fields.traceback } or nil)
end

return M
