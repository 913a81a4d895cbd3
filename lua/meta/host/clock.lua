---@meta host.clock

--- Time.
---@class host.clock
local M = {}

--- Seconds since an unknown start; never goes back.
---@return number
function M.monotonic() end

--- Unix seconds.
---@return number
function M.wall() end

--- Blocks the whole thread; in a task use ctx:sleep.
---@param seconds number 0 or more
---@return boolean
function M.sleep(seconds) end

return M
