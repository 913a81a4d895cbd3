--- `client.lua get`, `tasks`, `cancel` and `workers`.
local clock = require "host.clock"
local json = require "host.json"
local api_module = require "pyoco.cli.api"
local called = require "pyoco.cli.called"
local output = require "pyoco.cli.output"
local screen_module = require "pyoco.cli.screen"
local text = require "pyoco.cli.text"
local tree_module = require "pyoco.cli.tree"
local sorted = require "pyoco.sorted"

local M = {}

local POLL_SEC = 0.25

local function path_of(run_id, rest) return "/runs/" .. api_module.segment(run_id) .. (rest or "") end

--- Prints a run as it is now, with its outputs.
local function print_tree(api, answer, context)
  local snapshot = json.decode(answer.body)
  local graph = api:request("GET", path_of(snapshot.run_id, "/graph"))
  local tree = tree_module.new(context.paint, graph and json.decode(graph.body))
  tree:update(snapshot)
  local screen = screen_module.open()
  local columns = screen:size()
  screen:close()
  for _, lines in ipairs { tree:lines(clock.wall(), columns), tree:ending(columns) } do
    for _, line in ipairs(lines) do io.stdout:write(line, "\n") end
  end
  return 0
end

--- get: one run.
---@param api table
---@param values table
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.get(api, values, context)
  local is_person = context.terminal and not values.output and not values.records
  local include = (values.records or is_person) and "records" or nil
  local query = { { "include", include } }
  local answer, message, code, failure = api:request("GET", path_of(values.run_id), { query = query })
  if not answer then return nil, message, code, failure end
  return is_person and print_tree(api, answer, context) or output.answer(answer)
end

local function cell(value)
  if value == nil then return "-" end
  if value == json.null then return "None" end
  return text.clean(tostring(value))
end

--- What a task gave, or why it failed, as text.
local function result_of(record)
  local result = type(record.error) == "string" and record.error or record.output
  if result == nil or result == json.null then return "-" end
  return type(result) == "string" and result or json.encode(result)
end

--- What there is to say of a task beside its state: iterations, attempts, why it did not run.
local function remark_of(record, is_isolated)
  local function given(value) return value ~= nil and value ~= json.null and value end
  local parts = {}
  if given(record.skipped) then parts[1] = "skipped" end
  if given(record.iterations) then parts[#parts + 1] = ("%d iterations"):format(record.iterations) end
  if given(record.attempt) then parts[#parts + 1] = ("attempt %d"):format(record.attempt) end
  if is_isolated then parts[#parts + 1] = "isolated" end
  return #parts > 0 and table.concat(parts, ", ") or "-"
end

local function print_tasks(got)
  local rows, isolated, has_remarks = {}, {}, false
  for _, name in ipairs(type(got.failed_tasks) == "table" and got.failed_tasks or {}) do isolated[name] = true end
  for _, name in ipairs(sorted.keys(got.tasks)) do
    local record = got.task_records[name] or {}
    local ms = type(record.duration_ms) == "number" and output.duration(record.duration_ms / 1000) or "-"
    local remark = remark_of(record, isolated[name])
    has_remarks = has_remarks or remark ~= "-"
    rows[#rows + 1] = { text.clean(name), got.tasks[name], ms, remark, text.cut(text.clean(result_of(record)), 80) }
  end
  local columns = { "task", "state", "duration", "remarks", "output" }
  if not has_remarks then -- a plain run stays a plain table
    for _, row in ipairs { columns, table.unpack(rows) } do table.remove(row, 4) end
  end
  io.stdout:write(output.table(columns, rows))
end

--- tasks: states and records of one run.
---@param api table
---@param values table
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.tasks(api, values, context)
  return output.show(context, print_tasks, api:request("GET", path_of(values.run_id, "/tasks")))
end

--- Polls until the run has ended.
local function wait_for_end(api, run_id, timeout_sec, context)
  local deadline = clock.monotonic() + timeout_sec
  while true do
    local answer, message, code, failure = api:request("GET", path_of(run_id))
    if not answer then return nil, message, code, failure end
    if tree_module.is_terminal(json.decode(answer.body)) then return answer end
    if clock.monotonic() >= deadline then
      local reason = "cancel wait timeout for run_id=" .. run_id
      return nil, reason, "timeout", { shape = "cancel", reason = reason, hints = {
        ("the cancel stands; look again with `%s get %s`, or wait longer with --timeout-sec"):format(
          called.program "client", run_id) } }
    end
    if not context.interrupt.sleep(POLL_SEC) then return nil, "interrupted", "cancelled" end
  end
end

--- The run that a command names, as RUN_ID or by --run-id.
local function named_run(values)
  local id, other = values.run_id, values.run_id_option
  if id and other and id ~= other then
    local message = ("two runs are named: %s, and %s by --run-id"):format(id, other)
    return nil, message, "invalid", { shape = "arguments", reason = message, hints = { "name one; nothing was done" } }
  end
  return id or other
end

--- cancel: asks for it, and with --wait stays until the run has ended.
---@param api table
---@param values table
---@param context table { terminal, paint, interrupt }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.cancel(api, values, context)
  local run_id, why, invalid, refusal = named_run(values)
  if not run_id then return nil, why, invalid, refusal end
  local answer, message, code, failure = api:request("POST", path_of(run_id, "/cancel"), { body = "{}" })
  if answer and values.wait then
    answer, message, code, failure = wait_for_end(api, run_id, values.timeout_sec, context)
  end
  return output.show(context, function(snapshot)
    io.stdout:write(("run %s is %s\n"):format(run_id, snapshot.status))
  end, answer, message, code, failure)
end

--- "name@1.0 name@2.0 name@3.0 +2" of the wheels of a worker.
local function plugins_of(worker)
  local sync = type(worker.wheel_sync) == "table" and worker.wheel_sync or {}
  return type(sync.installed_wheels) == "table" and sync.installed_wheels or {}
end

local function preview(wheels)
  local shown = {}
  for i = 1, math.min(3, #wheels) do
    shown[i] = ("%s@%s"):format(cell(wheels[i].package_name), cell(wheels[i].package_version))
  end
  if #wheels > 3 then shown[#shown + 1] = "+" .. #wheels - 3 end
  return #shown > 0 and table.concat(shown, ",") or "-"
end

local function print_workers(workers, as)
  local rows = {}
  for _, worker in ipairs(workers) do
    local wheels = plugins_of(worker)
    local id, state, tags = cell(worker.worker_id), cell(worker.state), table.concat(worker.tags or {}, ",")
    if as == "table" then
      rows[#rows + 1] = { id, state, tags, tostring(#wheels), preview(wheels) }
    else
      for _, wheel in ipairs(#wheels > 0 and wheels or { {} }) do
        rows[#rows + 1] = { id, state, tags, cell(wheel.package_name), cell(wheel.package_version),
          cell(wheel.wheel_name) }
      end
    end
  end
  io.stdout:write(output.table(as == "table" and { "worker_id", "state", "tags", "plugins", "plugin_preview" }
    or { "worker_id", "state", "tags", "package", "version", "wheel_name" }, rows))
  return 0
end

--- workers: who is there.
---@param api table
---@param values table
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.workers(api, values, context)
  local query = { { "scope", values.scope }, { "state", values.state },
    { "include_hidden", values.include_hidden and "true" or nil }, { "limit", values.limit } }
  local answer, message, code, failure = api:request("GET", "/workers", { query = query })
  if not answer then return nil, message, code, failure end
  local as = values.output or (context.terminal and "table" or "json")
  if as == "json" then return output.answer(answer) end
  return print_workers(json.decode(answer.body), as)
end

return M
