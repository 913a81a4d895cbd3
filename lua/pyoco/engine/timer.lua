--- Timers on the VM's event loop.
local uv = require "luv"

local ceil, max, min = math.ceil, math.max, math.min

local M = {}

--- Calls fn once after a time, from the loop.
---@param seconds number below 0 counts as 0
---@param fn fun()
---@return fun() stop forgets it; harmless after it has fired
function M.after(seconds, fn)
  local timer = assert(uv.new_timer())
  uv.update_time() -- the loop's clock stood still while tasks computed
  timer:start(ceil(max(0, min(seconds, 1e9)) * 1000), 0, function()
    timer:close()
    fn()
  end)
  return function()
    if not timer:is_closing() then timer:close() end
  end
end

return M
