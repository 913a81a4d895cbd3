--- Runs of graphs: order, joins, wiring, records, status.
local flow = require "spec.support.flow"
local engine = require "pyoco.engine"
local json = require "host.json"
local uv = require "luv"

local function nothing() end

--- A list that tasks append to, and a task that does.
local function trace()
  local list = {}
  return list, function(name) return function() list[#list + 1] = name end end
end

describe("a run", function()
  it("runs a chain in order and hands results on by parameter name", function()
    local eng = flow.run({
      { "a", function(x) return x + 1 end },
      { "b", function(a) return a * 10 end, needs = "a" },
      { "c", function(b, a) return { b, a } end, needs = "b" },
    }, { params = { x = 1 } })
    assert.equal("COMPLETED", eng.status)
    assert.is_nil(eng.error)
    assert.same({ a = "SUCCEEDED", b = "SUCCEEDED", c = "SUCCEEDED" }, eng.tasks)
    assert.same({ 20, 2 }, eng.records.c.output)
    assert.same({ b = 20, a = 2 }, eng.records.c.inputs)
    assert.same({ x = 1 }, eng.records.a.inputs)
  end)

  it("records state and times", function()
    local now = 100
    local eng = flow.run({ { "a", nothing } }, { now = function() now = now + 1; return now end })
    local record = eng.records.a
    assert.equal("SUCCEEDED", record.state)
    assert.equal(101, record.started_at)
    assert.equal(102, record.ended_at)
    assert.is_true(record.duration_ms >= 0 and record.duration_ms < 1000)
    assert.is_nil(record.output)
    assert.same({}, record.artifacts)
  end)

  it("lets branches interleave at their waits", function()
    local list = {}
    local function branch(name)
      return function(ctx)
        for i = 1, 2 do
          list[#list + 1] = name .. i
          ctx:sleep(0)
        end
      end
    end
    flow.run { { "a", branch "a" }, { "b", branch "b" } }
    assert.same({ "a1", "b1", "a2", "b2" }, list)
  end)

  it("starts what is ready in the order of the graph", function()
    local list, task = trace()
    flow.run {
      { "last", task "last", needs = { all = { "d", "c", "b" } } },
      { "b", task "b", needs = "a" }, { "a", task "a" }, { "c", task "c", needs = "a" }, { "d", task "d" },
    }
    assert.same({ "a", "b", "c", "d", "last" }, list)
  end)

  it("keeps to max_parallel", function()
    local running, most = 0, 0
    local function work(ctx)
      running = running + 1
      most = math.max(most, running)
      ctx:sleep(0)
      running = running - 1
    end
    local rows = {}
    for i = 1, 20 do rows[i] = { "t" .. i, work } end
    assert.equal("COMPLETED", flow.run(rows, { max_parallel = 3 }).status)
    assert.equal(3, most)
  end)

  it("joins nested conditions that nodes share", function()
    local list, task = trace()
    local both = { all = { "a", { any = { "b", "c" } } } }
    flow.run { { "a", task "a" }, { "b", task "b" }, { "c", task "c" },
      { "d", task "d", needs = both }, { "e", task "e", needs = { all = { both, "d" } } } }
    assert.same({ "a", "b", "c", "d", "e" }, list)
  end)

  it("starts after the first of an any-of; the other goes on and its name is nil", function()
    local seen
    local eng = flow.run({
      { "slow", function(ctx) ctx:sleep(0.02); return "slow" end },
      { "fast", function() return "fast" end },
      { "after", function(slow, fast) seen = { slow = slow, fast = fast } end, needs = { any = { "slow", "fast" } } },
    }, { any_of = { { { "slow" }, { "fast" } } } })
    assert.same({ fast = "fast" }, seen)
    assert.equal("SUCCEEDED", eng.tasks.slow)
    assert.equal("COMPLETED", eng.status)
  end)

  it("is complete when one branch of an any-of fails", function()
    local eng = flow.run({
      { "bad", function() error("no") end }, { "next", nothing, needs = "bad" }, { "good", nothing },
      { "after", nothing, needs = { any = { "next", "good" } } },
    }, { any_of = { { { "bad", "next" }, { "good" } } } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ bad = "FAILED", next = "PENDING", good = "SUCCEEDED", after = "SUCCEEDED" }, eng.tasks)
  end)

  it("fails when all branches of an any-of fail", function()
    local rows = { { "x", function() error("first", 0) end }, { "y", function() error("second", 0) end },
      { "after", nothing, needs = { any = { "x", "y" } } } }
    local eng = flow.run(rows, { any_of = { { { "x" }, { "y" } } } })
    assert.equal("FAILED", eng.status)
    assert.equal("second", eng.error)
    assert.equal("PENDING", eng.tasks.after)
  end)

  it("counts a failed any-of in the any-of around it", function()
    local function bad() error("no", 0) end
    local eng = flow.run({ { "a", bad }, { "b", bad }, { "c", nothing } },
      { any_of = { { { "a" }, { "b" } }, { { "a", "b" }, { "c" } } } })
    assert.equal("COMPLETED", eng.status)
    eng = flow.run({ { "a", bad }, { "b", bad }, { "c", bad } },
      { any_of = { { { "a" }, { "b" } }, { { "a", "b" }, { "c" } } } })
    assert.equal("FAILED", eng.status)
  end)

  it("fails when a task outside of the any-of waits for its failed branch", function()
    local eng = flow.run({ { "a", function() error("no") end }, { "b", nothing }, { "e", nothing, needs = "a" } },
      { any_of = { { { "a" }, { "b" } } } })
    assert.equal("FAILED", eng.status)
    assert.equal("task 'e' could not start: a task before it failed", eng.error)
  end)

  it("lets running tasks end after a failure and starts nothing new", function()
    local eng = flow.run {
      { "slow", function(ctx) ctx:sleep(0.01); return "done" end },
      { "bad", function() error("broken", 0) end },
      { "later", nothing, needs = "bad" }, { "never", nothing, needs = "slow" },
    }
    assert.equal("FAILED", eng.status)
    assert.equal("broken", eng.error)
    assert.same({ slow = "SUCCEEDED", bad = "FAILED", later = "PENDING", never = "PENDING" }, eng.tasks)
    assert.is_nil(eng.records.never.started_at)
  end)

  it("reports transitions, output and its end as events", function()
    local events = {}
    flow.run({ { "a", function(ctx) ctx:log("x=%d", 1) end } }, { on_event = function(event)
      assert.is_number(event.at)
      events[#events + 1] = event.type .. ":" .. (event.state or event.text)
    end })
    assert.same({ "task:RUNNING", "log:x=1\n", "task:SUCCEEDED", "run:COMPLETED" }, events)
  end)

  it("completes a graph without tasks", function()
    assert.equal("COMPLETED", flow.run({}).status)
  end)

  it("never blocks in pump", function()
    local eng = engine.new(flow.of { { "a", function(ctx) ctx:sleep(0.01) end } })
    assert.is_false(eng:pump())
    assert.is_false(eng:pump())
    repeat uv.run("once") until eng:pump()
    assert.equal("COMPLETED", eng.status)
    assert.is_true(eng:pump())
  end)
end)

describe("a task's arguments", function()
  it("come from inputs, then params, then results", function()
    local eng = flow.run({
      { "x", function() return "result x" end },
      { "y", function() return "result y" end },
      { "t", function(x, y, z, nobody) return { x, y, z, nobody == nil } end, needs = { all = { "x", "y" } },
        inputs = { z = "literal" } },
    }, { params = { x = "param x", z = "param z" } })
    assert.same({ "param x", "result y", "literal", true }, eng.records.t.output)
    assert.same({ x = "param x", y = "result y", z = "literal" }, eng.records.t.inputs)
  end)

  it("include ctx wherever it stands, which is no input", function()
    local record = flow.task(function(a, ctx, b) return { a, b, type(ctx.log) } end, { params = { a = 1, b = 2 } })
    assert.same({ 1, 2, "function" }, record.output)
    assert.same({ a = 1, b = 2 }, record.inputs)
  end)

  it("take defaults for params that the run does not give", function()
    local record, eng = flow.task(function(a, b) return a + b end, { params = { a = 1 }, defaults = { a = 5, b = 7 } })
    assert.equal(8, record.output)
    assert.same({ a = 1, b = 7 }, eng.params)
  end)

  it("are nil for null, false for false", function()
    local record = flow.task(function(a, b) return { a == nil, b == false } end,
      { params = { a = json.null, b = false } })
    assert.same({ true, true }, record.output)
    assert.equal(json.null, record.inputs.a)
  end)

  it("are copies: what a task does to them is seen by nobody", function()
    local params = { list = { 1, 2 } }
    local eng = flow.run({
      { "a", function(ctx, list) list[1] = "changed"; ctx.params.list[2] = "changed"; return { list = list } end },
      { "b", function(a, list) a.list[2], a.self = "changed", a; return list end, needs = "a" },
      { "c", function(ctx, a) return { a, ctx.params.list, ctx.results.b } end, needs = "b" },
    }, { params = params })
    assert.equal("COMPLETED", eng.status)
    assert.same({ { list = { "changed", 2 } }, { 1, 2 }, { 1, 2 } }, eng.records.c.output)
    assert.same({ list = { 1, 2 } }, params)
  end)

  it("keep an empty list a list", function()
    local eng = flow.run { { "a", function() return json.array {} end }, { "b", function(a) return { x = a } end,
      needs = "a" } }
    assert.equal('{"x":[]}', json.encode(eng.records.b.output))
  end)
end)
