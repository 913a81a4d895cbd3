--- ctx:set and ctx:get, and save paths in `outputs`.
local flow = require "spec.support.flow"
local json = require "host.json"
local save = require "pyoco.engine.save"

--- Rows { name, fn, outputs = list, needs } run to their end.
local function run(rows, options)
  local object = flow.of(rows, options)
  for i, row in ipairs(rows) do object.graph.nodes[i].outputs = row.outputs or {} end
  return assert(require("pyoco.engine.local").run(object, options))
end

describe("outputs", function()
  it("keep a task's result for later tasks: by name, by selector, in ctx", function()
    local eng = run({
      { "a", function() return { n = 1 } end, outputs = { "scratch.x", "results.kept.deep", "params.y" } },
      { "b", function(ctx, kept, y, s) return { ctx.scratch.x.n, kept.deep.n, y.n, ctx.results.kept.deep.n, s } end,
        needs = "a", inputs = { s = "$node.kept.output.deep.n" } },
    })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ 1, 1, 1, 1, 1 }, eng.records.b.output)
    assert.same({ n = 1 }, eng.records.a.output)
  end)

  it("of two tasks: the last to write wins", function()
    local eng = run({
      { "a", function() return "a" end, outputs = { "scratch.x" } },
      { "b", function() return "b" end, outputs = { "scratch.x" }, needs = "a" },
      { "c", function(ctx) return ctx.scratch.x end, needs = "b" },
    })
    assert.equal("b", eng.records.c.output)
  end)

  it("of one task are copies of their own", function()
    local eng = run({
      { "a", function() return { n = 1 } end, outputs = { "scratch.x", "scratch.y" } },
      { "b", function(ctx) ctx:set("scratch.x.n", 2) return { ctx.scratch.x.n, ctx.scratch.y.n } end, needs = "a" },
    })
    assert.same({ 2, 1 }, eng.records.b.output)
    assert.same({ n = 1 }, eng.records.a.output)
  end)

  it("of a task without a result keep null", function()
    local eng = run({
      { "a", function() end, outputs = { "params.y" } },
      { "b", function(y) return y == nil end, needs = "a" },
    }, { params = { y = 5 } })
    assert.is_true(eng.records.b.output)
    assert.equal(json.null, eng.params.y)
  end)

  it("through what is no table fail the task, and nothing is kept", function()
    for path, problem in pairs {
      ["params.n.x"] = "params.n is the number 5: nothing can be kept inside of it",
      ["params.t.a.b.c"] = "params.t.a is the text \"deep\": nothing can be kept inside of it",
      ["results.first.x"] = "results.first is the boolean true: nothing can be kept inside of it",
      ["params.list.x"] = "params.list is a list of 2: 'x' is no index in it and not the next one",
      ["params.list.3"] = "params.list is a list of 2: '3' is no index in it and not the next one",
    } do
      local eng = run({
        { "first", function() return true end },
        { "a", function() return 1 end, outputs = { path }, needs = "first" },
      }, { params = { n = 5, t = { a = "deep" }, list = { 1, 2 } } })
      assert.equal("FAILED", eng.status)
      assert.equal(("outputs '%s': %s"):format(path, problem), eng.error)
      assert.same({ n = 5, t = { a = "deep" }, list = { 1, 2 } }, eng.params)
      assert.same({ first = true }, eng.results)
      assert.is_nil(eng.records.a.output)
    end
  end)

  it("that are no save path fail the task", function()
    local eng = run({ { "a", function() return 1 end, outputs = { "somewhere" } } })
    assert.equal("outputs: save path 'somewhere': it must begin with scratch., results. or params.", eng.error)
  end)

  it("in a loop go to the results that have the name, from the inside out", function()
    local eng = flow.run { { "a", function() end } }
    local outer = { results = { here = { n = 1 } } }
    local inner = { results = { mine = { n = 1 } }, parent = outer }
    local node = { scope = inner, spec = { outputs = { "results.here.x", "results.mine.x", "results.new.x" } } }
    assert.is_nil(save.apply(eng, node, 7))
    assert.same({ here = { n = 1, x = 7 } }, outer.results)
    assert.same({ mine = { n = 1, x = 7 } }, inner.results)
    assert.same({ new = { x = 7 } }, eng.results)
  end)
end)

describe("ctx:set", function()
  it("makes the tables on the way, indexes lists from 0, appends to them", function()
    local record = flow.task(function(ctx)
      ctx:set("scratch.a.b.c", 1)
      ctx:set("scratch.list", { "x", { y = 1 } })
      ctx:set("scratch.list.1.y", 2)
      ctx:set("scratch.list.2", "appended")
      ctx:set("scratch.list.3.deep", true)
      ctx:set({ "scratch", "file.txt", "n" }, 5)
      return ctx.scratch
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.same({ a = { b = { c = 1 } }, list = { "x", { y = 2 }, "appended", { deep = true } },
      ["file.txt"] = { n = 5 } }, record.output)
  end)

  it("removes with nil; a place inside of a list becomes null", function()
    local record = flow.task(function(ctx)
      ctx:set("scratch.a", { x = 1, y = 2 })
      ctx:set("scratch.a.x", nil)
      ctx:set("scratch.gone", 1)
      ctx:set("scratch.gone", nil)
      ctx:set("scratch.list", { 1, 2, 3 })
      ctx:set("scratch.list.0", nil)
      ctx:set("scratch.list.2", nil)
      return ctx.scratch
    end)
    assert.equal('{"a":{"y":2},"list":[null,2]}', json.encode(record.output, { sort = true }))
  end)

  it("copies: later changes of what was given are not seen", function()
    local record = flow.task(function(ctx)
      local given = { n = 1 }
      ctx:set("scratch.x", given)
      given.n = 2
      ctx:get("scratch.x").n = 3
      return ctx.scratch.x
    end)
    assert.same({ n = 1 }, record.output)
  end)

  for what, case in pairs {
    ["a path that is none"] = { "nowhere", 1, "ctx:set: save path 'nowhere': it must begin" },
    ["no path"] = { nil, 1, "ctx:set: expected a path such as scratch.name, got a nil" },
    ["a root alone"] = { "scratch", 1, "ctx:set: save path 'scratch': it names no value: write scratch.NAME" },
    ["a function"] = { "scratch.x", print, "ctx:set: scratch.x: JSON cannot carry a function" },
    ["NaN inside"] = { "scratch.x", { a = { 0 / 0 } }, "ctx:set: scratch.x.a[1]: JSON cannot carry NaN" },
    ["a way through a text"] = { "params.p.x", 1,
      "ctx:set 'params.p.x': params.p is the text \"text\": nothing can be kept inside of it" },
  } do
    it("of " .. what .. " raises where it was called", function()
      local record = flow.task(function(ctx) ctx:set(case[1], case[2]) end, { params = { p = "text" } })
      assert.truthy(record.error:find("save_spec.lua:%d+: "), record.error)
      assert.truthy(record.error:find(case[3], 1, true), record.error)
    end)
  end

  it("names a long text by its beginning, cut at a character", function()
    local record = flow.task(function(ctx) ctx:set("params.p.x", 1) end, { params = { p = ("\u{20AC}"):rep(50) } })
    assert.truthy(utf8.len(record.error))
    assert.truthy(record.error:find(("\u{20AC}"):rep(13) .. "...\"", 1, true), record.error)
  end)

  it("ten thousand times into one table is linear", function()
    local record = flow.task(function(ctx)
      for i = 1, 10000 do ctx:set({ "scratch", "seen", "k" .. i }, true) end
      local count = 0
      for _ in pairs(ctx.scratch.seen) do count = count + 1 end
      return count
    end)
    assert.equal(10000, record.output)
  end)
end)

describe("ctx:get", function()
  it("reads what is there, or the default", function()
    local eng = flow.run({
      { "a", function() return { list = { "x", { y = 1 } } } end },
      { "t", function(ctx)
        ctx:set("scratch.off", false)
        return { ctx:get("results.a.list.1.y"), ctx:get("results.a.list.9", "none"), ctx:get("params.p"),
          ctx:get("params.p.deeper", "none"), ctx:get("scratch.nothing.at.all", "none"), ctx:get("scratch.off", true),
          ctx:get("params.null", "none"), ctx:get("params").p, ctx:get("results").a.list[1], ctx:get("scratch").off }
      end, needs = "a" },
    }, { params = { p = "text", null = json.null } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ 1, "none", "text", "none", "none", false, "none", "text", "x", false }, eng.records.t.output)
  end)

  it("of a path that is none raises", function()
    local record = flow.task(function(ctx) ctx:get("scratch..x") end)
    assert.truthy(record.error:find("save_spec.lua:%d+: ctx:get: save path 'scratch..x': it has an empty"))
  end)
end)

describe("whatever is kept in whatever order", function()
  local save_path = require "pyoco.flow.save_path"
  local wiring = require "pyoco.engine.wiring"

  local PATHS <const> = { "a", "a.x", "a.x.y", "a.list", "a.list.0", "a.list.1.z", "b", "b.x", "b.list.2" }
  local INPUTS <const> = { "$ctx.scratch", "$ctx.scratch.a", "$ctx.scratch.a.x", "$ctx.params", "$ctx.params.a",
    "$ctx.params.a.list", "$ctx.b", "$node.a.output", "$node.a.output.x", "$node.b.output", "$ctx.results" }

  --- A value of some shape.
  local function some(random)
    local kinds = { 1, "text", true, { x = { y = 1 } }, { list = { 1, { z = 2 }, 3 } }, { 1, { z = 1 } }, {} }
    return require("pyoco.engine.value").copy(kinds[random(#kinds)])
  end

  local function text(value) return json.encode(value, { sort = true }) end

  it("what was handed out or recorded before stays", function()
    local seed = 20251125
    local function random(n)
      seed = (seed * 1103515245 + 12345) % 0x80000000
      return (seed >> 8) % n + 1
    end
    for _ = 1, 60 do
      local eng = flow.run({ { "a", function() return { x = { y = 0 }, list = { 0, { z = 0 } } } end },
        { "b", function() return { 1, 2 } end } }, { params = { a = { x = {}, list = { 1, 2 } }, b = 5 } })
      local held = { { eng.records.a.output, text(eng.records.a.output) } }
      for _ = 1, 60 do
        if random(3) > 1 then
          local root = ({ "scratch.", "params.", "results." })[random(3)]
          save.set(eng, nil, assert(save_path.parse(root .. PATHS[random(#PATHS)])), some(random))
        else
          local inputs = wiring.inputs { name = "t", inputs = { i = INPUTS[random(#INPUTS)] } }
          local _, recorded = wiring.arguments(eng, { name = "t", inputs = inputs, params = { "a", "b", "i" },
            spec = {}, eng = eng })
          if type(recorded) == "table" then held[#held + 1] = { recorded, text(recorded) } end
        end
      end
      for _, it in ipairs(held) do assert.equal(it[2], text(it[1])) end
    end
  end)
end)
