--- A clock that skips what nobody works in: when all tasks wait for timers, it goes to the next one at once. While
--- something real goes on (a task computes, a command runs) it keeps pace with the real time, so that a timeout still
--- ends what hangs.
local uv = require "luv"

local ceil, max, min = math.ceil, math.max, math.min

local M = {}

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

--- Makes a timer useless.
local function disarm(timer)
  timer.fn = nil
  if not timer.guard:is_closing() then timer.guard:close() end
end

--- Fires what is due at a time, and makes it now.
function Clock:reach(time)
  self.seconds = max(self.seconds, time)
  while self.heap[1] and self.heap[1].due <= self.seconds do
    local timer = pop(self.heap)
    local fn = timer.fn
    if fn then
      disarm(timer)
      fn()
    end
  end
end

--- Calls fn once after a time: the engine's `after`.
---@param seconds number
---@param fn fun()
---@return fun() stop
function Clock:after(seconds, fn)
  self.count = self.count + 1
  seconds = max(0, seconds)
  local timer = { due = self.seconds + seconds, order = self.count, fn = fn, guard = assert(uv.new_timer()) }
  uv.update_time()
  timer.guard:start(ceil(min(seconds, 1e9) * 1000), 0, function() -- the real time has come first
    timer.guard:close()
    if timer.fn then self:reach(timer.due) end
  end)
  timer.guard:unref()
  push(self.heap, timer)
  return function() disarm(timer) end
end

--- Goes to the next timer.
---@return boolean false if there is none
function Clock:skip()
  while self.heap[1] and not self.heap[1].fn do pop(self.heap) end
  if not self.heap[1] then return false end
  self:reach(self.heap[1].due)
  return true
end

--- Forgets all timers.
function Clock:close()
  for _, timer in ipairs(self.heap) do disarm(timer) end
  self.heap = {}
end

--- Makes a clock.
---@return table clock { seconds = how far it has gone, count = timers that were started }
function M.new() return setmetatable({ seconds = 0, count = 0, heap = {} }, Clock) end

return M
