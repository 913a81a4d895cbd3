--- Runs that must stop: by a cancel, which a hint or a heartbeat that stays away makes us look for, or by a limit that
--- a task in a C function ignores. Whoever does not stop in time loses its process; what it ran is rescued then.
local async = require "pyoco.worker.async"
local snapshot = require "pyoco.run.snapshot"

local M = {}

local SIGKILL, SIGUSR2 = 9, 12
local SILENT_BEATS = 4      -- a slot that has missed so many heartbeats may not know of a cancel
local SILENT_MIN_SEC = 1
local OVERDUE_MIN_SEC = 1   -- what a slot that is busy, but well, may need to cut a task

local cancels = {}
cancels.__index = cancels

--- A run is being cancelled: it gets the grace period, then its slot is killed.
---@param job table
function cancels:start_grace(job)
  if job.grace then return end
  job.grace = async.after(self.cfg.cancel_grace_period_sec, function()
    if not job.key or self.board:running(job.key) ~= job then return end
    self.log:event("cancel_grace_exceeded", "cancel request timed out", { run_id = job.run_id })
    job.killed = "cancel"
    self.pool:signal(job.key, SIGKILL)
  end)
end

--- Looks whether a run that we have is to be cancelled; the snapshot decides.
local function look(self, job)
  local stored = self.runs:get(job.run_id)
  if not stored or not snapshot.is_cancel_requested(stored) or not job.key then return end
  self.pool:send(job.key, "C", { seq = job.seq })
  self.pool:signal(job.key, SIGUSR2) -- it may be computing: its loop gets a turn at once
  self:start_grace(job)
end

--- Somebody says that a run is to be cancelled.
---@param run_id string
function cancels:hinted(run_id)
  for _, job in ipairs(self.board:jobs()) do
    if job.run_id == run_id and not job.is_sent then
      self.reads:forget(job)
    elseif job.run_id == run_id and job.key then
      async.go(look, self, job)
    end
  end
end

--- A task that does not end at its limit, since it is in a C function that does not return: its slot is killed when it
--- has been overdue for as long as a cancel may take.
local function check_deadline(self, job, now)
  if job.killed or not job.key or self.board:running(job.key) ~= job then return end -- one may wait behind it
  local at, name, seconds = self.pool:deadline(job.key)
  if not at or now < at + math.max(self.cfg.cancel_grace_period_sec, OVERDUE_MIN_SEC) then return end
  local text = ("task '%s' timed out after %.14g s (timeout_sec)"):format(name, seconds)
  self.log:error("task ignores its timeout; its process is killed", { run_id = job.run_id }, { message = text })
  job.killed, job.overdue = "timeout", { task = name, text = text }
  self.pool:signal(job.key, SIGKILL)
end

--- Looks after a job's slot: whether it has fallen silent, or a task is overdue.
---@param job table
---@param now number monotonic seconds
function cancels:watch(job, now)
  if job.key and now - job.beat_at > math.max(SILENT_BEATS * self.cfg.run_heartbeat_interval_sec, SILENT_MIN_SEC) then
    job.beat_at = now
    async.go(look, self, job)
  end
  check_deadline(self, job, now)
end

--- The cancels of a worker's runs.
---@param deps table cfg, log, board, pool, runs (store.runs), reads (pyoco.worker.reads)
---@return table cancels
function M.new(deps) return setmetatable(deps, cancels) end

return M
