--- The registry record: the reference's fields, `hidden` kept, many changes in few writes.
local json = require "host.json"
local memory = require "pyoco.store.memory"
local registry = require "pyoco.worker.registry"
local fixture = require "spec.support.fixture"

local CFG = { runs_bucket = "runs", workers_bucket = "workers", workflow_bundles_bucket = "documents",
  work_subject_prefix = "work", work_stream = "WORK", dlq_subject_prefix = "dlq", dlq_stream = "DLQ" }

describe("worker.registry", function()
  local store, timers, now, subject

  local function run_timers()
    local due = timers
    timers = {}
    for _, fn in ipairs(due) do fn() end
  end

  before_each(function()
    store, timers, now = memory.open(CFG), {}, 100
    subject = registry.new {
      workers = store.workers, now = function() return now end, wall = function() return now end,
      after = function(_, fn) timers[#timers + 1] = fn end, go = function(fn) fn() end,
      memory = function() return 4096 end,
      record = { worker_id = "w1", instance_id = ("0"):rep(32), tags = json.array { "a" }, slots = 2 },
    }
  end)

  it("has every field of the reference, of the same type", function()
    assert(subject:write())
    local record, recorded = store.workers:get("w1"), fixture "worker-record"
    for key, value in pairs(recorded) do
      assert.is_not_nil(record[key], key)
      if value ~= json.null and record[key] ~= json.null then assert.equal(type(value), type(record[key]), key) end
    end
    for key in pairs(recorded.wheel_sync) do assert.is_not_nil(record.wheel_sync[key], key) end
    assert.equal("IDLE", record.state)
    assert.equal(100, record.heartbeat_at)
  end)

  it("measures its memory with each heartbeat, not with each write", function()
    local measured = 0
    subject.memory = function()
      measured = measured + 1
      return 8192
    end
    assert(subject:write())
    assert.same({ 0, 4096 }, { measured, store.workers:get("w1").memory_bytes })
    assert(subject:beat())
    assert.same({ 1, 8192 }, { measured, store.workers:get("w1").memory_bytes })
  end)

  it("writes a burst of changes once", function()
    assert(subject:write())
    local _, before = store.workers:get("w1")
    for i = 1, 50 do
      subject:started(i)
      subject:runs { "r" .. i }
      subject:ended("r" .. i, "COMPLETED", i)
    end
    run_timers()
    local record, after = store.workers:get("w1")
    assert.equal(before + 1, after)
    assert.equal("RUNNING", record.state)
    assert.equal("r50", record.current_run_id)
    assert.equal("r50", record.last_run_id)
    subject:runs {}
    run_timers()
    assert.equal("IDLE", store.workers:get("w1").state)
    assert.equal(json.null, store.workers:get("w1").current_run_id)
  end)

  it("keeps what a user has set meanwhile", function()
    assert(subject:write())
    local record, revision = store.workers:get("w1")
    record.hidden = true
    assert(store.workers:update(record, revision))
    assert(subject:write())
    assert.is_true(store.workers:get("w1").hidden)
  end)

  it("comes back when its record was removed", function()
    assert(subject:write())
    store.workers.kv:delete("w1")
    assert(subject:write())
    assert.truthy((store.workers:get("w1")))
  end)

  it("measures the server's clock by its own record", function()
    local put = store.workers.put
    store.workers.put = function(...)
      now = require("host.clock").wall() - 50 -- ours is 50 s behind the store's
      return put(...)
    end
    now = require("host.clock").wall() - 50
    assert.is_true(math.abs(subject:clock_offset() - 50) < 1)
  end)

  it("says that it has stopped, and writes nothing after that", function()
    subject:runs { "r1" }
    assert(subject:stop())
    local record, revision = store.workers:get("w1")
    assert.equal("STOPPED_GRACEFUL", record.state)
    assert.equal("graceful_shutdown", record.stop_reason)
    assert.equal(100, record.stopped_at)
    assert.equal(json.null, record.current_run_id)
    run_timers()
    assert.equal(revision, select(2, store.workers:get("w1")))
  end)
end)
