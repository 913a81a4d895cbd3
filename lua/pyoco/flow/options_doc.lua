--- docs/reference/flow-options.md, written from the table of options. `make docs` writes it; a spec compares.
local json = require "host.json"
local options = require "pyoco.flow.options"

local M = {}

local HEAD = [[
# Options of flows and tasks

Written by `make docs` from `lua/pyoco/flow/options.lua`; do not edit.

Both front ends take the same: what stands below a key of flow.yaml is an option of `pyoco.task` or `pyoco.flow` in Lua.
]]

local SECTIONS = {
  { "A document (flow.yaml)", options.TOP },
  { "`flow`, and the options of `pyoco.flow`", options.FLOW },
  { "`runtime`, and the options of `pyoco.flow`", options.RUNTIME },
  { "`tasks.NAME`, and the options of `pyoco.task`", options.TASK },
  { "Beside these, of `pyoco.task` only", { options.LUA_TASK[1], options.LUA_TASK[2], options.LUA_TASK[3] } },
  { "A bundle of workflows (bundle.yaml)", options.BUNDLE },
  { "`workflows.NAME` of a bundle", options.WORKFLOW },
  { "`workflows.NAME.tasks.NAME`, beside the options of every task", { options.BUNDLE_TASK[1],
    options.BUNDLE_TASK[2] } },
  { "`submit` of a bundle", options.SUBMIT },
}

--- Rows of which Lua has most.
local WITH_LUA = { [options.FLOW] = true, [options.RUNTIME] = true, [options.TASK] = true }

local TABLE = "\n## %s\n\n| option | expected | default | example | meaning |\n|---|---|---|---|---|\n"

--- A value as both YAML and JSON take it.
local function cell(value)
  if value == nil then return "" end
  if type(value) == "string" then return "`" .. value .. "`" end
  return "`" .. json.encode(value, { sort = true }):gsub("|", "\\|") .. "`"
end

--- What a row takes, as its error would say it.
local function expected(row)
  local text = options.check(row, function() end)
  return (text:gsub("|", "\\|"))
end

--- The page.
---@return string markdown
function M.markdown()
  local out = { HEAD }
  for _, section in ipairs(SECTIONS) do
    out[#out + 1] = TABLE:format(section[1])
    for _, row in ipairs(section[2]) do
      local only = row.in_lua == false and WITH_LUA[section[2]] and " Not in Lua." or ""
      out[#out + 1] = ("| `%s`%s | %s | %s | %s | %s%s |\n"):format(row.name, row.is_required and " (required)" or "",
        expected(row), row.default ~= nil and cell(row.default) or row.no_default or "", cell(row.example),
        row.doc:gsub("|", "\\|"), only)
    end
  end
  return table.concat(out)
end

return M
