--- Notices edits of the task roots, so that a broken file is known at once and not at the next look.
--- A folder that cannot be watched is none to wait for: the next look finds what it holds.
local uv = require "luv"
local async = require "pyoco.worker.async"

local M = {}

local QUIET_SEC = 0.3 -- an editor writes a file in several steps

--- Calls a function soon after Lua files of the folders were written, made, renamed or removed.
---@param roots string[] folders
---@param fn function
---@return fun() stop
function M.watch(roots, fn)
  local handles, cancel = {}, nil
  local function on_change(failed, name)
    if failed or cancel or not tostring(name):find("%.lua$") then return end
    cancel = async.after(QUIET_SEC, function()
      cancel = nil
      fn()
    end)
  end
  for _, root in ipairs(roots) do
    local handle = uv.new_fs_event()
    handles[#handles + 1] = handle
    handle:start(root, {}, on_change)
  end
  return function()
    for _, handle in ipairs(handles) do handle:close() end
    if cancel then cancel() end
  end
end

return M
