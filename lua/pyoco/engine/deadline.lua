--- Hard timeouts: an attempt that lasts longer than timeout_sec is cut, whether it waits or computes. What cannot be
--- cut (a C function that never returns) is for whoever listens to eng.on_deadline.
local task = require "host.task"
local queue = require "pyoco.engine.queue"

local cut, add, pairs, format = task.cut, queue.add, pairs, string.format

local M = {}

local AGAIN_SEC = 0.01 -- a cut that came between two steps of the task met nobody

--- Tells the listener when the earliest deadline has changed.
local function tell(eng)
  if not eng.on_deadline then return end
  local earliest
  for deadline in pairs(eng.deadlines) do
    if not earliest or deadline.at < earliest.at then earliest = deadline end
  end
  if earliest == eng.earliest then return end
  eng.earliest = earliest
  if earliest then
    eng.on_deadline(earliest.at, earliest.node.name, earliest.seconds)
  else
    eng.on_deadline(nil)
  end
end

--- Starts the clock of an attempt.
---@param eng table
---@param node table
---@param seconds number
function M.start(eng, node, seconds)
  local deadline = { node = node, seconds = seconds, at = eng.monotonic() + seconds, is_over = false }
  node.deadline = deadline
  local function expire()
    deadline.stop, deadline.is_over = nil, true
    if eng.current == node then
      cut("timeout")
      deadline.stop = eng.after(AGAIN_SEC, expire)
    else
      add(eng.answers, { node = node, deadline = deadline })
    end
  end
  deadline.stop = eng.after(seconds, expire)
  eng.deadlines[deadline] = true
  tell(eng)
end

--- Stops the clock of an attempt that is over.
---@param eng table
---@param node table
function M.clear(eng, node)
  local deadline = node.deadline
  node.deadline = nil
  if deadline.stop then deadline.stop() end
  eng.deadlines[deadline] = nil
  tell(eng)
end

--- The text of an attempt that was cut.
---@param node table
---@return string
function M.message(node)
  return format("task '%s' timed out after %.14g s (timeout_sec)", node.name, node.deadline.seconds)
end

return M
