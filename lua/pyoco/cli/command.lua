--- Running one command of a table of commands: Ctrl-C, and the one place where failures become exit codes.
local interrupt = require "pyoco.cli.interrupt"
local output = require "pyoco.cli.output"

local M = {}

--- The row of a command.
---@param program table with commands
---@param name string
---@return table|nil
function M.row(program, name)
  for _, row in ipairs(program.commands) do
    if row[1] == name then return row end
  end
end

--- Writes a failure and gives its exit code.
local function failed(message, code, failure)
  if code == "cancelled" then return 130 end
  failure = failure or { shape = "unexpected", reason = message, hints = {} }
  output.fail(failure.shape, failure.reason, failure.hints)
  return 1
end

--- Runs a command. Its function is called as fn(subject, values, context) and answers the exit code (nil = 0), or nil,
--- message, code and a failure for output.fail { shape, reason, hints }.
---@param row table with run = { module below pyoco.cli, function }, loaded now
---@param cfg table
---@param values table options by name
---@param subject table|nil what the command works on: the API of a gateway, an opened store
---@return integer exit code: 0 done, 1 failed, 130 interrupted
function M.run(row, cfg, values, subject)
  local catch = interrupt.catch { once = true }
  local context = { terminal = output.is_terminal(1) and not values.output, interrupt = catch,
    paint = output.painter(output.is_terminal(1) and cfg.no_color == nil),
    paint_errors = output.painter(output.is_terminal(2) and cfg.no_color == nil) }
  local fn = require("pyoco.cli." .. row.run[1])[row.run[2]]
  local fine, result, message, code, failure = xpcall(fn, debug.traceback, subject, values, context)
  catch.close()
  if not fine then return failed(result, "internal") end
  if catch.seen then return 130 end
  return result or failed(message, code, failure)
end

return M
