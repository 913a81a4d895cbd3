--- fail_policy and any-of: what a failure takes along, and what it leaves alone.
local flow = require "spec.support.flow"

local isolate = { fail_policy = "isolate" }

local function nothing() end
local function bad() error("broken", 0) end

--- A task that fails after some seconds.
local function bad_after(seconds)
  return function(ctx)
    ctx:sleep(seconds)
    error("after " .. seconds, 0)
  end
end

--- A task that ends after some seconds.
local function good_after(seconds, result)
  return function(ctx)
    ctx:sleep(seconds)
    return result
  end
end

local function run(graph, rows, options)
  options = options or {}
  options.graph = graph
  return flow.virtual(rows, options)
end

describe("fail_policy isolate", function()
  it("fails the task and what depends on it; the rest goes on and the run is complete", function()
    local eng = run("a >> b >> c & d >> e & (c & e) >> f", { { "a", bad, options = isolate }, { "b", nothing },
      { "c", nothing }, { "d", nothing }, { "e", good_after(5) }, { "f", nothing } })
    assert.equal("COMPLETED", eng.status)
    assert.is_nil(eng.error)
    assert.same({ "a" }, eng.failed_tasks)
    assert.same({ a = "FAILED", b = "FAILED", c = "FAILED", d = "SUCCEEDED", e = "SUCCEEDED", f = "FAILED" }, eng.tasks)
    assert.equal("broken", eng.records.a.error)
    for _, name in ipairs { "b", "c", "f" } do
      assert.equal("upstream_failed: a", eng.records[name].error)
      assert.is_nil(eng.records[name].started_at)
      assert.is_number(eng.records[name].ended_at)
      assert.is_nil(eng.records[name].traceback)
    end
  end)

  it("tells the failures of what depends on it as events", function()
    local events = {}
    run("a >> b", { { "a", bad, options = isolate }, { "b", nothing } }, { on_event = function(e)
      events[#events + 1] = ("%s %s %s"):format(e.type, e.task, e.state)
    end })
    assert.same({ "task a RUNNING", "task a FAILED", "task b FAILED", "run nil COMPLETED" }, events)
  end)

  it("is for failures after all retries", function()
    local eng, clock = run("a >> b", { { "a", bad, options = { fail_policy = "isolate", retries = 1,
      retry_delay_sec = 100 } }, { "b", nothing } })
    assert.equal("COMPLETED", eng.status)
    assert.equal(2, eng.records.a.attempt)
    assert.is_true(clock.now >= 75)
    assert.equal("upstream_failed: a", eng.records.b.error)
  end)

  it("holds for timeouts, inputs without a value and outputs that JSON cannot carry", function()
    for _, row in ipairs { { "a", good_after(10), options = { fail_policy = "isolate", timeout_sec = 1 } },
      { "a", nothing, options = isolate, inputs = { x = "$ctx.params.nope" } },
      { "a", function() return print end, options = isolate } } do
      local eng = flow.virtual { row, { "b", nothing, needs = "a" }, { "c", nothing } }
      assert.equal("COMPLETED", eng.status)
      assert.same({ a = "FAILED", b = "FAILED", c = "SUCCEEDED" }, eng.tasks)
    end
  end)

  it("stops nothing, but another failure does", function()
    local eng = run("a & b >> c", { { "a", bad, options = isolate }, { "b", bad_after(1) }, { "c", nothing } })
    assert.equal("FAILED", eng.status)
    assert.equal("after 1", eng.error)
    assert.same({ "a" }, eng.failed_tasks)
    assert.equal("PENDING", eng.tasks.c)
  end)

  it("names the first cause where two failures meet", function()
    local eng = run("(a & b) >> c >> d", { { "a", bad_after(2), options = isolate },
      { "b", bad_after(1), options = isolate }, { "c", nothing }, { "d", nothing } })
    assert.same({ "b", "a" }, eng.failed_tasks)
    assert.equal("upstream_failed: b", eng.records.c.error)
    assert.equal("upstream_failed: b", eng.records.d.error)
  end)

  it("takes 50,000 tasks along, in a chain or side by side", function()
    for _, needs in ipairs { function(i) return "t" .. i - 1 end, function() return "t1" end } do
      local rows = { { "t1", bad, options = isolate } }
      for i = 2, 50000 do rows[i] = { "t" .. i, nothing, needs = needs(i) } end
      local eng = flow.run(rows)
      assert.equal("COMPLETED", eng.status)
      assert.equal("upstream_failed: t1", eng.records.t50000.error)
    end
  end)

  it("of 50,000 tasks is counted for each", function()
    local rows = {}
    for i = 1, 50000 do rows[i] = { "t" .. i, bad, options = isolate } end
    local eng = flow.run(rows)
    assert.equal("COMPLETED", eng.status)
    assert.equal(50000, #eng.failed_tasks)
  end)

  it("of a task in a loop is counted once", function()
    local eng = run('a["$ctx.xs as x"]', { { "a", bad_after(1), options = { fail_policy = "isolate", parallel = 3 } } },
      { params = { xs = { 1, 2, 3 } } })
    assert.same({ "a" }, eng.failed_tasks)
    assert.equal("COMPLETED", eng.status)
  end)

  it("of a cancelled run changes nothing", function()
    local eng = run("a & b >> c", { { "a", bad, options = isolate }, { "b", good_after(10) }, { "c", nothing } },
      { on_start = function(e) e.after(1, function() e:cancel() end) end })
    assert.equal("CANCELLED", eng.status)
    assert.same({ a = "FAILED", b = "CANCELLED", c = "CANCELLED" }, eng.tasks)
  end)
end)

describe("a | b", function()
  it("goes on after the first that succeeded, not the first that ended", function()
    local seen
    local eng = run("(a | b) >> c", { { "a", bad_after(1) }, { "b", good_after(5, "b") },
      { "c", function(ctx, a, b) seen = { a == nil, b } ctx:log("c") end } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ true, "b" }, seen)
    assert.equal("after 1", eng.records.a.error)
    assert.is_nil(eng.failed_tasks)
  end)

  it("lets the other branch go on, whose names are nil until it has ended", function()
    local eng, clock = run("(a | b) >> c >> d & late", { { "a", good_after(10, "a") }, { "b", good_after(1, "b") },
      { "c", function(a, b) return { a == nil, b } end },
      { "d", function(ctx, a) ctx:sleep(20) return { a == nil, ctx.results.a } end }, { "late", nothing } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ true, "b" }, eng.records.c.output)
    assert.same({ true, "a" }, eng.records.d.output)
    assert.equal(21, clock.now)
  end)

  it("fails the run when its last branch fails, with that error", function()
    local eng = run("(a | b) >> c & d", { { "a", bad_after(3) }, { "b", bad_after(2) }, { "c", nothing },
      { "d", good_after(10) } })
    assert.equal("FAILED", eng.status)
    assert.equal("after 3", eng.error)
    assert.equal("SUCCEEDED", eng.tasks.d)
    assert.equal("PENDING", eng.tasks.c)
  end)

  it("is isolated only if all of its failures are", function()
    local function states(policy_a, policy_b)
      local eng = run("(a | b) >> c & d", { { "a", bad_after(1), options = policy_a },
        { "b", bad_after(2), options = policy_b }, { "c", nothing }, { "d", good_after(5) } })
      return eng.status .. " " .. eng.tasks.c .. " " .. tostring(eng.records.c.error)
    end
    assert.equal("COMPLETED FAILED upstream_failed: b", states(isolate, isolate))
    assert.equal("FAILED PENDING nil", states(nil, nil))
    assert.equal("FAILED PENDING nil", states(isolate, nil))
    -- a's branch is lost already, so c fails with b's; and since a's failure is not isolated, the run does too
    assert.equal("FAILED FAILED upstream_failed: b", states(nil, isolate))
  end)

  it("counts a branch whose task could not start since something before it failed", function()
    local eng = run("x >> a & (a | b) >> c", { { "x", bad, options = isolate }, { "a", nothing },
      { "b", bad_after(1) }, { "c", nothing } })
    assert.equal("FAILED", eng.status)
    assert.equal("after 1", eng.error)
    eng = run("x >> a & (a | b) >> c", { { "x", bad, options = isolate }, { "a", nothing },
      { "b", good_after(1) }, { "c", nothing } })
    assert.equal("COMPLETED", eng.status)
    assert.equal("SUCCEEDED", eng.tasks.c)
    assert.equal("upstream_failed: x", eng.records.a.error)
  end)

  it("of branches with tasks behind each other: those behind a failure stay PENDING", function()
    local eng = run("(a >> a2 | b) >> c", { { "a", bad }, { "a2", nothing }, { "b", nothing }, { "c", nothing } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ a = "FAILED", a2 = "PENDING", b = "SUCCEEDED", c = "SUCCEEDED" }, eng.tasks)
  end)

  it("ends a wait for a retry that cannot matter any more when the run fails", function()
    local eng, clock = run("(a | b) & d", { { "a", bad, options = { retries = 3, retry_delay_sec = 3600 } },
      { "b", bad }, { "d", bad_after(1) } })
    assert.equal("FAILED", eng.status)
    assert.equal(1, clock.now)
    assert.equal("FAILED", eng.tasks.a)
  end)
end)
