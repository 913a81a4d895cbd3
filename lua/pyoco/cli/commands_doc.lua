--- docs/protocol/commands.md, written from the programs' tables of options. `make docs` writes it; a spec compares.
local config = require "pyoco.config"

local M = {}

local HEAD = [[
# Command lines

Written by `make docs` from the programs' tables; do not edit. What they print, and their exit codes: [cli.md](cli.md).
]]

local TABLE = "\n| option | value | default | meaning |\n|---|---|---|---|\n"

local function cell(text) return (tostring(text == nil and "" or text):gsub("|", "\\|"):gsub("%s*\n%s*", " ")) end

local function value_of(row)
  if row.flag then return "" end
  if row.choices then return table.concat(row.choices, ", ") end
  return row.metavar and "`" .. row.metavar .. "`" or row.type or "text"
end

local function option_line(row)
  return ("| `%s`%s | %s | %s | %s |\n"):format(row[1], row.required and " (required)" or "", cell(value_of(row)),
    cell(row.default), cell(row.doc))
end

local function config_line(name)
  local row = config.row(name)
  local default = type(row[3]) == "table" and table.concat(row[3], ":") or row[3]
  return ("| `%s` | `%s` | %s | %s |\n"):format(row.flag, row.env, cell(default), cell(row.doc))
end

local function options_of(rows, names)
  local lines = {}
  for _, row in ipairs(rows or {}) do lines[#lines + 1] = option_line(row) end
  for _, name in ipairs(names or {}) do lines[#lines + 1] = config_line(name) end
  return #lines > 0 and TABLE .. table.concat(lines) or ""
end

--- The page.
---@param programs table[] as pyoco.cli.args takes them
---@return string
function M.markdown(programs)
  local out = { HEAD }
  for _, program in ipairs(programs) do
    out[#out + 1] = ("\n## %s\n%s\n"):format(program.name, program.doc)
    out[#out + 1] = options_of(program.options, program.config)
    for _, command in ipairs(program.commands or {}) do
      out[#out + 1] = ("\n### %s %s\n%s\n%s"):format(program.name, command[1], command.doc, options_of(command.options))
    end
  end
  return table.concat(out)
end

return M
