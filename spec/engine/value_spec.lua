--- Copies of values that cross between tasks: what they keep, what they refuse, and where.
local json = require "host.json"
local value = require "pyoco.engine.value"
local view = require "pyoco.engine.view"

describe("a copy", function()
  it("is equal in JSON and shares no table with its source", function()
    local source = { a = { 1, 2, { b = "c" } }, empty = {}, list = json.array {}, null = json.null, n = 1.0, i = 1,
      text = "x\0y" }
    local copied = value.copy(source)
    assert.equal(json.encode(source, { sort = true }), json.encode(copied, { sort = true }))
    local function compare(a, b)
      assert.is_false(rawequal(a, b))
      for key, item in pairs(a) do
        if type(item) == "table" then compare(item, b[key]) end
      end
    end
    compare(source, copied)
  end)

  it("has each place of a table that stands in two", function()
    local shared = { 1 }
    local copied = value.copy { shared, shared }
    copied[1][1] = 2
    assert.same({ { 2 }, { 1 } }, copied)
  end)

  it("calls nothing of its source, whatever its metatable says", function()
    local function hostile() error("called") end
    local meta = { __index = hostile, __newindex = hostile, __pairs = hostile, __len = hostile, __eq = hostile,
      __tostring = hostile, __call = hostile, __close = hostile, __name = {}, __metatable = "locked" }
    local copied, message = value.copy(setmetatable({ x = setmetatable({ 1, 2 }, meta) }, meta))
    assert.is_nil(message)
    assert.same({ x = { 1, 2 } }, copied)
    assert.is_nil(getmetatable(copied))
  end)

  it("of a list whose length lies is refused, not believed", function()
    local copied, message = value.copy(setmetatable({ 1, nil, 3 }, { __len = function() return 1 end }), "x")
    assert.is_nil(copied)
    assert.truthy(message:find("^x: JSON cannot carry a list with"), message)
  end)

  it("of a view has all that it shows", function()
    local shown = { a = { 1 }, b = "x" }
    local made = view.new("results", {}, function() return shown end, function(name) return shown[name] end)
    assert.same({ v = shown }, (value.copy { v = made }))
    local _ = made.a -- looked at before
    assert.same(shown, (value.copy(made)))
  end)

  it("of a view that leads to itself is refused", function()
    local shown = {}
    local made = view.new("results", {}, function() return shown end, function(name) return shown[name] end)
    shown.again = made
    local copied, message = value.copy(made, "output")
    assert.is_nil(copied)
    assert.equal("output.again: JSON cannot carry a table that contains itself", message)
  end)

  for what, case in pairs {
    ["a function below keys of all kinds"] = { { ["a b"] = { { x = { print } } } },
      'v["a b"][1].x[1]: JSON cannot carry a function' },
    ["a thread"] = { coroutine.create(print), "v: JSON cannot carry a thread" },
    ["userdata"] = { { f = io.stderr }, "v.f: JSON cannot carry a userdata" },
    ["NaN"] = { { 1, 0 / 0 }, "v[2]: JSON cannot carry NaN" },
    ["minus infinity"] = { { x = -1 / 0 }, "v.x: JSON cannot carry infinity" },
    ["a key that is a boolean"] = { { x = { [true] = 1 } },
      "v.x: JSON cannot carry the key boolean (keys are strings)" },
    ["a key that is a float"] = { { [1.5] = 1 }, "v: JSON cannot carry the key 1.5 (keys are strings)" },
    ["a key that is not UTF-8"] = { { ["\xff"] = 1 }, "v: JSON cannot carry a key that is not UTF-8" },
    ["text that is not UTF-8"] = { { a = { "ok", "\xed\xa0\x80" } },
      "v.a[2]: JSON cannot carry text that is not UTF-8" },
    ["mixed keys"] = { { x = { "a", b = 1 } }, "v.x: JSON cannot carry a list with other keys or with holes" },
  } do
    it("of " .. what .. " is refused, and the place is named", function()
      local copied, message, code = value.copy(case[1], "v")
      assert.is_nil(copied)
      assert.equal(case[2], message)
      assert.equal("invalid", code)
    end)
  end

  it("of a cycle through many tables is refused", function()
    local first = {}
    local at = first
    for _ = 1, 50 do
      at.next = {}
      at = at.next
    end
    at.next = first
    local _, message = value.copy(first, "v")
    assert.equal("v" .. (".next"):rep(51) .. ": JSON cannot carry a table that contains itself", message)
  end)
end)

describe("a view", function()
  it("gives copies, the same one until something is kept", function()
    local eng, shown = {}, { a = { 1 } }
    local made = view.new("scratch", eng, function() return shown end, function(name) return shown[name] end)
    local first = made.a
    assert.is_true(rawequal(first, made.a))
    assert.is_false(rawequal(first, shown.a))
    eng.writes = 1
    assert.is_false(rawequal(first, made.a))
    shown.a = { 2 }
    assert.same({ 2 }, made.a)
    shown.a = nil
    assert.is_nil(made.a)
    shown.a = json.null
    assert.is_nil(made.a)
  end)

  it("is walked by pairs", function()
    local shown, seen = { a = { 1 }, b = 2, c = false }, {}
    local made = view.new("scratch", {}, function() return shown end, function(name) return shown[name] end)
    for name, item in pairs(made) do seen[name] = item end
    assert.same(shown, seen)
  end)
end)
