--- A clock that skips what nobody works in: when all tasks wait for timers, it goes to the next one at once. While
--- something real goes on (a task computes, a command runs) it keeps pace with the real time, so that a timeout still
--- ends what hangs.
local uv = require "luv"

local ceil, max, min = math.ceil, math.max, math.min

local M = {}

local LONGEST_SEC <const> = 1e9

local Clock = {}
Clock.__index = Clock

--- Whether one timer comes before another.
local function is_before(a, b)
  if a.due ~= b.due then return a.due < b.due end
  return a.order < b.order
end

--- Adds a timer to the heap.
local function push(heap, timer)
  local i = #heap + 1
  while i > 1 and is_before(timer, heap[i // 2]) do
    heap[i] = heap[i // 2]
    i = i // 2
  end
  heap[i] = timer
end

--- Takes the first timer out of the heap.
local function pop(heap)
  local first, last = heap[1], heap[#heap]
  heap[#heap] = nil
  if last == first then return first end
  local i = 1
  while true do
    local child = 2 * i
    if child > #heap then break end
    if child < #heap and is_before(heap[child + 1], heap[child]) then child = child + 1 end
    if is_before(last, heap[child]) then break end
    heap[i] = heap[child]
    i = child
  end
  heap[i] = last
  return first
end

--- Lets the real time ring for the first timer. It counts from now: what has been computed so far costs nobody.
local function arm(clock)
  local first = clock.heap[1]
  if not first then return clock.guard:stop() end
  local due = first.due
  uv.update_time()
  clock.guard:start(ceil(min(due - clock.seconds, LONGEST_SEC) * 1000), 0, function() clock:reach(due) end)
end

--- Fires what is due at a time, and makes it now.
---@param time number
function Clock:reach(time)
  self.seconds = max(self.seconds, time)
  while self.heap[1] and self.heap[1].due <= self.seconds do
    local fn = pop(self.heap).fn
    if fn then fn() end
  end
  if not self.is_closed then arm(self) end
end

--- Calls fn once after a time: the engine's `after`.
---@param seconds number
---@param fn fun()
---@return fun() stop
function Clock:after(seconds, fn)
  self.count = self.count + 1
  local timer = { due = self.seconds + max(0, seconds), order = self.count, fn = fn }
  push(self.heap, timer)
  arm(self)
  return function() timer.fn = nil end
end

--- Goes to the next timer at once.
---@return boolean false if there is none
function Clock:skip()
  while self.heap[1] and not self.heap[1].fn do pop(self.heap) end
  if not self.heap[1] then return false end
  self:reach(self.heap[1].due)
  return true
end

--- Whether nothing but this clock is on the loop.
---@return boolean
function Clock:is_alone()
  self.guard:unref()
  local is_alive = uv.loop_alive()
  self.guard:ref()
  return not is_alive
end

--- Forgets all timers; the clock is of no use any more.
function Clock:close()
  self.heap, self.is_closed = {}, true
  if not self.guard:is_closing() then self.guard:close() end
end

Clock.__close = Clock.close

--- Makes a clock, which must be closed.
---@return table clock { seconds = how far it has gone, count = timers that were started }
function M.new() return setmetatable({ seconds = 0, count = 0, heap = {}, guard = assert(uv.new_timer()) }, Clock) end

return M
