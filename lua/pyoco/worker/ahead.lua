--- How many jobs to have in hand beyond those that run. A run that is over in a millisecond would otherwise be followed
--- by a longer wait for the next job: two trips to the server. And what is asked for, read and acked for several jobs
--- at once costs the server, and us, much less than one by one.
--- Only runs that have been short so far are worth it: what is in hand is of no use to other workers. So it is never
--- more than the slots get done within AHEAD_SEC, and what waits longer than HELD_SEC after all goes back to the queue.
local M = {}

M.HELD_SEC = 0.2
local AHEAD_SEC = 0.04
local MAX = 16
local SHORTEST_SEC, LONGEST_SEC = 1e-4, 1.0 -- of what counts towards the mean
local UP, DOWN = 0.5, 0.1 -- weight of a run that took longer, or less, than the mean: a mistake in favour of others
local DELIVERIES_KEPT = 10 -- a job has so many left, at least, when it goes back

local ahead = {}
ahead.__index = ahead

--- A run of a tag has taken so long.
---@param tag string
---@param seconds number
function ahead:ran(tag, seconds)
  local mean = self.means[tag]
  self.is_stalled = false
  seconds = math.min(math.max(seconds, SHORTEST_SEC), LONGEST_SEC)
  if not mean then
    self.means[tag] = seconds
  else
    self.means[tag] = mean + (seconds - mean) * (seconds > mean and UP or DOWN)
  end
end

--- What is in hand waits for too long: nothing more is taken ahead until another run has ended.
function ahead:stall() self.is_stalled = true end

--- Whether a job may be given back to the queue: each time costs it one of its deliveries.
---@param delivery integer its number
---@param max_deliver integer of the consumer; -1: no limit
---@return boolean
function M.may_return(delivery, max_deliver) return max_deliver < 0 or delivery <= max_deliver - DELIVERIES_KEPT end

--- Jobs of a tag to have in hand beyond those that could start at once.
---@param tag string
---@param slots integer
---@param max_deliver integer of the consumer
---@return integer
function ahead:count(tag, slots, max_deliver)
  local mean = self.means[tag]
  if not mean or self.is_stalled or not M.may_return(1, max_deliver) then return 0 end
  return math.min(MAX, AHEAD_SEC * slots / mean // 1 | 0)
end

--- How many jobs to ask for. Several at a time: not before half of them are used up, unless a slot has nothing to do.
---@param room integer jobs that could start at once; negative: so many are in hand already that could not
---@param count integer see `count`
---@param outstanding integer asked for already
---@return integer total that should be asked for, `outstanding` included
function M.wanted(room, count, outstanding)
  local total = room + count
  if outstanding >= room and total - outstanding < (count + 1) // 2 then return outstanding end
  return math.max(total, 0)
end

---@return table ahead
function M.new() return setmetatable({ means = {}, is_stalled = false }, ahead) end

return M
