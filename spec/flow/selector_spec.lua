--- Selectors: reading and resolving.
local selector = require "pyoco.flow.selector"

local env = {
  params = { user = { name = "ann", tags = { "x", "y" } }, empty = "" },
  results = { fetch = { body = "text", list = { 10, 20 } }, ["my-task"] = 7 },
  env = { HOME = "/root" },
}

--- Resolves a selector given as text.
local function resolve(source)
  return selector.resolve(assert(selector.parse(source)), env)
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

  it("indexes arrays from 0", function()
    assert.equal("x", resolve "$ctx.params.user.tags.0")
    assert.equal(20, resolve "$node.fetch.output.list.1")
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
    assert.equal("$node.other.output.x: there is no 'x' in the output of other",
      (select(2, resolve "$node.other.output.x")))
    assert.equal("$node.my-task.output.x: there is no 'x' in the output of my-task",
      (select(2, resolve "$node.my-task.output.x")))
    assert.equal("$env.NOPE: NOPE is not set", (select(2, resolve "$env.NOPE")))
  end)

  it("refuses everything else", function()
    for _, source in ipairs { "$", "$ctx", "$ctx.params", "$ctx.params.", "$ctx.params.a..b", "$ctx.foo.x", "$node.a",
        "$node..output", "$node.a.outputs", "$node.a.output.", "$env.", "$env.a b", "$flow.name", "$x.y" } do
      local parsed, message, code = selector.parse(source)
      assert.is_nil(parsed, source)
      assert.equal("invalid", code)
      assert.truthy(message:find("Invalid reference '" .. source .. "'", 1, true))
    end
  end)
end)
