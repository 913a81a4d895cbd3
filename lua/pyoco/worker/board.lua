--- Which job is where: the supervisor's plan of its slots and of the jobs in hand. Pure data, no I/O.
---
--- A job is a table with `seq` and `tag`; a slot is known by any key. A slot takes a job while it is idle, and one more
--- while it is putting the last one away (`ending`): that one waits in its socket, so the slot never idles.
--- Jobs that found no place are held, in order of arrival.
---
--- A run that only waits for its child runs gives its place back (`wait`, `resume`): there may be more slots than
--- places, but no more runs than places that do something. One that goes on while others have taken its place is one
--- too many for a while; nothing new starts until that is over. At most `max_waiting` give their places back. So that
--- the others do not take all places from the very children that are waited for, a job that may spawn (`is_parent`)
--- does not start while that many wait: it is held, and those behind it overtake it.
local M = {}

local board = {}
board.__index = board

--- A board.
---@param limits integer|table slots in all, or { tag = number of runs at once }
---@param max_waiting integer|nil runs that may give their places back at once; nil: any number
---@return table
function M.new(limits, max_waiting)
  local by_tag = type(limits) == "table" and limits or nil
  local total = by_tag and 0 or limits
  for _, count in pairs(by_tag or {}) do total = total + count end
  return setmetatable({ total = total, by_tag = by_tag, slots = {}, order = {}, held = {}, by_seq = {}, active = {},
    waiting = 0, max_waiting = max_waiting or math.huge }, board)
end

--- Adds a slot, not yet able to work.
---@param key any
function board:add_slot(key)
  self.slots[key] = { key = key, state = "starting" }
  self.order[#self.order + 1] = key
end

--- Removes a slot that has died. Its jobs stay in hand until `drop` or `hold_first`.
---@param key any
---@return table|nil job that it was running
---@return table|nil next job that it had not begun
function board:remove_slot(key)
  local slot = self.slots[key]
  self.slots[key] = nil
  for i, other in ipairs(self.order) do
    if other == key then table.remove(self.order, i) break end
  end
  self:_leave(slot)
  if slot.next then self:_count(slot.next.tag, -1) end
  if slot.is_clearing then return nil, slot.job end
  return slot.job, slot.next
end

--- A slot says that it can work.
---@param key any
---@return boolean is_new a job may start that could not before
function board:ready(key)
  local slot = self.slots[key]
  slot.is_clearing = nil
  local is_new = slot.state == "starting"
  if is_new then slot.state = "idle" end
  return is_new
end

--- Takes an idle slot out of service until it is `ready` again.
---@param key any
---@return boolean done false when it is not idle
function board:pause(key)
  local slot = self.slots[key]
  if not slot or slot.state ~= "idle" then return false end
  slot.state = "starting"
  return true
end

--- A slot that is idle, or nil.
---@return any key
function board:idle_slot()
  for _, key in ipairs(self.order) do
    if self.slots[key].state == "idle" then return key end
  end
end

--- A slot's run is over but for its last answer.
---@param key any
function board:ending(key)
  local slot = self.slots[key]
  if slot.job and slot.state == "busy" then
    self:_leave(slot)
    slot.state = "ending"
  end
end

--- A slot's run has its place no more; one that waits has given it back already.
function board:_leave(slot)
  if not slot.job or slot.state ~= "busy" then return end
  slot.wants_wait = nil
  if slot.waits then
    self:_end_wait(slot)
  else
    self:_count(slot.job.tag, -1)
  end
end

--- Lets runs that only wait give their places back, as long as there may be more of those.
function board:_grant()
  for _, key in ipairs(self.order) do
    if self.waiting >= self.max_waiting then return end
    local slot = self.slots[key]
    if slot.wants_wait then
      slot.wants_wait, slot.waits, self.waiting = nil, true, self.waiting + 1
      self:_count(slot.job.tag, -1)
    end
  end
end

function board:_end_wait(slot)
  slot.waits, self.waiting = nil, self.waiting - 1
  self:_grant()
end

--- A slot's run only waits for its child runs: its place is free, now or when fewer runs wait.
---@param key any
function board:wait(key)
  local slot = self.slots[key]
  if not slot or not slot.job or slot.state ~= "busy" or slot.waits then return end
  slot.wants_wait = true
  self:_grant()
end

--- A slot's run has something to do again.
---@param key any
function board:resume(key)
  local slot = self.slots[key]
  if not slot then return end
  slot.wants_wait = nil
  if not slot.waits then return end
  self:_count(slot.job.tag, 1)
  self:_end_wait(slot)
end

--- How many slots it takes to use all places: those that wait have none.
---@return integer
function board:needed() return self.total + self.waiting end

--- Places that no run has.
function board:_free()
  local free = self.total
  for _, slot in pairs(self.slots) do
    if slot.next or (slot.state == "busy" and slot.job and not slot.waits) then free = free - 1 end
  end
  return free
end

--- What a slot runs now.
---@param key any
---@return table|nil job
function board:running(key)
  return self.slots[key] and self.slots[key].job
end

--- A slot's run is over. The job stays in hand until `drop`.
---@param key any
---@return table|nil job the run's job
function board:finish(key)
  local slot = self.slots[key]
  local job = slot.job
  if not job then return nil end
  self:ending(key)
  slot.job, slot.next = slot.next, nil
  slot.is_clearing = true -- until it is `ready`: it puts the run away, and has not begun a next one
  slot.state = slot.job and "busy" or "idle"
  return job
end

function board:_count(tag, change)
  self.active[tag] = (self.active[tag] or 0) + change
end

--- Takes a job in hand.
---@param job table
function board:hold(job)
  self.by_seq[job.seq] = job
  self.held[#self.held + 1] = job
end

--- Takes a job in hand that comes before all held ones: one that a dead slot had not begun.
---@param job table
function board:hold_first(job)
  self.by_seq[job.seq] = job
  table.insert(self.held, 1, job)
end

--- Gives a job up that no slot has.
---@param job table
function board:drop(job)
  self.by_seq[job.seq] = nil
  for i, other in ipairs(self.held) do
    if other == job then table.remove(self.held, i) return end
  end
end

--- The job in hand of a stream sequence.
---@param seq integer
---@return table|nil
function board:job(seq)
  return self.by_seq[seq]
end

local function is_open(slot)
  return slot.state == "idle" or (slot.state == "ending" and not slot.next)
end

--- A slot for a job: an idle one, else one that is ending. None while all places are taken.
function board:_open_slot()
  if self:_free() <= 0 then return nil end
  local ending
  for _, key in ipairs(self.order) do
    local slot = self.slots[key]
    if slot.state == "idle" then return slot end
    if not ending and is_open(slot) then ending = slot end
  end
  return ending
end

--- Whether a job must not start, since as many runs wait for their children as may.
function board:_is_blocked(job)
  return job.is_parent == true and self.max_waiting > 0 and self.waiting >= self.max_waiting
end

function board:_may_start(job)
  if self:_is_blocked(job) then return false end
  return not self.by_tag or (self.active[job.tag] or 0) < (self.by_tag[job.tag] or 0)
end

--- The next job to start and the slot for it; nil when nothing can start.
---@return any slot key
---@return table job
function board:take()
  local slot = self.held[1] and self:_open_slot()
  if not slot then return nil end
  for i, job in ipairs(self.held) do
    if self:_may_start(job) then
      table.remove(self.held, i)
      if slot.state == "idle" then
        slot.job, slot.state = job, "busy"
      else
        slot.next = job
      end
      self:_count(job.tag, 1)
      return slot.key, job
    end
  end
  return nil
end

--- How many runs of a tag there may be at once.
---@param tag string
---@return integer
function board:places(tag) return self.by_tag and self.by_tag[tag] or self.total end

--- How many more jobs of a tag could start now: what a pull may ask for.
---@param tag string
---@return integer negative: so many are held
function board:room(tag)
  local open, held, held_of_tag = 0, 0, 0
  for _, slot in pairs(self.slots) do
    if is_open(slot) then open = open + 1 end
  end
  for _, job in ipairs(self.held) do
    local counts = not self:_is_blocked(job) -- whoever waits for children must not keep these from coming
    if counts then held = held + 1 end
    if counts and job.tag == tag then held_of_tag = held_of_tag + 1 end
  end
  local room = math.min(open, self:_free()) - held
  if self.by_tag then
    room = math.min(room, (self.by_tag[tag] or 0) - (self.active[tag] or 0) - held_of_tag)
  end
  return room
end

--- The jobs in hand, running, held, or of a slot that has died.
---@return table[] list of jobs
function board:jobs()
  local list = {}
  for _, job in pairs(self.by_seq) do list[#list + 1] = job end
  return list
end

--- The jobs that no slot has got yet.
---@return table[] list of jobs, a copy
function board:held_jobs() return table.move(self.held, 1, #self.held, 1, {}) end

--- Whether there are such jobs.
---@return boolean
function board:has_held() return self.held[1] ~= nil end

--- Number of jobs in hand.
---@return integer
function board:count()
  local n = 0
  for _ in pairs(self.by_seq) do n = n + 1 end
  return n
end

return M
