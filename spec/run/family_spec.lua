--- Children of a run, on the memory store: the order of what is stored, adoption, and what is left alone. On real
--- workers: spec/worker/bundle_spec.lua.
local json = require "host.json"
local memory = require "pyoco.store.memory"
local run_bundle = require "pyoco.run.bundle"
local families = require "pyoco.run.family"

local CFG = { runs_bucket = "runs", workers_bucket = "workers", workflow_bundles_bucket = "documents",
  run_relations_bucket = "relations", run_data_bucket = "data", work_subject_prefix = "work", work_stream = "WORK",
  dlq_subject_prefix = "dlq", dlq_stream = "DLQ" }

describe("run.family", function()
  local store, image, log, sleepers, timers, answers, family, is_lost

  local function new(limits)
    local cfg = { spawn_max_child_runs = 3, spawn_max_parallel_child_runs = 2, spawn_timeout_sec = 60,
      spawn_poll_interval_sec = 1 }
    for name, value in pairs(limits or {}) do cfg[name] = value end
    local job = run_bundle.job(image, "the bundle", 1)
    return families.new { store = store, cfg = cfg, job = job, image = image, now = function() return 9 end,
      go = function(fn) assert(coroutine.resume(coroutine.create(fn))) end,
      sleep = function()
        sleepers[#sleepers + 1] = coroutine.running()
        coroutine.yield()
      end,
      after = function(_, fn)
        timers[#timers + 1] = fn
        return function() end
      end,
      every = function(_, fn)
        timers.poll = fn
        return function() timers.poll = nil end
      end,
      subscribe = function(subject, fn)
        timers[subject] = fn
        return { close = function() timers[subject] = nil end }
      end,
      flush = function()
        log[#log + 1] = "parent names " .. #image.child_run_ids
        return true
      end,
      is_lost = function() return is_lost end }
  end

  before_each(function()
    store = memory.open(CFG)
    image = run_bundle.root { run_id = "p", flow_name = "main", tag = "t", params = { x = 1, y = 1 },
      bundle_hash = "ab", workflow_bundle_bytes = 10, now = 1, requires_approval = false, tenant_id = json.null,
      api_key_id = json.null }
    log, sleepers, timers, answers, is_lost = {}, {}, {}, {}, false
    local create = store.runs.create
    store.runs.create = function(self, snapshot)
      log[#log + 1] = "child"
      return create(self, snapshot)
    end
    family = new()
  end)

  local function spawn(iteration, attempt)
    local request = { task = "t", workflow = "trial", inputs = { y = 2 }, iteration = iteration or {},
      attempt = attempt or 1 }
    return family:spawn(request, function(summary, message)
      answers[#answers + 1] = summary and summary.status or message
    end)
  end

  local function child_id(iteration) return run_bundle.child_id("p", "t", iteration or {}, 1) end

  local function ends(id, status)
    local snapshot, revision = store.runs:get(id)
    snapshot.status, snapshot.end_time = status, 9
    assert(store.runs:update(snapshot, revision))
  end

  it("names a child in the parent's snapshot before the child is there", function()
    spawn()
    assert.same({ "parent names 1", "child" }, log)
    assert.same({ child_id() }, { table.unpack(image.child_run_ids) })
    assert.same({ x = 1, y = 2 }, store.runs:get(child_id()).params)
    local job = assert(json.decode(store.messages[1].data))
    assert.same({ "p", "t", 1, "the bundle" }, { job.parent_run_id, job.spawned_from_task, job.spawn_depth,
      job.workflow_bundle })
  end)

  it("learns of an end by a hint, and without one by looking", function()
    spawn()
    ends(child_id(), "COMPLETED")
    timers["pyoco.hint.done." .. child_id()]()
    spawn { 1 }
    ends(child_id { 1 }, "FAILED")
    timers.poll()
    assert.same({ "COMPLETED", "FAILED" }, answers)
    assert.is_nil(timers.poll)
    assert.is_nil(timers["pyoco.hint.done." .. child_id()])
  end)

  it("adopts what an earlier attempt has left: ended, running, or without its job", function()
    spawn()
    spawn { 1 }
    ends(child_id(), "COMPLETED")
    family = new { spawn_max_parallel_child_runs = 0 }
    spawn()
    assert.same({ "COMPLETED" }, answers)
    spawn { 1 } -- PENDING, not begun: the stream knows the message already
    assert.equal(2, #store.messages)
    local snapshot, revision = store.runs:get(child_id { 1 })
    snapshot.status, snapshot.attempt = "RUNNING", { seq = 1, delivery = 1 }
    store.runs:update(snapshot, revision)
    family = new()
    spawn { 1 }
    assert.equal(2, image.spawn_count)
    assert.equal(2, #store.messages)
  end)

  it("goes on when NATS comes back", function()
    local publish, away = store.jobs.publish, true
    store.jobs.publish = function(self, job)
      if away then return nil, "away", "unavailable" end
      return publish(self, job)
    end
    spawn()
    assert.equal(0, #store.messages)
    away = false
    assert(coroutine.resume(table.remove(sleepers)))
    assert.equal(1, #store.messages)
  end)

  it("tells what can never work", function()
    store.runs.create = function() return nil, "too big", "too_large" end
    spawn()
    assert.same({ "the child run cannot be started: too big" }, answers)
    assert.equal(0, family.count)
  end)

  it("tells that somebody has deleted the child", function()
    spawn()
    store.runs:delete(child_id())
    timers.poll()
    assert.truthy(answers[1]:find("the child run was deleted", 1, true), answers[1])
  end)

  it("keeps the limits, and gives up after the timeout without touching the child", function()
    spawn()
    spawn { 1 }
    spawn { 2 }
    assert.same({ "spawn_max_parallel_child_runs_exceeded" }, answers)
    timers[1]()
    assert.equal("child_wait_timeout", answers[2])
    assert.equal("PENDING", store.runs:get(child_id()).status)
    spawn { 3 }
    assert.equal("spawn_max_child_runs_exceeded", answers[3])
    family = new { spawn_max_child_runs = 0, spawn_max_parallel_child_runs = -1 }
    for i = 1, 20 do spawn { i } end
    assert.equal(3, #answers)
    image.spawn_depth = 1
    spawn { 30 }
    assert.equal("child_respawn_not_allowed", answers[4])
  end)

  it("cancels the child of a task that is cut, but not when the run is a newer attempt's", function()
    spawn()()
    assert.equal("CANCELLED", store.runs:get(child_id()).status)
    local give_up = spawn { 1 }
    is_lost = true
    give_up()
    assert.equal("PENDING", store.runs:get(child_id { 1 }).status)
  end)

  it("cancels a child that is born while its task is cut", function()
    local create = store.runs.create
    local give_up
    store.runs.create = function(self, snapshot)
      sleepers[#sleepers + 1] = coroutine.running()
      coroutine.yield()
      return create(self, snapshot)
    end
    give_up = spawn()
    give_up()
    assert(coroutine.resume(sleepers[1]))
    assert.equal("CANCELLED", store.runs:get(child_id()).status)
    assert.same({}, store.messages)
    assert.equal(0, family.starting)
  end)

  it("reaches all children with a cancel, also those of earlier attempts", function()
    spawn()
    image.child_run_ids[2] = "gone"
    family = new()
    family:cancel_all()
    assert.equal("CANCELLED", store.runs:get(child_id()).status)
  end)
end)

