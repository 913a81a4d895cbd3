--- When it is stored that a run is RUNNING, and what moves in it. Most runs are over within milliseconds, and puts are
--- what limits throughput: so a first delivery says it a little later, or never. What is about to leave our hands (a
--- command, a request, a C function) has it stored before.
local engine = require "pyoco.engine"
local task = require "host.task"
local async = require "pyoco.worker.async"
local callout = require "pyoco.worker.callout"

local M = {}

local DELAY_SEC = 0.005

local announcer = {}
announcer.__index = announcer

--- Has RUNNING written a little later.
function announcer:soon()
  self.stop_delay = async.after(DELAY_SEC, function()
    self.is_announced = true
    if not self.is_over then self.writer:touch() end
  end)
end

--- Has it written now, and waits until it is stored.
function announcer:at_once()
  self.is_announced = true
  self.writer:flush()
end

--- Has RUNNING and the tasks that run stored, then calls `done`: at once when it was done before, or does not matter
--- any more.
local function store(self, done)
  if self.is_stored or self.is_over then return done() end
  local waiters = self.waiters
  if waiters then
    waiters[#waiters + 1] = done
    return
  end
  self.waiters, self.is_announced = { done }, true
  async.go(function()
    self.writer:flush()
    self.is_stored = true
    for _, waiter in ipairs(self.waiters) do waiter() end
  end)
end

--- Has RUNNING stored before it returns; for user code that is about to leave our hands where it cannot be suspended.
function announcer:block()
  local stored
  store(self, function() stored = true end)
  callout.wait(function() return stored or task.cancelled() end)
end

--- The same for a task that can wait: other tasks go on meanwhile.
function announcer:await()
  if self.is_stored or self.is_over then return end
  engine.await(function(resume) store(self, resume) end)
end

--- Tells the writer that a task, a loop or a switch has moved.
function announcer:moved()
  if self.is_announced and not self.is_over then self.writer:touch() end
end

--- Writes the heartbeat; a cancel or a newer attempt is found by its conflict.
---@param seconds number between two
---@param on_beat fun()
function announcer:beat(seconds, on_beat)
  self.stop_beat = async.every(seconds, function()
    on_beat()
    self.is_announced = true
    self.writer:touch()
  end)
end

--- The run ends: what is stored from now on is its end.
function announcer:stop()
  self.is_over = true
  if self.stop_beat then self.stop_beat() end
  if self.stop_delay then self.stop_delay() end
end

--- The announcer of a run.
---@param writer table pyoco.worker.writer
---@return table announcer
function M.new(writer) return setmetatable({ writer = writer }, announcer) end

return M
