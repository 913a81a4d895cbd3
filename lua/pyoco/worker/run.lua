--- The course of one run in its slot: reads the snapshot, decides (pyoco.worker.attempt), builds the flow, has the
--- engine run it, and writes its end or hands it over. A coroutine that waits for NATS; the engine is pumped outside of
--- it (pyoco.worker.slot). The loop's callbacks may come in the middle of user code (a tick), so they only set things
--- and resume coroutines of ours.
local json = require "host.json"
local slot = require "host.slot"
local task = require "host.task"
local engine = require "pyoco.engine"
local job_flow = require "pyoco.engine.job_flow"
local jobs = require "pyoco.run.job"
local snapshot = require "pyoco.run.snapshot"
local announce = require "pyoco.worker.announce"
local async = require "pyoco.worker.async"
local attempt = require "pyoco.worker.attempt"
local build = require "pyoco.worker.build"
local writers = require "pyoco.worker.writer"

local M = {}

local null = json.null

local LOG_TAIL_BYTES = 4096 -- what a record holds of a task's log

local run = {}
run.__index = run

--- The engine's records as the contract has them: every field there, null where it has no value.
local function fill_records(records)
  local all = {}
  for name, record in pairs(records) do
    local copy = { started_at = null, ended_at = null, duration_ms = null, error = null, traceback = null,
      inputs = {}, output = null }
    for key, value in pairs(record) do copy[key] = value end
    all[name] = copy
  end
  return all
end

--- The attempt is over: the engine stops as for a cancel, and nothing more is written.
function run:lose(how)
  self.lost = how
  task.cancel()
end

--- A cancel was found in the snapshot, or the supervisor has seen one.
function run:cancel()
  if self.cancelled then return end
  self.cancelled = true
  self.say("L")
  task.cancel()
end

--- A writer for this run's snapshot.
function run:open_writer(image, revision)
  self.image = image
  self.writer = writers.new {
    runs = self.store.runs, now = self.now, image = image, revision = revision, ours = self.ours,
    max_bytes = self.boot.cfg.max_run_snapshot_bytes,
    go = async.go, wait = async.wait, sleep = async.sleep, after = async.after,
    refresh = function() self:refresh() end,
    move_out = function(max_bytes) return self:move_out(max_bytes) end,
    on_cancel = function() self:cancel() end,
    on_lost = function(how) self:lose(how) end,
    on_unwritable = function(message) self:mend(message) end,
  }
  local has_children = type(image.child_run_ids) == "table" and #image.child_run_ids > 0
  if image.bundle_hash ~= null or image.parent_run_id ~= null or has_children then self:open_family() end
end

--- What a run with a family has beside others: children, and a summary of its result.
function run:open_family()
  self.result = require("pyoco.run.result").new(self.store.data, self.job.run_id)
  self.family = require("pyoco.run.family").new {
    store = self.store, cfg = self.boot.cfg, job = self.job, image = self.image, now = self.now,
    go = async.go, sleep = async.sleep, after = async.after, every = async.every,
    subscribe = function(...) return self.conn:subscribe(...) end,
    is_by_name = self.boot.cfg.worker_allow_spawn,
    flush = function() return self.writer:flush() end, is_lost = function() return self.lost ~= nil end,
  }
end

--- Brings the image up to date with the engine.
function run:refresh()
  local eng = self.eng
  if not eng then return end
  local image = self.image
  image.tasks, image.task_records = eng.tasks, fill_records(eng.records)
  image.frame_records, image.failed_tasks = eng.frames, eng.failed_tasks
  if self.spill then self.spill:apply(image.task_records) end
  if self.logs then self.logs:apply(image.task_records) end
end

--- The snapshot is over its cap: keeps big outputs in the object store.
function run:move_out(max_bytes)
  if not self.eng then return false end
  self.spill = self.spill or require("pyoco.worker.spill").new(self.store.data, self.job.run_id)
  local moved = self.spill:take(self.image.task_records, max_bytes)
  return (self.result and self.result:take(self.image, max_bytes)) or moved
end

--- Makes an image writable that JSON refused: its records go, and the run says why.
function run:mend(message)
  self.eng, self.broken = nil, message
  self.image.task_records, self.image.frame_records = {}, nil
end

--- The terminal write. Returns the outcome that the supervisor settles.
---@param outcome string name in worker/outcome when the write succeeds
---@param mark function (image) sets status, error and times
function run:finish(outcome, mark)
  self.ending = true
  if self.announcer then self.announcer:stop() end
  local is_cancelled = self.cancelled or snapshot.is_cancel_requested(self.image)
  if self.family and is_cancelled and not self.lost then
    self.family:cancel_all() -- first: once our end is stored, nobody would
  end
  local function mark_end(image)
    if snapshot.is_cancel_requested(image) then
      outcome = "cancelled"
      snapshot.mark_cancelled(image, self.now())
    else
      mark(image)
    end
    if self.result then self.result:apply(image, self.eng and self.eng.records or image.task_records) end
  end
  if not self.family then
    self.handed_over = self.writer:hand_over(mark_end)
    if self.handed_over then return outcome end
  end
  local how = self.writer:finish(mark_end)
  if self.family then self:leave_family(how == "written" and outcome == "cancelled" and not is_cancelled) end
  if how == "written" then return outcome end
  return how == "fenced" and "fenced" or "discarded"
end

--- The run has ended: its children, if it was cancelled at the last moment, and its parent are told.
function run:leave_family(has_children_to_cancel)
  if has_children_to_cancel then self.family:cancel_all() end
  if self.image.parent_run_id ~= null then self.store.hints:done(self.job.run_id) end
  self.family:close()
end

--- Ends a run that never got to its tasks. end_time stays null, as the reference leaves it.
function run:fail_early(outcome, text)
  text = snapshot.short_error(text)
  self.error = text
  return self:finish(outcome, function(image)
    image.status, image.error, image.end_time = "FAILED", text, null
  end)
end

--- Calls a function that runs user code, and returns its results. The main course goes on in callbacks of the loop,
--- where user code could get no ticks; so the driver does it.
function run:outside(fn)
  return async.wait(function(done) self.due = { fn = fn, done = done } end)
end

--- What the engine tells of a task, a loop or a switch.
function run:on_event(event)
  if event.type == "log" then return self:keep_log(event) end
  self.announcer:moved()
end

--- Keeps what a task says; its record has the end of it only. Most runs say little: then nothing is loaded for it.
function run:keep_log(event)
  if self.logs then return self.logs:append(event.task, event.text) end
  local max_bytes = self.boot.cfg.task_log_max_bytes
  if max_bytes <= 0 then return end
  local said = self.said
  said[#said + 1], said.bytes = event, said.bytes + #event.text
  if said.bytes <= LOG_TAIL_BYTES then return end
  self.logs, self.said = require("pyoco.worker.task_log").new(self.store.data, self.job.run_id, max_bytes), nil
  for _, earlier in ipairs(said) do self.logs:append(earlier.task, earlier.text) end
end

--- What the engine gets: the job's params, who the run is, and the worker's limits.
function run:engine_options(flow)
  local job, cfg, exposed = self.job, self.boot.cfg, flow.expose_env or {}
  return {
    params = job.params, now = self.now, env = #exposed > 0 and require("pyoco.config").exposed(exposed) or nil,
    run = { run_id = job.run_id, flow_name = job.flow_name, tag = job.tag, tags = job.tags,
      attempt = self.ours.delivery, started_at = self.started_at },
    max_parallel = cfg.run_max_parallel, max_commands = cfg.run_max_commands, max_iterations = cfg.flow_max_iterations,
    command_grace_sec = cfg.command_grace_sec, artifacts_dir = cfg.artifacts_dir,
    allow_commands = cfg.worker_allow_commands or not self.is_document,
    spawn = self.family and function(...) return self.family:spawn(...) end,
    on_event = function(event) self:on_event(event) end,
  }
end

--- Runs the flow to its end.
function run:execute(flow)
  local ok, eng = pcall(engine.new, flow, self:engine_options(flow))
  if not ok then return self:fail_early("invalid_flow", tostring(eng)) end
  eng.before_callout, eng.on_deadline = function() self.announcer:await() end, slot.deadline
  self.eng = eng
  async.wait(function(done) self.on_engine_end = done end)
  return self:conclude(eng)
end

--- From the engine's end to the stored one.
function run:conclude(eng)
  if self.logs and not self.lost then self.logs:store() end
  self:refresh()
  self.error = eng.error
  local outcome = ({ COMPLETED = "completed", FAILED = "failed", CANCELLED = "cancelled" })[eng.status]
  return self:finish(outcome, function(image)
    if self.broken then
      image.status, image.error = "FAILED", snapshot.short_error(self.broken)
      outcome = "failed"
    else
      image.status, image.error = eng.status, eng.error and snapshot.short_error(eng.error) or null
    end
    image.end_time = eng.ended_at
  end)
end

--- The job is to be run: builds its flow, then executes it.
function run:start(stored, revision, document)
  local image = snapshot.image(stored, self.job, self.now())
  image.status, image.worker_id, image.error = "RUNNING", self.boot.worker_id, null
  image.start_time, image.end_time, image.result_summary = self.started_at, null, null
  snapshot.forget_tasks(image)
  self:open_writer(image, revision)
  self.announcer = announce.new(self.writer)
  if self.ours.delivery > 1 then self.announcer:at_once() else self.announcer:soon() end
  self.announcer:beat(self.boot.cfg.run_heartbeat_interval_sec, function() self.say("T") end)
  self.is_document = document ~= nil -- its commands need the worker's leave
  local flow, text, code = self:outside(function()
    return job_flow.build(self.job, document, self.roots, self.globals,
      self.spec.flow_resolver or self.boot.cfg.worker_flow_resolver)
  end)
  if self.cancelled then
    image.cancel_requested_at = image.cancel_requested_at ~= null and image.cancel_requested_at or self.now()
    return self:finish("cancelled", function() end)
  end
  if not flow then return self:fail_early(code == "not_found" and "flow_not_found" or "invalid_flow", text) end
  build.publish(self.store, flow, image)
  if not self.is_document and job_flow.spawns(flow) then
    if not self.boot.cfg.worker_allow_spawn then
      return self:fail_early("invalid_flow", ("flow '%s' spawns runs, which this worker does not allow: start it with "
        .. "--allow-spawn (PYOCO_WORKER_ALLOW_SPAWN=1)"):format(flow.name))
    end
    if not self.family then self:open_family() end
  end
  return self:execute(flow)
end

--- Whether this is the child of a run that was cancelled meanwhile. Whoever cancelled it may not have found us, if he
--- came between two steps of our birth.
function run:has_cancelled_parent()
  local parent_id = self.job.parent_run_id
  if type(parent_id) ~= "string" or parent_id == "" then return false end
  local parent = self.store.runs:get(parent_id)
  return parent ~= nil and (parent.status == "CANCELLING" or parent.status == "CANCELLED")
end

--- What each act of worker/attempt means here.
local ACTS = {
  ack = function() return "skipped" end,
  busy = function() return "busy" end,
  fenced = function() return "fenced" end,
  republish = function() return "republish" end,
  cancelled = function(self, stored, revision)
    self:open_writer(snapshot.image(stored, self.job, self.now()), revision)
    return self:finish("cancelled", function(image) snapshot.mark_cancelled(image, self.now()) end)
  end,
  exhausted = function(self, stored, revision, _, doc)
    local image = snapshot.image(stored, self.job, self.now())
    self:open_writer(image, revision)
    self.error = "max_attempts_exceeded: " .. doc
    return self:finish("max_attempts", function()
      image.status, image.error = "FAILED", self.error
      snapshot.close(image, self.now(), "FAILED")
    end)
  end,
  run = function(self, stored, revision, document)
    if not self:has_cancelled_parent() then return self:start(stored, revision, document) end
    local image = snapshot.image(stored, self.job, self.now())
    image.cancel_requested_at = self.now()
    self:open_writer(image, revision)
    return self:finish("cancelled", function() snapshot.mark_cancelled(image, self.now()) end)
  end,
}

--- What this attempt finds: as the supervisor has read it for us, or read now.
---@return string|nil bytes as store.runs:get_raw
function run:read()
  local found = self.head.found
  if not found or found.run_id ~= self.job.run_id then return self.store.runs:get_raw(self.job.run_id) end
  if found.revision then return self.found_bytes, found.revision, found end
  return nil, nil, "not_found", nil, found.deleted and found or nil
end

--- Reads the snapshot and decides.
function run:attempt(document, fault)
  local bytes, revision, code, _, marker = self:read()
  if not bytes and code ~= "not_found" then
    if code == "invalid" then
      self.error = "run_id: " .. revision
      return "invalid_job"
    end
    self.error = revision
    return "unavailable"
  end
  local stored = bytes and json.decode(bytes)
  if type(stored) ~= "table" then stored = nil end
  local found = { snapshot = stored, deleted = not bytes and marker ~= nil }
  if stored then found.age_sec = self.now() - code.created end
  local act, doc = attempt.decide(found, self.ours, self.head)
  if fault and (act == "run" or act == "exhausted" or act == "republish") then
    local image = snapshot.image(stored, self.job, self.now())
    if not stored then image.tags, image.params = json.array {}, {} end
    self:open_writer(image, bytes and revision)
    self:fail_early("invalid_job", "invalid_job: " .. fault)
    return "invalid_job"
  end
  return ACTS[act](self, stored, bytes and revision, document, doc)
end

--- The main course. Returns the outcome's name.
function run:main(body)
  local job, fault, run_id, said = jobs.read(body)
  self.started_at = self.now()
  if not job then
    self.error = fault
    if not run_id then return "invalid_job" end
    self.job = { run_id = run_id, flow_name = said.flow_name, tag = said.tag }
    local outcome = self:attempt(nil, fault)
    self.error = fault
    return outcome == "skipped" and "skipped" or "invalid_job"
  end
  self.job = job
  return self:attempt(job_flow.read(job))
end

--- A run; `main` is its course, for a coroutine.
---@param deps table boot (the supervisor's boot text, decoded), spec (what the worker script returned), say
---  (function(kind, fields, body): sends a frame to the supervisor). Set before main: conn, store, head (of the job's
---  frame), ours { seq, delivery }, now (function: server's unix seconds), roots, globals
---@return table run: main(body) -> outcome, cancel, outside; what is known of its end: error, image, writer,
---  handed_over (the bytes that the supervisor has to store)
function M.new(deps)
  deps.said = { bytes = 0 }
  return setmetatable(deps, run)
end

return M
