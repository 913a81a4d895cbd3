--- The shape of JSON texts: the order of an object's keys, the types of its fields. For comparing what we write with
--- what the reference has written.
local json = require "host.json"

local M = {}

--- Moves past one JSON value.
local function after_value(text, at)
  local depth = 0
  while true do
    local char = text:sub(at, at)
    if char == '"' then
      repeat
        at = text:find('["\\]', at + 1)
        local escaped = text:sub(at, at) == "\\"
        if escaped then at = at + 1 end
      until not escaped
      at = at + 1
    elseif char == "{" or char == "[" then
      depth, at = depth + 1, at + 1
    elseif char == "}" or char == "]" then
      depth, at = depth - 1, at + 1
    else
      at = at + 1
    end
    local next_char = text:match("^%s*(.)", at)
    if depth == 0 and (next_char == nil or next_char:find "[,}%]]") then return at end
  end
end

--- The keys of an object, in the order of its text.
---@param text string JSON
---@param member string|nil a key of the outer object, whose object is meant
---@return string[]
function M.keys(text, member)
  local list, at = {}, assert(text:match("^%s*{()"), "no object")
  while true do
    local key, value_at = text:match('^[%s,]*"([^"]*)"%s*:%s*()', at)
    if not key then return list end
    at = after_value(text, value_at)
    if key == member then return M.keys(text:sub(value_at, at - 1)) end
    list[#list + 1] = key
  end
end

--- Those of `keys` that are among `known`, in their order.
---@param keys string[]
---@param known string[]
---@return string[]
function M.among(keys, known)
  local set, list = {}, {}
  for _, key in ipairs(known) do set[key] = true end
  for _, key in ipairs(keys) do
    if set[key] then list[#list + 1] = key end
  end
  return list
end

--- The JSON type of a decoded value: "null", "string", "boolean", "integer", "float", "array", "object".
---@param value any
---@return string
function M.type(value)
  if value == json.null then return "null" end
  if type(value) == "table" then return json.is_array(value) and "array" or "object" end
  return type(value) == "number" and math.type(value) or type(value)
end

--- Type of each field of an object.
---@param object table
---@return table<string, string>
function M.types(object)
  local types = {}
  for key, value in pairs(object) do types[key] = M.type(value) end
  return types
end

return M
