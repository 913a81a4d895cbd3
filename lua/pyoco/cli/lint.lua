--- What a flow's functions say about it: parameters of the run, and inputs that no function takes.
local json = require "host.json"
local nearest = require "pyoco.nearest"
local sorted = require "pyoco.sorted"

local M = {}

--- Names of the items of all loops around a node.
local function aliases_of(node, frames)
  local names, frame = {}, frames[node.frame]
  while frame do
    if frame.as then names[frame.as] = true end
    frame = frames[frame.frame]
  end
  return names
end

--- Inputs that the function of a task has no parameter for.
local function check_inputs(found, node, parameters, fn)
  if not fn or debug.getinfo(fn, "S").what == "C" or debug.getinfo(fn, "u").isvararg then return end
  local known = {}
  for _, name in ipairs(parameters) do known[name] = true end
  for _, name in ipairs(sorted.keys(node.inputs or {})) do
    if not known[name] then
      local near = nearest.name(name, parameters)
      found.warnings[#found.warnings + 1] = { task = node.name, option = "inputs", line = node.line, file = node.file,
        message = ("task '%s': its function has no parameter '%s'"):format(node.name, name),
        hint = near and ("did you mean %s?"):format(near) or #parameters > 0
          and "it has: " .. table.concat(parameters, ", ") or "it has none" }
    end
  end
end

--- Looks at a flow's functions.
---@param flow table flow object
---@return table found { warnings = { { task, option, message, hint, file, line } }, params = parameters of the run, by
---  name: { name, default = JSON text|nil, near = a name that may be meant|nil }, commands = names of tasks that run
---  programs, spawns = names of tasks that spawn runs }
function M.look(flow)
  local graph = flow.graph
  local found, frames, known, params = { warnings = {}, params = {}, commands = {}, spawns = {} }, {}, {}, {}
  for _, frame in ipairs(graph.frames or {}) do frames[frame.id] = frame end
  for _, node in ipairs(graph.nodes) do known[node.name] = true end
  local meant = sorted.keys(known)
  meant[#meant + 1] = "ctx"
  for name, value in pairs(flow.defaults or {}) do params[name] = { name = name, default = json.encode(value) } end
  for _, node in ipairs(graph.nodes) do
    local aliases, parameters = aliases_of(node, frames), flow.params[node.name] or {}
    if node.command then found.commands[#found.commands + 1] = node.name end
    if node.spawn then found.spawns[#found.spawns + 1] = node.name end
    check_inputs(found, node, parameters, flow.functions[node.name])
    for _, name in ipairs(parameters) do
      local is_wired = name == "ctx" or node.inputs[name] ~= nil or aliases[name] or known[name] or params[name]
      if not is_wired then params[name] = { name = name, near = nearest.name(name, meant) } end
    end
  end
  for _, name in ipairs(sorted.keys(params)) do found.params[#found.params + 1] = params[name] end
  return found
end

return M
