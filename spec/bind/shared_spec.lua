local shared = require "host.shared"

describe("host.shared", function()
  after_each(function()
    for _, key in ipairs(shared.keys("spec.")) do shared.delete(key) end
  end)

  it("keeps strings, numbers and booleans with their types", function()
    for _, value in ipairs { "text", "", "a\0b", 1, 1.5, math.maxinteger, true, false, ("x"):rep(100000) } do
      assert.is_true(shared.set("spec.v", value))
      assert.equal(value, shared.get("spec.v"))
      assert.equal(math.type(value), math.type(shared.get("spec.v")))
    end
    assert.is_nil(shared.get("spec.absent"))
  end)

  it("deletes, also by setting nil", function()
    shared.set("spec.v", 1)
    assert.is_true(shared.delete("spec.v"))
    assert.is_false(shared.delete("spec.v"))
    shared.set("spec.v", 1)
    shared.set("spec.v", nil)
    assert.is_nil(shared.get("spec.v"))
  end)

  it("counts, integers as integers", function()
    assert.equal(1, shared.incr("spec.n"))
    assert.equal(11, shared.incr("spec.n", 10))
    assert.equal("integer", math.type(shared.get("spec.n")))
    assert.equal(11.5, shared.incr("spec.n", 0.5))
    shared.set("spec.text", "x")
    local value, message, code = shared.incr("spec.text")
    assert.is_nil(value)
    assert.equal("conflict", code)
    assert.equal("shared key spec.text holds no number", message)
  end)

  it("adds only what is absent", function()
    assert.is_true(shared.add("spec.lock", "me"))
    assert.is_false(shared.add("spec.lock", "you"))
    assert.equal("me", shared.get("spec.lock"))
  end)

  it("forgets a key after its ttl", function()
    shared.set("spec.short", 1, 1e-9)
    shared.set("spec.long", 1, 1000)
    assert.is_nil(shared.get("spec.short"))
    assert.equal(1, shared.get("spec.long"))
    assert.is_true(shared.add("spec.short", 2))
    assert.same({ "spec.long", "spec.short" }, shared.keys("spec."))
  end)

  it("lists keys sorted, by prefix, and holds thousands", function()
    for i = 1, 5000 do shared.set(("spec.%05d"):format(i), i) end
    local keys = shared.keys("spec.0000")
    assert.equal(9, #keys)
    assert.equal("spec.00001", keys[1])
    assert.equal(5000, #shared.keys("spec."))
    assert.equal(4999, shared.get("spec.04999"))
  end)

  it("raises for what it cannot keep", function()
    assert.error_matches(function() shared.set("spec.v", {}) end, "string, number or boolean expected, got table")
    assert.error_matches(function() shared.set("", 1) end, "key must have 1 to 512 bytes")
    assert.error_matches(function() shared.set("spec.v", 1, -1) end, "ttl_sec must be above 0")
    assert.error_matches(function() shared.get({}) end, "string expected")
  end)
end)
