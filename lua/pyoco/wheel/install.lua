--- The process that checks and unpacks one wheel for a worker's supervisor: what is hostile in an archive meets nobody
--- else, the supervisor's loop goes on, and a time limit is a kill. Its last words on standard error are the reason.
local uv = require "luv"

-- The other modules load where they are used: a supervisor, which needs only the codes, does not map libarchive.

local M = {}

--- Exit codes, beside 0.
M.FAILED, M.REFUSED = 1, 3

local PRIORITY = 10 -- below the runs of its worker

local commands = {}

--- unpack FILE NAME DIR MAX_BYTES MAX_RATIO MAX_ENTRIES: checks the wheel, then unpacks it into DIR, which is made.
function commands.unpack(path, name, dir, max_bytes, max_ratio, max_entries)
  local report = require("pyoco.wheel.archive").check(path, name, { max_bytes = tonumber(max_bytes),
    max_ratio = tonumber(max_ratio), max_entries = tonumber(max_entries) })
  if #report.problems > 0 then
    io.stderr:write(table.concat(report.problems, "\n"), "\n")
    return M.REFUSED
  end
  local ok, message, code = require("pyoco.wheel.unpack").unpack(path, dir)
  if ok then return 0 end
  io.stderr:write(message, "\n")
  return code == "invalid" and M.REFUSED or M.FAILED
end

--- verify DIR: checks that an unpacked wheel is whole still.
function commands.verify(dir)
  local ok, message = require("pyoco.wheel.unpack").verify(dir)
  if ok then return 0 end
  io.stderr:write(message, "\n")
  return M.REFUSED
end

local function remove(path)
  local stat = uv.fs_lstat(path)
  if stat and stat.type == "directory" then
    for name in uv.fs_scandir_next, uv.fs_scandir(path) do remove(path .. "/" .. name) end
    return uv.fs_rmdir(path)
  end
  return not stat or uv.fs_unlink(path)
end

--- remove PATH...: removes files and folders with all that is in them; links are not followed.
function commands.remove(...)
  local code = 0
  for _, path in ipairs { ... } do
    local ok, message = remove(path)
    if not ok then
      io.stderr:write(message, "\n")
      code = M.FAILED
    end
  end
  return code
end

--- Runs one command.
---@param command string "unpack" | "verify" | "remove"
---@param ... string its arguments
---@return integer exit code
function M.main(command, ...)
  uv.os_setpriority(math.tointeger(uv.os_getpid()), PRIORITY)
  return commands[command](...)
end

return M
