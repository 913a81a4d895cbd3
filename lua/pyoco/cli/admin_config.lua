--- admin.lua config: the effective value of every option and where it comes from (DESIGN D13).
local json = require "host.json"
local config = require "pyoco.config"
local output = require "pyoco.cli.output"
local sorted = require "pyoco.sorted"

local M = {}

local ORDER = { "name", "variable", "flag", "value", "from", "secret" }

--- A value as text; secrets only as whether they are set, addresses without their password.
local function shown(row, value)
  if row.secret then return (value == nil or value == "") and "not set" or "set" end
  if value == nil then return "not set" end
  if type(value) ~= "table" then return config.public(value) end
  if #value > 0 then return table.concat(value, row[2] == "paths" and ":" or ",") end
  local pairs_of = {}
  for i, name in ipairs(sorted.keys(value)) do pairs_of[i] = name .. "=" .. value[name] end
  return table.concat(pairs_of, ",")
end

local function as_json(rows, app)
  local list = {}
  for i, row in ipairs(rows) do
    local value = app.config[row[1]]
    if row.secret then value = shown(row, value) elseif type(value) == "string" then value = config.public(value) end
    list[i] = assert(json.encode({ name = row[1], variable = row.env or json.null, flag = row.flag or json.null,
      value = value == nil and json.null or value, from = app.origins[row[1]],
      secret = row.secret == true }, { order = ORDER }))
  end
  return "[" .. table.concat(list, ",") .. "]"
end

--- Prints all options, in the order of docs/reference/config.md.
---@param app table { config, origins, warnings = what is not an option, or has no effect }
---@param values table { output }
---@param context table
---@return integer exit code
function M.show(app, values, context)
  for _, warning in ipairs(app.warnings) do
    io.stderr:write(context.paint_errors("yellow", "warning: "), warning, "\n")
  end
  local rows = {}
  for _, section in ipairs(config.sections()) do table.move(section[3], 1, #section[3], #rows + 1, rows) end
  if (values.output or (context.terminal and "table")) ~= "table" then
    io.write(output.json_line(as_json(rows, app)), "\n")
    return 0
  end
  local cells = {}
  for i, row in ipairs(rows) do
    cells[i] = { row.env or row[1], shown(row, app.config[row[1]]), app.origins[row[1]] }
  end
  io.write(output.table({ "variable", "value", "from" }, cells))
  return 0
end

return M
