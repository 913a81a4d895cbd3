--- What is left behind is found: real gateways and workers, killed in the middle, and what a mixed fleet leaves.
local crypto = require "host.crypto"
local http = require "host.http"
local json = require "host.json"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local snapshot = require "pyoco.run.snapshot"
local support = require "spec.support.worker"
local uv = require "luv"

local ENV = { PYOCO_SWEEP_INTERVAL_SEC = "0.1", PYOCO_SWEEP_AFTER_SEC = "0.5", PYOCO_LEASE_TTL_SEC = "1" }

local BEAT_MS = 5000 -- a worker that is silent for 20 s counts as lost

--- A gateway that dies with the snapshot stored and the job not published.
local MORTAL = [[
local gateway = require "pyoco.gateway"
local app = gateway.app()
if require("host").role == "http" then
  app.store.jobs.publish = function() require("luv").kill(require("luv").os_getpid(), "sigkill") end
end
return gateway.main(app, ...)
]]

describe("the sweeper", function()
  local world, gateway
  local timers = {}

  setup(function()
    world = support.world()
    world:write("mortal.lua", MORTAL)
    world:write("job.lua", [[
      local uv = require "luv"
      return {
        fine = function() return 1 end,
        kills_worker = function(ctx)
          ctx:sleep(0.1) -- until it is known that it runs
          uv.kill(uv.os_getppid(), "sigkill")
          uv.sleep(10000)
        end,
      }]])
    gateway = gateways.start { nats_url = world.server.url, env = ENV }
  end)
  teardown(function()
    gateway:stop()
    world:stop()
  end)
  after_each(function()
    for _, timer in ipairs(timers) do timer:close() end
    timers = {}
    http.close()
    for _, one in ipairs(world.workers) do one:kill "sigkill" end
    for _, one in ipairs(world.workers) do one:wait() end
    world.workers = {}
  end)

  --- The record of a worker that lives until the spec has ended.
  local function lives(record)
    local function beat() assert(world.store.workers:put(record)) end
    beat()
    local timer = uv.new_timer()
    timer:start(BEAT_MS, BEAT_MS, beat)
    timers[#timers + 1] = timer
  end

  --- A consumer as a worker makes it, with limits of the spec's own.
  local function consumer(tag, fields)
    local config = { durable_name = "pyoco_workers_" .. tag, filter_subject = "pyoco.work." .. tag,
      ack_policy = "explicit", deliver_policy = "all", ack_wait = 500000000, max_deliver = 1, max_ack_pending = 200 }
    for name, value in pairs(fields or {}) do config[name] = value end
    assert(world.store.js:consumer_create("PYOCO_WORK", config))
  end

  --- Takes a job as a worker does that dies with it. Nil when there is none.
  local function pull(tag)
    return (world.store.conn:request("$JS.API.CONSUMER.MSG.NEXT.PYOCO_WORK.pyoco_workers_" .. tag,
      '{"batch":1,"no_wait":true}', 2000))
  end

  --- A run as stored: fields over a first snapshot.
  local function put(fields, first)
    local run = { run_id = crypto.uuid4(), flow_name = "main", tag = "quiet", tags = json.array { "quiet" },
      params = { a = 1 }, now = 1.5 }
    for name, value in pairs(first or {}) do run[name] = value end
    local stored = snapshot.initial(run)
    for name, value in pairs(fields) do stored[name] = value end
    assert(world.store.runs:create(stored))
    return stored.run_id
  end

  local function publish(run_id, tag)
    return assert(world.store.jobs:publish { run_id = run_id, flow_name = "main", tag = tag or "quiet",
      tags = json.array { tag or "quiet" }, params = {}, submitted_at = 1.5 })
  end

  local function message(seq) return (world.store.js:get_msg("PYOCO_WORK", seq)) end

  local function wait_gone(seq)
    process.wait_for(function() return not message(seq) end, 10000, "message " .. seq .. " to be deleted")
  end

  --- The newest job of a run in the queue.
  local function job_of(run_id)
    local state = assert(world.store.js:stream_info("PYOCO_WORK")).state
    for seq = state.last_seq, math.max(1, state.first_seq), -1 do
      local found = message(seq)
      if found and found.data:find(run_id, 1, true) then return json.decode(found.data), found end
    end
  end

  local function wait_job(run_id)
    local job, found
    process.wait_for(function()
      job, found = job_of(run_id)
      return job
    end, 10000, "a job of " .. run_id)
    return job, found
  end

  local function letter_of(run_id)
    for _, letter in ipairs(world:letters()) do
      if letter.body.run_id == run_id then return letter end
    end
  end

  it("publishes the jobs of PENDING runs again, made out of snapshot and document", function()
    local document = support.yaml("a", { a = "job:fine" })
    local bundle = "version: 1\nworkflows: {}\n"
    local sha256, hash = assert(world.store.documents:put(document)), assert(world.store.documents:put(bundle))
    local flow = put({ attempt = { seq = 1 << 40, delivery = 1 } }, { tenant_id = "t1", api_key_id = "k1",
      tags = json.array { "quiet", "b" } })
    local yaml = put({}, { workflow_yaml_sha256 = sha256, workflow_yaml_bytes = #document, schedule_id = "s1" })
    local of_bundle = put({ spawn_depth = 1 }, { bundle_hash = hash, workflow_bundle_bytes = #bundle,
      root_run_id = "r0", parent_run_id = "r0", spawned_from_task = "t", entry_workflow = "main" })
    local lost = put({}, { workflow_yaml_sha256 = ("0"):rep(64), workflow_yaml_bytes = 1 })
    local unapproved = put({ status = "PENDING_APPROVAL" }, { bundle_hash = hash, workflow_bundle_bytes = 5 })
    local queued = put({})
    local seq, _, revision = publish(queued), world.store.runs:get(queued)

    local job, found = wait_job(flow)
    assert.equal("pyoco.work.quiet", found.subject)
    assert.is_nil(found.headers["Nats-Msg-Id"])
    assert.is_number(job.submitted_at)
    job.submitted_at = nil
    assert.same({ run_id = flow, flow_name = "main", tag = "quiet", tags = { "quiet", "b" }, tenant_id = "t1",
      api_key_id = "k1", params = { a = 1 } }, job)
    assert.is_nil(world:run(flow).attempt) -- of a stream that was made anew: nobody would take the new job
    job = wait_job(yaml)
    assert.same({ document, sha256, #document, "s1" }, { job.workflow_yaml, job.workflow_yaml_sha256,
      job.workflow_yaml_bytes, job.schedule_id })
    job = wait_job(of_bundle)
    assert.same({ bundle, hash, hash, 1, "r0", "t", "main" }, { job.workflow_bundle, job.workflow_bundle_sha256,
      job.bundle_hash, job.spawn_depth, job.parent_run_id, job.spawned_from_task, job.entry_workflow })
    local failed = world:wait(lost, "FAILED")
    assert.truthy(failed.error:find("^job_lost: .*document 0+ is not stored here"), failed.error)
    -- runs that have their job, and those that wait for somebody, are not touched
    assert.equal(revision, (select(2, world.store.runs:get(queued))))
    assert.truthy(message(seq))
    assert.equal("PENDING_APPROVAL", world:run(unapproved).status)
    assert.is_nil(job_of(unapproved))
    for _, run_id in ipairs { flow, yaml, of_bundle } do
      local _, last = job_of(run_id)
      assert(world.store.js:delete_msg("PYOCO_WORK", last.seq))
      assert(world.store.runs:delete(run_id))
    end
  end)

  it("ends what a mixed fleet left open, and leaves what somebody has", function()
    local cancelling = put { status = "CANCELLING", cancel_requested_at = 1.5,
      tasks = { a = "RUNNING", b = "PENDING" } }
    local queued = publish(cancelling)
    local lost = put { status = "RUNNING", tasks = { a = "RUNNING" }, worker_id = "gone" }
    local held, held_by_ours = put { status = "RUNNING" }, put { status = "CANCELLING" }
    lives { worker_id = "ref", state = "RUNNING", current_run_id = held }
    lives { worker_id = "ours", state = "RUNNING", current_run_ids = { held_by_ours } }
    local completed = put { status = "COMPLETED", end_time = 1.5 }
    local of_completed, deleted = publish(completed), put {}
    local of_deleted = publish(deleted)
    assert(world.store.runs:delete(deleted))
    local unknown = publish(crypto.uuid4())
    local no_job = assert(world.store.js:publish("pyoco.work.quiet", "no json")).seq

    local run = world:wait(cancelling, "CANCELLED")
    assert.same({ { a = "CANCELLED", b = "CANCELLED" }, 1.5 }, { run.tasks, run.cancel_requested_at })
    assert.is_number(run.end_time)
    run = world:wait(lost, "FAILED")
    assert.truthy(run.error:find("^worker_lost: "), run.error)
    assert.same({ a = "FAILED" }, run.tasks)
    for _, seq in ipairs { queued, of_completed, of_deleted } do wait_gone(seq) end
    assert.equal("RUNNING", world:run(held).status)
    assert.equal("CANCELLING", world:run(held_by_ours).status)
    assert.equal("COMPLETED", world:run(completed).status)
    -- jobs that a worker has to judge
    assert.truthy(message(unknown))
    assert.truthy(message(no_job))
    for _, seq in ipairs { unknown, no_job } do assert(world.store.js:delete_msg("PYOCO_WORK", seq)) end
    for _, run_id in ipairs { held, held_by_ours } do assert(world.store.runs:delete(run_id)) end
  end)

  it("ends runs whose deliveries are used up, beside one whose worker lives", function()
    consumer("tired", { ack_wait = 300000000 })
    local alive, silent, untried = put({ status = "RUNNING" }, { tag = "tired" }), put({}, { tag = "tired" }),
      put({}, { tag = "tired" })
    local cancelled = put({}, { tag = "tired" })
    local seqs = {}
    for i, run_id in ipairs { alive, silent, untried, cancelled } do seqs[i] = publish(run_id, "tired") end
    local reply = assert(pull "tired").reply
    for _ = 1, 3 do assert(pull "tired") end
    for run_id, fields in pairs {
      [silent] = { status = "RUNNING", attempt = { seq = seqs[2], delivery = 1 }, tasks = { a = "RUNNING" } },
      [cancelled] = { status = "CANCELLING", cancel_requested_at = 1.5 },
    } do
      local stored, revision = world.store.runs:get(run_id)
      for name, value in pairs(fields) do stored[name] = value end
      assert(world.store.runs:update(stored, revision))
    end
    local letters = #world:letters()
    -- a worker that lives: it says so, and asks for more, by which the server notices what is used up
    lives { worker_id = "lively", state = "RUNNING", current_run_id = alive }
    local beats = 0
    local function beat()
      assert(world.store.conn:publish(reply, "+WPI"))
      local stored, revision = world.store.runs:get(alive)
      stored.heartbeat_at, beats = beats + 0.5, beats + 1
      assert(world.store.runs:update(stored, revision))
      pull "tired"
    end
    process.wait_for(function()
      beat()
      return world:run(silent).status == "FAILED" and world:run(cancelled).status == "CANCELLED"
        and not message(seqs[3])
    end, 15000, "the end of the silent runs")
    local failed = world:run(silent)
    assert.truthy(failed.error:find("^max_attempts_exceeded: 1 deliveries"), failed.error)
    assert.same({ a = "FAILED" }, failed.tasks)
    for i = 2, 4 do
      process.wait_for(function()
        beat()
        return not message(seqs[i])
      end)
    end
    assert.same({ "PENDING" }, { world:run(untried).status })
    wait_job(untried)
    assert.equal("RUNNING", world:run(alive).status)
    assert.truthy(message(seqs[1]))
    local letter = letter_of(silent)
    assert.same({ "pyoco.dlq.tired", "max_attempts", failed.error, "tired" }, { letter.subject, letter.body.reason,
      letter.body.error, letter.body.tag })
    assert.equal(letters + 1, #world:letters())
    assert(world.store.conn:publish(reply, "+ACK"))
    assert(world.store.runs:delete(alive))
  end)

  it("finds used-up jobs of which the server spoke while no gateway was there", function()
    gateway:stop()
    consumer("unheard", { ack_wait = 200000000 })
    local of = { tag = "unheard" }
    local alive, waiting = put({ status = "RUNNING" }, of), put({}, of)
    local silent = put({ status = "RUNNING", attempt = { seq = 1, delivery = 1 } }, of)
    local seqs = {}
    for i, run_id in ipairs { alive, silent, waiting } do seqs[i] = publish(run_id, "unheard") end
    lives { worker_id = "living", state = "RUNNING", current_run_id = alive }
    local reply = assert(pull "unheard").reply
    assert(pull "unheard")
    process.wait_for(function() -- the server gives the second one up when somebody asks for more
      assert(world.store.conn:publish(reply, "+WPI"))
      local info = assert(world.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_unheard"))
      if info.num_ack_pending == 1 then return true end
      local again = world.store.conn:request("$JS.API.CONSUMER.MSG.NEXT.PYOCO_WORK.pyoco_workers_unheard",
        '{"batch":1,"expires":1000000}', 100)
      if again and again.reply then assert(world.store.conn:publish(again.reply, "-NAK")) end
    end)
    gateway = gateways.start { nats_url = world.server.url, env = ENV }
    process.wait_for(function()
      assert(world.store.conn:publish(reply, "+WPI"))
      return world:run(silent).status == "FAILED"
    end, 15000, "the silent run to be ended")
    assert.truthy(world:run(silent).error:find("^max_attempts_exceeded"))
    assert.same({ "RUNNING", "PENDING" }, { world:run(alive).status, world:run(waiting).status })
    assert.truthy(message(seqs[1]))
    wait_job(waiting) -- delivered to nobody who tried it: it may be a new message by now
    for _, run_id in ipairs { alive, waiting } do assert(world.store.runs:delete(run_id)) end
  end)

  it("finishes the submit of a gateway that was killed before it published the job", function()
    local mortal = gateways.start { nats_url = world.server.url, script = world.flows .. "/mortal.lua" }
    mortal:fetch("/runs", { json = { flow_name = "main", tag = "unsent", params = { b = 2 } } })
    mortal.process:wait()
    local run_id
    for _, entry in ipairs(assert(world.store.runs.kv:entries())) do
      local stored = json.decode(entry.value)
      if stored.tag == "unsent" then run_id = stored.run_id end
    end
    assert.same({ run_id, { b = 2 } }, { world:run(run_id).run_id, wait_job(run_id).params })
    world:write("main.lua", [[local pyoco = require "pyoco"
      return pyoco.flow("main", pyoco.task("a", function(b) return b end))]])
    world:worker { "--tags", "unsent", "--worker-id", "w-unsent" }
    assert.equal(2, world:wait(run_id, "COMPLETED").task_records.a.output)
    mortal:stop()
  end)

  it("ends a run whose worker was killed on the last delivery", function()
    consumer "last"
    local doomed = world:submit { tag = "last", workflow_yaml = support.yaml("a", { a = "job:kills_worker" }) }
    local killed = world:worker { "--tags", "last", "--worker-id", "w-killed" }
    killed:wait()
    assert.equal("RUNNING", world:run(doomed).status)
    world:worker { "--tags", "last", "--worker-id", "w-next" }
    local run = world:wait(doomed, "FAILED", 15000)
    assert.truthy(run.error:find("^max_attempts_exceeded"), run.error)
    process.wait_for(function() return letter_of(doomed) and not job_of(doomed) end)
    assert.equal("w-killed", letter_of(doomed).body.worker_id)
  end)

  it("leaves a run to the next worker whose worker was killed before it began", function()
    consumer("claimed", { max_deliver = 5 })
    local run_id = world:submit { tag = "claimed", workflow_yaml = support.yaml("a", { a = "job:fine" }) }
    assert(pull "claimed") -- claimed, and gone without a word
    world:worker { "--tags", "claimed", "--worker-id", "w-claimed" }
    local run = world:wait(run_id, "COMPLETED", 15000)
    assert.equal(2, run.attempt.delivery)
    process.wait_for(function() return not job_of(run_id) end, 10000, "the job to be acked")
  end)

  it("goes on after an outage of NATS, with nothing to complain of", function()
    world.server:restart()
    world:connect()
    local run_id = put {}
    wait_job(run_id)
    local health = gateway:fetch("/health").json
    assert.is_nil(health["duty.sweeper"])
    assert.is_nil(health["duty.schedules"])
  end)
end)
