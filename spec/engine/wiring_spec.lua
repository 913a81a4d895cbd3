--- What tasks and selectors are given, seen from the scopes of loops.
local flow = require "spec.support.flow"
local engine = require "pyoco.engine"
local json = require "host.json"
local wiring = require "pyoco.engine.wiring"

--- An engine that has not run, with results, and a chain of scopes: outermost first.
local function prepared(scopes, options)
  options = options or {}
  local eng = engine.new(flow.of({ { "t", options.fn or function() end, inputs = options.inputs } },
    { defaults = { x = "param" } }), { params = options.params, env = { TOKEN = "secret" },
      run = { run_id = "r1", tag = "gpu", started_at = 5 } })
  for name, output in pairs(options.results or {}) do eng.results[name] = output end
  local scope
  for _, it in ipairs(scopes) do
    it.parent, it.results = scope, it.results or {}
    scope = it
  end
  eng.plan.by_name.t.scope = scope
  return eng, scope
end

describe("sources", function()
  it("of the run's own scope: params by name and whole, results, flow, env", function()
    local eng = prepared({}, { results = { a = { 1 } } })
    local sources = wiring.sources(eng)
    assert.equal("param", sources.ctx "x")
    assert.same({ x = "param" }, sources.ctx "params")
    assert.same({ a = { 1 } }, sources.ctx "results")
    assert.same({}, sources.ctx "scratch")
    assert.same({}, sources.ctx "artifacts")
    assert.same({}, sources.ctx "loops")
    assert.is_nil(sources.ctx "loop")
    assert.is_nil(sources.ctx "nothing")
    assert.same({ 1 }, sources.node "a")
    assert.is_nil(sources.node "nobody")
    assert.same({ name = "spec", run_id = "r1", tag = "gpu", started_at = 5 }, sources.flow)
    assert.same({ TOKEN = "secret" }, sources.env)
    assert.equal(sources, wiring.sources(eng))
  end)

  it("of a loop: this iteration's results first, then outward; aliases, inner ones first", function()
    local eng, scope = prepared({
      { index = 0, item = "outer", as = "file", results = { a = "outer a", b = "outer b" }, frame = { id = "each1" } },
      { index = 2, item = "inner", as = "x", results = { a = "inner a" }, frame = { id = "each2", count = 3 } },
    }, { results = { a = "top a", c = "top c" } })
    local sources = wiring.sources(eng, scope)
    assert.same({ "inner a", "outer b", "top c" }, { sources.node "a", sources.node "b", sources.node "c" })
    assert.same({ a = "inner a", b = "outer b", c = "top c" }, sources.ctx "results")
    assert.equal("outer", sources.ctx "file")
    assert.equal("inner", sources.ctx "x") -- before the param of that name
    assert.equal("inner", sources.ctx "item")
    assert.same({ index = 2, count = 3, item = "inner", name = "each2" }, sources.ctx "loop")
    assert.equal(2, #sources.ctx "loops")
    assert.equal("top a", wiring.sources(eng).node "a")
  end)

  it("show what has been kept meanwhile", function()
    local eng = flow.run {
      { "a", function(ctx)
        ctx:set("scratch.x", 1)
        ctx:set("params.y", 2)
        ctx:set("results.z", 3)
      end },
    }
    local sources = wiring.sources(eng)
    assert.same({ 1, 2, 2, 3 },
      { sources.ctx("scratch").x, sources.ctx "y", sources.ctx("params").y, sources.node "z" })
  end)
end)

describe("a task's arguments in a loop", function()
  --- Its arguments by name, and what the record shows.
  local function arguments(scopes, fn, options)
    options = options or {}
    options.fn = fn
    local eng = prepared(scopes, options)
    local node = eng.plan.by_name.t
    local list, recorded, count = wiring.arguments(eng, node)
    assert(list, recorded)
    return { table.unpack(list, 1, count) }, recorded
  end

  it("are inputs, then aliases from the inside out, then params, then results", function()
    local scopes = {
      { index = 0, item = "outer file", as = "file", results = { r = "outer r" }, frame = { id = "each1" } },
      { index = 0, item = "inner x", as = "x", results = { r = "inner r" }, frame = { id = "each2" } },
    }
    local list, recorded = arguments(scopes, function(file, x, r, top, i) return file, x, r, top, i end,
      { inputs = { i = "literal" }, results = { r = "top r", top = "top", file = "no", x = "no" } })
    assert.same({ "outer file", "inner x", "inner r", "top", "literal" }, list)
    assert.same({ file = "outer file", x = "inner x", r = "inner r", top = "top", i = "literal" }, recorded)
  end)

  it("are the innermost item where two loops have one alias", function()
    assert.same({ 2 }, (arguments({ { index = 0, item = 1, as = "i", frame = {} },
      { index = 0, item = 2, as = "i", frame = {} } }, function(i) return i end)))
  end)

  it("are nil for an item that is null, and the record says null", function()
    local list, recorded = arguments({ { index = 0, item = json.null, as = "i", frame = {} } },
      function(i) return i end)
    assert.same({}, list)
    assert.equal(json.null, recorded.i)
  end)

  it("are copies of an item that is a table", function()
    local item = { n = 1 }
    local list = arguments({ { index = 0, item = item, as = "i", frame = {} } }, function(i) return i end)
    list[1].n = 2
    assert.same({ n = 1 }, item)
  end)
end)

describe("a command task's arguments", function()
  it("are ctx, its inputs, and what replaces selectors", function()
    local eng = prepared({}, { inputs = { lr = "$ctx.params.x", n = 3, none = "$node.a.output" },
      results = { b = { list = { 10, 20 } } } })
    local node = eng.plan.by_name.t
    node.spec.command, node.params = { run = { "train" } }, {}
    local list, recorded, count = wiring.arguments(eng, node)
    assert(list, recorded)
    assert.equal(3, count)
    assert.equal(1, list[1].attempt)
    assert.same({ lr = "param", n = 3, none = json.null }, list[2])
    assert.same(recorded, list[2])
    assert.not_equal(recorded, list[2])
    local resolve = list[3]
    assert.equal("plain", resolve "plain")
    assert.equal(5, resolve(5))
    assert.equal(20, resolve "$node.b.output.list.1")
    local value, message = resolve "$ctx.params.nope"
    assert.is_nil(value)
    assert.equal("Param 'nope' not found in context.", message)
    value, message = resolve "$what"
    assert.is_nil(value)
    assert.truthy(message:find("$what", 1, true))
  end)
end)

describe("what a record shows", function()
  it("is what the task got, whatever is kept later", function()
    local eng = flow.run({
      { "a", function(ctx)
        ctx:set("scratch.deep.list", { 1 })
        return { n = 1 }
      end },
      { "b", function(a, deep, p, whole) return { a, deep, p, whole } end, needs = "a",
        inputs = { deep = "$ctx.params.deep", whole = "$ctx.params" .. ".deep.x" } },
      { "c", function(ctx)
        ctx:set("results.a.n", 2)
        ctx:set("params.deep.x", "changed")
        ctx:set("params.p.q", "changed")
        ctx:set("scratch.deep.list.0", 2)
      end, needs = "b" },
      { "d", function(a, deep, p) return { a, deep, p } end, needs = "c" },
    }, { params = { deep = { x = "x" }, p = { q = "q" } } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ a = { n = 1 }, deep = { x = "x" }, p = { q = "q" }, whole = "x" }, eng.records.b.inputs)
    assert.same({ n = 1 }, eng.records.a.output)
    assert.same({ { n = 2 }, { x = "changed" }, { q = "changed" } }, eng.records.d.output)
  end)
end)
