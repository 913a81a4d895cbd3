--- Reads of snapshots before their attempts (DESIGN D6): the supervisor asks for a run's snapshot as soon as its job
--- has come, for several jobs in one write, and gives it to the slot together with the job. So no slot waits for NATS
--- before it begins. What has been read too long ago, or before somebody asked for a cancel, is read again.
---
--- A job's fields here: found { bytes, revision, created, deleted, at }, reading (number of the read that is under
--- way), on_found (who waits for it).
local M = {}

M.FRESH_SEC = 0.1 -- what a job that has waited longer for its slot has found is read again

local reads = {}
reads.__index = reads

--- What a read has brought; nil when it brought nothing that can be relied on: then the slot reads for itself, and says
--- what is wrong.
local function found_of(bytes, revision, entry, marker)
  if bytes then return { bytes = bytes, revision = revision, created = entry.created } end
  if entry == "not_found" then return { deleted = marker ~= nil } end
end

--- Begins to read a job's snapshot.
---@param job table with run_id; one without has nothing to read
function reads:start(job)
  if not job.run_id then return end
  self.last = self.last + 1
  local number, at = self.last, self.clock()
  job.found, job.reading = nil, number
  self.go(function()
    local bytes, revision, entry, _, marker = self.runs:get_raw(job.run_id)
    if job.reading ~= number then return end -- forgotten, or read anew
    job.reading, job.found = nil, found_of(bytes, revision, entry, marker)
    if job.found then job.found.at = at end
    local on_found = job.on_found
    job.on_found = nil
    if on_found then on_found() end
  end)
end

--- What a job has found counts no more: somebody may have changed it.
---@param job table
function reads:forget(job)
  job.found = nil
  if job.reading then self:start(job) end
end

--- Calls `done` once the job may begin: at once when what it has found is fresh.
---@param job table
---@param done fun() replaces one that waits already
function reads:ensure(job, done)
  if not job.run_id or (job.found and self.clock() - job.found.at <= M.FRESH_SEC) then return done() end
  job.on_found = done
  if not job.reading then self:start(job) end
end

--- The reads of a worker.
---@param deps table runs (store.runs), go (function(fn): runs fn in a coroutine), clock (function: monotonic seconds)
---@return table reads
function M.new(deps)
  return setmetatable({ runs = deps.runs, go = deps.go, clock = deps.clock, last = 0 }, reads)
end

return M
