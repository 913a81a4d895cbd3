--- What tasks of real loops and branches see: ctx.loop, items by alias, results by name and selector, save paths.
-- luacheck: ignore 431 (parameters are named after the tasks whose results they take)
local testing = require "pyoco.testing"
local pyoco = require "pyoco"

local task, flow = pyoco.task, pyoco.flow

--- Runs an expression over tasks; it must complete.
local function run(expression, opts)
  local result = testing.flow(flow("spec", expression), opts)
  assert.is_true(result.ok, result.error)
  return result
end

describe("a task in a loop over items", function()
  it("has the item by alias, in ctx, and the loop", function()
    local x = task("x", function(ctx, file)
      local loop = ctx.loop
      return { file.name, ctx.file.name, ctx.item.name, loop.index, loop.count, loop.item.name, #ctx.loops, loop.name }
    end)
    local result = run(x["$ctx.files as file"], { params = { files = { { name = "a" }, { name = "b" } } } })
    assert.same({ { "a", "a", "a", 0, 2, "a", 1, "each1" }, { "b", "b", "b", 1, 2, "b", 1, "each1" } },
      result.outputs.x)
  end)

  it("reads them by selector", function()
    local x = task("x", function(name, index, whole) return { name, index, whole } end,
      { inputs = { name = "$ctx.file.name", index = "$ctx.loop.index", whole = "$ctx.file" } })
    local result = run(x["$ctx.files as file"], { params = { files = { { name = "a" }, { name = "b" } } } })
    assert.same({ { "a", 0, { name = "a" } }, { "b", 1, { name = "b" } } }, result.outputs.x)
    assert.same({ name = "b", index = 1, whole = { name = "b" } }, result.records.x.inputs)
  end)

  it("sees this iteration's results; tasks after it see the lists", function()
    local a = task("a", function(n) return n * 10 end)
    local b = task("b", function(a, ctx) return { a, ctx.results.a, ctx:get("results.a"), ctx.results.before } end)
    local before = task("before", function() return "before" end)
    local after = task("after", function(a, b, ctx) return { a, b, ctx.results.a } end)
    local result = run(before >> (a >> b)["$ctx.list as n"] >> after, { params = { list = { 1, 2 } } })
    assert.same({ { 10, 10, 10, "before" }, { 20, 20, 20, "before" } }, result.outputs.b)
    assert.same({ { 10, 20 }, result.outputs.b, { 10, 20 } }, result.outputs.after)
  end)

  it("inside of another has both, and the list of the inner one after it", function()
    local x = task("x", function(ctx, row, cell)
      return ("%s%s%d%d"):format(row, cell, ctx.loops[1].index, ctx.loops[2].index)
    end)
    local after = task("after", function(x) return #x end)
    local result = run((x["$ctx.cells as cell"] >> after)["$ctx.rows as row"],
      { params = { rows = { "r", "s" }, cells = { "a", "b", "c" } } })
    assert.same({ { "ra00", "rb01", "rc02" }, { "sa10", "sb11", "sc12" } }, result.outputs.x)
    assert.same({ 3, 3 }, result.outputs.after)
  end)

  it("has the item as it was when the loop began, whatever is kept meanwhile", function()
    local before = task("before", function(ctx) ctx:set("params.files.0.name", "A") end)
    local x = task("x", function(ctx, file)
      ctx:set("params.files.1.name", "changed")
      return file.name
    end)
    local after = task("after", function(files) return { files[1].name, files[2].name } end)
    local result = run(before >> x["$ctx.files as file"] >> after,
      { params = { files = { { name = "a" }, { name = "b" } } } })
    assert.same({ "A", "b" }, result.outputs.x)
    assert.same({ "A", "changed" }, result.outputs.after)
  end)

  it("has a copy of the item", function()
    local x = task("x", function(file)
      file.name = file.name .. "!"
      return file.name
    end)
    local y = task("y", function(ctx, x) return { x, ctx.file.name } end)
    local result = run((x >> y)["$ctx.files as file"], { params = { files = { { name = "a" } } } })
    assert.same({ { "a!", "a" } }, result.outputs.y)
  end)
end)

describe("a task in a counted loop", function()
  it("has an index and a count, and no item", function()
    local x = task("x", function(ctx) return { ctx.loop.index, ctx.loop.count, ctx.item == nil } end)
    assert.same({ { 0, 2, true }, { 1, 2, true } }, run(x[2]).outputs.x)
  end)
end)

describe("a task in a loop with a condition", function()
  it("has an index; how many there will be nobody knows", function()
    local x = task("x", function(ctx)
      ctx:set("scratch.n", (ctx.scratch.n or 0) + 1)
      return { ctx.loop.index, ctx.loop.count == nil }
    end)
    assert.same({ { 0, true }, { 1, true }, { 2, true } }, run(x % "$ctx.scratch.n >= 3").outputs.x)
  end)

  it("may end it by what it keeps as a result or a param", function()
    local x = task("x", function(ctx) return ctx.loop.index end, { outputs = { "params.last" } })
    assert.same({ 0, 1, 2 }, run(x % "$ctx.last == 2").outputs.x)
  end)
end)

describe("a task in a branch", function()
  it("is in no loop, and its result is seen after the switch", function()
    local a = task("a", function(ctx) return { "a", ctx.loop == nil, #ctx.loops } end)
    local b = task("b", function() return "b" end)
    local after = task("after", function(a, b) return { a[1], b == nil } end)
    local result = run(pyoco.switch "$ctx.mode" { A = a, B = b } >> after, { params = { mode = "A" } })
    assert.same({ "a", true, 0 }, result.outputs.a)
    assert.same({ "a", true }, result.outputs.after)
  end)

  it("in a loop has that loop", function()
    local a = task("a", function(ctx, n) return n + ctx.loop.index end)
    local result = run(pyoco.switch "$ctx.n % 2" { ["0"] = a, ["*"] = task("odd", function(n) return -n end) }
      ["$ctx.list as n"], { params = { list = { 2, 3, 4 } } })
    assert.same({ 2, require("host.json").null, 6 }, result.outputs.a)
  end)
end)

describe("save paths in a loop", function()
  it("to scratch and params are the run's: the last iteration wins", function()
    local x = task("x", function(n) return n end, { outputs = { "scratch.last", "params.last", "scratch.by.last" } })
    local after = task("after", function(ctx, last) return { last, ctx.scratch.last, ctx.scratch.by.last } end)
    assert.same({ 3, 3, 3 }, run(x["$ctx.list as n"] >> after, { params = { list = { 1, 2, 3 } } }).outputs.after)
  end)

  it("to a result of the iteration are of that iteration; the others are the run's", function()
    local a = task("a", function(n) return { n = n } end)
    local b = task("b", function(n) return n * n end, { outputs = { "results.a.square", "results.total" } })
    local c = task("c", function(a, total) return { a.n, a.square, total } end)
    local after = task("after", function(a, total) return { #a, a[2].square, total } end)
    local result = run((a >> b >> c)["$ctx.list as n"] >> after, { params = { list = { 2, 3 } } })
    assert.same({ { 2, 4, 4 }, { 3, 9, 9 } }, result.outputs.c)
    assert.same({ 2, 9, 9 }, result.outputs.after)
  end)
end)

describe("artifacts in a loop", function()
  it("are the record's, the last of a name wins", function()
    local x = task("x", function(ctx, n)
      ctx:save_artifact("n-" .. n, n)
      ctx:save_artifact("last", n)
      return ctx.artifacts["n-1"]
    end)
    local result = run(x["$ctx.list as n"], { params = { list = { 1, 2 } } })
    assert.same({ ["n-1"] = 1, ["n-2"] = 2, last = 2 }, result.records.x.artifacts)
    assert.same({ 1, 1 }, result.outputs.x)
  end)
end)
