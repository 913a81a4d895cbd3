--- What attempts find: read once, early, and again when it may have changed.
local reads = require "pyoco.worker.reads"

describe("worker.reads", function()
  local answers, now, subject, job

  before_each(function()
    answers, now = {}, 100
    subject = reads.new {
      clock = function() return now end,
      go = function(fn) assert(coroutine.resume(coroutine.create(fn))) end,
      runs = { get_raw = function(_, run_id)
        local co = coroutine.running()
        answers[#answers + 1] = function(...) assert(coroutine.resume(co, ...)) end
        assert.equal("r1", run_id)
        return coroutine.yield()
      end },
    }
    job = { run_id = "r1" }
  end)

  --- Counts how often the job may begin.
  local function ensure()
    local count = { 0 }
    subject:ensure(job, function() count[1] = count[1] + 1 end)
    return count
  end

  it("has read by the time a slot is free", function()
    subject:start(job)
    answers[1]("bytes", 7, { created = 5 })
    local begun = ensure()
    assert.equal(1, begun[1])
    assert.same({ bytes = "bytes", revision = 7, created = 5, at = 100 }, job.found)
    assert.equal(1, #answers)
  end)

  it("waits for the answer when a slot is free at once", function()
    subject:start(job)
    local begun = ensure()
    assert.equal(0, begun[1])
    answers[1](nil, "no key", "not_found")
    assert.equal(1, begun[1])
    assert.same({ deleted = false, at = 100 }, job.found)
  end)

  it("tells a run that was deleted from one that never was", function()
    subject:start(job)
    answers[1](nil, "no key", "not_found", nil, { revision = 9 })
    assert.is_true(job.found.deleted)
  end)

  it("reads again for a job that has waited", function()
    subject:start(job)
    answers[1]("old", 7, { created = 5 })
    now = now + reads.FRESH_SEC * 2
    local begun = ensure()
    assert.equal(0, begun[1])
    answers[2]("new", 8, { created = 6 })
    assert.equal(1, begun[1])
    assert.equal("new", job.found.bytes)
  end)

  it("reads again when somebody may have asked for a cancel, also during a read", function()
    subject:start(job)
    subject:forget(job)
    local begun = ensure()
    answers[1]("before the cancel", 7, { created = 5 })
    assert.equal(0, begun[1])
    answers[2]("after it", 8, { created = 6 })
    assert.equal(1, begun[1])
    assert.equal("after it", job.found.bytes)
    subject:forget(job)
    assert.is_nil(job.found)
    ensure()
    assert.equal(3, #answers)
  end)

  it("lets the slot read for itself what could not be read, or is no run's", function()
    subject:start(job)
    local begun = ensure()
    answers[1](nil, "not connected", "unavailable")
    assert.equal(1, begun[1])
    assert.is_nil(job.found)
    job = { data = "no job" }
    subject:start(job)
    assert.equal(1, ensure()[1])
    assert.equal(1, #answers)
  end)

  it("lets only the last one who waits begin", function()
    subject:start(job)
    local first, second = ensure(), ensure()
    answers[1]("bytes", 7, { created = 5 })
    assert.same({ 0, 1 }, { first[1], second[1] })
  end)
end)
