--- When a slot that is one too many ends. There are more slots than places while runs wait for their child runs; once
--- fewer do, a slot is kept for a while, since the next such run comes soon, most often. Pure data.
local M = {}

M.KEPT_SEC = 30

local Surplus = {}
Surplus.__index = Surplus

--- Whether a slot should end now; one at a time.
---@param now number monotonic seconds
---@param size integer slots that there are
---@param needed integer slots that are needed
---@return boolean
function Surplus:is_due(now, size, needed)
  if size <= needed then
    self.since = nil
    return false
  end
  self.since = self.since or now
  return now - self.since >= M.KEPT_SEC
end

---@return table surplus
function M.new() return setmetatable({}, Surplus) end

return M
