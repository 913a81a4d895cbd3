--- What a flow file needs: `local pyoco = require "pyoco"`.
---
---   local fetch = pyoco.task("fetch", function(ctx, url) ... end)
---   return pyoco.flow("etl", fetch >> (parse & stats) >> report, { defaults = { url = "http://localhost/" } })
---
--- Tasks and what the operators make of them (flow/fragment.lua) are nodes of the AST that flow/text.lua describes.
local compile = require "pyoco.flow.compile"
local fragment = require "pyoco.flow.fragment"
local sandbox = require "pyoco.flow.sandbox"

local M = {}

local TASK, FLOW = fragment.TASK, { __name = "pyoco.flow" }

local task_count = 0 -- numbers the tasks: declaration order is the order of a graph's nodes

--- Raises unless `given` is a table of known, well-formed options: those of `rows` in flow/options.lua. `level` is
--- that of the user's call.
local function check_options(what, given, rows, level)
  local options = require "pyoco.flow.options"
  if type(given) ~= "table" then
    error(("%s: options must be a table, got %s"):format(what, options.describe(given)), level + 1)
  end
  local names, by_name = options.names(rows, "lua")
  for key, value in pairs(given) do
    local row = by_name[key]
    if not row then
      error(("%s: unknown option '%s'; %s"):format(what, tostring(key),
        options.meant(by_name, key) or require("pyoco.nearest").hint(key, names, "known: ")), level + 1)
    end
    local expected, got, hint = options.check(row, value)
    if expected then
      error(("%s: %s must be %s, got %s%s"):format(what, key, expected, got, hint and "; " .. hint or ""), level + 1)
    end
  end
end

--- A task is still an ordinary function: a spec can call it.
function TASK.__call(self, ...)
  if not self.fn then
    local what = rawget(self, "spawn") and "flow" or "program"
    error(("%s runs a %s: it cannot be called"):format(tostring(self), what), 2)
  end
  return self.fn(...)
end

function TASK.__tostring(self)
  return ("task %s (%s:%d)"):format(self.name, self.file, self.line)
end

function FLOW.__tostring(self)
  return ("flow %s (%d tasks)"):format(self.name, #self.graph.nodes)
end

--- File and line at which the user called M.task; where `fn` is defined if a tail call left no trace of that.
local function place_of_call(fn)
  local call = debug.getinfo(3, "Slt")
  if call and call.currentline > 0 and not debug.getinfo(2, "t").istailcall then
    return fragment.file_of(call), call.currentline
  end
  if not fn then return "?", 0 end
  local definition = debug.getinfo(fn, "S")
  return fragment.file_of(definition), definition.linedefined
end

--- The row of a task for the compiler, out of its options.
local function row_of(what, name, fn, given, level)
  local options = require "pyoco.flow.options"
  check_options(what, given, options.LUA_TASK, level + 1)
  local conflict = options.conflicts(given, fn ~= nil)[1]
  if conflict then error(("%s %s: %s"):format(what, conflict.message, conflict.hint), level + 1) end
  return options.row(given, name)
end

--- Raises unless `name` is a text that is not blank, and that JSON can carry.
local function check_name(what, name, level)
  if type(name) == "string" and name:find("%S") and utf8.len(name) then return end
  error(("%s: the name must be a text that is not blank, got %s"):format(what, type(name) ~= "string"
    and "a " .. type(name) or utf8.len(name) and "''" or "one that is not UTF-8"), level + 1)
end

--- Declares a task. The parameters of its function are wired by name when it runs: inputs, then params, then results
--- of earlier tasks; `ctx` is the context. A task without function runs a program: `{ run = { "python", "x.py" } }`, or
--- another flow as a run of its own: `{ spawn = "training" }`.
---@param name string unique in a flow
---@param fn function|table the function; or the options, with `run` or `spawn`, of a task that has none
---@param given table|nil options: see flow/options.lua (inputs, outputs, retries, timeout_sec ...)
---@return table task
function M.task(name, fn, given)
  check_name("task", name, 2)
  local what = ("task '%s'"):format(name)
  if type(fn) == "table" and given == nil and getmetatable(fn) == nil then fn, given = nil, fn end
  if fn ~= nil and type(fn) ~= "function" or fn == nil and type(given) ~= "table" then
    error(("%s: expected a function, or options with run or spawn, got a %s"):format(what, type(fn)), 2)
  end
  local file, line = place_of_call(fn)
  local row = given == nil and {} or row_of(what, name, fn, given, 2)
  if not fn and not row.command and not row.spawn then
    error(("%s: expected a function, or options with run or spawn"):format(what), 2)
  end
  task_count = task_count + 1
  row.name, row.fn, row.number, row.file, row.line = name, fn or false, task_count, file, line
  row.node = { name = name, file = file, line = line, task = row }
  return setmetatable(row, TASK)
end

--- Raises: two tasks of a flow share a name.
local function refuse_twin(flow_name, first, second, level)
  if second.number < first.number then first, second = second, first end
  error(("flow '%s': two tasks are called '%s': %s:%d and %s:%d"):format(flow_name, first.name, first.file, first.line,
    second.file, second.line), level + 1)
end

--- The tasks of an expression, in declaration order. Raises if two of them share a name.
local function collect_tasks(expr, flow_name, level)
  local numbers, by_number, by_name, seen, stack, top = {}, {}, {}, {}, { expr }, 1
  while top > 0 do
    local node = stack[top]
    top = top - 1
    local task = node.task
    if task then
      local other = by_name[task.name]
      if other == nil then
        by_name[task.name], by_number[task.number] = task, task
        numbers[#numbers + 1] = task.number
      elseif other ~= task then
        refuse_twin(flow_name, other, task, level + 1)
      end
    elseif not seen[node] then
      seen[node] = true
      for i = 1, #node do stack[top + i] = node[i] end
      top = top + #node
    end
  end
  table.sort(numbers)
  local tasks = {}
  for i, number in ipairs(numbers) do tasks[i] = by_number[number] end
  return tasks
end

--- Rows for the compiler, which makes the nodes of the graph out of them.
local function rows_of(tasks)
  local rows = {}
  for i, task in ipairs(tasks) do
    rows[i] = { name = task.name, inputs = rawget(task, "inputs"), outputs = rawget(task, "outputs"),
      options = rawget(task, "options"), command = rawget(task, "command"), spawn = rawget(task, "spawn"),
      file = task.file, line = task.line,
      needs = nil, frame = nil } -- named for their room
  end
  return rows
end

--- Declares a flow; a flow file returns it (or a list of several).
---@param name string the name under which it is submitted
---@param expr table tasks joined by operators, or a list of such expressions
---@param opts table|nil { defaults = params, expose_env = list of variables that `$env` may name }
---@return table flow { name, graph, defaults, functions = { task = fn }, params = { task = parameter names } }
function M.flow(name, expr, opts)
  check_name("flow", name, 2)
  if opts ~= nil then check_options(("flow '%s'"):format(name), opts, require("pyoco.flow.options").LUA_FLOW, 2) end
  local node = fragment.to_node(name, expr, 2)
  local tasks = collect_tasks(node, name, 2)
  local resting <close> = compile.rest_collector(#tasks) -- luacheck: ignore
  opts = opts or {}
  local graph, problems = compile.graph(node, rows_of(tasks), { name = name, expose_env = opts.expose_env,
    defaults = opts.defaults })
  if not graph then
    local problem = require "pyoco.flow.problem"
    error(("flow '%s' is wrong:\n%s"):format(name, problem.text(problem.finish(problems))), 2)
  end
  local flow = { name = name, graph = graph, defaults = opts.defaults or {}, expose_env = opts.expose_env or {},
    functions = {}, params = {}, warnings = problems }
  for _, task in ipairs(tasks) do
    if task.fn then
      flow.functions[task.name] = task.fn
      flow.params[task.name] = sandbox.parameters(task.fn)
    end
  end
  return setmetatable(flow, FLOW)
end

--- A switch: `pyoco.switch "$ctx.mode" { fast = a, ["*"] = b >> c }` runs one of the branches.
---@param on string an expression; its value is compared with the labels as text
---@return table to be called with the branches: { label = tasks, ["*"] = tasks for any other value }
M.switch = fragment.switch

--- Tells whether a value is a flow made by pyoco.flow.
---@param value any
---@return boolean
function M.is_flow(value)
  return getmetatable(value) == FLOW
end

--- The flows among what a flow file returned: a flow, or a list with flows in it. Read raw: an index is a loop to a
--- task, so `return a >> b` would have no end.
---@param value any
---@return table list
function M.flows_of(value)
  if M.is_flow(value) then return { value } end
  local flows = {}
  for i = 1, type(value) == "table" and rawlen(value) or 0 do
    local each = rawget(value, i)
    if M.is_flow(each) then flows[#flows + 1] = each end
  end
  return flows
end

--- The function inside a task made by pyoco.task; nil for any other value.
---@param value any
---@return function|nil
function M.function_of(value)
  return getmetatable(value) == TASK and value.fn or nil
end

--- Makes the streams, buckets and object stores on NATS that are missing; what is there stays as it is. For scripts.
---@param values table|nil options by their short name, over those of the environment: { nats_url = ... }
---@return boolean|nil true
---@return string|nil message
---@return string|nil code "invalid" | "unavailable" | "timeout" | "unauthorized"
function M.ensure_resources(values)
  return require("pyoco.client.nats").ensure_resources(values)
end

return M
