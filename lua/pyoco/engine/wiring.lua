--- A task's arguments: for each parameter name of its function, `inputs` first, then the run's params, then the
--- results of tasks; `ctx` is the context; a name that nothing gives is nil.
local json = require "host.json"
local context = require "pyoco.engine.context"
local selector = require "pyoco.flow.selector"
local value = require "pyoco.engine.value"

local null, copy, resolve = json.null, value.copy, selector.resolve
local type, next = type, next

local M = {}

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

--- Resolves the arguments of a task that is about to start.
---@param eng table the engine
---@param node table its node; node.params lists the parameter names
---@return table? arguments with field n; nil if an input has no value
---@return table|string inputs what the record shows; or the message
function M.arguments(eng, node)
  local recorded, arguments = {}, { n = #node.params }
  for _, input in next, node.inputs or {} do
    local found, message = input.literal
    if input.selector then
      found, message = resolve(input.selector, eng.sources)
      if message then return nil, message end
    end
    recorded[input.name] = found == nil and null or found
  end
  for i = 1, arguments.n do
    local name = node.params[i]
    if name == "ctx" then
      arguments[i] = context.new(eng, node)
    else
      if recorded[name] == nil then recorded[name] = named(eng, name) end
      arguments[i] = own(recorded[name])
    end
  end
  return arguments, recorded
end

return M
