--- The write-behind against a store with real revisions and conflicts (the memory store), whose calls end only when
--- the spec lets them: what happens between a put and its answer is what matters here.
local json = require "host.json"
local memory = require "pyoco.store.memory"
local snapshot = require "pyoco.run.snapshot"
local writer = require "pyoco.worker.writer"

local CFG = { runs_bucket = "runs", workers_bucket = "workers", workflow_bundles_bucket = "documents",
  work_subject_prefix = "work", work_stream = "WORK", dlq_subject_prefix = "dlq", dlq_stream = "DLQ" }
local RUN_ID = "run-1"

describe("worker.writer", function()
  local store, gates, timers, events, image, subject

  --- store.runs whose calls suspend until `pass()`; `faults[n]` makes the nth call fail: before it reaches the store
  --- ("unavailable") or after ("timeout": done, but nobody heard of it).
  local faults, calls
  local function slow_runs()
    local proxy = {}
    for _, name in ipairs { "get_raw", "create_raw", "update_raw" } do
      proxy[name] = function(_, ...)
        calls = calls + 1
        local fault = faults[calls]
        local co = coroutine.running()
        gates[#gates + 1] = function() assert(coroutine.resume(co)) end
        coroutine.yield()
        if fault == "unavailable" then return nil, "not connected", "unavailable" end
        local results = table.pack(store.runs[name](store.runs, ...))
        if fault == "timeout" then return nil, "no answer", "timeout" end
        return table.unpack(results, 1, results.n)
      end
    end
    return proxy
  end

  --- Lets one store call go through.
  local function pass()
    local gate = table.remove(gates, 1)
    assert(gate, "no store call is waiting")
    gate()
  end

  local function go(fn) assert(coroutine.resume(coroutine.create(fn))) end

  local function run_timers()
    local due = timers
    timers = {}
    for _, fn in ipairs(due) do fn() end
  end

  --- Everything that is in the way goes through, until nothing waits any more.
  local function settle()
    while #gates > 0 or #timers > 0 do
      while #gates > 0 do pass() end
      run_timers()
    end
  end

  local function new(overrides)
    local deps = {
      runs = slow_runs(), now = function() return 100 end, image = image, ours = { seq = 5, delivery = 1 },
      max_bytes = 262144, go = go,
      wait = function(start)
        local co = coroutine.running()
        start(function() assert(coroutine.resume(co)) end)
        coroutine.yield()
      end,
      sleep = function()
        local co = coroutine.running()
        timers[#timers + 1] = function() assert(coroutine.resume(co)) end
        coroutine.yield()
      end,
      after = function(_, fn) timers[#timers + 1] = fn end,
      on_cancel = function() events[#events + 1] = "cancel" end,
      on_lost = function(how) events[#events + 1] = "lost " .. how end,
      on_unwritable = function(message) events[#events + 1] = message end,
    }
    for key, value in pairs(overrides or {}) do deps[key] = value end
    return writer.new(deps)
  end

  --- Runs the terminal write to its end and returns its answer.
  local function finish(status)
    local answer
    go(function()
      answer = subject:finish(function(target)
        if snapshot.is_cancel_requested(target) then return snapshot.mark_cancelled(target, 100) end
        target.status, target.end_time = status, 100
      end)
    end)
    settle()
    return answer
  end

  local function stored() return (store.runs:get(RUN_ID)) end

  --- Somebody else's compare-and-set write.
  local function other_writes(fields)
    local current, revision = store.runs:get(RUN_ID)
    for key, value in pairs(fields) do current[key] = value end
    assert(store.runs:update(current, revision))
  end

  before_each(function()
    store, gates, timers, events, faults, calls = memory.open(CFG), {}, {}, {}, {}, 0
    image = snapshot.image(nil, { run_id = RUN_ID, flow_name = "f", tag = "t" }, 1)
    image.status = "RUNNING"
    local first = snapshot.initial { run_id = RUN_ID, flow_name = "f", tag = "t", tags = json.array { "t" }, now = 1 }
    local revision = assert(store.runs:create(first))
    subject = new { revision = revision }
  end)

  it("has one put in flight and sends the newest image next", function()
    subject:touch()
    for i = 1, 10 do
      image.tasks = { a = tostring(i) }
      subject:touch()
    end
    assert.equal(1, #gates)
    settle()
    assert.equal(2, subject.puts)
    assert.equal("10", stored().tasks.a)
  end)

  it("stamps heartbeat and update with one instant, and the attempt", function()
    subject:touch()
    settle()
    local now = stored()
    assert.equal(100, now.heartbeat_at)
    assert.equal(100, now.updated_at)
    assert.same({ seq = 5, delivery = 1 }, now.attempt)
  end)

  it("ends with the terminal image, after the put in flight", function()
    subject:touch()
    assert.equal("written", finish "COMPLETED")
    assert.equal("COMPLETED", stored().status)
    assert.equal(2, subject.puts)
  end)

  it("writes nothing after the end", function()
    assert.equal("written", finish "COMPLETED")
    image.status = "RUNNING"
    subject:touch()
    settle()
    assert.equal("COMPLETED", stored().status)
  end)

  it("creates a snapshot that was not there", function()
    store.runs:delete(RUN_ID)
    subject = new()
    assert.equal("written", finish "COMPLETED")
    assert.equal("COMPLETED", stored().status)
  end)

  describe("meets a cancel", function()
    before_each(function()
      subject:touch()
      settle()
      other_writes { status = "CANCELLING", cancel_requested_at = 50 }
    end)

    it("by its next put, which keeps the cancel", function()
      subject:touch()
      settle()
      assert.same({ "cancel" }, events)
      assert.equal("CANCELLING", stored().status)
      assert.equal(50, stored().cancel_requested_at)
    end)

    it("by a check, without a put", function()
      go(function() subject:check() end)
      settle()
      assert.same({ "cancel" }, events)
    end)

    it("at its terminal put: the result is discarded", function()
      image.tasks = { a = "SUCCEEDED", b = "PENDING" }
      assert.equal("written", finish "COMPLETED")
      assert.equal("CANCELLED", stored().status)
      assert.same({ a = "SUCCEEDED", b = "CANCELLED" }, stored().tasks)
      assert.equal(50, stored().cancel_requested_at)
    end)

    it("once only, however often it is written", function()
      for _ = 1, 3 do
        subject:touch()
        settle()
        other_writes { updated_at = 60 }
      end
      assert.same({ "cancel" }, events)
    end)
  end)

  describe("gives up", function()
    local CASES = {
      { "when somebody has ended the run", { status = "CANCELLED" }, "ended" },
      { "when a newer delivery has it", { attempt = { seq = 5, delivery = 2 } }, "fenced" },
      { "when it was republished", { attempt = { seq = 6, delivery = 1 } }, "fenced" },
    }
    for _, case in ipairs(CASES) do
      it(case[1], function()
        other_writes(case[2])
        assert.equal(case[3], finish "COMPLETED")
        assert.same({ "lost " .. case[3] }, events)
        assert.not_equal("COMPLETED", stored().status)
      end)
    end

    it("when the run was deleted", function()
      store.runs:delete(RUN_ID)
      assert.equal("ended", finish "COMPLETED")
      assert.is_nil(stored())
    end)
  end)

  it("merges what others have added", function()
    other_writes { note = "theirs", status = "PENDING" }
    assert.equal("written", finish "COMPLETED")
    assert.equal("theirs", stored().note)
    assert.equal("COMPLETED", stored().status)
  end)

  describe("with a put of unknown fate", function()
    it("that did arrive: it is recognised", function()
      faults[1] = "timeout"
      subject:touch()
      settle()
      assert.equal("RUNNING", stored().status)
      assert.same({}, events)
      assert.equal("written", finish "COMPLETED")
    end)

    it("that was the terminal one: the end is ours", function()
      faults[1] = "timeout"
      local times = 100
      subject.now = function() -- each try is stamped later, so the bytes differ
        times = times + 1
        return times
      end
      assert.equal("written", finish "COMPLETED")
      assert.equal("COMPLETED", stored().status)
    end)

    it("that never arrived: it is sent again", function()
      faults[1], faults[2] = "unavailable", "unavailable"
      assert.equal("written", finish "COMPLETED")
      assert.equal("COMPLETED", stored().status)
    end)

    it("after an outage in which another attempt took over: it is fenced", function()
      faults[1] = "unavailable"
      subject:touch()
      pass()
      other_writes { attempt = { seq = 5, delivery = 2 }, worker_id = "w2" }
      settle()
      assert.same({ "lost fenced" }, events)
      assert.equal("w2", stored().worker_id)
    end)
  end)

  it("keeps trying while the store is away", function()
    for i = 1, 30 do faults[i] = "unavailable" end
    assert.equal("written", finish "FAILED")
    assert.equal("FAILED", stored().status)
  end)

  it("shrinks an image that the server finds too large", function()
    image.task_records = { a = { output = ("x"):rep(20000) } }
    local update = store.runs.update_raw
    store.runs.update_raw = function(self, id, bytes, revision)
      if #bytes > 10000 then return nil, "maximum payload exceeded", "too_large" end
      return update(self, id, bytes, revision)
    end
    assert.equal("written", finish "COMPLETED")
    assert.is_true(stored().task_records_truncated)
  end)

  it("asks its owner to mend an image that is no JSON", function()
    image.params = { bad = 0 / 0 }
    subject.on_unwritable = function(message)
      events[#events + 1] = message
      image.params = {}
    end
    assert.equal("written", finish "FAILED")
    assert.truthy(events[1]:find("params.bad", 1, true), events[1])
  end)

  it("replaces a blind write that is no snapshot", function()
    local _, revision = store.runs:get_raw(RUN_ID)
    assert(store.runs:update_raw(RUN_ID, "nonsense", revision))
    assert.equal("written", finish "COMPLETED")
    assert.equal("COMPLETED", stored().status)
  end)

  it("flushes: the image is stored when it returns", function()
    local done
    go(function() done = subject:flush() end)
    settle()
    assert.is_true(done)
    assert.equal("RUNNING", stored().status)
  end)

  it("serves all that ask for their changes to be stored with one put, made after they asked", function()
    local served = {}
    local function flush(name)
      go(function()
        local answer = tostring(subject:flush())
        served[#served + 1] = name .. " " .. answer
      end)
    end
    subject:touch() -- this put is made of the image without the children
    for i = 1, 3 do
      image.child_run_ids[i] = "c" .. i
      flush("c" .. i)
    end
    assert.equal(1, #gates)
    pass()
    assert.same({}, served)
    assert.equal(1, #gates)
    pass()
    table.sort(served)
    assert.same({ "c1 true", "c2 true", "c3 true" }, served)
    assert.same({ "c1", "c2", "c3" }, { table.unpack(stored().child_run_ids) })
    assert.equal(2, subject.puts)
  end)

  it("stores the end alone: who asks for a put meanwhile is told that it is too late", function()
    local served
    subject:touch()
    go(function() served = { subject:flush() } end)
    assert.equal("written", finish "COMPLETED")
    assert.equal("COMPLETED", stored().status)
    assert.same({ nil, "ended" }, { served[1], served[2] })
    assert.equal(2, subject.puts)
  end)
end)
