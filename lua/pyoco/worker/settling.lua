--- How jobs end for the queue: acked, given back or terminated as their outcome says (pyoco.worker.outcome), with a
--- dead letter where one is due. Before that, what a slot that has died cannot write any more is written for it.
local async = require "pyoco.worker.async"
local jetstream = require "pyoco.nats.jetstream"
local jobs = require "pyoco.run.job"
local letters = require "pyoco.worker.letter"
local outcomes = require "pyoco.worker.outcome"
local rescue = require "pyoco.worker.rescue"

local M = {}

local settling = {}
settling.__index = settling

--- Sends an ack. One that cannot be sent now is sent after the reconnect if it ends the job: the run's end is stored,
--- so it is right whoever has the message by then. A nak is not: the message comes again by itself.
local function acknowledge(self, job, payload)
  if self.conn:publish(job.reply, payload) then return end
  if payload == jetstream.ACK or payload == jetstream.TERM then
    self.unsent[#self.unsent + 1] = { reply = job.reply, payload = payload }
  end
end

--- A job whose deliveries are used up though nobody has tried it: it becomes a new message.
local function republish(self, job, fields)
  local seq = self.store.jobs:publish_raw(nil, job.tag, job.data)
  self:settle(job, seq and "republished" or "unavailable", fields)
end

--- Acks, naks or terms a job as its outcome says, and leaves a dead letter where one is due.
---@param job table
---@param outcome string name in worker/outcome, or "republish"
---@param fields table the slot's report
function settling:settle(job, outcome, fields)
  if job.grace then job.grace() end
  if outcome == "republish" then return async.go(republish, self, job, fields) end
  local payload, reason = outcomes.settle(outcome, { ack_wait_sec = self.limits[job.tag].ack_wait_sec,
    execution_error_dlq = self.cfg.dlq_publish_execution_error })
  if payload then acknowledge(self, job, payload) end
  self.board:drop(job)
  if reason then
    local letter = letters.make(reason, job, fields, self.cfg.worker_id, self.now())
    async.go(function() self.store.dlq:publish(letters.token(reason, job, fields), letter) end)
  end
  letters.log(self.log, outcome, job, fields)
  if fields.status and fields.run_id then
    self.registry:ended(fields.run_id, fields.status, fields.finished_at)
  end
  self.on_settled(job, outcome, fields)
end

--- Sends the acks that could not be sent while NATS was away.
function settling:send_unsent()
  local unsent = self.unsent
  self.unsent = {}
  for _, ack in ipairs(unsent) do self.conn:publish(ack.reply, ack.payload) end
end

--- Ends a job whose slot is gone: writes what the slot cannot write any more.
---@param job table; `killed` and `overdue` say why, if it was us
---@param text string how the process ended
function settling:rescue(job, text)
  if job.killed == nil then self.log:error("slot died", { run_id = job.run_id, reason = text }) end
  local decoded, fault, run_id = jobs.read(job.data)
  if not decoded and not run_id then return self:settle(job, "invalid_job", { error = fault }) end
  async.go(function()
    local overdue = job.killed == "timeout" and job.overdue or { text = text }
    local case = { cause = job.killed or "crash", text = overdue.text, task = overdue.task,
      max_crashes = self.cfg.worker_max_crashes,
      ours = job, job = decoded or { run_id = run_id }, worker_id = self.cfg.worker_id }
    local outcome, message, image = rescue.run({ store = self.store, now = self.now, sleep = async.sleep,
      max_bytes = self.cfg.max_run_snapshot_bytes, is_stopped = self.is_stopped }, case)
    local fields = { error = message, finished_at = self.now(), status = image and image.status }
    for _, name in ipairs { "run_id", "flow_name", "tag", "tags", "tenant_id", "api_key_id" } do
      fields[name] = case.job[name]
    end
    self:settle(job, outcome, fields)
  end)
end

--- The settling of a worker's jobs.
---@param deps table conn, store, cfg, log, board, registry, limits (tag -> { ack_wait_sec }), now (function: server's
---  unix seconds), is_stopped (function: whether to give rescues up), on_settled (function(job, outcome, fields))
---@return table settling
function M.new(deps)
  deps.unsent = {}
  return setmetatable(deps, settling)
end

return M
