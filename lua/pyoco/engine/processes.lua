--- The child processes of one run: how many at once, in which order they start, and that none outlives the run.
---
--- This process is a child subreaper meanwhile (a slot always is): what a program leaves behind, a daemon too, becomes
--- our child when its parent ends, and is found and killed at the run's end.
local native = require "host.process"
local process = require "pyoco.engine.process"
local queue = require "pyoco.engine.queue"
local timer = require "pyoco.engine.timer"

local M = {}

local MAX_COMMANDS <const> = 8
local GRACE_SEC <const> = 5

local Processes = {}
Processes.__index = Processes

--- The run is over: what is left of its processes goes.
local function close(self)
  for running in pairs(self.open) do running:close() end
  native.sweep(self.ours, true)
  native.subreaper(self.was_subreaper)
end

--- Those of a run.
---@param eng table the engine
---@return table processes
function M.of(eng)
  local self = eng.processes
  if self then return self end
  self = setmetatable({ eng = eng, running = 0, waiting = queue.ready(), entries = {}, blocked = {}, ending = {},
    open = {}, ours = {},
    max = eng.max_commands or MAX_COMMANDS, grace_sec = eng.command_grace_sec or GRACE_SEC }, Processes)
  for _, pid in ipairs(native.children()) do self.ours[pid] = true end -- not the run's: no business of ours
  self.was_subreaper = native.subreaper(true)
  eng.processes = self
  eng.on_close[#eng.on_close + 1] = function() close(self) end
  return self
end

--- A program has ended. Orphans that have ended are reaped too: a run may last for days.
local function over(self, entry, ended)
  self.running = self.running - 1
  self.ours[ended.pid] = nil
  if ended.is_closed then self.open[ended] = nil end
  native.sweep(self.ours, false)
  if entry.stop_timeout then entry.stop_timeout() end
  if entry.is_given_up then
    local node = entry.node
    self.ending[node] = nil
    if self.blocked[node] then queue.push(self.waiting, node) end
    self.blocked[node] = nil
  else
    entry.on_end(ended)
  end
  self:start_waiting()
  entry.release()
end

local function start(self, entry)
  local started, message, code = process.start(entry.program, entry.on_text, function(it) over(self, entry, it) end)
  if not started then return entry.on_end(nil, message, code) end
  entry.process = started
  entry.release = self.eng:hold()
  self.running = self.running + 1
  self.open[started], self.ours[started.pid] = true, true
  if entry.timeout_sec then
    entry.stop_timeout = timer.after(entry.timeout_sec, function()
      entry.stop_timeout, entry.is_timed_out = nil, true
      started:stop(self.grace_sec)
    end)
  end
end

--- Starts what may be started, in the order of the graph. A task whose last attempt still has a process that is being
--- ended waits for that: two of them would be in each other's way.
function Processes:start_waiting()
  while self.running < self.max do
    local node = queue.pop(self.waiting)
    if not node then return end
    local entry = self.entries[node]
    if entry and self.ending[node] then
      self.blocked[node] = true
    elseif entry then
      self.entries[node] = nil
      start(self, entry)
    end
  end
end

--- Runs a program when there is room.
---@param entry table { node, program = as for process.start, on_text, on_end = fn(process) once it has ended, or
---  fn(nil, message, code) when it cannot start, timeout_sec }; gets is_timed_out
---@return fun() give_up ends it, or forgets it; on_end is not called then
function Processes:run(entry)
  local node = entry.node
  self.entries[node] = entry
  queue.push(self.waiting, node)
  self:start_waiting()
  return function()
    if self.entries[node] == entry then self.entries[node] = nil end
    if not entry.process or entry.process.is_over then return end
    entry.is_given_up, self.ending[node] = true, true
    entry.process:stop(self.grace_sec)
  end
end

return M
