--- Ends of runs, stored by the supervisor: a slot whose run is over hands the last snapshot over and goes on with
--- its next job, instead of waiting for NATS. The ends of several slots, and the acks that follow them, go out in one
--- write.
--- Compare-and-set from the revision that the slot has seen last; whatever is in its way (a cancel, a newer attempt, an
--- answer that did not come) is dealt with as a slot's writer does.
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local writers = require "pyoco.worker.writer"

local M = {}

local ends = {}
ends.__index = ends

--- What a writer's end means to the job.
local OUTCOMES = { fenced = "fenced", ended = "discarded" }

--- The first put has not been stored, or nobody knows: a writer settles it.
local function reconcile(self, job, report, bytes, code)
  local image, outcome = json.decode(bytes), report.outcome
  local writer = writers.new {
    runs = self.runs, now = self.now, image = image, revision = report.revision, ours = job,
    max_bytes = self.max_bytes, go = self.go, wait = self.wait, sleep = self.sleep, after = self.after,
  }
  writer.unsure = code ~= "conflict" and bytes or nil -- it may have arrived
  local how = writer:finish(function()
    if not snapshot.is_cancel_requested(image) then return end
    outcome = "cancelled"
    snapshot.mark_cancelled(image, self.now())
  end)
  report.status = image.status
  return how == "written" and outcome or OUTCOMES[how]
end

--- Stores the end of a run. Runs in a coroutine; tries for as long as it takes.
---@param job table the supervisor's; its delivery may change meanwhile
---@param report table the slot's: run_id, outcome, revision (nil: there was no snapshot); `status` is set to what
---  is stored in the end
---@param bytes string the snapshot
---@return string outcome the slot's, or "cancelled" (a cancel came first), "discarded" (it ended in another way),
---  "fenced"
function ends:store(job, report, bytes)
  local written, code, _
  if report.revision then
    written, _, code = self.runs:update_raw(report.run_id, bytes, report.revision)
  else
    written, _, code = self.runs:create_raw(report.run_id, bytes)
  end
  if written then return report.outcome end
  return reconcile(self, job, report, bytes, code)
end

--- What stores ends.
---@param deps table runs (store.runs), now (function: server's unix seconds), max_bytes (snapshot cap), go, wait,
---  sleep, after (as pyoco.worker.writer takes them)
---@return table ends
function M.new(deps) return setmetatable(deps, ends) end

return M
