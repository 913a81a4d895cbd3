--- docs/reference/config.md, written from the schema. `make docs` writes it; a spec compares.
local config = require "pyoco.config"

local M = {}

local HEAD = [[
# Configuration

Written by `make docs` from `lua/pyoco/config_schema.lua`; do not edit.

A value is taken from, in rising order: the default, `.env` in the current folder, the environment, the flag.
Empty values count as not set. A value that does not fit stops the program, with variable, value and range.
Times are in seconds, sizes in bytes.
]]

local TABLE = "\n## %s\n\n| variable | flag | default | expected | meaning |\n|---|---|---|---|---|\n"

local function cell(value)
  if value == nil then return "" end
  if type(value) == "table" then value = table.concat(value, ":") end
  return "`" .. tostring(value) .. "`"
end

---@return string the page
function M.markdown()
  local out = { HEAD }
  for _, section in ipairs(config.sections()) do
    out[#out + 1] = TABLE:format(section[2])
    for _, row in ipairs(section[3]) do
      out[#out + 1] = ("| %s | %s | %s | %s | %s%s%s |\n"):format(row.env and cell(row.env) or row[1] .. " (fixed)",
        cell(row.flag), cell(row[3]), config.expected(row), row.doc,
        (row.also and (" Also read: `%s`."):format(row.also) or "")
        .. (row.secret and " Secret." or ""),
        row.env_only and " Not read from `.env`." or "")
    end
  end
  return table.concat(out)
end

return M
