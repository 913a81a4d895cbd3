--- What becomes of a run whose slot is gone.
local json = require "host.json"
local memory = require "pyoco.store.memory"
local snapshot = require "pyoco.run.snapshot"
local rescue = require "pyoco.worker.rescue"

local CFG = { runs_bucket = "runs", workers_bucket = "workers", workflow_bundles_bucket = "documents",
  work_subject_prefix = "work", work_stream = "WORK", dlq_subject_prefix = "dlq", dlq_stream = "DLQ" }

describe("worker.rescue", function()
  local store, image

  before_each(function()
    store = memory.open(CFG)
    image = snapshot.image(nil, { run_id = "r", flow_name = "f", tag = "t" }, 1)
    image.status, image.attempt, image.start_time = "RUNNING", { seq = 5, delivery = 1 }, 1
    image.tasks = { a = "SUCCEEDED", b = "RUNNING" }
    image.task_records = { a = { state = "SUCCEEDED" }, b = { state = "RUNNING", started_at = 1 } }
  end)

  local function run(cause, fields)
    local case = { cause = cause, text = "signal 11", max_crashes = 3, ours = { seq = 5, delivery = 1 },
      job = { run_id = "r", flow_name = "f", tag = "t", params = {} }, worker_id = "w1" }
    for key, value in pairs(fields or {}) do case[key] = value end
    local outcome, text = rescue.run({ store = store, now = function() return 9 end, sleep = function() end,
      max_bytes = 0, is_stopped = function() return false end }, case)
    return outcome, (store.runs:get("r")), text
  end

  local function stored(fields)
    for key, value in pairs(fields or {}) do image[key] = value end
    assert(store.runs:create(image))
  end

  it("hands back after a crash: PENDING, counted, open tasks open again", function()
    stored()
    local outcome, now = run "crash"
    assert.equal("handed_back", outcome)
    assert.equal("PENDING", now.status)
    assert.equal(1, now.crash_count)
    assert.same({ a = "SUCCEEDED", b = "PENDING" }, now.tasks)
    assert.is_nil(now.task_records.b)
    assert.equal(json.null, now.start_time)
  end)

  it("fails a run that has crashed too often", function()
    stored { crash_count = 2 }
    local outcome, now, text = run "crash"
    assert.equal("worker_crashed", outcome)
    assert.equal("FAILED", now.status)
    assert.equal("worker_crashed: signal 11, 3 times", text)
    assert.equal(text, now.error)
    assert.equal("FAILED", now.tasks.b)
    assert.equal(9, now.end_time)
  end)

  it("fails a run whose task has outlived its limit, though nobody wrote that the task runs", function()
    image.tasks.c, image.frame_records = "PENDING", { each1 = { state = "RUNNING" }, times1 = { state = "PENDING" } }
    stored()
    local outcome, now, text = run("timeout", { text = "task 'c' timed out", task = "c" })
    assert.same({ "failed", "FAILED", "task 'c' timed out", "task 'c' timed out" },
      { outcome, now.status, now.error, text })
    assert.same({ a = "SUCCEEDED", b = "FAILED", c = "FAILED" }, now.tasks)
    assert.same({ "task 'c' timed out", 9, "FAILED" },
      { now.task_records.c.error, now.task_records.c.ended_at, now.task_records.c.state })
    assert.same({ "task 'c' timed out", 8000 }, { now.task_records.b.error, now.task_records.b.duration_ms })
    assert.same({ each1 = { state = "FAILED" }, times1 = { state = "PENDING" } }, now.frame_records)
    assert.is_nil(now.crash_count)
  end)

  it("writes that end also when no snapshot was there", function()
    local outcome, now = run("timeout", { text = "late", task = "c" })
    assert.same({ "failed", "FAILED", { c = "FAILED" } }, { outcome, now.status, now.tasks })
  end)

  it("lets a cancel win over a limit", function()
    stored { status = "CANCELLING", frame_records = { each1 = { state = "RUNNING" } } }
    local outcome, now = run("timeout", { text = "late", task = "b" })
    assert.same({ "cancelled", "CANCELLED", "CANCELLED" }, { outcome, now.status, now.frame_records.each1.state })
  end)

  it("hands back a drained run without counting", function()
    stored()
    local outcome, now = run "drain"
    assert.equal("handed_back", outcome)
    assert.is_nil(now.crash_count)
  end)

  for _, cause in ipairs { "crash", "drain", "cancel" } do
    it("never hands back a run that is CANCELLING (" .. cause .. ")", function()
      stored { status = "CANCELLING", cancel_requested_at = 2 }
      local outcome, now = run(cause)
      assert.equal("cancelled", outcome)
      assert.equal("CANCELLED", now.status)
      assert.same({ a = "SUCCEEDED", b = "CANCELLED" }, now.tasks)
    end)
  end

  it("leaves what has ended, was deleted or is a newer attempt's", function()
    stored { status = "COMPLETED" }
    assert.equal("discarded", (run "crash"))
    store.runs:delete("r")
    assert.equal("skipped", (run "crash"))
    assert.is_nil((store.runs:get("r")))
    image.status, image.attempt = "RUNNING", { seq = 5, delivery = 2 }
    assert(store.runs:create(image))
    assert.equal("fenced", (run "crash"))
    assert.equal("RUNNING", store.runs:get("r").status)
  end)

  it("creates the snapshot of a run that had none yet", function()
    local outcome, now = run "crash"
    assert.equal("handed_back", outcome)
    assert.equal(1, now.crash_count)
    assert.same({ seq = 5, delivery = 1 }, now.attempt)
  end)

  it("reads again after a conflict, and counts a write of unknown fate once", function()
    stored()
    local update, calls = store.runs.update_raw, 0
    store.runs.update_raw = function(self, id, bytes, revision)
      calls = calls + 1
      if calls == 1 then return nil, "conflict", "conflict" end
      local done = update(self, id, bytes, revision)
      if calls == 2 then return nil, "no answer", "timeout" end
      return done
    end
    local outcome, now = run "crash"
    assert.equal("handed_back", outcome)
    assert.equal(1, now.crash_count)
    assert.equal(2, calls)
  end)

  it("gives up when told to", function()
    local outcome = rescue.run({ store = store, is_stopped = function() return true end }, {})
    assert.equal("unavailable", outcome)
  end)
end)
