--- A task's arguments: for each parameter name of its function, `inputs` first, then the run's params, then the
--- results of tasks; `ctx` is the context; a name that nothing gives is nil.
local json = require "host.json"
local context = require "pyoco.engine.context"
local selector = require "pyoco.flow.selector"
local value = require "pyoco.engine.value"

local null, copy, resolve = json.null, value.copy, selector.resolve
local type, next, ipairs = type, next, ipairs

local M = {}

local NONE <const> = {}

--- What selectors read.
---@param eng table the engine
---@param env table? variables that flows may read
---@return table sources see selector.resolve
function M.sources(eng, env)
  local params, results, run = eng.params, eng.results, eng.run
  return {
    ctx = function(name)
      if name == "params" then return params end
      if name == "results" then return results end
      return params[name]
    end,
    node = function(task) return results[task] end,
    flow = { name = eng.flow.name, run_id = run.run_id, tag = run.tag, started_at = run.started_at },
    env = env or {},
  }
end

--- Prepares a node's inputs: selectors are parsed once.
---@param spec table graph node
---@return table? inputs list of { name, selector = table|nil, literal = any }, or nil when there are none
function M.inputs(spec)
  if not spec.inputs or next(spec.inputs) == nil then return nil end
  local inputs = {}
  for name, source in next, spec.inputs do
    local parsed
    if selector.is_selector(source) then
      local message
      parsed, message = selector.parse(source)
      if not parsed then error(("graph: task %s, inputs.%s: %s"):format(spec.name, name, message)) end
    end
    inputs[#inputs + 1] = { name = name, selector = parsed, literal = source }
  end
  return inputs
end

--- What the function gets for a recorded value: its own copy; JSON's null is nil.
local function own(recorded)
  if recorded == null then return nil end
  if type(recorded) == "table" then return (copy(recorded)) end
  return recorded
end

--- Finds the value of a parameter that is no input: the run's params, then the results of tasks.
local function named(eng, name)
  local found = eng.params[name]
  if found ~= nil then return found end
  local node = eng.plan.by_name[name]
  if node and node.state == "SUCCEEDED" then
    found = eng.results[name]
    if found == nil then return null end
  end
  return found
end

--- Resolves the inputs of a node into `recorded`; returns a message if one has no value.
local function resolve_inputs(eng, node, recorded)
  for _, input in ipairs(node.inputs) do
    local found, message = input.literal
    if input.selector then
      found, message = resolve(input.selector, eng.sources)
      if message then return message end
    end
    recorded[input.name] = found == nil and null or found
  end
end

local arguments = {} -- of the task that starts now; used up before the next one is looked at

--- Resolves the arguments of a task that is about to start.
---@param eng table the engine
---@param node table its node; node.params lists the parameter names
---@return table? arguments #node.params values, valid until the next call; nil if an input has no value
---@return table|string inputs what the record shows; or the message
function M.arguments(eng, node)
  local names = node.params
  if not node.inputs and #names == 0 then return arguments, NONE end
  local recorded = {}
  local message = node.inputs and resolve_inputs(eng, node, recorded)
  if message then return nil, message end
  for i = 1, #names do
    local name = names[i]
    if name == "ctx" then
      arguments[i] = context.new(eng, node)
    else
      local found = recorded[name]
      if found == nil then
        found = named(eng, name)
        recorded[name] = found
      end
      arguments[i] = own(found)
    end
  end
  return arguments, recorded
end

return M
