--- Save paths: what may stand in `outputs` and in ctx:set.
local save_path = require "pyoco.flow.save_path"

describe("a save path", function()
  it("is a root and steps", function()
    local path = assert(save_path.parse("scratch.seen.count-1.0"))
    assert.same({ root = "scratch", text = "scratch.seen.count-1.0", "seen", "count-1", "0" }, path)
    assert.equal("results", save_path.parse("results.fetch").root)
    assert.equal("params", save_path.parse("params.limit").root)
    assert.same("größe", save_path.parse("scratch.größe")[1])
  end)

  it("may be a list of steps, which hold any text, and indices", function()
    local path = assert(save_path.parse { "scratch", "a.txt", 0, "x y" })
    assert.same({ root = "scratch", text = 'scratch["a.txt"].0["x y"]', "a.txt", "0", "x y" }, path)
  end)

  it("may be a root alone only where that is asked for", function()
    assert.equal(0, #save_path.parse("scratch", true))
    local path, message, code = save_path.parse("scratch")
    assert.is_nil(path)
    assert.equal("save path 'scratch': it names no value: write scratch.NAME", message)
    assert.equal("invalid", code)
  end)

  for path, problem in pairs {
    ["x.y"] = "it must begin with scratch., results. or params.",
    [""] = "it must begin with scratch., results. or params.",
    ["$ctx.scratch.x"] = "it must begin with scratch., results. or params.",
    ["scratch."] = "it has an empty step",
    ["scratch..x"] = "it has an empty step",
    ["scratch.a b"] = "'a b' is not a plain name",
    ["scratch.a[0]"] = "'a[0]' is not a plain name",
    ["scratch.\xff"] = "it is not UTF-8",
    ["scratch" .. (".x"):rep(70)] = "it has more than 64 steps",
  } do
    it(("'%s' is refused"):format(#path > 40 and "a long one" or path), function()
      local parsed, message, code = save_path.parse(path)
      assert.is_nil(parsed)
      assert.truthy(message:find(("save path '%s': %s"):format(path, problem), 1, true), message)
      assert.equal("invalid", code)
    end)
  end

  it("of another type is refused", function()
    for _, path in ipairs { 5, true, {}, { "scratch", {} }, { "scratch", 1.5 }, { 1 }, print } do
      local parsed, message = save_path.parse(path)
      assert.is_nil(parsed)
      assert.truthy(message:find("expected a path", 1, true) or message:find("step", 1, true)
        or message:find("must begin", 1, true), message)
    end
    assert.is_nil((save_path.parse(nil)))
  end)
end)
