--- Checks input against a schema, and reports all faults in the shape of pydantic 2 (what clients of the contract
--- meet as 422).
---
--- A schema is a list of rows: { name, type, required =, default =, nullable =, doc =, ... }
---   string   min_length, max_length, choices, pattern (a Lua pattern that reads the same as a regular expression; if
---            it does not, `shown` is the regular expression)
---   integer, number   ge, le (bounds, inclusive), gt (exclusive)
---   boolean
---   object
---   array    items = type of each item, max_items
---   file     (forms) a part with a file name: { filename, content_type, data }
---   any      taken as it is
--- list = true (queries): may be repeated, gives a list. default is given as it is, so it must not be changed.
--- Names that no row has are ignored.
local json = require "host.json"

local M = {}

local TRUE = { ["true"] = true, ["1"] = true, yes = true, on = true, t = true, y = true }
local FALSE = { ["false"] = true, ["0"] = true, no = true, off = true, f = true, n = true }

--- One item of the 422 list. wrong = { type, msg, ctx }.
local function fault(wrong, loc, input)
  if input == nil then input = json.null end
  return { type = wrong[1], loc = json.array(loc), msg = wrong[2], input = input, ctx = wrong[3] }
end

local MISSING = { "missing", "Field required" }

--- Type checkers: check(value, row) -> value | nil, { type, msg, ctx }. Numbers and booleans may be text, in JSON too,
--- as pydantic has it.
local function count(text) return utf8.len(text) or #text end

local function check_string(value, row)
  if type(value) ~= "string" then return nil, { "string_type", "Input should be a valid string" } end
  if row.min_length and count(value) < row.min_length then
    return nil, { "string_too_short", ("String should have at least %d character%s"):format(row.min_length,
      row.min_length == 1 and "" or "s"), { min_length = row.min_length } }
  end
  if row.max_length and count(value) > row.max_length then
    return nil, { "string_too_long", ("String should have at most %d character%s"):format(row.max_length,
      row.max_length == 1 and "" or "s"), { max_length = row.max_length } }
  end
  if row.pattern and not value:find(row.pattern) then
    local shown = row.shown or row.pattern
    return nil, { "string_pattern_mismatch", ("String should match pattern '%s'"):format(shown), { pattern = shown } }
  end
  if row.choices then
    for _, choice in ipairs(row.choices) do
      if choice == value then return value end
    end
    local names = "'" .. table.concat(row.choices, "', '") .. "'"
    local expected = names:gsub(", ('[^']*')$", " or %1")
    return nil, { "literal_error", "Input should be " .. expected, { expected = expected } }
  end
  return value
end

local function within(value, row)
  if row.ge and value < row.ge then
    return nil, { "greater_than_equal", ("Input should be greater than or equal to %s"):format(row.ge),
      { ge = row.ge } }
  end
  if row.gt and value <= row.gt then
    return nil, { "greater_than", ("Input should be greater than %s"):format(row.gt), { gt = row.gt } }
  end
  if row.le and value > row.le then
    return nil, { "less_than_equal", ("Input should be less than or equal to %s"):format(row.le), { le = row.le } }
  end
  return value
end

local function check_integer(value, row)
  local number = value
  if type(value) == "string" then
    number = value:find("^%s*[+-]?%d+%s*$") and math.tointeger(tonumber(value))
    if not number then
      return nil, { "int_parsing", "Input should be a valid integer, unable to parse string as an integer" }
    end
  end
  if type(number) ~= "number" then return nil, { "int_type", "Input should be a valid integer" } end
  local integer = math.tointeger(number)
  if not integer then
    return nil, { "int_from_float", "Input should be a valid integer, got a number with a fractional part" }
  end
  return within(integer, row)
end

local function check_number(value, row)
  local number = value
  if type(value) == "string" then
    number = value:find("^%s*[+-]?[%d.]") and not value:find("[xX]") and tonumber(value)
    if not number then
      return nil, { "float_parsing", "Input should be a valid number, unable to parse string as a number" }
    end
  end
  if type(number) ~= "number" then return nil, { "float_type", "Input should be a valid number" } end
  if number ~= number or number == math.huge or number == -math.huge then
    return nil, { "finite_number", "Input should be a finite number" }
  end
  return within(number, row)
end

local function check_boolean(value)
  if type(value) == "boolean" then return value end
  if value == 1 or value == 0 then return value == 1 end
  if type(value) == "string" then
    local word = value:lower()
    if TRUE[word] then return true end
    if FALSE[word] then return false end
  elseif type(value) ~= "number" then
    return nil, { "bool_type", "Input should be a valid boolean" }
  end
  return nil, { "bool_parsing", "Input should be a valid boolean, unable to interpret input" }
end

local function check_object(value)
  if type(value) ~= "table" or json.is_array(value) then
    return nil, { "dict_type", "Input should be a valid dictionary" }
  end
  return value
end

local function check_array(value, row)
  if type(value) ~= "table" or not json.is_array(value) then
    return nil, { "list_type", "Input should be a valid list" }
  end
  if row.max_items and #value > row.max_items then
    return nil, { "too_long", ("List should have at most %d items after validation, not %d"):format(row.max_items,
      #value), { field_type = "List", max_length = row.max_items, actual_length = #value } }
  end
  return value
end

local function check_any(value) return value end

local function check_file(value)
  if type(value) ~= "table" then
    return nil, { "value_error", "Value error, Expected UploadFile, received: <class 'str'>", { error = {} } }
  end
  return value
end

local CHECKS = { string = check_string, integer = check_integer, number = check_number, boolean = check_boolean,
  object = check_object, array = check_array, any = check_any, file = check_file }

--- A place within another, as a list.
local function within_place(where, ...)
  local loc = { table.unpack(where) }
  return table.move({ ... }, 1, select("#", ...), #loc + 1, loc)
end

--- Checks one value, which stands at the place `...` within `where`; appends faults. Returns the value to use.
local function one(row, value, faults, where, ...)
  if value == json.null and row.nullable then return nil end
  local result, wrong = CHECKS[row[2]](value, row)
  if wrong then
    faults[#faults + 1] = fault(wrong, within_place(where, ...), value)
    return nil
  end
  if row[2] == "array" and row.items then
    for i, item in ipairs(result) do
      local _, item_wrong = CHECKS[row.items](item, {})
      if item_wrong then
        faults[#faults + 1] = fault(item_wrong, within_place(within_place(where, ...), i - 1), item)
      end
    end
  end
  return result
end

--- Checks the fields of values, which stand at the place `where`; whole is what a missing field shows as its input.
local function fields(schema, values, where, whole)
  local result, faults = {}, {}
  for _, row in ipairs(schema) do
    local name = row[1]
    local value = values[name]
    if value == nil then
      if row.required then
        faults[#faults + 1] = fault(MISSING, within_place(where, name), whole)
      else
        result[name] = row.default
      end
    elseif row.list then
      result[name] = {}
      for i, item in ipairs(value) do result[name][i] = one(row, item, faults, where, name, i - 1) end
    else
      result[name] = one(row, value, faults, where, name)
    end
  end
  if #faults > 0 then return nil, json.array(faults) end
  return result
end

--- Checks an object of a decoded JSON body.
local function object(schema, value, where)
  if type(value) ~= "table" or value == json.null or json.is_array(value) then
    return nil, json.array { fault({ "model_attributes_type",
      "Input should be a valid dictionary or object to extract fields from" }, where, value) }
  end
  return fields(schema, value, where, value)
end

--- Checks a decoded JSON body.
---@param schema table
---@param value any
---@return table|nil fields nil when there are faults
---@return table|nil faults list of pydantic items
function M.body(schema, value) return object(schema, value, { "body" }) end

--- Checks each item of a list of a decoded JSON body by itself: one that is wrong does not spoil the others.
---@param schema table of one item
---@param list table
---@param name string the list's name in the body
---@return table[] items in order: { value = fields } or { faults = list of pydantic items }
function M.each(schema, list, name)
  local items = {}
  for i, value in ipairs(list) do
    local result, faults = object(schema, value, { "body", name, i - 1 })
    items[i] = { value = result, faults = faults }
  end
  return items
end

--- The faults of a body that is absent though a field of it is required; nil when none is.
---@param schema table
---@return table|nil faults
function M.absent_body(schema)
  for _, row in ipairs(schema) do
    if row.required then return json.array { fault(MISSING, { "body" }) } end
  end
end

--- The faults of a body that is no JSON.
---@param message string
---@param place table|nil { offset } from host.json
---@return table faults
function M.broken_json(message, place)
  return json.array { fault({ "json_invalid", "JSON decode error", { error = message } },
    { "body", place and place.offset or 0 }, {}) }
end

--- Checks a query: the last of repeated values counts, unless the row has list = true.
---@param schema table
---@param values table name -> list of texts (multipart.query)
---@return table|nil fields
---@return table|nil faults
function M.query(schema, values)
  local flat = {}
  for _, row in ipairs(schema) do
    local list = values[row[1]]
    flat[row[1]] = list and (row.list and list or list[#list])
  end
  return fields(schema, flat, { "query" })
end

--- Checks form parts: the last of a name counts. An empty value is as if absent.
---@param schema table
---@param parts table list of { name, data, filename }
---@return table|nil fields
---@return table|nil faults
function M.form(schema, parts)
  local values = {}
  for _, part in ipairs(parts) do
    if part.filename then
      values[part.name] = part
    else
      values[part.name] = part.data ~= "" and part.data or nil
    end
  end
  local kinds = {}
  for _, row in ipairs(schema) do kinds[row[1]] = row[2] end
  for name, value in pairs(values) do -- a field sent as a file is read as text
    if kinds[name] ~= "file" and type(value) == "table" then values[name] = value.data end
  end
  return fields(schema, values, { "body" })
end

return M
