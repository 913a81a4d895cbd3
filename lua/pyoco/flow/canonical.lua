--- The canonical JSON of a graph: sorted keys, nodes in declaration order. The structure is the same bytes from both
--- front ends; where each task was written is kept apart, under `origins`.
local json = require "host.json"

local M = {}

--- A condition as JSON has it.
local function condition(cond)
  if type(cond) ~= "table" then return cond end
  local op = cond.all and "all" or "any"
  local items = {}
  for i, item in ipairs(cond[op]) do items[i] = condition(item) end
  return { [op] = json.array(items) }
end

--- A list of lists, both marked as arrays.
local function arrays(list)
  local copy = {}
  for i, item in ipairs(list) do copy[i] = type(item) == "table" and arrays(item) or item end
  return json.array(copy)
end

--- A command; a list of its texts is an array.
local function command(given)
  if not given then return nil end
  local run = given.run
  return { run = type(run) == "table" and json.array { table.unpack(run) } or run, env = given.env, cwd = given.cwd }
end

--- Encodes a graph.
---@param graph table from compile.graph
---@param opts table|nil { origins = false leaves out callables and places }
---@return string|nil json
---@return string|nil message, string|nil code "invalid": an input is not JSON
function M.encode(graph, opts)
  local nodes, origins = {}, {}
  for i, node in ipairs(graph.nodes) do
    nodes[i] = { name = node.name, needs = condition(node.needs), inputs = node.inputs, outputs = arrays(node.outputs),
      options = node.options and next(node.options) and node.options or nil, command = command(node.command) }
    origins[node.name] = { callable = node.callable, file = node.file, line = node.line, column = node.column }
  end
  local keep = not opts or opts.origins ~= false
  return json.encode({
    version = graph.version, name = graph.name, nodes = json.array(nodes), edges = arrays(graph.edges),
    frames = arrays(graph.frames), any_of = arrays(graph.any_of), origins = keep and origins or nil,
  }, { sort = true })
end

return M
