--- Run snapshots against recordings of the reference, and the size cap.
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local fixture = require "spec.support.fixture"

local null = json.null

local function keys(t)
  local list = {}
  for key in pairs(t) do list[#list + 1] = key end
  table.sort(list)
  return list
end

local function set(list)
  local copy = { table.unpack(list) }
  table.sort(copy)
  return copy
end

describe("run.snapshot", function()
  describe("initial", function()
    for kind, name in pairs { flow = "runs", yaml = "yaml", bundle = "bundle_pending" } do
      it(("has the reference's keys and values for a %s run"):format(kind), function()
        local recorded = fixture("snapshot-initial-" .. name)
        assert.same(set(snapshot.INITIAL_KEYS[kind]), keys(recorded))
        local fields = { now = recorded.updated_at }
        for key, value in pairs(recorded) do
          if key ~= "task_records" and key ~= "tasks" then fields[key] = value end
        end
        assert.same(recorded, snapshot.initial(fields))
      end)
    end

    it("starts PENDING and keeps the hash of the graph", function()
      local first = snapshot.initial { run_id = "r", flow_name = "f", tag = "t", tags = json.array { "t" }, now = 1.5,
        params = {}, workflow_yaml_sha256 = "00", workflow_yaml_bytes = 1, graph_sha256 = "11" }
      assert.equal("PENDING", first.status)
      assert.equal("11", first.graph_sha256)
      assert.equal(null, first.tenant_id)
      assert.equal(1.5, first.heartbeat_at)
    end)
  end)

  describe("image", function()
    it("has every key that a reference worker writes", function()
      for _, name in ipairs { "completed-yaml", "completed-child", "failed-yaml", "flow-not-found" } do
        assert.same(set(snapshot.WORKER_KEYS), keys(fixture("snapshot-" .. name)))
      end
      local image = snapshot.image(fixture "snapshot-initial-runs", fixture("job-runs").body, 2)
      assert.same(set(snapshot.WORKER_KEYS), keys(image))
      assert.equal(0, image.spawn_depth)
      assert.same(fixture("job-runs").body.params, image.params)
    end)

    it("carries what the stored snapshot knows and lets the job override", function()
      local stored = fixture "snapshot-approved-bundle"
      stored.crash_count, stored.extra = 2, "theirs"
      local job = fixture("job-bundle-root").body
      job.flow_name = "other"
      local image = snapshot.image(stored, job, 2)
      assert.equal("approved", image.approval_status)
      assert.equal("other", image.flow_name)
      assert.equal(2, image.crash_count)
      assert.equal("theirs", image.extra)
      assert.equal(job.bundle_hash, image.bundle_hash)
    end)

    it("stands alone when there was no snapshot", function()
      local image = snapshot.image(nil, { run_id = "r", flow_name = "f", tag = "t" }, 2)
      assert.equal("PENDING", image.status)
      assert.equal(null, image.error)
      assert.is_true(json.is_array(image.child_run_ids))
    end)
  end)

  describe("rebase", function()
    it("takes over a cancel request and keeps the attempt's own fields", function()
      local image = snapshot.image(nil, { run_id = "r", flow_name = "f", tag = "t" }, 2)
      image.status, image.tasks, image.worker_id = "RUNNING", { a = "RUNNING" }, "w1"
      snapshot.rebase(image, { run_id = "r", status = "CANCELLING", cancel_requested_at = 3, tasks = {},
        note = "theirs" })
      assert.equal("RUNNING", image.status)
      assert.equal(3, image.cancel_requested_at)
      assert.same({ a = "RUNNING" }, image.tasks)
      assert.equal("theirs", image.note)
      assert.is_true(snapshot.is_cancel_requested(image))
    end)
  end)

  describe("the ends", function()
    it("cancel what has not ended", function()
      local image = snapshot.image(nil, { run_id = "r", flow_name = "f", tag = "t" }, 2)
      image.tasks = { a = "SUCCEEDED", b = "RUNNING", c = "PENDING" }
      image.task_records = { b = { state = "RUNNING", started_at = 2, ended_at = null } }
      snapshot.mark_cancelled(image, 5)
      assert.same({ a = "SUCCEEDED", b = "CANCELLED", c = "CANCELLED" }, image.tasks)
      assert.same({ state = "CANCELLED", started_at = 2, ended_at = 5, duration_ms = 3000 }, image.task_records.b)
      assert.equal("CANCELLED", image.status)
      assert.equal(5, image.end_time)
    end)

    it("leave never started tasks PENDING when a run fails from outside", function()
      local image = { tasks = { a = "RUNNING", b = "PENDING" }, task_records = {} }
      snapshot.close(image, 5, "FAILED")
      assert.same({ a = "FAILED", b = "PENDING" }, image.tasks)
    end)
  end)

  describe("encode", function()
    local image

    before_each(function()
      image = snapshot.image(nil, { run_id = "r", flow_name = "f", tag = "t" }, 2)
      image.tasks = { a = "SUCCEEDED" }
      image.task_records = { a = { state = "SUCCEEDED", output = ("x"):rep(5000) } }
    end)

    it("keeps everything below the cap, without the flag", function()
      image.task_records_truncated = true
      local back = json.decode(assert(snapshot.encode(image, 262144)))
      assert.equal(5000, #back.task_records.a.output)
      assert.is_nil(back.task_records_truncated)
    end)

    it("drops the task records above it and says so", function()
      local bytes = assert(snapshot.encode(image, 2000))
      assert.is_true(#bytes <= 2000)
      local back = json.decode(bytes)
      assert.same({}, back.task_records)
      assert.is_true(back.task_records_truncated)
      assert.same({ a = "SUCCEEDED" }, back.tasks)
      assert.equal(5000, #image.task_records.a.output) -- the image itself keeps them
    end)

    it("drops the task states too when they alone are too many", function()
      for i = 1, 500 do image.tasks["task" .. i] = "PENDING" end
      local back = json.decode(assert(snapshot.encode(image, 2000)))
      assert.same({}, back.tasks)
      assert.is_true(back.tasks_truncated)
    end)

    it("keeps what has not ended well as long as it can, and counts the rest", function()
      for i = 1, 500 do image.tasks["task" .. i] = "SUCCEEDED" end
      image.tasks.b, image.tasks.c, image.frame_records, image.failed_tasks = "FAILED", "RUNNING", {}, { "b" }
      local bytes, _, cuts = snapshot.encode(image, 2000)
      local back = json.decode(bytes)
      assert.same({ b = "FAILED", c = "RUNNING" }, back.tasks)
      assert.same({ SUCCEEDED = 501, FAILED = 1, RUNNING = 1 }, back.task_counts)
      assert.same({ true, true, { "b" } }, { back.tasks_truncated, back.task_records_truncated, back.failed_tasks })
      assert.is_nil(back.frame_records)
      assert.equal(2, cuts)
    end)

    it("makes the cuts that are known to be needed without a try", function()
      local back = json.decode((snapshot.encode(image, 262144, 1)))
      assert.same({ {}, true }, { back.task_records, back.task_records_truncated })
      assert.same({ a = "SUCCEEDED" }, back.tasks)
    end)

    it("keeps the flags of a snapshot that was read cut", function()
      local back = json.decode((snapshot.encode(image, 2000)))
      assert.is_true(json.decode((snapshot.encode(back, 2000))).task_records_truncated)
    end)

    it("has no cap at 0", function()
      assert.is_true(#assert(snapshot.encode(image, 0)) > 5000)
    end)

    it("names what JSON cannot carry", function()
      image.task_records.a.output = 0 / 0
      local bytes, message, code = snapshot.encode(image, 0)
      assert.is_nil(bytes)
      assert.equal("invalid", code)
      assert.truthy(message:find("task_records.a.output", 1, true), message)
    end)
  end)

  it("cuts an error text at a character, telling its size", function()
    assert.equal("short", snapshot.short_error "short")
    local cut = snapshot.short_error(("é"):rep(20000))
    assert.is_true(#cut < 17000)
    assert.truthy(utf8.len(cut))
    assert.truthy(cut:find("(40000 bytes in all)", 1, true))
  end)

  it("has a brief form without records", function()
    local full = fixture "snapshot-completed-yaml"
    full.task_records_truncated = true
    local brief = snapshot.brief(full)
    assert.is_nil(brief.task_records)
    assert.is_nil(brief.task_records_truncated)
    assert.equal("COMPLETED", brief.status)
    assert.truthy(full.task_records)
  end)
end)
