--- A small JSON Schema (draft-07) validator, written from the standard: it knows the keywords that our schema uses, and
--- raises at any other, so that nothing passes unchecked.
local json = require "host.json"

local M = {}

local ANNOTATIONS = { ["$schema"] = true, ["$id"] = true, title = true, description = true, default = true,
  examples = true, format = true, contentMediaType = true,
  ["then"] = true, ["else"] = true, additionalProperties = true }

--- Regular expressions of the schema as Lua functions.
local function step_is_plain(step) return step ~= "" and not step:find("[\0-,./:-@%[-^`{-\127]") end

M.patterns = {
  ["\\S"] = function(text) return text:find("%S") ~= nil end,
  [":"] = function(text) return text:find(":", 1, true) ~= nil end,
  ["^\\s*[-+]?[0-9]+\\s*$"] = function(text) return text:find("^%s*[-+]?%d+%s*$") ~= nil end,
  ["^[A-Za-z_][A-Za-z0-9_]*$"] = function(text) return text:find("^[%a_][%w_]*$") ~= nil end,
  ["(^|[^\\\\])\\$(ctx|node|flow|env)\\.[A-Za-z0-9_.]"] = function(text)
    for before, root in ("\n" .. text):gmatch("(.)%$(%l+)%.[%w_.]") do
      if before ~= "\\" and ("ctx node flow env"):find(root, 1, true) then return true end
    end
    return false
  end,
  ["^(scratch|results|params)(\\.[^\\u0000-\\u002c\\u002e\\u002f\\u003a-\\u0040\\u005b-\\u005e"
    .. "\\u0060\\u007b-\\u007f]+)+$"] = function(text)
    local root, rest = text:match("^(%l+)%.(.*)$")
    if not root or not ({ scratch = 1, results = 1, params = 1 })[root] then return false end
    for step in (rest .. "."):gmatch("([^.]*)%.") do
      if not step_is_plain(step) then return false end
    end
    return true
  end,
}

local function kind_of(value)
  if value == json.null then return "null" end
  if type(value) == "table" then return json.is_array(value) and "array" or "object" end
  if type(value) == "number" then return math.tointeger(value) and "integer" or "number" end
  return type(value)
end

local function has_type(value, wanted)
  local kind = kind_of(value)
  return kind == wanted or (wanted == "number" and kind == "integer")
end

local function equal(a, b) return a == b end -- our enums hold no tables

local function count(value)
  local n = 0
  for _ in pairs(value) do n = n + 1 end
  return n
end

local check

local function fits(schema, value) return #check(schema, value, "", {}) == 0 end

local function fitting(schemas, value)
  local n = 0
  for _, schema in ipairs(schemas) do n = n + (fits(schema, value) and 1 or 0) end
  return n
end

local function matches(pattern, text)
  local predicate = M.patterns[pattern] or error("no Lua form of the pattern " .. pattern)
  return predicate(text)
end

--- Keyword -> check(its value, value, schema) -> nil, or what is wrong; `into` adds errors of what is inside.
local KEYWORDS = {
  type = function(types, value)
    for _, name in ipairs(type(types) == "table" and types or { types }) do
      if has_type(value, name) then return nil end
    end
    return "wrong type " .. kind_of(value)
  end,
  enum = function(list, value)
    for _, item in ipairs(list) do
      if equal(item, value) then return nil end
    end
    return "not one of the choices"
  end,
  minimum = function(least, value) return type(value) == "number" and value < least and "too small" or nil end,
  maximum = function(most, value) return type(value) == "number" and value > most and "too large" or nil end,
  exclusiveMinimum = function(least, value)
    return type(value) == "number" and value <= least and "too small" or nil
  end,
  pattern = function(pattern, value)
    return type(value) == "string" and not matches(pattern, value) and "does not match" or nil
  end,
  minItems = function(n, value) return kind_of(value) == "array" and #value < n and "too few items" or nil end,
  minProperties = function(n, value) return kind_of(value) == "object" and count(value) < n and "too few" or nil end,
  required = function(names, value)
    if kind_of(value) ~= "object" then return nil end
    for _, name in ipairs(names) do
      if value[name] == nil then return "lacks " .. name end
    end
  end,
  anyOf = function(schemas, value) return fitting(schemas, value) == 0 and "fits none" or nil end,
  oneOf = function(schemas, value) return fitting(schemas, value) ~= 1 and "does not fit exactly one" or nil end,
  allOf = function(schemas, value) return fitting(schemas, value) < #schemas and "does not fit all" or nil end,
  ["not"] = function(schema, value) return fits(schema, value) and "fits what is not allowed" or nil end,
  items = function(schema, value, _, path, errors)
    for i, item in ipairs(kind_of(value) == "array" and value or {}) do
      check(schema, item, path .. "/" .. i, errors)
    end
  end,
  propertyNames = function(schema, value)
    for name in pairs(kind_of(value) == "object" and value or {}) do
      if not fits(schema, name) then return "the name " .. name end
    end
  end,
  properties = function(properties, value, schema, path, errors)
    for name, item in pairs(kind_of(value) == "object" and value or {}) do
      local rest = schema.additionalProperties
      if properties[name] then
        check(properties[name], item, path .. "/" .. name, errors)
      elseif rest == false then
        errors[#errors + 1] = { path .. "/" .. name, "unknown" }
      elseif type(rest) == "table" then
        check(rest, item, path .. "/" .. name, errors)
      end
    end
  end,
  ["$ref"] = function(pointer, value, _, path, errors)
    local target = M.root
    for step in pointer:sub(3):gmatch("[^/]+") do
      target = assert(target and target[step], "no such part: " .. pointer)
    end
    check(target, value, path, errors)
  end,
  ["if"] = function(condition, value, schema, path, errors)
    check(fits(condition, value) and schema["then"] or schema["else"] or {}, value, path, errors)
  end,
}

--- Adds what is wrong with a value, and returns the list.
function check(schema, value, path, errors)
  if schema.additionalProperties ~= nil and not schema.properties then
    KEYWORDS.properties({}, value, schema, path, errors)
  end
  for keyword, given in pairs(schema) do
    local rule = KEYWORDS[keyword]
    if rule then
      local message = rule(given, value, schema, path, errors)
      if message then errors[#errors + 1] = { path, message } end
    elseif not ANNOTATIONS[keyword] then
      error("keyword not known: " .. keyword)
    end
  end
  return errors
end

--- Where "#/..." of a $ref begins.
M.root = nil

--- Validates.
---@param schema table
---@param value any as host.yaml or host.json decode it
---@return table list of { path, message }: empty when it is valid
function M.validate(schema, value)
  local errors = check(schema, value, "", {})
  table.sort(errors, function(a, b) return a[1] .. a[2] < b[1] .. b[2] end)
  return errors
end

return M
