--- The JSON Schema (draft-07, which editors know best) of flow documents and bundles, out of the rows of
--- flow/options.lua. It lets an editor complete and check while one writes; what it cannot say (a graph's text, which
--- tasks there are) `client.lua check` does.
local json = require "host.json"
local options = require "pyoco.flow.options"

local M = {}

local TEXT <const> = "\\S"
local STEP <const> = "[^\\u0000-\\u002c\\u002e\\u002f\\u003a-\\u0040\\u005b-\\u005e\\u0060\\u007b-\\u007f]+"
local SAVE_PATH <const> = "^(scratch|results|params)(\\." .. STEP .. ")+$"
local WHOLE_NUMBER <const> = "^\\s*[-+]?[0-9]+\\s*$"
local VARIABLE <const> = "^[A-Za-z_][A-Za-z0-9_]*$"
local SHELL_SELECTOR <const> = "(^|[^\\\\])\\$(ctx|node|flow|env)\\.[A-Za-z0-9_.]"

local section, tasks_of

--- A list as JSON has it.
local function array(...) return json.array { ... } end

--- Row -> its schema, by type. Every type of flow/options.lua has one.
local SCHEMAS = {
  integer = function(row) return { type = array("integer", "null"), minimum = row.min, maximum = row.max } end,
  number = function(row)
    return { type = array("number", "null"), minimum = row.min, exclusiveMinimum = row.above, maximum = row.max }
  end,
  choice = function(row)
    local words = array(table.unpack(row.values))
    words[#words + 1] = json.null
    return { enum = words }
  end,
  text = function() return { type = array("string", "null"), pattern = TEXT } end,
  graph = function() return { type = "string", pattern = TEXT } end,
  callable = function() return { type = "string", pattern = ":" } end,
  version = function()
    return { anyOf = array({ type = array("number", "boolean") }, { type = "string", pattern = WHOLE_NUMBER }) }
  end,
  inputs = function() return { type = array("object", "null") } end,
  params = function() return { type = array("object", "null") } end,
  texts = function() return { type = array("array", "null"), items = { type = "string" } } end,
  ends = function() return { type = array("array", "null"), items = { enum = array("FAILED", "CANCELLED") } } end,
  paths = function() return { type = array("array", "null"), items = { type = "string", pattern = SAVE_PATH } } end,
  environment = function()
    return { type = array("object", "null"), propertyNames = { pattern = VARIABLE },
      additionalProperties = { type = array("string", "number") } }
  end,
  command = function()
    return { anyOf = array({ type = "null" },
      { type = "string", pattern = TEXT, ["not"] = { pattern = SHELL_SELECTOR } },
      { type = "array", minItems = 1, items = { type = array("string", "number") } }) }
  end,
  section = function(row) return section(row) end,
  tasks = function(row) return tasks_of(row) end,
  workflows = function(row)
    return { type = "object", minProperties = 1, propertyNames = { pattern = TEXT },
      additionalProperties = section(row) }
  end,
}

--- What helps whoever writes: the row's words, its default and an example.
local function describe(row, schema)
  schema.description = row.no_default and ("%s Default: %s."):format(row.doc, row.no_default) or row.doc
  schema.default = row.default
  if row.example ~= nil then schema.examples = array(row.example) end
  return schema
end

local function properties_of(rows)
  local properties, required = {}, array()
  for _, row in ipairs(rows) do
    if row.in_yaml ~= false then
      local make = SCHEMAS[row.type] or error("no schema for the type " .. row.type)
      properties[row.name] = describe(row, make(row))
      if row.is_required then required[#required + 1] = row.name end
    end
  end
  return properties, #required > 0 and required or nil
end

--- A mapping of known keys; one that need not be there may also be left empty.
function section(row)
  local properties, required = properties_of(row.rows)
  return { type = required and "object" or array("object", "null"), properties = properties, required = required,
    additionalProperties = false }
end

--- Tells that an option is there and is not null: `options.conflicts` treats null as absent.
local function is_given(name)
  return { required = array(name), properties = { [name] = { ["not"] = { type = "null" } } } }
end

--- Tasks by name, each with its options, of which some exclude or need others.
function tasks_of(row)
  local task = { type = "object", properties = (properties_of(row.rows)), additionalProperties = false }
  local without_run = { ["not"] = is_given("run") }
  task.allOf = array(
    { ["not"] = { allOf = array(is_given("callable"), is_given("run")) }, description = "callable or run, not both" },
    { ["if"] = { anyOf = array(is_given("env"), is_given("cwd")) }, ["then"] = { ["not"] = without_run },
      description = "env and cwd are for a task with run" })
  if task.properties.spawn then
    task.allOf[3] = { oneOf = array(is_given("callable"), is_given("run"), is_given("spawn")),
      description = "one of callable, run and spawn" }
    task.allOf[4] = { ["if"] = is_given("fail_on"), ["then"] = is_given("spawn"),
      description = "fail_on is for a task with spawn" }
  end
  return { type = array("object", "null"), propertyNames = { pattern = TEXT }, additionalProperties = task }
end

--- The schema.
---@return table
function M.schema()
  local document, document_required = properties_of(options.TOP)
  local bundle, bundle_required = properties_of(options.BUNDLE)
  return {
    ["$schema"] = "http://json-schema.org/draft-07/schema#", ["$id"] = "urn:pyoco-host:flow",
    title = "pyoco flow document or bundle of workflows",
    description = "Written by `make docs` from lua/pyoco/flow/options.lua.",
    type = "object",
    ["if"] = { required = array("workflows") },
    ["then"] = { properties = bundle, required = bundle_required, additionalProperties = false },
    ["else"] = { properties = document, required = document_required, additionalProperties = false },
  }
end

--- The schema as JSON, the same bytes each time.
---@return string with a newline at its end
function M.text() return assert(json.encode(M.schema(), { sort = true, pretty = true })) .. "\n" end

return M
