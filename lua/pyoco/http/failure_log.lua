--- What the gateway logs of requests that failed (CONTRACT 14): message, ids, level and context, one line for each.
--- Requests that went well say nothing.
local err = require "pyoco.err"

local M = {}

--- Names of routes -> what the contract calls them in messages. Others go by their own name.
local OPERATIONS = {
  ["runs.submit"] = "submit", ["runs.submit_yaml"] = "submit yaml", ["runs.get"] = "get_run",
  ["runs.cancel"] = "cancel", ["runs.tasks"] = "get_tasks", ["runs.watch"] = "watch", ["runs.list"] = "list_runs",
  ["workers.list"] = "workers", ["workers.hide"] = "patch worker", ["wheels.list"] = "list wheels",
  ["wheels.upload"] = "upload wheel", ["wheels.download"] = "download wheel", ["wheels.delete"] = "delete wheel",
  ["wheels.history"] = "wheel history", ["runs.submit_bundle"] = "submit bundle",
  ["schedules.create"] = "create schedule", ["schedules.list"] = "list schedules",
  ["schedules.delete"] = "delete schedule", ["schedules.runs"] = "schedule runs",
}

--- Routes whose input faults carry no ids in the contract.
local WITHOUT_IDS = { ["runs.submit_bundle"] = true, ["schedules.create"] = true }

--- What is no news: whoever asks /ready wants to know just that, and a graph is asked for until it is known.
local SILENT = { ready = true, ["not known yet"] = true }

local function size_of(part) return part and (part.size or #part.data) end

local function first_fault(_, _, errors) return { reason = errors and errors[1] and errors[1].code } end

--- Details of answers -> { event of pyoco.err or nil, text of the log where it differs, more(app, req, errors) ->
--- context }.
local DETAILS = {
  ["invalid tag"] = { "bad_input" },
  ["missing flow_name"] = { "bad_input" },
  ["invalid workflow yaml"] = { "bad_input", nil, first_fault },
  ["invalid workflow bundle"] = { nil, nil, first_fault },
  ["workflow bundle too large"] = { nil, nil, function(app, req)
    return { size_bytes = size_of(req.body.bundle), max_bytes = app.config.workflow_bundle_max_bytes }
  end },
  ["workflow too large"] = { "yaml_too_large", nil, function(app, req)
    return { size_bytes = size_of(req.body.workflow), max_bytes = app.config.workflow_yaml_max_bytes }
  end },
  ["invalid list query"] = { "bad_list_query", "invalid cursor" },
  ["invalid workers request"] = { "bad_workers_query", function(req)
    local scope = req.query.scope:lower()
    return scope ~= "active" and scope ~= "all" and "invalid scope" or "invalid state filter"
  end, function(_, req) return { scope = req.query.scope, state = req.query.state } end },
  ["invalid wheel tags"] = { "bad_input" },
  ["invalid wheel filename"] = { "bad_input" },
  ["invalid wheel name"] = { "bad_input", function(req)
    return req.row.name == "wheels.history" and "invalid wheel name filter" or "invalid wheel name"
  end },
  ["invalid action"] = { "bad_input", "invalid action filter", function(_, req)
    return { action = req.query.action }
  end },
  ["wheel too large"] = { "bad_input", nil, function(app, req)
    return { size_bytes = size_of(req.body.wheel), max_bytes = app.config.wheel_max_bytes }
  end },
}

--- Details that say what is not there: these are the whole message.
local ABSENT = { ["run not found"] = "run_not_found", ["worker not found"] = "worker_not_found" }
local SUFFIXES = { ["runs.cancel"] = " (cancel)", ["runs.tasks"] = " (tasks)", ["runs.watch"] = " (watch)" }

--- Parameters of paths -> context keys, by the path's first segment.
local IDS = { runs = "run_id", workers = "worker_id", schedules = "schedule_id", wheels = "wheel_name", dlq = "seq" }

local TEXT_MAX_BYTES = 256 -- of what a request says: a line is no place for a megabyte

local function known(value)
  if type(value) ~= "string" or #value <= TEXT_MAX_BYTES then return type(value) == "string" and value or nil end
  return value:sub(1, utf8.offset(value, 0, TEXT_MAX_BYTES) - 1) .. "..."
end

--- What is known of a request without asking anybody.
local function context_of(req)
  local context = { request_id = req.id }
  local id_key = IDS[req.path:match("^/([^/]*)")]
  if id_key then context[id_key] = known(req.params.id or req.params.name or req.params.seq) end
  for _, source in ipairs { req.query or {}, req.body or {} } do
    if type(source) == "table" then
      for _, name in ipairs { "flow_name", "tag", "tags", "wheel_name" } do
        context[name] = known(source[name]) or context[name]
      end
    end
  end
  if type(req.body) == "table" and type(req.body.wheel) == "table" then
    context.wheel_name = known(req.body.wheel.filename)
  end
  context.api_key_id = req.caller.api_key_id
  return context
end

local function add(context, more)
  for key, value in pairs(more or {}) do context[key] = value end
  return context
end

--- Event, message, context and exception of a failure.
local function line_of(app, req, message, code, detail)
  local name, context = req.row.name, context_of(req)
  local operation = OPERATIONS[name] or name
  if ABSENT[message] then return ABSENT[message], message .. (SUFFIXES[name] or ""), context end
  if message:find("^nats unavailable") then
    local cause = err.take_cause() or { type = code, message = message:gsub("^nats unavailable: ", "") }
    return "nats", operation .. " failed: nats unavailable", context, cause
  end
  local row = DETAILS[message] or {}
  local said = row[2] or message
  if type(said) == "function" then said = said(req) end
  if row[3] then add(context, row[3](app, req, type(detail) == "table" and detail or nil)) end
  return not WITHOUT_IDS[name] and row[1] or nil, operation .. " failed: " .. said, context
end

--- Logs that a handler failed.
---@param app table { log, config }
---@param req table as handlers see it
---@param message string
---@param code string
---@param detail table|nil
function M.write(app, req, message, code, detail)
  local row = req.row
  message = tostring(message)
  if SILENT[row.name] or SILENT[message] then return end
  local event, said, context, exception = line_of(app, req, message, code, detail)
  context.reason = context.reason or (event == nil and code or nil)
  local level = err.status(code) >= 500 and (code == "unavailable" and "WARNING" or "ERROR") or "INFO"
  if event then
    context.err_id, context.msg_id, level = err.ids(event)
  end
  app.log:write(level, said, context, exception, row.place)
end

return M
