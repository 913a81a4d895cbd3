--- Loops and switches: what runs, what the records show, and what ends them.
local flow = require "spec.support.flow"
local json = require "host.json"

local null = json.null

--- Runs rows behind a graph text, on a virtual clock.
local function run(graph, rows, options)
  options = options or {}
  options.graph = graph
  return flow.virtual(rows, options)
end

--- A task that returns how often it has run.
local function counter()
  local n = 0
  return function()
    n = n + 1
    return n
  end
end

local function nothing() end

--- The states of all tasks as one text.
local function states(eng)
  local list = {}
  for name, state in pairs(eng.tasks) do list[#list + 1] = name .. "=" .. state end
  table.sort(list)
  return table.concat(list, " ")
end

describe("x[n]", function()
  it("runs x n times, one after the other, and what follows it once", function()
    local order = {}
    local eng = run("a[3] >> b", {
      { "a", function(ctx)
        order[#order + 1] = "begin " .. ctx.loop.index
        ctx:sleep(1)
        order[#order + 1] = "end " .. ctx.loop.index
        return ctx.loop.index * 10
      end },
      { "b", function(a) order[#order + 1] = "b"; return a end },
    })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ "begin 0", "end 0", "begin 1", "end 1", "begin 2", "end 2", "b" }, order)
    local record = eng.records.a
    assert.equal("SUCCEEDED", record.state)
    assert.same({ 0, 10, 20 }, record.output)
    assert.equal(3, record.iterations)
    assert.equal(0, record.started_at)
    assert.equal(3, record.ended_at)
    assert.equal(3000, record.duration_ms)
    assert.same({ 0, 10, 20 }, eng.records.b.output)
    assert.same({ times1 = { state = "SUCCEEDED", iterations = 3 } }, eng.frames)
  end)

  it("takes its number from params, results, arithmetic", function()
    for _, text in ipairs { "$ctx.n", "$ctx.params.n", "$node.first.output", "1 + 1", "$ctx.missing or 2" } do
      local eng = run(('first >> a["%s"]'):format(text), { { "first", function() return 2 end }, { "a", counter() } },
        { params = { n = 2 } })
      assert.same({ 1, 2 }, eng.records.a.output, text)
    end
  end)

  it("runs nothing for 0: skipped, an empty list, and what follows goes on", function()
    local eng = run("a[0] >> b", { { "a", nothing }, { "b", function(a) return { n = #a } end } })
    assert.equal("COMPLETED", eng.status)
    local record = eng.records.a
    assert.equal("PENDING", record.state)
    assert.is_true(record.skipped)
    assert.equal(0, record.iterations)
    assert.equal("[]", json.encode(record.output))
    assert.is_nil(record.started_at)
    assert.same({ n = 0 }, eng.records.b.output)
  end)

  it("shows its tasks as RUNNING until the last iteration has ended, and what they said", function()
    local seen, engine = {}, nil
    local eng = run("a[3]", { { "a", function(ctx)
      seen[#seen + 1] = engine.tasks.a .. " " .. engine.records.a.iterations .. " " .. engine.frames.times1.state
      print("iteration", ctx.loop.index)
      return json.array { ctx.loop.index }
    end } }, { on_start = function(e) engine = e end })
    assert.same({ "RUNNING 1 RUNNING", "RUNNING 2 RUNNING", "RUNNING 3 RUNNING" }, seen)
    assert.equal("iteration\t0\niteration\t1\niteration\t2\n", eng.records.a.log_tail)
    assert.same({ { 0 }, { 1 }, { 2 } }, eng.records.a.output)
  end)

  it("tells each iteration as an event, and the task's states once", function()
    local events = {}
    run("a[2]", { { "a", nothing } }, { on_event = function(e)
      events[#events + 1] = ("%s %s%s"):format(e.type, e.state, e.iteration and " " .. e.iteration[1] or "")
    end })
    assert.same({ "frame RUNNING", "task RUNNING", "iteration RUNNING 0", "iteration SUCCEEDED 0",
      "iteration RUNNING 1", "iteration SUCCEEDED 1", "task SUCCEEDED", "frame SUCCEEDED", "run COMPLETED" }, events)
  end)

  it("has null for an iteration that returned nothing", function()
    local eng = run("a[3] >> b", { { "a", function(ctx) if ctx.loop.index == 1 then return "x" end end },
      { "b", function(a) return #a end } })
    assert.same({ null, "x", null }, eng.records.a.output)
    assert.equal(3, eng.records.b.output)
  end)
end)

describe("x[list as item]", function()
  it("runs once per item, in order", function()
    local eng = run('a["$ctx.files as file"]', { { "a", function(ctx, file)
      return { file, ctx.item, ctx.loop.index, ctx.loop.count }
    end } }, { params = { files = { "x", "y" } } })
    assert.same({ { "x", "x", 0, 2 }, { "y", "y", 1, 2 } }, eng.records.a.output)
  end)

  it("runs n iterations at a time, and starts the next one when one ends", function()
    local running, most, starts = 0, 0, {}
    local eng, clock
    eng, clock = run('a["$ctx.xs as x"]', { { "a", function(ctx, x)
      running = running + 1
      most = math.max(most, running)
      starts[#starts + 1] = ctx.loop.index
      ctx:sleep(x)
      running = running - 1
      return x
    end, options = { parallel = 2 } } }, { params = { xs = { 5, 1, 1, 1, 5 } } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal(2, most)
    assert.same({ 0, 1, 2, 3, 4 }, starts)
    assert.equal(8, clock.now)
    assert.same({ 5, 1, 1, 1, 5 }, eng.records.a.output)
  end)

  it("keeps to max_parallel over all scopes", function()
    local running, most = 0, 0
    local function work(ctx)
      running = running + 1
      most = math.max(most, running)
      ctx:sleep(1)
      running = running - 1
    end
    local eng = run('a["$ctx.xs as x"] & b["$ctx.xs as x"] & c', {
      { "a", work, options = { parallel = 10 } }, { "b", work, options = { parallel = 10 } }, { "c", work },
    }, { params = { xs = { 1, 2, 3, 4, 5, 6, 7, 8 } }, max_parallel = 3 })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal(3, most)
  end)

  it("goes over the items as they were when it began", function()
    local eng = run('a["$ctx.xs as x"]', { { "a", function(ctx, x)
      ctx:set("params.xs", { 7, 8, 9, 10 })
      return x
    end } }, { params = { xs = { 1, 2 } } })
    assert.same({ 1, 2 }, eng.records.a.output)
  end)

  it("takes an empty list", function()
    for _, xs in ipairs { json.array {}, {} } do
      local eng = run('a["$ctx.xs as x"] >> b', { { "a", nothing }, { "b", nothing } }, { params = { xs = xs } })
      assert.equal("a=PENDING b=SUCCEEDED", states(eng))
    end
  end)
end)

describe("x % cond", function()
  it("runs x, until the condition holds for this iteration", function()
    local eng = run('(a >> b) % "$node.b.output >= 30" >> c', { { "a", counter() },
      { "b", function(a) return a * 10 end }, { "c", function(a, b) return { a, b } end } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ { 1, 2, 3 }, { 10, 20, 30 } }, eng.records.c.output)
    assert.equal(3, eng.frames.until1.iterations)
  end)

  it("fails after its limit, 100 unless given", function()
    for text, max in pairs { ['a % "$node.a.output < 0"'] = 100, ['a % ("$node.a.output < 0", 7)'] = 7 } do
      local eng = run(text, { { "a", counter() } })
      assert.equal("FAILED", eng.status)
      assert.equal(('loop at 1:3 (a %% "$node.a.output < 0"): the condition did not hold after %d iterations')
        :format(max), eng.error)
      assert.equal(max, eng.records.a.iterations)
      assert.equal("SUCCEEDED", eng.tasks.a)
      assert.equal("FAILED", eng.frames.until1.state)
      assert.equal(eng.error, eng.frames.until1.error)
    end
  end)

  it("holds at the last iteration that it may have", function()
    assert.equal("COMPLETED", run('a % ("$node.a.output == 7", 7)', { { "a", counter() } }).status)
  end)
end)

describe("switch", function()
  local function rows()
    return { { "a", function() return "A" end }, { "b", function(a) return a .. "B" end },
      { "c", function() return "C" end }, { "last", function(a, b, c) return { a or "-", b or "-", c or "-" } end } }
  end

  it("takes the branch of its value, `*` when there is none, or nothing", function()
    local cases = { x = { "A", "AB", "-" }, y = { "-", "-", "C" } }
    for mode, expected in pairs(cases) do
      local eng = run('switch("$ctx.mode")["x" >> a >> b, "*" >> c] >> last', rows(), { params = { mode = mode } })
      assert.equal("COMPLETED", eng.status, eng.error)
      assert.same(expected, eng.records.last.output)
    end
    local eng = run('switch("$ctx.mode")["x" >> a >> b, "y" >> c] >> last', rows(), { params = { mode = "z" } })
    assert.equal("a=PENDING b=PENDING c=PENDING last=SUCCEEDED", states(eng))
    assert.is_true(eng.records.a.skipped and eng.records.c.skipped)
    assert.is_nil(eng.frames.switch1.label)
    assert.equal("COMPLETED", eng.status)
  end)

  it("marks what was not taken as skipped, and keeps plain outputs", function()
    local eng = run('switch("$ctx.mode")["x" >> a >> b, "*" >> c] >> last', rows(), { params = { mode = "x" } })
    assert.equal("A", eng.records.a.output)
    assert.is_nil(eng.records.a.iterations)
    assert.is_nil(eng.records.a.skipped)
    assert.equal("PENDING", eng.records.c.state)
    assert.is_true(eng.records.c.skipped)
    assert.same({ state = "SUCCEEDED", label = "x" }, eng.frames.switch1)
    assert.same({ state = "SUCCEEDED" }, eng.frames.case1)
    assert.same({ state = "PENDING", skipped = true }, eng.frames.case2)
  end)

  it("compares as text", function()
    for label, value in pairs { ["2"] = 2, ["true"] = true, ["null"] = null, ["2.5"] = 2.5 } do
      local eng = run(('switch("$ctx.m")["%s" >> a]'):format(label), { { "a", nothing } }, { params = { m = value } })
      assert.equal("SUCCEEDED", eng.tasks.a, label)
    end
  end)

  it("in a loop: null where its branch was not taken; skipped when it never was", function()
    local eng = run('switch("$ctx.m")["x" >> a, "y" >> b, "z" >> c]["$ctx.ms as m"]',
      { { "a", counter() }, { "b", counter() }, { "c", nothing } }, { params = { ms = { "x", "y", "x" } } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ 1, null, 2 }, eng.records.a.output)
    assert.same({ null, 1, null }, eng.records.b.output)
    assert.equal(2, eng.records.a.iterations)
    assert.equal("PENDING", eng.tasks.c)
    assert.is_true(eng.records.c.skipped)
    assert.equal(0, eng.records.c.iterations)
  end)

  it("with a loop in a branch", function()
    local graph = 'switch("$ctx.m")["x" >> a[2] >> b, "*" >> c]'
    local eng = run(graph, { { "a", counter() }, { "b", function(a) return a end }, { "c", nothing } },
      { params = { m = "x" } })
    assert.same({ 1, 2 }, eng.records.b.output)
    eng = run(graph, { { "a", counter() }, { "b", nothing }, { "c", nothing } }, { params = { m = "y" } })
    assert.equal("a=PENDING b=PENDING c=SUCCEEDED", states(eng))
    assert.is_true(eng.records.a.skipped)
    assert.equal(0, eng.records.a.iterations)
    assert.is_true(eng.frames.times1.skipped)
  end)
end)

describe("loops in loops", function()
  it("give lists of lists, and see the results of the iterations that they stand in", function()
    local eng = run('(a >> b["$ctx.ys as y"] >> c)["$ctx.xs as x"] >> d', {
      { "a", function(x) return x .. "!" end }, { "b", function(a, y) return a .. y end },
      { "c", function(a, b) return { a, b } end }, { "d", function(a, b) return { a, b } end },
    }, { params = { xs = { "p", "q" }, ys = { 1, 2 } } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ "p!", "q!" }, eng.records.a.output)
    assert.same({ { "p!1", "p!2" }, { "q!1", "q!2" } }, eng.records.b.output)
    assert.same({ { "p!", { "p!1", "p!2" } }, { "q!", { "q!1", "q!2" } } }, eng.records.c.output)
    assert.same({ eng.records.a.output, eng.records.b.output }, eng.records.d.output)
    assert.equal(4, eng.records.b.iterations)
  end)

  it("take their numbers from the iteration that they stand in", function()
    local eng = run('(a >> b["$node.a.output"])["$ctx.ns as n"]',
      { { "a", function(n) return n end }, { "b", function(ctx) return ctx.loop.index end } },
      { params = { ns = { 2, 0, 1 } } })
    assert.same({ { 0, 1 }, {}, { 0 } }, eng.records.b.output)
    assert.equal("[[0,1],[],[0]]", json.encode(eng.records.b.output))
  end)

  it("in any way and beside parallel branches", function()
    local eng = run('start >> (a["$ctx.xs as x"] % "$ctx.loop.index == 1" & switch("$ctx.m")["m" >> b[2], "*" >> c]'
      .. ' & d) >> last', { { "start", nothing }, { "a", function(x) return x end }, { "b", counter() },
      { "c", nothing }, { "d", nothing }, { "last", function(a, b) return { a, b } end } },
      { params = { xs = { 1, 2 }, m = "m" } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ { { 1, 2 }, { 1, 2 } }, { 1, 2 } }, eng.records.last.output)
    assert.equal("PENDING", eng.tasks.c)
  end)

  it("have bodies with parallel tasks and joins", function()
    local eng = run("(a >> (b & c) >> d)[2]", { { "a", counter() }, { "b", function(a) return a + 10 end },
      { "c", function(a) return a + 20 end }, { "d", function(b, c) return b + c end } })
    assert.same({ 32, 34 }, eng.records.d.output)
  end)

  it("see nothing of an earlier iteration", function()
    local seen = {}
    local eng = run("(a & b)[2]", { { "a", function(ctx) ctx:sleep(1) return 1 end },
      { "b", function(ctx, a) seen[#seen + 1] = a == nil and ctx.results.a == nil end } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ true, true }, seen)
  end)

  it("of 10,000 x 1 and 1 x 10,000 run", function()
    for _, graph in ipairs { "a[1][10000]", "a[10000][1]" } do
      local eng = run(graph, { { "a", nothing } })
      assert.equal("COMPLETED", eng.status, eng.error)
      assert.equal(10000, eng.records.a.iterations)
    end
  end)
end)

describe("a failed iteration", function()
  local function bad_at(index)
    return function(ctx)
      if ctx.loop.index == index then error("broken", 0) end
      return ctx.loop.index
    end
  end

  it("ends the loop and the run", function()
    local eng = run("a[5] >> b", { { "a", bad_at(2) }, { "b", nothing } })
    assert.equal("FAILED", eng.status)
    assert.equal("broken", eng.error)
    assert.equal("a=FAILED b=PENDING", states(eng))
    local record = eng.records.a
    assert.equal("broken", record.error)
    assert.equal(3, record.iterations)
    assert.same({ 2 }, record.failed_iteration)
    assert.same({ 0, 1, null }, record.output)
    assert.truthy(record.traceback)
    assert.equal("FAILED", eng.frames.times1.state)
    assert.equal("broken", eng.frames.times1.error)
  end)

  it("leaves the tasks of its body in the state that they came to", function()
    local eng = run("(a >> b >> c)[3]", { { "a", nothing }, { "b", bad_at(1) }, { "c", nothing } })
    assert.equal("a=SUCCEEDED b=FAILED c=CANCELLED", states(eng))
    assert.equal("its loop was ended by the failure of another task", eng.records.c.error)
    eng = run("(a >> b >> c)[3]", { { "a", nothing }, { "b", bad_at(0) }, { "c", nothing } })
    assert.equal("a=SUCCEEDED b=FAILED c=PENDING", states(eng))
    assert.is_nil(eng.records.c.skipped)
  end)

  it("lets the iterations beside it end, and begins no other one", function()
    local eng, clock = run('a["$ctx.xs as x"]', { { "a", function(ctx, x)
      ctx:sleep(x)
      if x == 1 then error("broken", 0) end
      return x
    end, options = { parallel = 3 } } }, { params = { xs = { 5, 1, 3, 7, 7 } } })
    assert.equal("FAILED", eng.status)
    assert.equal(5, clock.now)
    assert.equal(3, eng.records.a.iterations)
    assert.same({ 5, null, 3 }, eng.records.a.output)
    assert.equal("FAILED", eng.frames.each1.state)
    assert.equal("broken", eng.frames.each1.error)
  end)

  it("is retried in its iteration", function()
    local n = 0
    local eng = run("a[2]", { { "a", function(ctx)
      n = n + 1
      if n == 2 or n == 3 then error("attempt " .. ctx.attempt, 0) end
      return ctx.loop.index .. "/" .. ctx.attempt
    end, options = { retries = 2 } } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ "0/1", "1/3" }, eng.records.a.output)
    assert.equal(3, eng.records.a.attempt)
    assert.equal(2, #eng.records.a.attempts)
    assert.equal("attempt 2", eng.records.a.attempts[2].error)
    assert.same({ 1 }, eng.records.a.attempts[2].iteration)
    assert.equal(2, eng.records.a.iterations)
  end)

  it("in a loop in a loop ends both", function()
    local eng = run("(a[3] >> b)[3]", { { "a", function(ctx)
      if ctx.loops[1].index == 1 and ctx.loop.index == 1 then error("broken", 0) end
      return ctx.loop.index
    end }, { "b", nothing } })
    assert.equal("broken", eng.error)
    assert.same({ 1, 1 }, eng.records.a.failed_iteration)
    assert.same({ { 0, 1, 2 }, { 0, null } }, eng.records.a.output)
    assert.equal("FAILED", eng.frames.times1.state)
    assert.equal("FAILED", eng.frames.times2.state)
  end)

  it("of one loop ends another one after the iteration in hand", function()
    local eng = run("a[9] & b[9]", { { "a", function(ctx) ctx:sleep(2) return ctx.loop.index end },
      { "b", function(ctx) ctx:sleep(5) error("broken", 0) end } })
    assert.equal("FAILED", eng.status)
    assert.equal("CANCELLED", eng.tasks.a)
    assert.same({ 0, 1, 2 }, eng.records.a.output)
    assert.equal("CANCELLED", eng.frames.times1.state)
    assert.equal("FAILED", eng.frames.times2.state)
  end)
end)

describe("an iteration whose failure is isolated", function()
  local isolate = { fail_policy = "isolate" }

  it("ends, its loop ends, what depends on the loop fails, the rest goes on", function()
    local eng = run("(a >> b >> c)[3] >> d & e", { { "a", nothing },
      { "b", function(ctx) if ctx.loop.index == 1 then error("broken", 0) end end, options = isolate },
      { "c", nothing }, { "d", nothing }, { "e", function(ctx) ctx:sleep(9) end } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ "b" }, eng.failed_tasks)
    assert.equal("a=SUCCEEDED b=FAILED c=FAILED d=FAILED e=SUCCEEDED", states(eng))
    assert.equal("broken", eng.records.b.error)
    assert.equal("upstream_failed: b", eng.records.c.error)
    assert.equal("upstream_failed: b", eng.records.d.error)
    assert.equal(2, eng.records.a.iterations)
    assert.equal(1, eng.records.c.iterations)
    assert.equal("FAILED", eng.frames.times1.state)
  end)

  it("lets the rest of the iteration and the iterations beside it go on", function()
    local eng = run('(a & b)["$ctx.xs as x"] >> c', {
      { "a", function(x) if x == 2 then error("broken", 0) end return x end, options = isolate },
      { "b", function(ctx, x) ctx:sleep(x) return x end, options = { parallel = 2 } }, { "c", nothing },
    }, { params = { xs = { 1, 2, 3 } } })
    assert.equal("COMPLETED", eng.status)
    assert.same({ 1, 2 }, eng.records.b.output)
    assert.equal("a=FAILED b=SUCCEEDED c=FAILED", states(eng))
  end)

  it("stops the run all the same when another one of the same loop is not isolated", function()
    local eng = run("(a & b)[3]", { { "a", function() error("isolated", 0) end, options = isolate },
      { "b", function(ctx) ctx:sleep(1) error("broken", 0) end } })
    assert.equal("FAILED", eng.status)
    assert.equal("broken", eng.error)
  end)

  it("takes loops and switches behind it along", function()
    local eng = run('a >> (b[3] & switch("$ctx.m")["x" >> c, "*" >> d])', { { "a", function() error("no", 0) end,
      options = isolate }, { "b", nothing }, { "c", nothing }, { "d", nothing } }, { params = { m = "x" } })
    assert.equal("COMPLETED", eng.status)
    assert.equal("a=FAILED b=FAILED c=FAILED d=FAILED", states(eng))
    assert.equal("upstream_failed: a", eng.records.d.error)
    assert.equal("upstream_failed: a", eng.frames.times1.error)
  end)
end)

describe("a | b in and around frames", function()
  it("in a body: the first that succeeds counts, in each iteration anew", function()
    local eng = run('((a | b) >> c)["$ctx.xs as x"]', {
      { "a", function(ctx, x) ctx:sleep(x) if x == 2 then error("no", 0) end return "a" end },
      { "b", function(ctx) ctx:sleep(3) return "b" end },
      { "c", function(a, b) return (a or "-") .. (b or "-") end },
    }, { params = { xs = { 1, 2, 5 } } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ "a-", "-b", "-b" }, eng.records.c.output)
    assert.same({ "a", null, "a" }, eng.records.a.output)
    assert.equal("FAILED", eng.tasks.a)
    assert.same({ "b", "b", "b" }, eng.records.b.output) -- the iteration waits for what goes on in it
  end)

  it("in a body: fails the iteration when all branches have failed", function()
    local eng = run("((a | b) >> c)[2]", { { "a", function() error("first", 0) end },
      { "b", function() error("second", 0) end }, { "c", nothing } })
    assert.equal("FAILED", eng.status)
    assert.equal("second", eng.error)
    assert.equal(1, eng.frames.times1.iterations)
  end)

  it("around a loop: its failure does not count while the other branch may succeed", function()
    local eng, clock = run("(a[3] | b) >> c", { { "a", function(ctx)
      ctx:sleep(1)
      if ctx.loop.index == 1 then error("no", 0) end
      return 1
    end }, { "b", function(ctx) ctx:sleep(10) return "b" end }, { "c", function(a, b) return { a == nil, b } end } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal(10, clock.now)
    assert.same({ true, "b" }, eng.records.c.output)
    assert.equal("FAILED", eng.tasks.a)
    assert.equal("FAILED", eng.frames.times1.state)
  end)

  it("around a loop: its own failures do neither", function()
    local eng = run('(a["$ctx.n"] | b) >> c', { { "a", nothing }, { "b", nothing }, { "c", nothing } },
      { params = { n = "three" } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal("FAILED", eng.frames.times1.state)
    assert.equal("a=PENDING b=SUCCEEDED c=SUCCEEDED", states(eng))
  end)

  it("around a loop that fails last: the run fails", function()
    local eng = run("(a[2] | b) >> c", { { "a", function(ctx) ctx:sleep(5) error("last", 0) end },
      { "b", function() error("first", 0) end }, { "c", nothing } })
    assert.equal("FAILED", eng.status)
    assert.equal("last", eng.error)
  end)

  it("names of a loop that has not ended are nil", function()
    local eng = run("(a[3] | b) >> c", { { "a", function(ctx) ctx:sleep(1) return 1 end },
      { "b", function() return "b" end }, { "c", function(a, b) return { a == nil, b } end } })
    assert.same({ true, "b" }, eng.records.c.output)
    assert.same({ 1, 1, 1 }, eng.records.a.output)
  end)
end)

describe("a loop or switch that cannot go on", function()
  for what, case in pairs {
    ["a number of nil"] = { 'a["$ctx.n"]', {}, "whole number" },
    ["a number that is a text"] = { 'a["$ctx.n"]', { n = "3" }, "whole number" },
    ["a number below 0"] = { 'a["$ctx.n"]', { n = -1 }, "whole number" },
    ["a number that is not whole"] = { 'a["$ctx.n"]', { n = 1.5 }, "whole number" },
    ["a number that is a list"] = { 'a["$ctx.n"]', { n = { 1 } }, "whole number" },
    ["1e9 iterations"] = { 'a["$ctx.n"]', { n = 1e9 },
      "1000000000 iterations are more than the 10000 that a loop may have (PYOCO_FLOW_MAX_ITERATIONS)" },
    ["items of nil"] = { 'a["$ctx.n as x"]', {}, "needs a list" },
    ["items that are a text"] = { 'a["$ctx.n as x"]', { n = "abc" }, "needs a list" },
    ["items that are a mapping"] = { 'a["$ctx.n as x"]', { n = { a = 1 } }, "needs a list" },
    ["a condition that is nil"] = { 'a % "$ctx.n"', {}, "must be true or false" },
    ["a condition that is a number"] = { 'a % "$ctx.n"', { n = 1 }, "must be true or false" },
    ["a condition that compares a number and a text"] = { 'a % "$ctx.n < 3"', { n = "x" }, "'<' needs" },
    ["a switch on a table"] = { 'switch("$ctx.n")["x" >> a]', { n = { 1 } }, "needs a text" },
  } do
    it(what .. ": FAILED, and told where and what stands there", function()
      local eng = run(case[1], { { "a", nothing } }, { params = case[2] })
      assert.equal("FAILED", eng.status)
      local kind, place, title, rest = eng.error:match("^(%a+) at 1:(%d+) %((.-%)?)%): (.*)")
      assert.equal(case[1]:find("^switch") and "switch" or "loop", kind)
      assert.is_true(tonumber(place) <= 3)
      assert.equal(case[1]:gsub('%["x".*', ""), title)
      assert.truthy(rest:find("$ctx.n is", 1, true) or rest:find("iterations", 1, true), rest)
      assert.truthy(eng.error:find(case[3], 1, true), eng.error)
      local id = next(eng.frames)
      if id:find("^case") then id = "switch1" end
      assert.equal("FAILED", eng.frames[id].state)
      assert.equal(eng.error, eng.frames[id].error)
    end)
  end

  it("more iterations than opts.max_iterations are refused before the first one; a condition's are cut", function()
    local eng = run("a[6]", { { "a", counter() } }, { max_iterations = 5 })
    assert.equal("FAILED", eng.status)
    assert.equal("PENDING", eng.tasks.a)
    assert.is_nil(eng.records.a.skipped)
    assert.equal("COMPLETED", run("a[5]", { { "a", counter() } }, { max_iterations = 5 }).status)
    eng = run('a % "$node.a.output < 0"', { { "a", counter() } }, { max_iterations = 5 })
    assert.truthy(eng.error:find("did not hold after 5 iterations (PYOCO_FLOW_MAX_ITERATIONS)", 1, true), eng.error)
  end)

  it("fails the run while another loop goes on, which ends after the iteration in hand", function()
    local eng = run('a[9] & b >> c["$ctx.n"]', { { "a", function(ctx) ctx:sleep(2) end },
      { "b", function(ctx) ctx:sleep(3) end }, { "c", nothing } })
    assert.equal("FAILED", eng.status)
    assert.equal(2, eng.records.a.iterations)
  end)

  it("since a task before one of its body failed ends after what runs in the iterations beside it", function()
    local eng, clock = run('((a | b) & a >> e)["$ctx.xs as x"]', {
      { "a", function(ctx, x) ctx:sleep(x) if x == 1 then error("no", 0) end return x end, options = { parallel = 2 } },
      { "b", nothing }, { "e", nothing } }, { params = { xs = { 1, 5, 5 } } })
    assert.equal("FAILED", eng.status)
    assert.truthy(eng.error:find("^loop at 1:%d+ %(.*%): task 'e' could not start: a task before it failed$"))
    assert.equal(5, clock.now)
    assert.same({ null, 5 }, eng.records.a.output)
    assert.equal("FAILED", eng.frames.each1.state)
  end)

  it("ends only after what runs in the iterations beside it", function()
    local ended = {}
    local eng = run('(a >> b["$node.a.output"])["$ctx.xs as x"]', {
      { "a", function(ctx, x) ctx:sleep(x) return x == 1 and "no number" or 1 end, options = { parallel = 2 } },
      { "b", nothing } }, { params = { xs = { 1, 5 } }, on_event = function(e)
      if e.type == "iteration" then ended[#ended + 1] = e.task .. " " .. e.state end
    end })
    assert.equal("FAILED", eng.status)
    assert.equal("a SUCCEEDED", ended[#ended])
    assert.same({ "no number", 1 }, eng.records.a.output)
  end)
end)

describe("a cancel", function()
  it("ends what waits in any scope, and marks what has not run", function()
    local eng = run('(a >> b)[3] & switch("$ctx.m")["x" >> c >> d, "*" >> e] & f["$ctx.xs as x"] & g', {
      { "a", function(ctx) if ctx.loop.index == 1 then ctx:sleep(100) end end }, { "b", nothing },
      { "c", function(ctx) ctx:sleep(100) end }, { "d", nothing }, { "e", nothing },
      { "f", function(ctx, x) ctx:sleep(x) end, options = { parallel = 3 } },
      { "g", nothing },
    }, { params = { m = "x", xs = { 1, 100, 100, 100 } }, on_start = function(e)
      e.after(5, function() e:cancel() end)
    end })
    assert.equal("CANCELLED", eng.status)
    assert.equal("a=CANCELLED b=CANCELLED c=CANCELLED d=CANCELLED e=PENDING f=CANCELLED g=SUCCEEDED", states(eng))
    assert.equal("run cancelled", eng.records.a.error)
    assert.is_true(eng.records.e.skipped)
    for id, frame in pairs(eng.frames) do
      assert.equal(id == "case2" and "PENDING" or "CANCELLED", frame.state, id)
    end
  end)

  --- Runs and cancels when an event of this text comes.
  local function cancelled_at(text, graph, rows)
    local engine
    return run(graph, rows, { on_start = function(e) engine = e end, on_event = function(e)
      if ("%s %s %s"):format(e.type, e.task or e.frame, e.state) == text then engine:cancel() end
    end })
  end

  it("before a loop opens, and between two iterations", function()
    local rows = { { "a", nothing }, { "b", nothing }, { "c", nothing } }
    local eng = cancelled_at("task a SUCCEEDED", "a >> b[3] >> c", rows)
    assert.equal("CANCELLED", eng.status)
    assert.equal("a=SUCCEEDED b=CANCELLED c=CANCELLED", states(eng))
    assert.equal(0, eng.records.b.iterations)
    eng = cancelled_at("iteration b SUCCEEDED", "a >> b[3] >> c", rows)
    assert.equal("CANCELLED", eng.status)
    assert.equal("a=SUCCEEDED b=CANCELLED c=CANCELLED", states(eng))
    assert.equal(1, eng.records.b.iterations)
  end)

  it("in loops that start no task", function()
    local engine_local, timer = require "pyoco.engine.local", require "pyoco.engine.timer"
    local eng = engine_local.run(flow.compiled('(switch("$ctx.m")["x" >> a][10000])[10000]', { { "a", nothing } }),
      { params = { m = "y" }, on_start = function(e) timer.after(0.01, function() e:cancel() end) end })
    assert.equal("CANCELLED", eng.status)
    assert.is_true(eng.frames.times2.iterations < 1e8)
  end)

  it("while an iteration waits for a retry", function()
    local eng, clock = run("b[3] & c", { { "b", function() error("no", 0) end, options = { retries = 1,
      retry_delay_sec = 3600 } }, { "c", nothing } }, { on_start = function(e)
      e.after(1, function() e:cancel() end)
    end })
    assert.equal(1, clock.now)
    assert.equal("b=CANCELLED c=SUCCEEDED", states(eng))
  end)

  it("after the last iteration changes nothing", function()
    for graph, text in pairs { ["b[1]"] = "iteration b SUCCEEDED", ['b % "true"'] = "iteration b SUCCEEDED",
      ["b[2]"] = "task b SUCCEEDED", ['switch("1")["1" >> b]'] = "task b SUCCEEDED" } do
      assert.equal("COMPLETED", cancelled_at(text, graph, { { "b", nothing } }).status, graph)
    end
  end)
end)
