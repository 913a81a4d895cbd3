--- One run in a slot process: what happens between a job's arrival and its outcome. C (src/slot.c) makes a VM for
--- each run, before its job comes, and calls `prepare`; then `run` once.
---
--- Two things go on side by side: the main course (read the snapshot, decide, build the flow, end it), a coroutine that
--- waits for NATS; and the engine, which is pumped outside of it. The loop's callbacks may come in the middle of user
--- code (a tick), so they only set things and resume coroutines of ours.
local json = require "host.json"
local clock = require "host.clock"
local host = require "host"
local slot = require "host.slot"
local task = require "host.task"
local uv = require "luv"
local engine = require "pyoco.engine"
local job_flow = require "pyoco.engine.job_flow"
local jobs = require "pyoco.run.job"
local rpc = require "pyoco.nats.rpc"
local snapshot = require "pyoco.run.snapshot"
local store = require "pyoco.store.jetstream"
local async = require "pyoco.worker.async"
local attempt = require "pyoco.worker.attempt"
local build = require "pyoco.worker.build"
local callout = require "pyoco.worker.callout"
local writers = require "pyoco.worker.writer"

local M = {}

local null = json.null

local RUNNING_DELAY_SEC = 0.005 -- a first delivery's RUNNING is written only if the run lasts longer
local TRACEBACK_MAX_BYTES = 16384 -- of what the log says of a failed run
local LOG_TAIL_BYTES = 4096 -- what a record holds of a task's log

local run = {}
run.__index = run

local function say(kind, fields, body)
  slot.send(kind, fields and json.encode(fields) or "{}", body)
end

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
  say("L")
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
  if self.stop_heartbeat then self.stop_heartbeat() end
  if self.stop_announcing then self.stop_announcing() end
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

--- Has RUNNING written a little later: most runs are over by then, and puts are what limits throughput.
function run:announce_soon()
  self.stop_announcing = async.after(RUNNING_DELAY_SEC, function()
    self.announced = true
    if not self.ending then self.writer:touch() end
  end)
end

--- Has RUNNING and the tasks that run stored, then calls `done`: at once when it was done before, or does not matter
--- any more.
function run:store_running(done)
  if self.is_running_stored or self.ending or not self.writer then return done() end
  local waiters = self.running_waiters
  if waiters then
    waiters[#waiters + 1] = done
    return
  end
  self.running_waiters, self.announced = { done }, true
  async.go(function()
    self.writer:flush()
    self.is_running_stored = true
    for _, waiter in ipairs(self.running_waiters) do waiter() end
  end)
end

--- Has RUNNING stored before it returns; for user code that is about to leave our hands where it cannot be suspended.
function run:announce_now()
  local stored
  self:store_running(function() stored = true end)
  callout.wait(function() return stored or task.cancelled() end)
end

--- The same for a task that can wait: other tasks go on meanwhile.
function run:before_callout()
  if self.is_running_stored or self.ending then return end
  engine.await(function(resume) self:store_running(resume) end)
end

--- Tells the writer that a task, a loop or a switch has moved.
function run:on_event(event)
  if event.type == "log" then return self:keep_log(event) end
  if self.announced and not self.ending then self.writer:touch() end
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

--- Writes the heartbeat; a cancel or a newer attempt is found by its conflict.
function run:start_heartbeat()
  self.stop_heartbeat = async.every(self.boot.cfg.run_heartbeat_interval_sec, function()
    say("T")
    self.announced = true
    self.writer:touch()
  end)
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
  eng.before_callout, eng.on_deadline = function() self:before_callout() end, slot.deadline
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
  if self.ours.delivery > 1 then
    self.announced = true
    self.writer:flush()
  else
    self:announce_soon()
  end
  self:start_heartbeat()
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

--- The traceback of the task whose error is the run's, for the worker's log.
local function traceback_of(image, text)
  for _, record in pairs(image.task_records or {}) do
    if record.state == "FAILED" and record.error == text and type(record.traceback) == "string" then
      return record.traceback:sub(1, TRACEBACK_MAX_BYTES)
    end
  end
end

--- What the supervisor is told: enough for the registry, and for a dead letter and a log line if it went wrong.
function run:report(outcome)
  local job, image, bytes = self.job or {}, self.image or {}, self.handed_over
  local fields = { outcome = outcome, run_id = job.run_id, status = image.status, finished_at = self.now(),
    is_handed_over = bytes and true, revision = bytes and self.writer.revision }
  if outcome ~= "completed" then
    fields.error, fields.flow_name, fields.tag, fields.tags = self.error, job.flow_name, job.tag, job.tags
    fields.tenant_id, fields.api_key_id = image.tenant_id, image.api_key_id
    fields.traceback = outcome == "failed" and traceback_of(image, self.error) or nil
  end
  say("F", fields, bytes)
end

--- Says whether the run only waits for its children: then its place may be another run's meanwhile.
function run:tell_waiting()
  local waits = self.family ~= nil and self.on_engine_end ~= nil and self.eng ~= nil
    and self.family:is_waiting(self.eng)
  if waits == (self.waits or false) then return end
  self.waits = waits
  say("S", { waits = waits })
end

--- Pumps the engine and turns the loop until the main course has ended. When only the last answer is awaited, the
--- supervisor may send the next job.
function run:drive()
  local told = false
  while not self.outcome do
    local due = self.due
    if due then
      self.due = nil
      due.done(due.fn())
    elseif self.on_engine_end and self.eng:pump() then
      local done = self.on_engine_end
      self.on_engine_end = nil
      done()
    elseif self.ending and not told then
      told = true
      self.conn:flush()
      say("N")
    else
      if self.family then self:tell_waiting() end
      uv.run("once")
    end
  end
end

--- Opens the store. Not before there is a job: a VM that is kept for later runs must hold no connection.
function run:connect()
  self.conn = slot.nats()
  self.store = store.open(self.conn, self.boot.cfg, rpc.loop(self.conn, async.wait))
  self.store.runs.kv.last.is_direct = self.boot.is_direct -- known: a fresh VM must not ask again
  self.store.documents.kv.last.is_direct = self.boot.is_direct
end

--- A frame for this run.
function run:hear(kind, head)
  if kind == "C" then
    self:cancel()
  elseif kind == "D" then
    self.ours.delivery = head.delivery
    if self.writer then self.writer:adopt() end
  end
end

--- Makes what a run needs: called when its VM is made, which is before there is a job.
---@param spec table what the worker script returned
---@return fun(head: string, body: string) run executes one job and reports its outcome to the supervisor
---@return fun(type: string, head: string, body: string) on_frame takes the supervisor's other frames
function M.prepare(spec)
  local boot = json.decode(host.boot())
  local self = setmetatable({ boot = boot, spec = spec, said = { bytes = 0 } }, run)

  self.globals = callout.globals(function() self:announce_now() end)
  for name, value in pairs(spec.globals or {}) do self.globals[name] = value end

  local early = {}
  local function on_frame(kind, head)
    head = json.decode(head)
    if not self.ours then
      early[#early + 1] = { kind, head }
    elseif head.seq == self.ours.seq then -- else it is for the run before, or the next one
      self:hear(kind, head)
    end
  end

  local function execute(head, body)
    head = json.decode(head)
    self.roots = build.roots(boot.cfg.task_path, head.roots)
    if head.list then
      return say("W", build.list(self.roots, head.roots ~= nil, boot.cfg.worker_flow_resolver))
    end
    self:connect()
    self.head, self.ours = head, { seq = head.seq, delivery = head.delivery }
    self.now = function() return clock.wall() + head.clock_offset end
    if head.found and head.found.size then
      self.found_bytes, body = body:sub(-head.found.size), body:sub(1, -head.found.size - 1)
    end
    for _, frame in ipairs(early) do
      if frame[2].seq == head.seq then self:hear(table.unpack(frame)) end
    end
    async.go(function()
      local ok, outcome = xpcall(self.main, debug.traceback, self, body)
      if not ok then self.error = outcome end
      self.outcome = ok and outcome or "internal"
    end)
    self:drive()
    self:report(self.outcome)
  end

  return execute, on_frame
end

return M
