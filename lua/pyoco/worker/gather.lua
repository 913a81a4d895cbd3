--- Calls that may wait a moment for others of their kind: what several of them send goes out in one write then, which
--- costs the NATS server one wake-up instead of several.
local M = {}

local WAIT_SEC = 0.001

local gather = {}
gather.__index = gather

--- Makes the calls that have been gathered, in order.
function gather:flush()
  local calls = self.calls
  self.calls = {}
  for _, fn in ipairs(calls) do fn() end
end

--- Calls a function soon: at once when nobody says that there is time.
---@param fn function
function gather:add(fn)
  if #self.calls == 0 and not self.has_time() then return fn() end
  self.calls[#self.calls + 1] = fn
  if #self.calls == 1 then self.after(WAIT_SEC, function() self:flush() end) end
end

--- A gatherer.
---@param deps table after (function(sec, fn)), has_time (function: whether nothing waits for these calls)
---@return table gather
function M.new(deps) return setmetatable({ after = deps.after, has_time = deps.has_time, calls = {} }, gather) end

return M
