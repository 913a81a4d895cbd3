--- The canonical JSON of a graph: sorted keys, nodes in declaration order, frames in that of their mentions (branches
--- by label, `*` last). The structure is the same bytes from both front ends; where each task and frame was written is
--- kept apart, under `origins` and `frame_origins`.
local json = require "host.json"

local M = {}

--- A condition as JSON has it.
local function condition(cond)
  if type(cond) ~= "table" or cond.frame then return cond end
  local op = cond.all and "all" or "any"
  local items = {}
  for i, item in ipairs(cond[op]) do items[i] = condition(item) end
  return { [op] = json.array(items) }
end

--- A list of lists, all marked as arrays; the references to frames in them stay.
local function arrays(list)
  local copy = {}
  for i, item in ipairs(list) do copy[i] = type(item) == "table" and not item.frame and arrays(item) or item end
  return json.array(copy)
end

--- A command; a list of its texts is an array.
local function command(given)
  if not given then return nil end
  local run = given.run
  return { run = type(run) == "table" and arrays(run) or run, env = given.env, cwd = given.cwd }
end

--- A child run that a task starts.
local function spawn(given)
  if not given then return nil end
  return { workflow = given.workflow, fail_on = given.fail_on and arrays(given.fail_on) or nil, tag = given.tag }
end

--- What the structure has of a frame.
local function frame_row(frame)
  return { id = frame.id, kind = frame.kind, frame = frame.frame, needs = condition(frame.needs), count = frame.count,
    over = frame.over, as = frame.as, parallel = frame.parallel, cond = frame.cond, max = frame.max, on = frame.on,
    label = frame.label }
end

--- Encodes a graph.
---@param graph table from compile.graph
---@param opts table|nil { origins = false leaves out callables and places }
---@return string|nil json
---@return string|nil message, string|nil code "invalid": an input is not JSON
function M.encode(graph, opts)
  local nodes, frames, origins, frame_origins = {}, {}, {}, nil
  for i, node in ipairs(graph.nodes) do
    nodes[i] = { name = node.name, needs = condition(node.needs), frame = node.frame, inputs = node.inputs,
      outputs = arrays(node.outputs), options = node.options and next(node.options) and node.options or nil,
      command = command(node.command), spawn = spawn(node.spawn) }
    origins[node.name] = { callable = node.callable, file = node.file, line = node.line, column = node.column }
  end
  for i, frame in ipairs(graph.frames) do
    frames[i] = frame_row(frame)
    frame_origins = frame_origins or {}
    frame_origins[frame.id] = { title = frame.title, file = frame.file, line = frame.line, column = frame.column }
  end
  local keep = not opts or opts.origins ~= false
  return json.encode({
    version = graph.version, name = graph.name, nodes = json.array(nodes), edges = arrays(graph.edges),
    frames = json.array(frames), any_of = arrays(graph.any_of), origins = keep and origins or nil,
    frame_origins = keep and frame_origins or nil,
  }, { sort = true })
end

return M
