--- Values that cross between tasks: plain data that JSON can carry, copied so that no task can change what
--- another one sees or what the run's record holds. Metatables of users are never called.
local json = require "host.json"

local is_array, mark_array, null = json.is_array, json.array, json.null
local utf8_len, math_type, huge = utf8.len, math.type, math.huge
local type, next, rawlen, tostring, find, format = type, next, rawlen, tostring, string.find, string.format

local M = {}

local MAX_DEPTH = 128
local MAX_BYTES = 64 << 20 -- of text, and ENTRY_BYTES for each entry of a table
local ENTRY_BYTES = 64
local TOO_MUCH = ("more than %d MB (a table counts in each place that refers to it); keep it with ctx:save_artifact")
  :format(MAX_BYTES >> 20)

local left -- bytes that the copy under way may still have: small tables that share tables can unfold without end

local views = setmetatable({}, { __mode = "k" }) -- view -> fn() -> table of the values that it shows

local copy_table

--- Copies any value. On failure: nil, problem, and the path inside the value.
local function copy(value, depth, open)
  local kind = type(value)
  if kind == "table" then return copy_table(value, depth, open) end
  if kind == "string" then
    left = left - #value
    if left < 0 then return nil, TOO_MUCH end
    if utf8_len(value) then return value end
    return nil, "text that is not UTF-8"
  elseif kind == "number" then
    if math_type(value) == "integer" or (value == value and value ~= huge and value ~= -huge) then return value end
    return nil, value ~= value and "NaN" or "infinity"
  elseif kind == "boolean" or value == null or value == nil then
    return value
  end
  return nil, "a " .. kind
end

--- Copies table[key]; the path is completed on the way out only.
local function copy_field(result, key, value, depth, open)
  left = left - ENTRY_BYTES
  if left < 0 then return TOO_MUCH end
  local copied, problem, path = copy(value, depth, open)
  if problem == TOO_MUCH then return problem end -- where it became too much says nothing
  if problem then
    local step = type(key) == "number" and format("[%d]", key)
      or find(key, "^[%a_][%w_]*$") and "." .. key or format("[%q]", key)
    return problem, step .. (path or "")
  end
  result[key] = copied
end

function copy_table(source, depth, open)
  if open[source] then return nil, "a table that contains itself" end
  if depth > MAX_DEPTH then return nil, "nested deeper than " .. MAX_DEPTH end
  local original = source
  open[source] = true
  if views[source] and next(source) == nil then source = views[source]() end
  local result, list = {}, is_array(source)
  local count, length = 0, list and rawlen(source) or 0
  for key, value in next, source do
    local problem, path
    if list then
      if math_type(key) ~= "integer" or key < 1 or key > length then
        return nil, "a list with other keys or with holes"
      end
    elseif type(key) ~= "string" then
      return nil, format("the key %s (keys are strings)", tostring(type(key) == "number" and key or type(key)))
    elseif not utf8_len(key) then
      return nil, "a key that is not UTF-8"
    else
      left = left - #key
    end
    count = count + 1
    problem, path = copy_field(result, key, value, depth + 1, open)
    if problem then return nil, problem, path end
  end
  open[original] = nil
  if list then
    if count ~= length then return nil, "a list with holes" end
    mark_array(result)
  end
  return result
end

--- Copies a value.
---@param value any
---@param name string? what it belongs to, for messages: a task's name gives `NAME.output[3].x: ...`. A value with a
---  name comes from user code and has a limit of 64 MB; one without is a copy of what was let in before
---@return any copy
---@return string? message when it is not JSON: names the place and what stands there
---@return string? code "invalid"
function M.copy(value, name)
  left = name and MAX_BYTES or huge
  local copied, problem, path = copy(value, 1, type(value) == "table" and {})
  if not problem then return copied end
  return nil, format("%s%s: JSON cannot carry %s", name or "value", path or "", problem), "invalid"
end

--- Says that an empty table shows values of the run through its metatable: a copy of it has them all.
---@param view table
---@param all fun(): table
---@return table view
function M.mark_view(view, all)
  views[view] = all
  return view
end

return M
