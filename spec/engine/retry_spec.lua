--- Another attempt after a failed one: when, how often, what the record says, and what ends the wait.
local flow = require "spec.support.flow"

--- A task that fails its first n attempts.
local function flaky(n)
  local attempt = 0
  return function()
    attempt = attempt + 1
    if attempt <= n then error("attempt " .. attempt, 0) end
    return attempt
  end
end

describe("retries", function()
  it("run a task again until it succeeds", function()
    local eng = flow.virtual { { "t", flaky(2), options = { retries = 5, retry_delay_sec = 10 } },
      { "after", function(t) return t end, needs = "t" } }
    local record = eng.records.t
    assert.equal("COMPLETED", eng.status)
    assert.equal("SUCCEEDED", record.state)
    assert.equal(3, record.output)
    assert.equal(3, record.attempt)
    assert.is_nil(record.error)
    assert.equal(2, #record.attempts)
    assert.equal("attempt 1", record.attempts[1].error)
    assert.equal("attempt 2", record.attempts[2].error)
    assert.is_true(record.attempts[1].ended_at < record.attempts[2].started_at)
    assert.is_true(record.attempts[2].ended_at < record.started_at)
    assert.equal(3, eng.records.after.output)
  end)

  it("are not counted in a record that needed none", function()
    local record = flow.virtual({ { "t", flaky(0), options = { retries = 5 } } }).records.t
    assert.is_nil(record.attempts)
    assert.is_nil(record.attempt)
  end)

  it("end with the last failure", function()
    local eng = flow.virtual { { "t", flaky(100), options = { retries = 2 } } }
    local record = eng.records.t
    assert.equal("FAILED", eng.status)
    assert.equal("attempt 3", eng.error)
    assert.equal("attempt 3", record.error)
    assert.equal(3, record.attempt)
    assert.equal(2, #record.attempts)
  end)

  it("wait retry_delay_sec, backoff times longer each, jittered by a quarter, at most a day", function()
    local function waits(options)
      local eng = flow.virtual { { "t", flaky(100), options = options } }
      return eng.clock.waits
    end
    local seen = waits { retries = 4, retry_delay_sec = 10, backoff = 3 }
    assert.equal(4, #seen)
    for i, base in ipairs { 10, 30, 90, 270 } do
      assert.is_true(seen[i] >= base * 0.75 and seen[i] <= base * 1.25, seen[i])
    end
    seen = waits { retries = 3 }
    for i, base in ipairs { 1, 2, 4 } do assert.is_true(seen[i] >= base * 0.75 and seen[i] <= base * 1.25) end
    for _, seconds in ipairs(waits { retries = 1000, retry_delay_sec = 86400, backoff = 100 }) do
      assert.is_true(seconds >= 86400 * 0.75 and seconds <= 86400 * 1.25)
    end
    local many, values = waits { retries = 100, backoff = 1 }, {}
    for _, seconds in ipairs(many) do values[seconds] = true end
    local count = 0
    for _ in pairs(values) do count = count + 1 end
    assert.is_true(count > 90) -- jitter: no two waits are alike
  end)

  it("keep the last 20 attempts", function()
    local record = flow.virtual({ { "t", flaky(30), options = { retries = 30 } } }).records.t
    assert.equal(31, record.attempt)
    assert.equal(20, #record.attempts)
    assert.equal("attempt 11", record.attempts[1].error)
    assert.equal("attempt 30", record.attempts[20].error)
  end)

  it("follow whatever way of failing: nil and message, an output that JSON cannot carry", function()
    local results = { function() return nil, "no" end, function() return print end, function() return "fine" end }
    local n = 0
    local record = flow.virtual({ { "t", function() n = n + 1; return results[n]() end, options = { retries = 2 } } })
      .records.t
    assert.equal("fine", record.output)
    assert.equal("no", record.attempts[1].error)
    assert.equal("output: JSON cannot carry a function", record.attempts[2].error)
  end)

  it("stay RUNNING and hold no place while they wait", function()
    local states, order = {}, {}
    local eng
    eng = flow.virtual({
      { "t", function()
        order[#order + 1] = "t"
        if #order == 1 then error("no", 0) end
      end, options = { retries = 1, retry_delay_sec = 3600 } },
      { "other", function()
        order[#order + 1] = "other"
        states[1] = eng.tasks.t
      end },
    }, { max_parallel = 1, on_start = function(e) eng = e end })
    assert.same({ "t", "other", "t" }, order)
    assert.same({ "RUNNING" }, states)
    assert.equal("COMPLETED", eng.status)
  end)

  it("are told as events", function()
    local events = {}
    flow.virtual({ { "t", flaky(1), options = { retries = 1 } } }, { on_event = function(event)
      events[#events + 1] = ("%s %s %s"):format(event.type, event.state or event.error, event.attempt)
    end })
    assert.same({ "task RUNNING nil", "retry attempt 1 1", "task RUNNING 2", "task SUCCEEDED 2", "run COMPLETED nil" },
      events)
  end)

  it("do not take an answer that was meant for an earlier attempt", function()
    local resumes, seen = {}, {}
    local engine = require "pyoco.engine"
    local n = 0
    local eng = flow.virtual({ { "t", function(ctx)
      n = n + 1
      if n == 1 then
        pcall(engine.await, function(resume) resumes[1] = resume; return "kept" end)
        return "never"
      end
      seen[1] = engine.await(function(resume)
        resumes[1]("late")
        resume("right")
      end)
      ctx:sleep(1)
      return seen[1]
    end, options = { retries = 1, timeout_sec = 5 } } })
    assert.equal("right", eng.records.t.output)
  end)
end)

describe("a wait for a retry", function()
  --- t fails and waits for an hour; `act` is called by the task beside it.
  local function while_waiting(act)
    local engine
    local eng, clock = flow.virtual({
      { "t", flaky(1), options = { retries = 1, retry_delay_sec = 3600 } },
      { "u", function(ctx) ctx:sleep(1); act(engine) end },
    }, { on_start = function(e) engine = e end })
    assert.equal(1, clock.now)
    return eng
  end

  it("ends at once on a cancel", function()
    local eng = while_waiting(function(eng) eng:cancel() end)
    assert.equal("CANCELLED", eng.status)
    assert.equal("CANCELLED", eng.records.t.state)
    assert.equal("run cancelled", eng.records.t.error)
    assert.equal("attempt 1", eng.records.t.attempts[1].error)
  end)

  it("ends at once when the run fails: its last attempt was the failure", function()
    local eng = while_waiting(function() error("stop", 0) end)
    assert.equal("FAILED", eng.status)
    assert.equal("stop", eng.error)
    assert.equal("FAILED", eng.records.t.state)
    assert.equal("attempt 1", eng.records.t.error)
    assert.is_nil(eng.records.t.attempts)
    assert.is_nil(eng.records.t.attempt)
  end)

  it("ends at once for 20,000 tasks too", function()
    local rows = { { "last", function(ctx) ctx:sleep(1) error("stop", 0) end } }
    for i = 1, 20000 do
      rows[i + 1] = { "t" .. i, function() error("no", 0) end, options = { retries = 1, retry_delay_sec = 3600 } }
    end
    local eng = flow.virtual(rows)
    assert.equal("FAILED", eng.status)
    assert.equal("stop", eng.error)
    assert.equal("no", eng.records.t20000.error)
  end)

  it("is not begun in a run that has failed", function()
    local eng = flow.virtual { { "a", function() error("stop", 0) end },
      { "b", function(ctx) ctx:sleep(0) error("late", 0) end, options = { retries = 5 } } }
    -- b has not started when a fails
    assert.same({ a = "FAILED", b = "PENDING" }, eng.tasks)
    eng = flow.virtual { { "b", function(ctx) ctx:sleep(1) error("late", 0) end, options = { retries = 5 } },
      { "a", function() error("stop", 0) end } }
    assert.same({ a = "FAILED", b = "FAILED" }, eng.tasks)
    assert.equal("late", eng.records.b.error)
    assert.is_nil(eng.records.b.attempts)
  end)
end)

describe("what an attempt owns", function()
  it("ends with it: success, failure, retry, timeout, cancel; the last first, once", function()
    for _, case in ipairs {
      { function() end, "SUCCEEDED" }, { function() error("no") end, "FAILED" },
      { function(ctx) ctx:sleep(100) end, "FAILED", { timeout_sec = 1 } },
      { function(ctx, eng) eng:cancel() ctx:sleep(1) end, "CANCELLED" },
    } do
      local calls, engine = {}, nil
      local eng = flow.virtual({ { "t", function(ctx)
        local node = engine.plan.by_name.t
        engine:own(node, function() calls[#calls + 1] = "first" end)
        engine:own(node, function() error("dropped") end)
        engine:own(node, function() calls[#calls + 1] = "last" end)
        engine:own(node, function() calls[#calls + 1] = "released" end)()
        case[1](ctx, engine)
      end, options = case[3] } }, { on_start = function(e) engine = e end })
      assert.equal(case[2], eng.tasks.t)
      assert.same({ "last", "first" }, calls)
    end
  end)

  it("ends before the next attempt begins", function()
    local order, engine = {}, nil
    flow.virtual({ { "t", function()
      order[#order + 1] = "begin"
      engine:own(engine.plan.by_name.t, function() order[#order + 1] = "end" end)
      error("no")
    end, options = { retries = 1 } } }, { on_start = function(e) engine = e end })
    assert.same({ "begin", "end", "begin", "end" }, order)
  end)

  it("is told from what ends with the run", function()
    local order = {}
    flow.virtual({ { "t", function() order[#order + 1] = "task" end } }, {
      on_start = function(eng)
        eng:at_end(function() order[#order + 1] = "first" end)
        eng:at_end(function() error("dropped") end)
        eng:at_end(function() order[#order + 1] = eng.status end)
      end,
      on_event = function(event) if event.type == "run" then order[#order + 1] = "told" end end,
    })
    assert.same({ "task", "COMPLETED", "first", "told" }, order)
  end)
end)
