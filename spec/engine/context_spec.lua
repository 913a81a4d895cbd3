--- ctx: its fields, the names that are mistyped, and whose it is.
local flow = require "spec.support.flow"
local context = require "pyoco.engine.context"
local engine = require "pyoco.engine"
local json = require "host.json"

--- Runs one task that stands in scopes made by hand, innermost first: { index, item, as, results, frame }.
local function in_scopes(scopes, fn, options)
  options = options or {}
  local outer
  return flow.task(fn, { params = options.params, on_start = function(eng)
    for i = #scopes, 1, -1 do
      local scope = scopes[i]
      scope.parent, scope.results = outer, scope.results or {}
      outer = scope
    end
    eng.plan.by_name.t.scope = outer
  end })
end

local OUTER = { index = 1, item = { path = "b.csv" }, as = "file", frame = { id = "each1", count = 3 } }
local INNER = { index = 4, frame = { id = "until1" } }

local function loops() return { setmetatable({}, { __index = INNER }), setmetatable({}, { __index = OUTER }) } end

describe("ctx", function()
  it("has params, results, scratch, artifacts, env, run, attempt", function()
    local eng = flow.run({
      { "a", function(ctx)
        ctx:set("scratch.seen", { 1, 2 })
        ctx:save_artifact("model", { loss = 0.5 })
        return { n = 1 }
      end },
      { "t", function(ctx)
        return { ctx.params.x, ctx.results.a.n, ctx.scratch.seen[2], ctx.artifacts.model.loss, ctx.env.HOME_OF,
          ctx.run.run_id, ctx.run.tag, ctx.run.flow_name, ctx.attempt }
      end, needs = "a" },
    }, { params = { x = 7 }, env = { HOME_OF = "us" }, run = { run_id = "r1", tag = "gpu" } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ 7, 1, 2, 0.5, "us", "r1", "gpu", "spec", 1 }, eng.records.t.output)
  end)

  it("has nil where the job has null", function()
    local run = { run_id = "r", flow_name = json.null, tags = json.null, tag = "t" }
    local eng = flow.run({ { "t", function(ctx, flow_name)
      return { ctx.run.flow_name, flow_name, ctx.run.tags == nil, ctx.run.tag }
    end, inputs = { flow_name = "$flow.name" } } }, { run = run })
    assert.same({ "spec", "spec", true, "t" }, eng.records.t.output)
  end)

  it("has no loop outside of one", function()
    local record = flow.task(function(ctx) return { ctx.loop == nil, #ctx.loops, ctx.item == nil } end)
    assert.same({ true, 0, true }, record.output)
  end)

  it("has the loops around the task, the innermost one's fields, and items by their alias", function()
    local record = in_scopes(loops(), function(ctx)
      return { loop = ctx.loop, loops = ctx.loops, item = ctx.item, alias = ctx.file.path }
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    local outer = { index = 1, count = 3, item = { path = "b.csv" }, name = "each1" }
    assert.same({ loop = { index = 4, name = "until1" }, loops = { outer, { index = 4, name = "until1" } },
      item = { path = "b.csv" }, alias = "b.csv" }, record.output)
  end)

  it("has the item of the loop whose alias is item, even inside of another", function()
    local record = in_scopes({ { index = 0, item = "in", as = "x", frame = { id = "each2" } },
      { index = 0, item = "out", as = "item", frame = { id = "each1" } } }, function(ctx, item)
        return { ctx.item, item, ctx.x }
      end)
    assert.same({ "out", "out", "in" }, record.output)
  end)

  it("hands out copies: what a task does to them is seen by nobody", function()
    local eng = flow.run({
      { "a", function(ctx)
        ctx:set("scratch.list", { 1 })
        ctx.scratch.list[1] = "changed"
        ctx.params.list[1] = "changed"
        ctx.run.tag = "changed"
        ctx.env.X = "changed"
      end },
      { "t", function(ctx)
        return { ctx.scratch.list[1], ctx.params.list[1], ctx.run.tag, ctx.env.X }
      end, needs = "a" },
    }, { params = { list = { 1 } }, env = { X = "x" }, run = { tag = "gpu" } })
    assert.same({ 1, 1, "gpu", "x" }, eng.records.t.output)
  end)

  it("shows what was shared meanwhile, also where it has looked before", function()
    local eng = flow.run {
      { "a", function(ctx)
        ctx:set("scratch.n.x", 1)
        local before = ctx.scratch.n.x
        ctx:sleep(0)
        return { before, ctx.scratch.n.x, ctx.results.b }
      end },
      { "b", function(ctx) ctx:set("scratch.n.x", 2); return "b" end },
    }
    assert.same({ 1, 2, "b" }, eng.records.a.output)
  end)

  it("can be returned in parts: a view of the results is the results", function()
    local eng = flow.run {
      { "a", function() return { 1 } end }, { "b", function() return "x" end },
      { "t", function(ctx)
        local names = {}
        for name in pairs(ctx.results) do names[#names + 1] = name end
        table.sort(names)
        return { ctx.results, names }
      end, needs = { all = { "a", "b" } } },
    }
    assert.same({ { a = { 1 }, b = "x" }, { "a", "b" } }, eng.records.t.output)
  end)

  it("lists its fields in pairs", function()
    local record = flow.task(function(ctx)
      local names = {}
      for name, value in pairs(ctx) do
        assert(type(name) == "string", "a hidden key")
        names[name] = type(value)
      end
      return names
    end)
    assert.same({ attempt = "number", params = "table", results = "table", scratch = "table", artifacts = "table",
      env = "table", run = "table", loops = "table" }, record.output)
  end)

  it("refuses assignments, with the remedy", function()
    for what, fn in pairs {
      ["ctx.total cannot be assigned: keep a value of your own in a local; share one by ctx:set(\"scratch.total\","]
        = function(ctx) ctx.total = 1 end,
      ["ctx.scratch is read only: other tasks see what ctx:set(\"scratch.n\", value) keeps"]
        = function(ctx) ctx.scratch.n = 1 end,
      ["ctx.results is read only: other tasks see what ctx:set(\"results.n\", value) keeps"]
        = function(ctx) ctx.results.n = 1 end,
    } do
      local record = flow.task(fn)
      assert.truthy(record.error:find("context_spec.lua:%d+: "), record.error)
      assert.truthy(record.error:find(what, 1, true), record.error)
    end
  end)
end)

describe("a mistyped name of ctx", function()
  for code, hint in pairs {
    ["ctx:slep(1)"] = "attempt to call a nil value (method 'slep'); ctx has no 'slep': did you mean ctx:sleep?",
    ["ctx.slep(1)"] = "attempt to call a nil value (field 'slep'); ctx has no 'slep': did you mean ctx:sleep?",
    ["return ctx.parms.x"]
      = "attempt to index a nil value (field 'parms'); ctx has no 'parms': did you mean ctx.params?",
    ["ctx:save('x', 1)"] = "ctx has no 'save': did you mean ctx:save_artifact?",
  } do
    it(code .. " is explained", function()
      local fn = assert(load("local ctx = ... " .. code, "=flow.lua"))
      local record = flow.task(function(ctx) fn(ctx) end)
      assert.truthy(record.error:find(hint, 1, true), record.error)
    end)
  end

  it("does not raise where it is only read", function()
    assert.is_true(flow.task(function(ctx) return ctx.no_such_thing == nil end).output)
  end)

  it("is not blamed for another object's", function()
    local record = flow.task(function(ctx)
      local _ = ctx.slep
      local object = {}
      object:sleeep()
    end)
    assert.truthy(record.error:find("(method 'sleeep')", -18, true), record.error)
  end)

  it("far from any name is left as it is", function()
    assert.truthy(flow.task(function(ctx) ctx:frobnicate() end).error:find("(method 'frobnicate')", -21, true))
  end)
end)

describe("a method of ctx", function()
  it("called with a dot says so", function()
    for name, fn in pairs {
      sleep = function(ctx) ctx.sleep(1) end, log = function(ctx) ctx.log("x") end,
      exec = function(ctx) ctx.exec { "ls" } end, set = function(ctx) ctx.set("scratch.x", 1) end,
    } do
      local record = flow.task(fn)
      local text = ("ctx:%s: called without its ctx; write ctx:%s(...), with a colon"):format(name, name)
      assert.truthy(record.error:find("context_spec.lua:%d+: "), record.error)
      assert.truthy(record.error:find(text, 1, true), record.error)
    end
  end)

  it("of a task that has ended is refused in another task's coroutine, whatever it is", function()
    local kept, co
    local eng = flow.run {
      { "a", function(ctx)
        kept = ctx
        co = coroutine.create(function() coroutine.yield() kept:log("late") end)
        coroutine.resume(co)
      end },
      { "b", function()
        local messages = {}
        for _, call in ipairs {
          function() kept:log("x") end, function() kept:set("scratch.x", 1) end, function() kept:get("scratch.x") end,
          function() kept:save_artifact("x", 1) end, function() kept:exec { "ls" } end,
          function() kept:http { url = "http://localhost" } end, function() kept:sleep(0) end,
        } do messages[#messages + 1] = select(2, pcall(call)) end
        messages[#messages + 1] = select(2, coroutine.resume(co))
        return messages
      end, needs = "a" },
    }
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal(8, #eng.records.b.output)
    for _, message in ipairs(eng.records.b.output) do
      assert.truthy(message:find("this ctx is task 'a''s, and here runs task 'b': every task has a ctx of its own", 1,
        true), message)
    end
    assert.is_nil(eng.records.b.log_tail)
    assert.is_nil(eng.scratch)
    assert.same({}, eng.records.a.artifacts)
  end)

  it("of an earlier attempt is refused", function()
    local kept
    local record = flow.task(function(ctx)
      kept = ctx
      local _, node = context.of(ctx)
      node.attempt = 2 -- as the engine does before it starts the task again
      kept:log("x")
    end)
    assert.truthy(record.error:find("this ctx is task 't''s, of an attempt that has ended", 1, true), record.error)
  end)

  it("leaves the fields of a ctx that was kept", function()
    local kept
    flow.run({ { "a", function(ctx) kept = ctx end } }, { params = { x = 5 } })
    assert.equal(5, kept.params.x)
    assert.is_nil(kept.loop)
    assert.is_false(kept:cancelled())
  end)
end)

describe("ctx:log", function()
  it("takes anything; a pattern that does not fit is an error at its line", function()
    local record = flow.task(function(ctx)
      ctx:log(5)
      ctx:log(nil)
      ctx:log("%d%%", 5)
      ctx:log("%5.1f|%s", 2, { 1 } and "x")
    end)
    assert.equal("5\nnil\n5%\n  2.0|x\n", record.log_tail)
    record = flow.task(function(ctx) ctx:log("%d", "x") end)
    assert.truthy(record.error:find("context_spec.lua:%d+: ctx:log: bad argument #2 to '[%w.]+'"), record.error)
  end)
end)

describe("context.of", function()
  it("tells the engine and the node, for a ctx only", function()
    local found
    local _, eng = flow.task(function(ctx) found = { context.of(ctx) } end)
    assert.equal(eng, found[1])
    assert.equal("t", found[2].name)
    for _, value in ipairs { 1, "x", {}, json.null, setmetatable({}, { __name = "ctx" }) } do
      assert.is_nil((context.of(value)))
    end
    assert.is_nil((context.of(nil)))
  end)
end)

describe("ctx:exec and ctx:http", function()
  it("can be given by the engine's owner", function()
    local eng = flow.run({ { "t", function(ctx)
      return { ctx:exec({ "ls" }).stdout, ctx:http({ url = "u" }).body }
    end } }, { exec = function(spec, ctx) return { stdout = spec[1] .. ctx.attempt } end,
      http = function(spec) return { body = spec.url } end })
    assert.same({ "ls1", "u" }, eng.records.t.output)
    assert.is_function(engine.await)
  end)
end)
