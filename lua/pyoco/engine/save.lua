--- The values that tasks of a run share: ctx:set and ctx:get, and what `outputs` keeps of a task's result. They are
--- the run's params, its results and its scratch.
---
--- What others may hold (a record's inputs and output, the params as submitted) never changes: a value is copied
--- before the first change inside of it. eng.owned has those copies; whoever hands a table out removes it there.
local json = require "host.json"
local lookup = require "pyoco.engine.lookup"
local save_path = require "pyoco.flow.save_path"
local value = require "pyoco.engine.value"

local null, is_array, copy = json.null, json.is_array, value.copy
local type, tostring, format, concat, ipairs = type, tostring, string.format, table.concat, ipairs
local tointeger, tonumber, setmetatable = math.tointeger, tonumber, setmetatable
local find, sub, offset = string.find, string.sub, utf8.offset

local M = {}

local SHOWN <const> = 40 -- bytes of a text in a message

local parsed_paths = setmetatable({}, { __mode = "k" }) -- spec -> its parsed `outputs`

--- The table that holds a root's values, for a change of `name`. A result is changed where it is: in the innermost
--- scope that has it.
local function root_of(eng, scope, path)
  if path.root == "params" then return eng.params end
  if path.root == "scratch" then
    eng.scratch = eng.scratch or {}
    return eng.scratch
  end
  while scope do
    if scope.results[path[1]] ~= nil then return scope.results end
    scope = scope.parent
  end
  return eng.results
end

--- A value for messages.
local function described(found)
  local kind = type(found)
  if found == null then return "null" end
  if kind == "string" then
    return format("the text %q", #found > SHOWN and sub(found, 1, offset(found, 0, SHOWN) - 1) .. "..." or found)
  end
  return format("the %s %s", kind, tostring(found))
end

--- The place before a step, for messages.
local function place(path, step)
  return step == 1 and path.root or path.root .. "." .. concat(path, ".", 1, step - 1)
end

--- The index (from 0) that a step is; nil if it is none.
local function index_of(step) return find(step, "^%d+$") and tointeger(tonumber(step)) end

--- The key of a step in the table that it is a step of. A list grows by one at most: it has no holes.
local function key_of(holder, path, step)
  local key = path[step]
  if not is_array(holder) then return key end
  local index = index_of(key)
  if index and index <= #holder then return index + 1 end
  return nil, format("%s is a list of %d: '%s' is no index in it and not the next one", place(path, step), #holder, key)
end

--- The table that a path's first step names, ready to be changed; it is made if there is none.
local function own_child(eng, root, path)
  local owned, name = eng.owned, path[1]
  if not owned then
    owned = setmetatable({}, { __mode = "k" })
    eng.owned = owned
  end
  local child = root[name]
  if owned[child] then return child end
  if child == nil or child == null then
    child = {}
  elseif type(child) == "table" then
    child = copy(child)
  else
    return nil, format("%s is %s: nothing can be kept inside of it", place(path, 2), described(child))
  end
  owned[child] = true
  root[name] = child
  return child
end

--- Changes one value. On failure nothing has changed.
---@param eng table the engine
---@param scope table? scope of the task that does it
---@param path table from save_path.parse, with a step at least
---@param copied any a value that nobody else holds; nil removes
---@return string? message
function M.set(eng, scope, path, copied)
  local root, last = root_of(eng, scope, path), #path
  eng.writes = (eng.writes or 0) + 1
  if last == 1 then
    root[path[1]] = copied
    return nil
  end
  local holder, message = own_child(eng, root, path)
  for step = 2, last do
    if not holder then return message end
    local key
    key, message = key_of(holder, path, step)
    if not key then return message end
    if step == last then
      if copied == nil and is_array(holder) and key < #holder then copied = null end
      holder[key] = copied
      return nil
    end
    local inner = holder[key]
    if inner == nil or inner == null then
      inner = {}
      holder[key] = inner
    elseif type(inner) ~= "table" then
      return format("%s is %s: nothing can be kept inside of it", place(path, step + 1), described(inner))
    end
    holder = inner
  end
end

--- What a path's first step names, or all of its root.
local function root_values(eng, scope, path)
  local root, first = path.root, path[1]
  if root == "results" then
    if first then return lookup.result(eng, scope, first) end
    return lookup.results(eng, scope)
  end
  local values = root == "params" and eng.params or eng.scratch or {}
  if first then return values[first] end
  return values
end

--- Reads one value.
---@param eng table
---@param scope table?
---@param path table from save_path.parse
---@return any value the run's own: to be copied; nil if there is none, or null
function M.get(eng, scope, path)
  local found = root_values(eng, scope, path)
  for step = 2, #path do
    if type(found) ~= "table" then return nil end
    local key = path[step]
    if is_array(found) then key = (index_of(key) or -1) + 1 end
    found = found[key]
  end
  if found == null then return nil end
  return found
end

--- The parsed paths of a node's `outputs`.
local function paths_of(spec)
  local paths = parsed_paths[spec]
  if paths then return paths end
  paths = {}
  for i, text in ipairs(spec.outputs) do
    local path, message = save_path.parse(text)
    if not path then return nil, format("outputs: %s", message) end
    paths[i] = path
  end
  parsed_paths[spec] = paths
  return paths
end

--- Keeps a task's result where its `outputs` say. The last task to write wins.
---@param eng table
---@param node table its node; node.spec.outputs has the paths
---@param output any what the record has: is copied for each path
---@return string? message names the path and what stood in its way
function M.apply(eng, node, output)
  local paths, message = paths_of(node.spec)
  if not paths then return message end
  for _, path in ipairs(paths) do
    local kept = null
    if output ~= nil then kept = copy(output) end
    message = M.set(eng, node.scope, path, kept)
    if message then return format("outputs '%s': %s", path.text, message) end
  end
end

return M
