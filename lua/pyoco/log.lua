--- Log lines on standard output, as the contract (section 14) has them: one JSON object a line, or text.
---
---   local log = require("pyoco.log").new { service = "pyoco-server:worker", logger = "pyoco_server.worker",
---     config = cfg }
---   log:info("worker started", { worker_id = "w1" })
---   log:event("flow_not_found", "flow not found", { run_id = id }, { message = text, traceback = trace })
---
--- A line is one write, so lines of many threads and processes do not mix.
local json = require "host.json"
local uv = require "luv"
local err = require "pyoco.err"

local M = {}

local LEVELS = { DEBUG = 10, INFO = 20, WARNING = 30, ERROR = 40, CRITICAL = 50 }
--- The contract's order, so that lines can be compared by eye; then come our own keys, by name.
local ORDER = { "ts", "service", "level", "logger", "message", "pathname", "lineno", "func", "process", "thread",
  "err_id", "msg_id", "run_id", "flow_name", "tag", "worker_id", "reason", "schedule_id", "api_key_id", "wheel_name",
  "scope", "state", "size_bytes", "max_bytes", "action", "tags", "exc_type", "exc_message", "exc_traceback",
  "exc_origin" }
local ENCODING = { order = ORDER, sort = true, ascii = true }
local TEXT_CONTEXT = { "err_id", "msg_id", "run_id", "flow_name", "tag", "worker_id", "reason" }

local TEXT_MAX_BYTES, TRACE_MAX_BYTES = 4096, 32768 -- what clients send may be long, and ends in lines

local Logger = {}
Logger.__index = Logger

--- Our process id; luv 1.44 gives it as a float.
local function process_id() return math.tointeger(uv.os_getpid()) end

--- Number of the calling thread, as the system counts them.
local function thread_id()
  local link = uv.fs_readlink("/proc/thread-self")
  return link and math.tointeger(tonumber(link:match("task/(%d+)"))) or process_id()
end

local function timestamp(seconds, utc)
  return utc and os.date("!%Y-%m-%dT%H:%M:%SZ", seconds) or os.date("%Y-%m-%dT%H:%M:%S%z", seconds)
end

--- A text of a line; a long one is cut between two characters.
local function cut(text, max_bytes)
  if type(text) ~= "string" or #text <= max_bytes then return text end
  return text:sub(1, utf8.offset(text, 0, max_bytes + 1) - 1) .. "..."
end

--- The first place "file:line:" of a text, with the function that stands behind it. A file has a dot or a slash.
local function origin_of(text)
  for at, line in text:gmatch "():(%d+):" do
    local file = text:sub(math.max(1, at - 300), at - 1):match "[^%s:'\"]*$"
    if file:find "[./]" then
      return { file = file, line = math.tointeger(tonumber(line)), func = text:match("in [%w ]*'([^']+)'") or "?" }
    end
  end
end

--- Fields of an error: type, message and, when wanted, traceback and the first place that it names. A message that
--- carries its traceback, as xpcall(..., debug.traceback) gives it, is taken apart.
local function exception_fields(record, exception, with_traceback)
  local message, trace = exception.message, exception.traceback
  if message and message:find("\nstack traceback:", 1, true) then
    message, trace = message:match("^(.-)\nstack traceback:"), trace or message
  end
  record.exc_type = exception.type or exception.code or "error"
  record.exc_message = cut(message, TEXT_MAX_BYTES)
  if not with_traceback then return end
  record.exc_traceback = cut(trace, TRACE_MAX_BYTES)
  record.exc_origin = origin_of((trace or message or ""):sub(1, TEXT_MAX_BYTES))
end

--- A text that stays on its line: nobody forges a line by what he sends.
local function flat(text) return (text:gsub("%c", " ")) end

local function as_text(record)
  local context = {}
  for _, key in ipairs(TEXT_CONTEXT) do
    if record[key] ~= nil then context[#context + 1] = key .. "=" .. flat(tostring(record[key])) end
  end
  local line = ("%s %s %s %s:%d %s - %s"):format(record.level, record.service, record.logger, record.pathname,
    record.lineno, record.func, flat(record.message))
  if #context > 0 then line = line .. " (" .. table.concat(context, ", ") .. ")" end
  local trace = record.exc_traceback or record.exc_message
  return trace and line .. "\n" .. trace or line
end

local function as_json(record)
  local text = json.encode(record, ENCODING)
  if text then return text end
  local plain = {} -- a context value that is no JSON must not cost the line
  for key, value in pairs(record) do
    plain[key] = type(value) == "table" and "(not JSON)" or (tostring(value):gsub("[\x80-\xff]", "?"))
  end
  return json.encode(plain, ENCODING)
end

--- Where a caller stands: depth as debug.getinfo takes it in the function that calls this.
local function place_of(depth)
  local info = debug.getinfo(depth + 1, "Sln") or {}
  return { pathname = info.short_src or "?", lineno = info.currentline or 0, func = info.name or "main" }
end

--- Writes a line. Context keys stand beside the fixed ones and never replace them.
---@param level string
---@param message string
---@param context table|nil
---@param exception table|nil { type, message, traceback }
---@param place integer|table|nil stack level of the caller whose place is shown; or { pathname, lineno, func }
function Logger:write(level, message, context, exception, place)
  if LEVELS[level] < self.threshold then return end
  if type(place) ~= "table" then place = place_of(place or 2) end
  local record = {}
  for _, source in ipairs { self.context, context or {} } do
    for key, value in pairs(source) do record[key] = cut(value, TEXT_MAX_BYTES) end
  end
  if exception then exception_fields(record, exception, self.traceback) end
  record.ts, record.level = timestamp(self.now(), self.utc), level
  record.service, record.logger = self.service, self.name
  record.message, record.pathname, record.lineno = cut(message, TEXT_MAX_BYTES), place.pathname, place.lineno
  record.func, record.process, record.thread = place.func, self.process, self.thread
  self.sink((self.format == "text" and as_text(record) or as_json(record)) .. "\n")
end

for _, level in ipairs { "DEBUG", "INFO", "WARNING", "ERROR" } do
  Logger[level:lower()] = function(self, message, context, exception)
    self:write(level, message, context, exception, 3)
  end
end

--- Writes a line that the contract gives an id to, with its ids and level.
---@param event string key of pyoco.err's events
---@param message string
---@param context table|nil
---@param exception table|nil { type, message, traceback }
function Logger:event(event, message, context, exception)
  local err_id, msg_id, level = err.ids(event)
  local full = { err_id = err_id, msg_id = msg_id }
  for key, value in pairs(context or {}) do full[key] = value end
  self:write(level, message, full, exception, 3)
end

--- A logger that adds context to every line.
---@param context table
---@return table
function Logger:with(context)
  local merged = {}
  for _, source in ipairs { self.context, context } do
    for key, value in pairs(source) do merged[key] = value end
  end
  local child = {}
  for key, value in pairs(self) do child[key] = value end
  child.context = merged
  return setmetatable(child, Logger)
end

---@param opts table { service, logger, config = cfg (log_level, log_format, log_utc, log_include_traceback),
---   sink = function(line) (default: standard output), now = function() -> unix seconds (default: os.time) }
---@return table logger with debug, info, warning, error, event, with
function M.new(opts)
  local cfg = opts.config or {}
  return setmetatable({
    service = opts.service, name = opts.logger or opts.service, context = {}, thread = thread_id(),
    process = process_id(),
    threshold = LEVELS[cfg.log_level or "INFO"], format = cfg.log_format or "json", utc = cfg.log_utc ~= false,
    traceback = cfg.log_include_traceback ~= false, now = opts.now or os.time,
    sink = opts.sink or function(line)
      io.stdout:write(line)
      io.stdout:flush()
    end,
  }, Logger)
end

return M
