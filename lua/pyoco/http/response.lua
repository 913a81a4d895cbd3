--- What a handler may return when a plain value (sent as JSON with status 200) is not enough.
local json = require "host.json"

local M = {}

local Response = {} -- its only use is to tell a response from a value

local SORTED = { sort = true } -- the same answer always reads the same

--- A response as it is.
---@param status integer
---@param headers table name = text, or a list of texts
---@param body string|nil
---@return table response
function M.new(status, headers, body)
  return setmetatable({ status = status, headers = headers, body = body }, Response)
end

---@param value any
---@return boolean whether value was made by this module
function M.is(value) return getmetatable(value) == Response end

--- A value as JSON. Raises when it cannot be: an answer is ours to get right.
---@param value any
---@param status integer|nil default 200
---@param headers table|nil more headers
---@return table response
function M.json(value, status, headers)
  local body, message = json.encode(value, SORTED)
  if not body then error("the answer is no JSON: " .. message, 2) end
  local all = { ["content-type"] = "application/json" }
  for name, text in pairs(headers or {}) do all[name] = text end
  return M.new(status or 200, all, body)
end

--- JSON text that is there already, sent as it is.
---@param text string
---@param status integer|nil default 200
---@return table response
function M.json_text(text, status) return M.new(status or 200, { ["content-type"] = "application/json" }, text) end

--- An error of the contract's shape: {"detail": ...}.
---@param status integer
---@param detail string|table
---@param more table|nil further fields beside detail
---@param headers table|nil
---@return table response
function M.error(status, detail, more, headers)
  local body = { detail = detail }
  for name, value in pairs(more or {}) do body[name] = value end
  return M.json(body, status, headers)
end

---@param text string
---@param status integer|nil default 200
---@param content_type string|nil default text/plain
---@return table response
function M.text(text, status, content_type)
  return M.new(status or 200, { ["content-type"] = content_type or "text/plain; charset=utf-8" }, text)
end

---@param text string
---@return table response
function M.html(text) return M.text(text, 200, "text/html; charset=utf-8") end

--- Tells the client to ask elsewhere.
---@param location string
---@param status integer|nil default 307: same method and body there
---@return table response
function M.redirect(location, status) return M.new(status or 307, { location = location }, "") end

--- Copies of opts what C reads of a stream (src/httpd/asked.c).
local function asking(stream, opts, keys)
  for _, key in ipairs(keys) do
    if opts[key] ~= json.null then stream[key] = opts[key] end
  end
  return setmetatable(stream, Response)
end

--- Asks for PBKDF2-HMAC-SHA256 of 32 bytes, which costs too much to hold this VM: the handler is called again with it
--- as req.derived. When another request has meanwhile asked for the same name, it is called again without.
---@param opts table { secret, salt, iterations, name }
---@return table response
function M.derive(opts) return setmetatable({ derive = opts }, Response) end

--- The event stream of a run (contract 8a). C drives it; this VM is free at once. C answers 404 by itself when the
--- run does not exist or is another tenant's, and 503 over the cap of streams: a handler need not read the run.
---@param opts table { run_id, tenant_id = the caller's (nil = may see all), brief = without task records,
---   since = unix seconds, timeout_sec = 60, until_terminal = boolean, last_event_id = revision that it has seen }
---@return table response
function M.watch(opts)
  return asking({ stream = "watch" }, opts, { "run_id", "tenant_id", "brief", "since", "timeout_sec", "until_terminal",
    "last_event_id" })
end

--- The event stream of all runs' changes (src/httpd/events.c says what it sends). C drives it; this VM is free at once.
---@param opts table { tenant_id = the caller's (nil = may see all), status, flow, tag, schedule_id,
---   workflow_yaml_sha256, q (texts; "" = any), timeout_sec = 60, last_event_id = text of the header, counts }
---@return table response
function M.events(opts)
  return asking({ stream = "events", run_status = opts.status }, opts, { "tenant_id", "flow", "tag", "schedule_id",
    "workflow_yaml_sha256", "q", "timeout_sec", "last_event_id", "counts" })
end

--- An answer that C holds back until a run has ended; this VM is free at once. In time it is the run's snapshot with
--- status 200 and the headers of `answer`; otherwise, or when too many streams are open, `answer` itself.
---@param opts table { run_id, tenant_id = the caller's (nil = may see all), brief = without task records, timeout_sec,
---   answer = response }
---@return table response
function M.wait(opts)
  local answer = opts.answer
  return asking({ stream = "wait", status = answer.status, headers = answer.headers, body = answer.body }, opts,
    { "run_id", "tenant_id", "brief", "timeout_sec" })
end

--- An answer whose body is an object of the Object Store, of any size. C reads and sends it piece by piece; this VM is
--- free at once. C answers by itself when the bytes cannot be read: 503, or 409 when it was replaced meanwhile.
---@param opts table { object = source (pyoco.nats.objects), headers, status = 200 }
---@return table response
function M.object(opts)
  return asking({ stream = "object", status = opts.status or 200, headers = opts.headers }, opts.object,
    { "bucket", "nuid", "size", "chunks", "sha256", "is_direct" })
end

return M
