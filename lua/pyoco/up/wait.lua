--- Waiting on the event loop for a condition.
local clock = require "host.clock"
local uv = require "luv"

local M = {}

--- Runs the loop until the condition holds.
---@param condition fun(): any asked at the start and then each `every_ms`, however many events come between
---@param seconds number
---@param every_ms integer|nil default 10
---@return any what the condition gave, or nil when the time is over
function M.until_true(condition, seconds, every_ms)
  local deadline, timer = clock.monotonic() + seconds, uv.new_timer()
  local result, due = condition(), false
  timer:start(every_ms or 10, every_ms or 10, function() due = true end)
  while not result and clock.monotonic() < deadline do
    uv.run("once")
    if due then -- asked out here, not in the callback: a condition may run the loop itself
      due, result = false, condition()
    end
  end
  timer:close()
  return result
end

return M
