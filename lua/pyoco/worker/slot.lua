--- A slot's side of one run: from the job's frame to the report of its outcome. C (src/slot.c) makes a VM for each run,
--- before its job comes, and calls `prepare`; then `run` once.
---
--- Two things go on side by side: the run's course (pyoco.worker.run), a coroutine; and the engine, which is pumped
--- outside of it.
local json = require "host.json"
local clock = require "host.clock"
local host = require "host"
local slot = require "host.slot"
local uv = require "luv"
local rpc = require "pyoco.nats.rpc"
local sandbox = require "pyoco.flow.sandbox"
local store = require "pyoco.store.jetstream"
local async = require "pyoco.worker.async"
local build = require "pyoco.worker.build"
local callout = require "pyoco.worker.callout"
local runs = require "pyoco.worker.run"

local M = {}

local TRACEBACK_MAX_BYTES = 16384 -- of what the log says of a failed run

local function say(kind, fields, body)
  slot.send(kind, fields and json.encode(fields) or "{}", body)
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
local function report(run)
  local outcome, job, image, bytes = run.outcome, run.job or {}, run.image or {}, run.handed_over
  local fields = { outcome = outcome, run_id = job.run_id, status = image.status, finished_at = run.now(),
    is_handed_over = bytes and true, revision = bytes and run.writer.revision }
  if outcome ~= "completed" then
    fields.error, fields.flow_name, fields.tag, fields.tags = run.error, job.flow_name, job.tag, job.tags
    fields.tenant_id, fields.api_key_id = image.tenant_id, image.api_key_id
    fields.traceback = outcome == "failed" and traceback_of(image, run.error) or nil
  end
  say("F", fields, bytes)
end

--- Says whether the run only waits for its children: then its place may be another run's meanwhile.
local function tell_waiting(run)
  local waits = run.family ~= nil and run.on_engine_end ~= nil and run.eng ~= nil
    and run.family:is_waiting(run.eng)
  if waits == (run.waits or false) then return end
  run.waits = waits
  say("S", { waits = waits })
end

--- Pumps the engine and turns the loop until the main course has ended. When only the last answer is awaited, the
--- supervisor may send the next job.
local function drive(run)
  local told = false
  while not run.outcome do
    local due = run.due
    if due then
      run.due = nil
      due.done(due.fn())
    elseif run.on_engine_end and run.eng:pump() then
      local done = run.on_engine_end
      run.on_engine_end = nil
      done()
    elseif run.ending and not told then
      told = true
      run.conn:flush()
      say("N")
    else
      if run.family then tell_waiting(run) end
      uv.run("once")
    end
  end
end

--- Opens the store. Not before there is a job: a VM that is kept for later runs must hold no connection.
local function connect(run)
  run.conn = slot.nats()
  run.store = store.open(run.conn, run.boot.cfg, rpc.loop(run.conn, async.wait))
  run.store.runs.kv.last.is_direct = run.boot.is_direct -- known: a fresh VM must not ask again
  run.store.documents.kv.last.is_direct = run.boot.is_direct
end

--- A frame for this run.
local function hear(run, kind, head)
  if kind == "C" then
    run:cancel()
  elseif kind == "D" then
    run.ours.delivery = head.delivery
    if run.writer then run.writer:adopt() end
  end
end

--- Makes what a run needs: called when its VM is made, which is before there is a job.
---@param spec table what the worker script returned
---@return fun(head: string, body: string) run executes one job and reports its outcome to the supervisor
---@return fun(type: string, head: string, body: string) on_frame takes the supervisor's other frames
function M.prepare(spec)
  local boot = json.decode(host.boot())
  local run = runs.new { boot = boot, spec = spec, say = say }

  run.globals = callout.globals(function()
    if run.announcer then run.announcer:block() end
  end)
  for name, value in pairs(spec.globals or {}) do run.globals[name] = value end
  sandbox.prepare(run.globals)

  local early = {}
  local function on_frame(kind, head)
    head = json.decode(head)
    if not run.ours then
      early[#early + 1] = { kind, head }
    elseif head.seq == run.ours.seq then -- else it is for the run before, or the next one
      hear(run, kind, head)
    end
  end

  local function execute(head, body)
    head = json.decode(head)
    run.roots = build.roots(boot.cfg.task_path, head.roots)
    if head.list then
      return say("W", build.list(run.roots, head.roots ~= nil, boot.cfg.worker_flow_resolver))
    end
    connect(run)
    run.head, run.ours = head, { seq = head.seq, delivery = head.delivery }
    run.now = function() return clock.wall(head.clock_offset) end
    if head.found and head.found.size then
      run.found_bytes, body = body:sub(-head.found.size), body:sub(1, -head.found.size - 1)
    end
    for _, frame in ipairs(early) do
      if frame[2].seq == head.seq then hear(run, table.unpack(frame)) end
    end
    async.go(function()
      local ok, outcome = xpcall(run.main, debug.traceback, run, body)
      if not ok then run.error, run.handed_over = outcome, nil end
      run.outcome = ok and outcome or "internal"
    end)
    drive(run)
    report(run)
  end

  return execute, on_frame
end

return M
