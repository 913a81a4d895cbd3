--- Waiting on the event loop for a condition.
local clock = require "host.clock"
local uv = require "luv"

local M = {}

--- Runs the loop until the condition holds.
---@param condition fun(): any asked again after every event and at least each `every_ms`
---@param seconds number
---@param every_ms integer|nil default 10
---@return any what the condition gave, or nil when the time is over
function M.until_true(condition, seconds, every_ms)
  local deadline, timer = clock.monotonic() + seconds, uv.new_timer()
  timer:start(0, every_ms or 10, function() end)
  local result = condition()
  while not result and clock.monotonic() < deadline do
    uv.run("once")
    result = condition()
  end
  timer:close()
  return result
end

return M
