--- What a task is given. For each parameter name of its function: `inputs` first, then the items of the loops around
--- it by their aliases, then the run's params, then the results of tasks; `ctx` is the context; a name that nothing
--- gives is nil. And what selectors and expressions read, see M.sources.
local json = require "host.json"
local context = require "pyoco.engine.context"
local lookup = require "pyoco.engine.lookup"
local selector = require "pyoco.flow.selector"
local value = require "pyoco.engine.value"

local null, copy, resolve, result_of = json.null, value.copy, selector.resolve, lookup.result
local type, next, ipairs = type, next, ipairs

local M = {}

local NONE <const> = {}

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

--- What `$ctx.NAME` is for the names that are no param and no alias.
local CTX <const> = {
  params = function(eng) return eng.params end,
  results = function(eng, scope) return lookup.results(eng, scope) end,
  scratch = function(eng) return eng.scratch or {} end,
  artifacts = function(eng) return eng.artifacts or {} end,
  attempt = function(eng, scope) return (scope or eng).sources.attempt end,
  loops = function(_, scope) return lookup.loops(scope) end,
  loop = function(_, scope)
    local loops = lookup.loops(scope)
    return loops[#loops]
  end,
}

--- A field of the run; nil for null.
local function field(run, name)
  if run[name] ~= null then return run[name] end
end

--- What `$flow.NAME` is.
local function flow_fields(eng)
  local run = eng.run
  return { name = field(run, "flow_name") or eng.flow.name, run_id = field(run, "run_id"), tag = field(run, "tag"),
    started_at = field(run, "started_at") or eng.started_at }
end

--- What selectors and expressions read from inside a scope: values of the run, not to be changed.
---@param eng table the engine
---@param scope table? nil: the run's own
---@return table sources { ctx = fn(name), node = fn(task), flow = table, env = table }
function M.sources(eng, scope)
  local holder = scope or eng
  local sources = holder.sources
  if sources and sources.ctx then return sources end
  local function ctx(name)
    local read = CTX[name]
    if read then return read(eng, scope) end
    local found = name == "item" and lookup.item(scope) or lookup.alias(scope, name)
    if found ~= nil then return found end
    return eng.params[name]
  end
  local function node(name) return result_of(eng, scope, name) end
  sources = { ctx = ctx, node = node, flow = flow_fields(eng), env = eng.env or {}, attempt = 1 }
  holder.sources = sources
  return sources
end

--- What the function gets for a recorded value: its own copy; JSON's null is nil.
local function own(recorded)
  if recorded == null then return nil end
  if type(recorded) == "table" then return (copy(recorded)) end
  return recorded
end

--- Finds the value of a parameter that is no input: a loop's item, a param, or a task's result.
local function named(eng, scope, name)
  local found = lookup.alias(scope, name)
  if found ~= nil then return found end
  found = eng.params[name]
  if found == nil then
    found = result_of(eng, scope, name)
    if found == nil and eng.tasks[name] == "SUCCEEDED" then return null end
  end
  if eng.owned and type(found) == "table" then eng.owned[found] = nil end
  return found
end

--- The value of a selector for a task. What is handed out is recorded too, so ctx:set must not change it any more.
local function selected(eng, node, parsed)
  local sources = M.sources(eng, node.scope)
  sources.attempt = node.attempt or 1
  local found, message = resolve(parsed, sources)
  if message then return nil, message end
  if found == nil then return null end
  if type(found) == "table" then
    eng.owned = nil
    if found == eng.params or found == eng.results or found == eng.scratch or found == eng.artifacts then
      local now = {} -- the whole of a root, which grows
      for name, each in next, found do now[name] = each end
      return now
    end
  end
  return found
end

--- Resolves the inputs of a node into `recorded`; returns a message if one has no value.
local function resolve_inputs(eng, node, recorded)
  for _, input in ipairs(node.inputs) do
    local found, message = input.literal
    if input.selector then
      found, message = selected(eng, node, input.selector)
      if message then return message end
    end
    recorded[input.name] = found == nil and null or found
  end
end

local arguments = {} -- of the task that starts now; used up before the next one is looked at

--- Arguments of a task that runs a command or spawns a run: its ctx, its inputs, and what replaces selectors in the
--- command's program, env and cwd.
local function command_arguments(eng, node, recorded)
  arguments[1], arguments[2] = context.new(eng, node), copy(recorded)
  arguments[3] = function(given)
    if not selector.is_selector(given) then return given end
    local parsed, message = selector.parse(given)
    if not parsed then return nil, message end
    local found
    found, message = selected(eng, node, parsed)
    if message then return nil, message end
    return own(found)
  end
  return arguments, recorded, 3
end

--- Resolves the arguments of a task that is about to start.
---@param eng table the engine
---@param node table its node; node.params lists the parameter names
---@return table? arguments valid until the next call; nil if an input has no value
---@return table|string inputs what the record shows; or the message
---@return integer? count of arguments
function M.arguments(eng, node)
  local names = node.params
  local is_command = (node.spec.command or node.spec.spawn) and not node.is_fake
  if not node.inputs and #names == 0 and not is_command then return arguments, NONE, 0 end
  local recorded = {}
  local message = node.inputs and resolve_inputs(eng, node, recorded)
  if message then return nil, message end
  if is_command then return command_arguments(eng, node, recorded) end
  for i = 1, #names do
    local name = names[i]
    if name == "ctx" then
      arguments[i] = context.new(eng, node)
    else
      local found = recorded[name]
      if found == nil then
        found = named(eng, node.scope, name)
        recorded[name] = found
      end
      arguments[i] = own(found)
    end
  end
  return arguments, recorded, #names
end

return M
