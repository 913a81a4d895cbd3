--- The start of every program with a command line: arguments, help, configuration, and their errors.
local args = require "pyoco.cli.args"
local called = require "pyoco.cli.called"
local config = require "pyoco.config"
local output = require "pyoco.cli.output"

local M = {}

--- Parses arguments and loads the configuration; prints help and errors itself.
---@param program table as pyoco.cli.args takes it; `only` = configuration sections to read (default: all)
---@param argv string[]
---@return table|nil cfg
---@return table|integer values options by name and `command`; without cfg the exit code: 0 after help, else 1
---@return table|nil origins where each value of cfg comes from
---@return string[]|nil warnings for the log
function M.start(program, argv)
  local values, message, _, usage = args.parse(program, argv)
  if not values then
    local command = usage:match("^Usage: %S+ ([^%[]*)%[") or "" -- with which the usage goes on, if one was named
    output.fail("arguments", message, { ("`%s %s--help` lists what there is"):format(
      called.program((program.name:gsub("%.lua$", ""))), command) }, usage)
    return nil, 1
  end
  if values.help then
    io.stdout:write(values.help)
    return nil, 0
  end
  local cfg, origins, warnings = config.load { flags = values.flags, only = program.only }
  if not cfg then
    output.fail("arguments", origins, { "mend what is named above; docs/reference/config.md has every option" })
    return nil, 1
  end
  return cfg, values, origins, warnings
end

return M
