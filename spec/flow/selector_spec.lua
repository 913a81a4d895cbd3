--- Selectors: reading and resolving.
local selector = require "pyoco.flow.selector"

local params = { user = { name = "ann", tags = { "x", "y" }, ["first name"] = "Ann", ["a.b"] = 1 }, empty = "" }
local results = { fetch = { body = "text", list = { 10, { k = 20 } } }, ["my-task"] = 7, ["a.b"] = { c = 8 } }
local roots = { params = params, results = results, loop = { index = 2 } }
local sources = {
  ctx = function(name)
    if roots[name] ~= nil then return roots[name] end
    return params[name]
  end,
  node = function(task) return results[task] end,
  flow = { name = "etl", run_id = "r1", tag = "gpu" },
  env = { HOME = "/root" },
}

--- Resolves a selector given as text.
local function resolve(source)
  return selector.resolve(assert(selector.parse(source)), sources)
end

describe("selector", function()
  it("tells selectors from literals", function()
    assert.is_true(selector.is_selector "$ctx.params.x")
    assert.is_false(selector.is_selector "costs $5")
    assert.is_false(selector.is_selector(5))
  end)

  it("resolves params, outputs and variables", function()
    assert.equal("ann", resolve "$ctx.params.user.name")
    assert.equal("", resolve "$ctx.params.empty")
    assert.equal("text", resolve "$node.fetch.output.body")
    assert.equal(7, resolve "$node.my-task.output")
    assert.equal("/root", resolve "$env.HOME")
  end)

  it("finds a name after $ctx among its roots first, then among the params", function()
    assert.equal("ann", resolve "$ctx.user.name")
    assert.equal(2, resolve "$ctx.loop.index")
    assert.equal("text", resolve "$ctx.results.fetch.body")
    assert.equal(params, resolve "$ctx.params")
  end)

  it("resolves fields of the flow", function()
    assert.equal("etl", resolve "$flow.name")
    assert.equal("r1", resolve "$flow.run_id")
    assert.equal("$flow.started_at: there is no started_at here", (select(2, resolve "$flow.started_at")))
  end)

  it("takes keys in brackets and quotes", function()
    assert.equal("Ann", resolve [=[$ctx.params.user["first name"]]=])
    assert.equal("Ann", resolve [=[$ctx["user"]['first name']]=])
    assert.equal(1, resolve [=[$ctx.user["a.b"]]=])
    assert.equal(8, resolve '$node["a.b"].output.c')
    assert.equal(8, resolve "$node.a.b.output.c")
  end)

  it("indexes arrays from 0", function()
    assert.equal("x", resolve "$ctx.params.user.tags.0")
    assert.equal("y", resolve "$ctx.params.user.tags[1]")
    assert.equal(20, resolve "$node.fetch.output.list.1.k")
    assert.equal(20, resolve "$node.fetch.output.list[1].k")
  end)

  it("gives nothing, and no error, for a task that has given nothing", function()
    assert.same({ n = 1 }, table.pack(resolve "$node.other.output"))
  end)

  it("says what is missing", function()
    local _, message, code = resolve "$ctx.params.x"
    assert.same({ "Param 'x' not found in context.", "not_found" }, { message, code })
    assert.equal("$ctx.params.user.age: there is no 'age' in 'user'", (select(2, resolve "$ctx.params.user.age")))
    assert.equal("$node.fetch.output.nope: there is no 'nope' in the output of fetch",
      (select(2, resolve "$node.fetch.output.nope")))
    assert.equal("$node.other.output.x: there is no 'x' in the output of other, which is null",
      (select(2, resolve "$node.other.output.x")))
    assert.equal("$node.my-task.output.x: there is no 'x' in the output of my-task, which is a number",
      (select(2, resolve "$node.my-task.output.x")))
    assert.equal("$ctx.user.tags[2]: there is no '2' in 'user.tags'", (select(2, resolve "$ctx.user.tags[2]")))
    assert.equal("$ctx.user.name.first: there is no 'first' in 'user.name', which is a text",
      (select(2, resolve "$ctx.user.name.first")))
    assert.equal("Param 'x' not found in context.", (select(2, resolve "$ctx.x.y")))
    assert.equal("$ctx.loops: there is no loops here", (select(2, resolve "$ctx.loops")))
    assert.equal("$env.NOPE: NOPE is not set", (select(2, resolve "$env.NOPE")))
  end)

  it("refuses everything else", function()
    for _, source in ipairs { "$", "$ctx", "$ctx.", "$ctx.params.", "$ctx.params.a..b", "$ctx[0]", "$ctx.a[",
        "$ctx.a[b]", "$ctx.a[-1]", "$ctx.a[0]b", "$ctx.a['b]", "$node.a", "$node..output", "$node.a.outputs",
        "$node.a.output.", "$node[1].output", "$env.", "$env.a b", "$env.a.b", "$flow", "$flow.nope", "$flow.name.x",
        "$x.y", "$ctxparams" } do
      local parsed, message, code = selector.parse(source)
      assert.is_nil(parsed, source)
      assert.equal("invalid", code)
      assert.truthy(message:find("Invalid reference '" .. source .. "'", 1, true))
    end
  end)
end)
