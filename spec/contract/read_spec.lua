--- What the reference has written, given to us: each recorded job runs (or ends as it must) on our worker, each
--- recorded snapshot, record, schedule, key and wheel is served and acted upon by our gateway. Then a mixed fleet: the
--- spec plays the reference's worker and gateway, with its blind writes, beside ours.
local crypto = require "host.crypto"
local clock = require "host.clock"
local http = require "host.http"
local json = require "host.json"
local fixture = require "spec.support.fixture"
local fleets = require "spec.support.fleet"
local process = require "spec.support.process"

local function copy(value)
  return assert(json.decode(assert(json.encode(value))))
end

--- A recording under a new run id.
local function renewed(name, changes)
  local value = copy(fixture(name))
  value = value.body or value
  local old = value.run_id
  value.run_id = crypto.uuid4()
  if value.root_run_id == old then value.root_run_id = value.run_id end
  for key, field in pairs(changes or {}) do value[key] = field end
  return value
end

describe("recordings of the reference:", function()
  local fleet, gateway, world

  setup(function()
    fleet = fleets.start { worker_env = { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.2" } }
    gateway, world = fleet.gateway, fleet.world
    world:write("main.lua", [[
      local pyoco = require "pyoco"
      return { pyoco.flow("main", pyoco.task("main", function(ctx, a, b, c) return { a, b, #c } end)),
        pyoco.flow("long", pyoco.task("long", function(ctx) ctx:sleep(60) end)) }
    ]])
  end)
  teardown(function() fleet:stop() end)
  after_each(http.close)

  describe("a job", function()
    --- Recorded job -> what becomes of it on our worker, with the snapshot that the reference's gateway has written.
    local JOBS = {
      ["job-runs"] = { first = "snapshot-initial-runs", status = "COMPLETED",
        outputs = { main = { 1, "テ", 5 } } },
      ["job-yaml"] = { first = "snapshot-initial-yaml", status = "COMPLETED",
        outputs = { add_one = 2, to_text = "v=2" } },
      ["job-bundle-root"] = { first = "snapshot-approved-bundle", status = "COMPLETED",
        outputs = { prepare = 2, summarize = "COMPLETED:v=3" } },
    }

    for name, row in pairs(JOBS) do
      for _, with_snapshot in ipairs { true, false } do
        it(("%s runs, %s its snapshot"):format(name, with_snapshot and "with" or "without"), function()
          local job = renewed(name, { tag = "hello" })
          if with_snapshot then
            fleet:put(renewed(row.first, { run_id = job.run_id, root_run_id = job.root_run_id, tag = "hello" }))
          end
          fleet:publish(job)
          local last = fleet:ended(job.run_id)
          assert.same({ row.status, json.null }, { last.status, last.error })
          local outputs = {}
          for task in pairs(row.outputs) do outputs[task] = last.task_records[task].output end
          assert.same(row.outputs, outputs)
          assert.same(job.params, last.params)
          world:wait_settled()
          assert.equal(row.status, gateway:fetch("/runs/" .. job.run_id).json.status)
        end)
      end
    end

    it("is run once, though it carries no message id and comes twice", function()
      local job = renewed("job-yaml", { tag = "hello" })
      fleet:publish(job)
      local first = fleet:ended(job.run_id)
      fleet:publish(job)
      world:wait_settled()
      local again = fleet.store.runs:get(job.run_id)
      assert.same({ first.status, first.end_time }, { again.status, again.end_time })
    end)

    for name, text in pairs { ["dlq-3-invalid_job"] = "missing_fields", ["dlq-4-invalid_job"] = "invalid_json" } do
      it("that is none (" .. name .. ") becomes the same dead letter", function()
        local theirs = fixture(name).body
        assert(fleet.store.js:publish("pyoco.work.hello", theirs.payload))
        local letter = process.wait_for(function()
          for _, one in ipairs(world:letters()) do
            if one.body.payload == theirs.payload then return one end
          end
        end)
        assert.same({ "pyoco.dlq.hello", text, theirs.subject }, { letter.subject, letter.body.error,
          letter.body.subject })
        world:wait_settled()
      end)
    end
  end)

  describe("a snapshot", function()
    local NAMES = { "snapshot-initial-runs", "snapshot-initial-yaml", "snapshot-initial-bundle_pending",
      "snapshot-pending-approval", "snapshot-approved-bundle", "snapshot-rejected", "snapshot-cancelling-yaml",
      "snapshot-completed-yaml", "snapshot-completed-parent", "snapshot-completed-child", "snapshot-failed-yaml",
      "snapshot-flow-not-found" }

    for _, name in ipairs(NAMES) do
      it(name .. " is served whole, in brief, as tasks, and in lists", function()
        local theirs = renewed(name, { tag = name })
        fleet:put(theirs)
        assert.same(theirs, gateway:fetch(("/runs/%s?include=records"):format(theirs.run_id)).json)
        local brief = copy(theirs)
        brief.task_records = nil
        assert.same(brief, gateway:fetch("/runs/" .. theirs.run_id).json)
        local tasks = gateway:fetch(("/runs/%s/tasks"):format(theirs.run_id)).json
        assert.same({ theirs.tasks, theirs.task_records, false },
          { tasks.tasks, tasks.task_records, tasks.task_records_truncated })
        local item = fleet:see("/runs?tag=" .. name, function(list) return list[1] end)[1]
        for key, value in pairs(item) do assert.same(theirs[key], value, key) end
        local full = fleet:see(("/runs?tag=%s&include=full"):format(name), function(list) return list[1] end)[1]
        assert.same(theirs, full)
      end)
    end

    --- What a cancel answers, and what is stored after it.
    local CANCELS = { ["snapshot-initial-runs"] = { "CANCELLING", "CANCELLED" },
      ["snapshot-pending-approval"] = { "CANCELLED", "CANCELLED" },
      ["snapshot-cancelling-yaml"] = { "CANCELLING", "CANCELLING" },
      ["snapshot-completed-yaml"] = { "COMPLETED", "COMPLETED" }, ["snapshot-rejected"] = { "CANCELLED", "CANCELLED" } }

    for name, wanted in pairs(CANCELS) do
      it(name .. " is cancelled as the contract says", function()
        local theirs = renewed(name)
        fleet:put(theirs)
        local answer = gateway:fetch(("/runs/%s/cancel"):format(theirs.run_id), { method = "POST", body = "{}" })
        local stored = fleet.store.runs:get(theirs.run_id)
        assert.same(wanted, { answer.json.status, stored.status })
        for key in pairs(theirs) do assert.is_not_nil(stored[key], key) end
        if wanted[2] == theirs.status and wanted[2] ~= "CANCELLING" then assert.same(theirs, stored) end
      end)
    end

    it("that runs, is cancelled: CANCELLING, with its request, its records kept", function()
      local theirs = renewed("snapshot-completed-yaml", { status = "RUNNING", end_time = json.null })
      fleet:put(theirs)
      assert.equal("CANCELLING", fleet.client:cancel_run(theirs.run_id).status)
      local stored = fleet.store.runs:get(theirs.run_id)
      assert.same(theirs.task_records, stored.task_records)
      assert.truthy(stored.cancel_requested_at ~= json.null)
    end)

    it("that waits for approval is approved, and rejected", function()
      local theirs = renewed("snapshot-pending-approval", { tag = "nobody" })
      fleet:put(theirs)
      local answer = gateway:fetch(("/runs/%s/approve"):format(theirs.run_id), { json = {} })
      assert.equal(409, answer.status) -- its bundle is not stored
      assert.equal("workflow bundle not found", answer.json.detail)
      assert(fleet.store.documents.kv:put(theirs.bundle_hash, fixture "job-bundle-root".body.workflow_bundle))
      answer = gateway:fetch(("/runs/%s/approve"):format(theirs.run_id), { json = {} })
      assert.same({ 200, "PENDING", "approved" }, { answer.status, answer.json.status, answer.json.approval_status })
      assert.equal(theirs.run_id, json.decode(fleet:last("PYOCO_WORK", "pyoco.work.nobody").data).run_id)
      theirs = renewed "snapshot-pending-approval"
      fleet:put(theirs)
      answer = gateway:fetch(("/runs/%s/reject"):format(theirs.run_id), { json = { reason = "no" } })
      assert.same({ 200, "CANCELLED", "no" }, { answer.status, answer.json.status, answer.json.rejection_reason })
    end)
  end)

  describe("a record", function()
    it("of a worker is shown, hidden, and found dead by its age, with all its fields", function()
      local theirs = copy(fixture "worker-record")
      theirs.worker_id = "reference"
      assert(fleet.store.workers.kv:put("reference", assert(json.encode(theirs, { ascii = true }))))
      local shown
      for _, one in ipairs(gateway:fetch("/workers?scope=all").json) do
        if one.worker_id == "reference" then shown = one end
      end
      for key, value in pairs(theirs) do assert.same(value, shown[key], key) end
      local answer = gateway:fetch("/workers/reference", { method = "PATCH", json = { hidden = true } })
      assert.same({ 200, true }, { answer.status, answer.json.hidden })
      local stored = fleet.store.workers:get "reference"
      for key, value in pairs(theirs) do
        if key ~= "hidden" and key ~= "updated_at" then assert.same(value, stored[key], key) end
      end
    end)

    it("of a schedule is listed, and dispatched", function()
      local theirs = copy(fixture "schedule-interval")
      theirs.schedule_id, theirs.next_run_at = crypto.uuid4(), clock.wall() - 5
      assert(fleet.store.schedules.kv:put(theirs.schedule_id, assert(json.encode(theirs, { ascii = true }))))
      local list = fleet:see(("/schedules/%s/runs"):format(theirs.schedule_id), function(found) return found[1] end)
      local run = fleet.client:get_run_with_records(list[1].run_id)
      assert.same({ theirs.schedule_id, "a", theirs.params, "nobody" },
        { run.schedule_id, run.flow_name, run.params, run.tag })
      local shown
      for _, one in ipairs(gateway:fetch("/schedules").json) do
        if one.schedule_id == theirs.schedule_id then shown = one end
      end
      for key in pairs(fixture "http-schedule-interval") do assert.is_not_nil(shown[key], key) end
      assert.is_nil(shown.workflow_yaml)
      local stored = process.wait_for(function()
        local record = json.decode((fleet.store.schedules.kv:get(theirs.schedule_id)))
        return record.dispatch_count == 1 and record
      end)
      assert.same({ run.run_id, json.null, json.null }, { stored.last_run_id, stored.lease_until, stored.last_error })
      assert.is_true(stored.next_run_at > clock.wall())
      assert.same({ 200, true }, (function()
        local gone = gateway:fetch("/schedules/" .. theirs.schedule_id, { method = "DELETE" })
        return { gone.status, gone.json.deleted }
      end)())
    end)

    it("of a wheel is listed, downloaded and deleted", function()
      local meta, bytes = copy(fixture "object-meta"), crypto.random(1151)
      meta.body.digest = "SHA-256=" .. crypto.base64url_encode(crypto.hex_decode(crypto.sha256(bytes))) .. "="
      meta.body.headers.sha256 = crypto.sha256(bytes)
      assert(fleet.store.js:publish("$O.pyoco_wheels.C." .. meta.body.nuid, bytes))
      assert(fleet.store.js:publish(meta.subject, assert(json.encode(meta.body)), { headers = meta.headers }))
      local shown = gateway:fetch("/wheels").json
      assert.equal(1, #shown)
      for key, value in pairs(fixture "http-wheels"[1]) do
        if key ~= "digest" and key ~= "sha256_b64" then assert.same(value, shown[1][key], key) end
      end
      assert.equal(meta.body.digest, shown[1].digest)
      local answer = gateway:fetch("/wheels/" .. meta.body.name)
      assert.same({ 200, crypto.sha256(bytes) }, { answer.status, crypto.sha256(answer.body) })
      assert.equal(200, gateway:fetch("/wheels/" .. meta.body.name, { method = "DELETE" }).status)
      assert.same({}, gateway:fetch("/wheels").json)
      local left = json.decode(fleet:last("OBJ_pyoco_wheels", meta.subject).data)
      assert.same({ true, 0, 0, meta.body.headers }, { left.deleted, left.size, left.chunks, left.headers })
    end)

    it("of the history of wheels is shown", function()
      local theirs = fixture "wheel-history"
      assert(fleet.store.wheel_history.kv:put(theirs.key, assert(json.encode(theirs.body))))
      local list = gateway:fetch("/wheels/history?action=UPLOAD&limit=500").json
      assert.same(theirs.body, list[#list])
    end)
  end)

  describe("a key", function()
    it("opens the gateway, for its tenant's runs only; revoked, it does not", function()
      local theirs = fixture "api-key"
      local bucket = fleet.store.keys.kv
      assert(bucket:put("api_keys." .. theirs.record.key_id, assert(json.encode(theirs.record))))
      local guarded = require("spec.support.gateway").start { nats_url = world.server.url,
        env = { PYOCO_HTTP_AUTH_MODE = "api_key" } }
      finally(function() guarded:stop() end)
      local key = { headers = { ["x-api-key"] = theirs.created.api_key } }
      guarded:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
      assert.equal(401, guarded:fetch("/runs").status)
      assert.equal(403, guarded:fetch("/runs", { headers = { ["x-api-key"] = theirs.created.api_key .. "x" } }).status)
      local mine, other = renewed("snapshot-initial-runs", { tenant_id = "demo" }), renewed "snapshot-initial-runs"
      fleet:put(mine)
      fleet:put(other)
      assert.equal(200, guarded:fetch("/runs/" .. mine.run_id, key).status)
      assert.equal(404, guarded:fetch("/runs/" .. other.run_id, key).status)
      local revoked = copy(theirs.record)
      revoked.revoked_at = clock.wall()
      assert(bucket:put("api_keys." .. revoked.key_id, assert(json.encode(revoked))))
      process.wait_for(function() return guarded:fetch("/runs", key).status == 403 end, 5000, "the key to be refused")
    end)
  end)
end)

describe("a mixed fleet:", function()
  local fleet, gateway, world

  setup(function()
    fleet = fleets.start { args = { "--tags", "hello", "--slots", "2" },
      worker_env = { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.2" } }
    gateway, world = fleet.gateway, fleet.world
    world:write("long.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("long", pyoco.task("long", function(ctx) ctx:sleep(60) end))
    ]])
  end)
  teardown(function() fleet:stop() end)
  after_each(http.close)

  local FULL = fixture "snapshot-completed-yaml"

  --- A run that our gateway has queued where only the reference's worker looks.
  local function theirs_to_run()
    local run = assert(fleet.client:submit_run("main", {}, { tag = "python" }))
    return run.run_id, fleet:reference_worker(fleet.store.runs:get(run.run_id), FULL)
  end

  it("a run on the reference's worker is followed by our gateway, terminal repeats and all", function()
    local run_id, worker = theirs_to_run()
    local events = assert(fleet.client:watch_run(run_id, { timeout_sec = 20, include_records = true }))
    local seen = {}
    local function next_status()
      repeat
        local event = assert(events:next())
        if event.event == "snapshot" then
          seen[#seen + 1] = event.data.snapshot.status
          return event.data.snapshot
        end
      until false
    end
    next_status()
    worker.write { status = "RUNNING", start_time = clock.wall() }
    next_status()
    worker.write { status = "COMPLETED", end_time = clock.wall(), tasks = { a = "SUCCEEDED" } }
    next_status()
    worker.write {} -- the late flush of its trace: same status, newer updated_at
    local last = next_status()
    events:close()
    assert.same({ "PENDING", "RUNNING", "COMPLETED", "COMPLETED" }, seen)
    assert.same({ a = "SUCCEEDED" }, last.tasks)
    assert.equal(run_id, fleet:see("/runs?tag=python&status=COMPLETED", function(list) return list[1] end)[1].run_id)
  end)

  it("a cancel of ours that the reference's worker overwrites is asked for again", function()
    local run_id, worker = theirs_to_run()
    worker.write { status = "RUNNING", start_time = clock.wall() }
    assert.equal("CANCELLING", fleet.client:cancel_run(run_id).status)
    worker.write { status = "RUNNING" } -- a trace flush from its memory, blind
    local again = world:wait(run_id, function(run)
      return run.status == "CANCELLING" and run.cancel_requested_at ~= json.null
    end)
    assert.truthy(again.start_time ~= json.null)
    worker.write { status = "CANCELLED", end_time = clock.wall(), cancel_requested_at = again.cancel_requested_at }
    assert.equal("CANCELLED", fleet.client:get_run(run_id).status)
  end)

  it("a terminal run that a reference's gateway turns CANCELLING gets its end back", function()
    local run_id, worker = theirs_to_run()
    worker.write { status = "COMPLETED", end_time = clock.wall() }
    fleet:see("/runs?tag=python&status=COMPLETED", function(list)
      for _, item in ipairs(list) do
        if item.run_id == run_id then return true end
      end
    end)
    local stale = copy(worker.image)
    stale.status, stale.cancel_requested_at, stale.end_time = "CANCELLING", clock.wall(), json.null
    fleet:put(stale)
    world:wait(run_id, "COMPLETED")
  end)

  it("a cancel by a reference's gateway reaches our worker at its next heartbeat", function()
    local run = assert(fleet.client:submit_run("long", {}, { tag = "hello" }))
    local seq = fleet:last("PYOCO_WORK", "pyoco.work.hello").seq
    local snapshot = world:wait(run.run_id, "RUNNING")
    snapshot.status, snapshot.cancel_requested_at, snapshot.updated_at = "CANCELLING", clock.wall(), clock.wall()
    fleet:put(snapshot)
    local last = world:wait(run.run_id, "CANCELLED")
    assert.equal(snapshot.cancel_requested_at, last.cancel_requested_at)
    fleet:settled(seq)
  end)

  it("a job that a reference's worker began and gave back is taken over by ours", function()
    local job = renewed("job-yaml", { tag = "hello" })
    local first = renewed("snapshot-initial-yaml", { run_id = job.run_id, tag = "hello" })
    local worker = fleet:reference_worker(first, FULL)
    worker.write { status = "RUNNING", start_time = clock.wall(), tasks = { add_one = "RUNNING" } }
    local seq = fleet:publish(job)
    local last = fleet:ended(job.run_id)
    assert.same({ "COMPLETED", "v=2" }, { last.status, last.task_records.to_text.output })
    fleet:settled(seq)
  end)

  it("a job whose run a reference's worker has ended is not run again", function()
    local job = renewed("job-yaml", { tag = "hello" })
    local worker = fleet:reference_worker(renewed("snapshot-initial-yaml", { run_id = job.run_id }), FULL)
    worker.write { status = "FAILED", end_time = clock.wall(), error = "theirs" }
    fleet:settled(fleet:publish(job))
    local last = fleet.store.runs:get(job.run_id)
    assert.same({ "FAILED", "theirs" }, { last.status, last.error })
  end)

  it("a consumer that a reference's worker has made is used as it is", function()
    local config = copy(fixture "resources"["consumer pyoco_workers_hello"])
    config.durable_name, config.filter_subject, config.ack_wait = "pyoco_workers_odd", "pyoco.work.odd", 7000000000
    assert(fleet.store.js:consumer_create("PYOCO_WORK", config))
    local other = world:worker { "--tags", "odd", "--worker-id", "w2" }
    finally(function() other:stop() end)
    assert.equal(7000000000, fleet.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_odd").config.ack_wait)
    local job = renewed("job-yaml", { tag = "odd" })
    fleet:publish(job)
    assert.equal("COMPLETED", fleet:ended(job.run_id).status)
  end)

  it("our gateway answers a reference's dashboard: deltas since the newest update, then nothing", function()
    local page = gateway:fetch("/runs?updated_after=0&limit=200").json
    local newest = page.items[1].updated_at
    local run = assert(fleet.client:submit_run("main", {}, { tag = "python" }))
    local delta = fleet:see(("/runs?updated_after=%.7f"):format(newest), function(answer) return #answer.items > 0 end)
    assert.equal(run.run_id, delta.items[1].run_id)
    assert.equal(json.null, delta.next_cursor)
  end)
end)

describe("buckets and streams of the reference", function()
  it("are used as they are, and nothing of them is changed", function()
    local nats = require "spec.support.nats"
    local config = require "pyoco.config"
    local stores = require "pyoco.store.jetstream"
    local server = nats.start()
    local cfg = assert(config.load { env = {}, cwd = "/nonexistent", flags = { nats_url = server.url } })
    local store = assert(stores.connect(cfg, { name = "spec" }))
    finally(function()
      store:close()
      server:stop()
    end)
    for name, theirs in pairs(fixture "resources") do
      if not name:find("^consumer") then assert(store.js:stream_create(theirs), name) end
    end
    assert(store:ensure())
    for name, theirs in pairs(fixture "resources") do
      local info = not name:find("^consumer") and assert(store.js:stream_info(name))
      for key, value in pairs(info and theirs or {}) do
        local mine = info.config[key]
        if mine == nil then mine = type(value) == "boolean" and false or 0 end
        assert.same(value, mine, name .. ": " .. key)
      end
    end
  end)
end)
