--- Ends that slots hand over, against a store with real revisions and conflicts (the memory store).
local json = require "host.json"
local memory = require "pyoco.store.memory"
local snapshot = require "pyoco.run.snapshot"
local ends = require "pyoco.worker.ends"

local CFG = { runs_bucket = "runs", workers_bucket = "workers", workflow_bundles_bucket = "documents",
  work_subject_prefix = "work", work_stream = "WORK", dlq_subject_prefix = "dlq", dlq_stream = "DLQ" }

describe("worker.ends", function()
  local store, subject, faults, report, job, bytes

  --- store.runs whose nth put fails: before it reaches the store ("unavailable"), or after ("timeout").
  local function faulty_runs()
    local puts = 0
    local function put(name)
      return function(_, ...)
        puts = puts + 1
        if faults[puts] == "unavailable" then return nil, "not connected", "unavailable" end
        local results = table.pack(store.runs[name](store.runs, ...))
        if faults[puts] == "timeout" then return nil, "no answer", "timeout" end
        return table.unpack(results, 1, results.n)
      end
    end
    return { update_raw = put "update_raw", create_raw = put "create_raw",
      get_raw = function(_, ...) return store.runs:get_raw(...) end }
  end

  before_each(function()
    store, faults = memory.open(CFG), {}
    local now = function() return 100 end
    subject = ends.new { runs = faulty_runs(), now = now, max_bytes = 262144, go = function(fn) fn() end,
      wait = function() error "nothing is in flight" end, sleep = function() end, after = function() end }
    local first = snapshot.initial { run_id = "r1", flow_name = "f", tag = "t", tags = json.array { "t" }, now = 1 }
    local revision = assert(store.runs:create(first))
    local image = snapshot.image(first, { run_id = "r1", flow_name = "f", tag = "t" }, 1)
    image.status, image.tasks, image.attempt = "COMPLETED", { a = "SUCCEEDED" }, { seq = 5, delivery = 1 }
    job, bytes = { seq = 5, delivery = 1 }, snapshot.encode(image, 0)
    report = { run_id = "r1", outcome = "completed", status = "COMPLETED", revision = revision }
  end)

  local function store_end() return subject:store(job, report, bytes) end

  --- Somebody else's write before ours.
  local function other_writes(fields)
    local current, revision = store.runs:get("r1")
    for key, value in pairs(fields) do current[key] = value end
    assert(store.runs:update(current, revision))
  end

  it("stores the bytes as they are", function()
    assert.equal("completed", store_end())
    assert.equal(bytes, (store.runs:get_raw("r1")))
  end)

  it("creates the snapshot of a run that had none", function()
    local _, revision = store.runs:get("r1")
    assert(store.runs.kv:erase("r1", revision))
    report.revision = nil
    assert.equal("completed", store_end())
    assert.equal(bytes, (store.runs:get_raw("r1")))
  end)

  it("lets a cancel win that came first", function()
    other_writes { status = "CANCELLING", cancel_requested_at = 99, cancel_requested_by = "me" }
    assert.equal("cancelled", store_end())
    local run = store.runs:get("r1")
    assert.same({ "CANCELLED", "me", "SUCCEEDED", "CANCELLED" },
      { run.status, run.cancel_requested_by, run.tasks.a, report.status })
  end)

  it("keeps what others have written beside it", function()
    other_writes { note = "kept" }
    assert.equal("completed", store_end())
    local run = store.runs:get("r1")
    assert.same({ "COMPLETED", "kept" }, { run.status, run.note })
  end)

  it("drops the result of a run that was deleted", function()
    local _, revision = store.runs:get("r1")
    assert(store.runs.kv:delete("r1", revision))
    assert.equal("discarded", store_end())
    assert.is_nil((store.runs:get("r1")))
  end)

  it("drops the result of a run that has ended in another way", function()
    other_writes { status = "CANCELLED" }
    assert.equal("discarded", store_end())
    assert.equal("CANCELLED", store.runs:get("r1").status)
  end)

  it("sends nothing more when a newer attempt has the run", function()
    other_writes { status = "RUNNING", attempt = { seq = 5, delivery = 2 } }
    assert.equal("fenced", store_end())
    assert.equal("RUNNING", store.runs:get("r1").status)
  end)

  it("is still ours when the supervisor has adopted the later delivery", function()
    other_writes { status = "RUNNING", attempt = { seq = 5, delivery = 2 } }
    job.delivery = 2
    assert.equal("completed", store_end())
    assert.same({ seq = 5, delivery = 2 }, store.runs:get("r1").attempt)
  end)

  for _, fault in ipairs { "unavailable", "timeout" } do
    it("tries until it is stored: " .. fault, function()
      faults = { fault, fault, fault }
      assert.equal("completed", store_end())
      assert.equal("COMPLETED", store.runs:get("r1").status)
    end)
  end

  it("lets a cancel win that came while NATS did not answer", function()
    faults = { "unavailable" }
    other_writes { status = "CANCELLING", cancel_requested_at = 99 }
    assert.equal("cancelled", store_end())
    assert.equal("CANCELLED", store.runs:get("r1").status)
  end)
end)
