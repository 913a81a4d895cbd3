--- The supervisor of a worker: everything on JetStream's side of its runs. It pulls by tag, hands jobs to slot
--- processes, keeps them alive with in-progress acks, and settles each as its outcome says. It reads a job only as far
--- as it must: the body goes to the slot as it came.
---
--- A job in hand: { seq, delivery, reply, data, subject, tag, run_id, arrived_at, key (slot, until its run is over),
--- is_sent (the slot has got it), is_ahead (it came before there was a place for it), beat_at, progress_at, killed
--- (why its slot was killed), overdue (task and text of a "timeout"), grace (stops the timer of a cancel) } and the
--- fields of pyoco.worker.reads.
local clock = require "host.clock"
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local jobs = require "pyoco.run.job"
local async = require "pyoco.worker.async"
local boards = require "pyoco.worker.board"
local cancels = require "pyoco.worker.cancels"
local consumer = require "pyoco.worker.consumer"
local edits = require "pyoco.worker.edits"
local ends = require "pyoco.worker.ends"
local flow_lists = require "pyoco.worker.flow_list"
local gathers = require "pyoco.worker.gather"
local intakes = require "pyoco.worker.intake"
local pools = require "pyoco.worker.pool"
local reads = require "pyoco.worker.reads"
local settlings = require "pyoco.worker.settling"
local surpluses = require "pyoco.worker.surplus"

local M = {}

local SIGKILL = 9
local TICK_SEC = 1.0
local REREAD_SEC = 30     -- consumers' limits, clock offset, flows
local NO_WHEELS = { roots = {}, sites = {} }
local RESCUE_STOP_SEC = 2 -- after the drain, hand-backs may take this long

local supervisor = {}
supervisor.__index = supervisor

--- The run id of a message: our gateway's message id, else what the job says.
local function run_id_of(message)
  local id = message.headers and message.headers["Nats-Msg-Id"]
  if id then return id end
  local job, _, run_id = jobs.read(message.data)
  return job and job.run_id or run_id
end

-- jobs ----------------------------------------------------------------------------------------------------------------

--- Takes a job in hand; one that we still have is adopted: nothing restarts.
function supervisor:take(message, info, tag, is_ahead)
  local known = self.board:job(info.stream_seq)
  if known then
    known.delivery, known.reply, known.progress_at = info.delivered, message.reply, clock.monotonic()
    if known.key and known.is_sent then
      self.pool:send(known.key, "D", { seq = known.seq, delivery = known.delivery })
    end
    return
  end
  if self.stopping or self.quota <= 0 then return self.conn:publish(message.reply, jetstream.NAK) end
  local now = clock.monotonic()
  local job = { seq = info.stream_seq, delivery = info.delivered, reply = message.reply, data = message.data,
    subject = message.subject, tag = tag, run_id = run_id_of(message), arrived_at = now, progress_at = now,
    is_parent = jobs.may_spawn(message.data, self.cfg.worker_allow_spawn), is_ahead = is_ahead }
  if self.quota ~= math.huge then self.quota = self.quota - 1 end
  self.reads:start(job)
  self.board:hold(job)
  self:dispatch()
end

--- Gives held jobs to open slots.
function supervisor:dispatch()
  while not self.stopping do
    local key, job = self.board:take()
    if not key then break end
    job.key, job.beat_at = key, clock.monotonic()
    self.reads:ensure(job, function()
      if job.key == key then self:send_run(job) end -- its slot may have died meanwhile
    end)
  end
end

--- A place may be free: for a job in hand, else for one that is asked for.
function supervisor:go_on()
  self:dispatch()
  self.intake:ask()
end

--- Gives jobs back that were taken ahead and wait too long, for others to run.
function supervisor:give_back()
  for _, job in ipairs(self.intake:overdue(self.board:held_jobs(), clock.monotonic())) do
    self.settling:settle(job, "handed_back", {})
  end
end

--- Sends a job to its slot, with the snapshot that its attempt finds.
function supervisor:send_run(job)
  local limits, found = self.limits[job.tag], job.found
  job.started_at, job.beat_at, job.wheels, job.is_sent = clock.monotonic(), clock.monotonic(), self:wheel_set(), true
  local head = { seq = job.seq, delivery = job.delivery, ack_wait_sec = limits.ack_wait_sec,
    max_deliver = limits.max_deliver, clock_offset = self.clock_offset,
    roots = job.wheels.roots[1] and job.wheels.roots }
  local body = job.data
  if found then
    head.found = { run_id = job.run_id, revision = found.revision, created = found.created, deleted = found.deleted,
      size = found.bytes and #found.bytes }
    if found.bytes then body = body .. found.bytes end
  end
  job.found = nil
  local sent = self.pool:send(job.key, "R", head, body)
  if not sent then self.pool:signal(job.key, SIGKILL) end -- it hears nothing any more: its end is dealt with
  self.registry:started(self.now())
  self.is_changed = true
end

-- slots --------------------------------------------------------------------------------------------------------

local FRAMES = {
  I = function(self, key)
    local is_new = self.board:ready(key)
    self.flow_list:renew()
    if is_new then self:go_on() end
  end,
  W = function(self, _, head) -- the slot's 'I' follows
    self.flow_list:came(head)
  end,
  E = function(self, _, head)
    self.log:error("slot cannot work", { reason = head.error })
  end,
  T = function(self, key)
    local job = self.board:running(key)
    if job then job.beat_at = clock.monotonic() end
  end,
  L = function(self, key)
    local job = self.board:running(key)
    if job then self.cancels:start_grace(job) end
  end,
  S = function(self, key, head)
    if head.waits then self.board:wait(key) else self.board:resume(key) end
    if not self.stopping then self.pool:resize(self.board:needed()) end
    self:go_on()
  end,
  N = function(self, key)
    self.board:ending(key)
    self.intake:ask()
  end,
  F = function(self, key, head, body)
    local job = self.board:finish(key)
    if job then self:run_over(job, head, body) end
    self:go_on()
  end,
}

function supervisor:on_frame(key, kind, head, body)
  local handler = FRAMES[kind]
  if handler then handler(self, key, head ~= "{}" and json.decode(head) or {}, body) end
end

--- A run is over. Its end is stored by its slot, or handed over: then we store it.
function supervisor:run_over(job, report, bytes)
  self.intake:ran(job.tag, clock.monotonic() - job.started_at)
  if not report.is_handed_over then return self.settling:settle(job, report.outcome, report) end
  if job.grace then job.grace() end
  job.key = nil
  self.gather:add(function()
    async.go(function() self.settling:settle(job, self.ends:store(job, report, bytes), report) end)
  end)
end

--- The wheels that the next run gets.
---@return table set { roots, sites }
function supervisor:wheel_set()
  return self.wheels and self.wheels.set or NO_WHEELS
end

--- The sites of wheels that slots use, as a set.
---@return table
function supervisor:used_sites()
  local used, sets = {}, { self.flow_list.wheels }
  for _, job in ipairs(self.board:jobs()) do sets[#sets + 1] = job.key and job.wheels or nil end
  for _, set in ipairs(sets) do
    for site in pairs(set.sites) do used[site] = true end
  end
  return used
end

--- Ends a slot that is no longer needed since fewer runs wait for their children.
function supervisor:retire_surplus(now)
  local needed = self.board:needed()
  local key = self.surplus:is_due(now, self.pool.size, needed) and self.board:idle_slot()
  if not key then return end
  self.board:remove_slot(key)
  self.pool:retire(key)
end

--- A job that its slot has not begun is the next to start.
function supervisor:put_back(job)
  job.key, job.is_sent = nil, nil
  if self.stopping then return self.settling:settle(job, "handed_back", {}) end
  self.board:hold_first(job)
end

--- A slot has died. What it ran is rescued; what it had not begun is the next to start.
function supervisor:on_slot_exit(key, text, had_worked)
  if not key then return self.log:error("slot cannot start", { reason = text }) end
  local job, unbegun = self.board:remove_slot(key)
  self.pool.count = self.board:needed() -- one that waited is not replaced; the pool starts the others again
  if job and not job.is_sent then job, unbegun = nil, job end
  if unbegun then self:put_back(unbegun) end
  if job then
    job.key = nil
    self.settling:rescue(job, text)
  elseif not self.stopping or not had_worked then
    self.log:error("slot died", { reason = text })
  end
  self:go_on()
end

--- A job is settled.
function supervisor:on_job_end(job, outcome, fields)
  self.is_changed = true
  self.on_settled(job, outcome, fields)
  if self.stopping and self.board:count() == 0 then self:finish() end
  if self.quota <= 0 and self.board:count() == 0 and not self.stopping then self.on_spent() end
end

-- periodic -----------------------------------------------------------------------------------------------------

--- Renews the jobs in hand, and looks after slots that have fallen silent.
function supervisor:tick()
  local now = clock.monotonic()
  self.intake:expire()
  for _, job in ipairs(self.board:jobs()) do
    local limits = self.limits[job.tag]
    if now - job.progress_at >= consumer.progress_interval(self.cfg, limits.ack_wait_sec) - TICK_SEC / 2 then
      job.progress_at = now
      self.conn:request_async(job.reply, jetstream.PROGRESS, 5000, nil, function() end)
    end
    self.cancels:watch(job, now)
  end
  if not self.stopping then self:retire_surplus(now) end
  self.intake:ask()
end

--- Reads what may have changed on the server's side.
function supervisor:reread()
  for _, tag in ipairs(self.tags) do
    local limits, message = consumer.ensure(self.store.js, self.cfg, tag)
    if limits then
      self.limits[tag] = limits
    else
      self.log:warning("consumer cannot be read", { tag = tag, reason = message })
    end
  end
  self.flow_list:renew()
  local offset = self.registry:clock_offset()
  if offset then self.clock_offset = offset end
end

--- Tells the registry which runs are in hand, when that has changed.
function supervisor:report()
  self:give_back()
  if not self.is_changed then return end
  self.is_changed = false
  local ids = {}
  for _, job in ipairs(self.board:jobs()) do
    if job.key and job.run_id then ids[#ids + 1] = job.run_id end
  end
  self.registry:runs(ids)
end

function supervisor:on_status(status)
  if status ~= "connected" then
    if status == "reconnecting" then self.log:warning("connection to NATS lost; runs go on") end
    return
  end
  self.log:info("connected to NATS again")
  self.settling:send_unsent()
  self.intake:reset()
  for _, job in ipairs(self.board:jobs()) do job.progress_at = 0 end -- renewed at the next tick
  self:tick()
end

-- life ---------------------------------------------------------------------------------------------------------

--- Jobs may come.
local function ready(self, on_ready)
  self.is_ready = true
  if self.is_eager then self.intake:listen() end
  on_ready()
  self.intake:ask()
end

--- Starts slots and timers, and pulls; with wheels not before they have been looked at once.
---@param on_ready fun() called when jobs may come
function supervisor:start(on_ready)
  self.hint_sub = self.conn:subscribe("pyoco.hint.cancel.*", function(message) self.cancels:hinted(message.data) end)
  self.conn:on_status(function(status) self:on_status(status) end)
  self.timers = {
    async.every(TICK_SEC, function() self:tick() end),
    async.every(0.1, function() self:report() end),
    async.every(self.cfg.worker_heartbeat_interval_sec, function()
      async.go(function()
        local ok, message, code = self.registry:beat()
        if not ok and not self.told_heartbeat then -- once for each outage
          self.log:event("nats", "worker registry heartbeat failed", nil, { type = code, message = message })
        end
        self.told_heartbeat = not ok
      end)
    end),
    async.every(REREAD_SEC, function() async.go(function() self:reread() end) end),
    edits.watch(self.cfg.task_path, function() self.flow_list:changed() end),
  }
  self.pool:start()
  if not self.wheels then return ready(self, on_ready) end
  self.wheels:start(function() ready(self, on_ready) end)
end

--- Stops pulling and hands back what has not begun; runs in hand get the time to end, then go back too.
---@param drain_sec number
function supervisor:stop(drain_sec)
  if self.stopping then return self:stop_now() end
  self.stopping = true
  for _, job in ipairs(self.board:held_jobs()) do self.settling:settle(job, "handed_back", {}) end
  if self.is_ended or self.board:count() == 0 then return self:finish() end
  self.log:info("stopping: waiting for runs in hand", { count = self.board:count(), drain_sec = drain_sec })
  self.drain_timer = async.after(drain_sec, function() self:hand_back_all() end)
end

--- The drain is over: slots are killed, their jobs go back to the queue.
function supervisor:hand_back_all()
  self.pool.closed = true -- no new slots
  for _, job in ipairs(self.board:jobs()) do
    if job.key then
      job.killed = job.killed or "drain"
      self.pool:signal(job.key, SIGKILL)
    end
  end
  self.drain_timer = async.after(RESCUE_STOP_SEC, function() self:stop_now() end)
end

--- Ends at once: jobs in hand are handed back if that needs no waiting.
function supervisor:stop_now()
  if self.is_ended then return end
  self.pool:close()
  for _, job in ipairs(self.board:jobs()) do self.conn:publish(job.reply, jetstream.NAK) end
  self:finish()
end

--- The last write of the registry, then the end of the loop.
function supervisor:finish()
  if self.is_ended then return end
  self.is_ended = true
  for _, stop in ipairs(self.timers) do stop() end
  if self.drain_timer then self.drain_timer() end
  if self.wheels then self.wheels:stop() end
  self.pool:close()
  local over
  local function done()
    if over then return end
    over = true
    self.conn:flush()
    self.on_end()
  end
  async.after(RESCUE_STOP_SEC, done)
  async.go(function()
    self.registry:stop()
    done()
  end)
end

--- A supervisor.
---@param deps table
---  cfg, store (over a loop-mode connection), registry, log, script (path of the worker script), tags,
---  limits (tag -> { ack_wait_sec, max_deliver }), slots (number or { tag = number }),
---  boot (function: boot text of the slots), clock_offset (seconds), quota (jobs to take at most, or nil),
---  on_end (function: it is over), on_settled (function(job, outcome, fields)), on_spent (function: the quota is
---  used up and nothing is in hand; default: stop), is_eager (default true: takes jobs from its start on)
---@return table supervisor: start, stop(drain_sec) (a second call ends at once); .intake (pyoco.worker.intake); .wheels
---  may be set before start (pyoco.worker.wheels)
function M.new(deps)
  local self = setmetatable({ cfg = deps.cfg, store = deps.store, conn = deps.store.conn, registry = deps.registry,
    log = deps.log, tags = deps.tags, limits = deps.limits,
    clock_offset = deps.clock_offset or 0, quota = deps.quota or math.huge, on_end = deps.on_end,
    surplus = surpluses.new(), on_settled = deps.on_settled or function() end,
    is_eager = deps.is_eager ~= false,
    board = boards.new(deps.slots, deps.cfg.worker_max_waiting) }, supervisor)
  self.now = function() return clock.wall(self.clock_offset) end
  self.reads = reads.new { runs = self.store.runs, go = async.go, clock = clock.monotonic }
  self.ends = ends.new { runs = self.store.runs, now = self.now, max_bytes = self.cfg.max_run_snapshot_bytes,
    go = async.go, wait = async.wait, sleep = async.sleep, after = async.after }
  self.on_spent = deps.on_spent or function() self:stop(0) end
  self.settling = settlings.new { conn = self.conn, store = self.store, cfg = self.cfg, log = self.log,
    board = self.board, registry = self.registry, limits = self.limits, now = self.now,
    is_stopped = function() return self.is_ended end, on_settled = function(...) self:on_job_end(...) end }
  self.gather = gathers.new { after = async.after,
    has_time = function() return not self.stopping and self.board:has_held() end } -- no slot waits for a job
  self.intake = intakes.new { conn = self.conn, cfg = self.cfg, log = self.log, tags = self.tags, limits = self.limits,
    board = self.board, quota = function() return self.quota end, is_wanted = function() return not self.stopping end,
    take = function(...) self:take(...) end }
  self.pool = pools.new { script = deps.script, count = self.board.total, boot = deps.boot, after = async.after,
    on_start = function(key) self.board:add_slot(key) end,
    on_frame = function(...) self:on_frame(...) end,
    on_exit = function(...) self:on_slot_exit(...) end }
  self.cancels = cancels.new { cfg = self.cfg, log = self.log, board = self.board, pool = self.pool,
    runs = self.store.runs, reads = self.reads }
  self.flow_list = flow_lists.new { board = self.board, pool = self.pool, registry = self.registry, log = self.log,
    wheel_set = function() return self.wheels and self.wheels.set end }
  return self
end

return M
