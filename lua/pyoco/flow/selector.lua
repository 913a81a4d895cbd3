--- Selectors: texts that stand for a value of the run, in inputs and in expressions.
---   $ctx.NAME[.PATH]   params, results, scratch, artifacts, loop, loops, attempt, the items of loops; else a parameter
---   $node.TASK.output[.PATH]   $flow.name|run_id|tag|started_at   $env.NAME
--- PATH is dotted or in brackets: `.key`, `["any key"]`, `.0` and `[0]` for the first item of a list.
--- Checked before a run, resolved while it goes on.
local json = require "host.json"

local M = {}

local null = json.null
local find, type = string.find, type

--- The names after `$ctx.` that are not parameters. A loop's item must not be called like one of them.
M.CTX = { params = true, results = true, scratch = true, artifacts = true, loop = true, loops = true, attempt = true }

--- Tells whether an input's value is meant as a selector.
---@param value any
---@return boolean
function M.is_selector(value)
  return type(value) == "string" and value:byte(1) == 36
end

--- Parses a selector that stands alone, as in `inputs`.
---@param text string
---@return table|nil selector { text, root = "ctx"|"node"|"flow"|"env", node, path = keys, and indexes from 0 }
---@return string|nil message, string|nil code "invalid"
function M.parse(text) return require("pyoco.flow.selector_read").parse(text) end

--- What a value is, in words.
---@param value any
---@return string
function M.kind(value)
  if value == nil or value == null then return "null" end
  if type(value) == "table" then return json.is_array(value) and "a list" or "a mapping" end
  return ({ string = "a text", number = "a number", boolean = "a boolean" })[type(value)] or "a " .. type(value)
end

--- One step into a value: a key of a mapping, or an index (from 0) of a list.
local function step_into(value, step)
  if type(value) ~= "table" then return nil end
  if type(step) == "number" then return value[step + 1] end
  local found = value[step]
  if found == nil and find(step, "^%d+$") then found = value[tonumber(step) + 1] end
  return found
end

--- The message for step `i` of a path, which `value` does not have.
local function no_step(selector, i, value)
  local path = selector.path
  local before = table.concat(path, ".", selector.root == "ctx" and path[1] == "params" and 2 or 1, i - 1)
  local where = before ~= "" and "'" .. before .. "'" or selector.node and "the output of " .. selector.node or "it"
  return ("%s: there is no '%s' in %s%s"):format(selector.text, path[i], where,
    type(value) == "table" and "" or ", which is " .. M.kind(value)), "not_found"
end

--- The value at the root of a selector, and the number of its last step that is used up.
local function start(selector, sources)
  local path = selector.path
  if selector.root == "node" then return sources.node(selector.node), 0 end
  if selector.root == "ctx" then
    local value = sources.ctx(path[1])
    if path[1] ~= "params" or #path == 1 then return value, 1 end
    return step_into(value, path[2]), 2
  end
  local fields = sources[selector.root]
  return fields and fields[path[1]], 1
end

--- The message for a root that has no value.
local function no_root(selector)
  local path = selector.path
  if selector.root == "env" then return ("%s: %s is not set"):format(selector.text, path[1]), "not_found" end
  if selector.root == "flow" or M.CTX[path[1]] and path[1] ~= "params" then
    return ("%s: there is no %s here"):format(selector.text, path[1]), "not_found"
  end
  return ("Param '%s' not found in context."):format(path[1] == "params" and path[2] or path[1]), "not_found"
end

--- Finds the value of a selector in an expression, where what is not there is nil.
---@param selector table
---@param sources table see M.resolve
---@return any value nil if there is none
---@return string|nil message when the path goes through something that has no fields
function M.find(selector, sources)
  local path = selector.path
  local value, used = start(selector, sources)
  for i = used + 1, #path do
    if type(value) ~= "table" then return nil, (no_step(selector, i, value)) end
    value = step_into(value, path[i])
  end
  return value
end

--- Resolves a selector.
---@param selector table from M.parse
---@param sources table { ctx = function(name) -> value|nil, node = function(task) -> output|nil,
---  flow = { name, run_id, tag, started_at }, env = { NAME = text } }
---@return any value nil without a message: the task it names has given nothing
---@return string|nil message, string|nil code "not_found"
function M.resolve(selector, sources)
  local path = selector.path
  local value, used = start(selector, sources)
  if value == nil and selector.node == nil then return nil, no_root(selector) end
  for i = used + 1, #path do
    local inner = step_into(value, path[i])
    if inner == nil then return nil, no_step(selector, i, value) end
    value = inner
  end
  return value
end

return M
