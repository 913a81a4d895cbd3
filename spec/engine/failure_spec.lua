--- What a task may raise, return or do wrong, and what its record says then.
local flow = require "spec.support.flow"
local engine = require "pyoco.engine"
local json = require "host.json"

--- The record of a task that must have failed.
local function failed(fn, options)
  local record, eng = flow.task(fn, options)
  assert.equal("FAILED", record.state)
  assert.equal("FAILED", eng.status)
  assert.equal(record.error, eng.error)
  return record
end

--- Raises its second argument, so that a position is a known line of this file.
local function helper() error("from a helper") end

describe("a task that raises", function()
  it("a string: message and traceback with file:line of user code only", function()
    local record = failed(function() helper() end)
    assert.equal("spec/engine/failure_spec.lua:16: from a helper", record.error:gsub("^.*/spec/", "spec/"))
    local lines = {}
    for line in record.traceback:gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.equal("stack traceback:", lines[1])
    assert.truthy(lines[2]:find("spec/engine/failure_spec.lua:16: in upvalue 'helper'", 1, true), record.traceback)
    assert.truthy(lines[3]:find("spec/engine/failure_spec.lua:%d+: in function <line %d+>"), record.traceback)
    assert.is_nil(lines[4])
  end)

  it("a string without position", function() assert.equal("plain", failed(function() error("plain", 0) end).error) end)

  it("nil", function()
    assert.equal("raised nil: give error() a message", failed(function() error() end).error)
    assert.equal("raised nil: give error() a message", failed(function() error(nil) end).error)
  end)

  it("a table: its message field, or itself", function()
    assert.equal("no luck", failed(function() error({ message = "no luck", code = 5 }) end).error)
    assert.equal('raised a table: {"code":5}', failed(function() error({ code = 5 }) end).error)
    assert.equal("raised a table", failed(function() error({ print }) end).error)
    assert.truthy(failed(function() error({ code = 5 }) end).traceback:find("failure_spec.lua:%d+"))
  end)

  it("an object: what its __tostring says", function()
    local object = setmetatable({}, { __tostring = function() return "an object" end })
    assert.equal("an object", failed(function() error(object) end).error)
  end)

  it("an object whose __tostring raises, returns no string, or waits", function()
    local function object(fn) return setmetatable({ message = "own" }, { __tostring = fn }) end
    assert.equal("own", failed(function() error(object(function() error("x") end)) end).error)
    assert.equal("own", failed(function() error(object(function() return {} end)) end).error)
    assert.equal("own", failed(function(ctx) error(object(function() ctx:sleep(0) return "x" end)) end).error)
  end)

  it("an object with a hostile __index and __metatable", function()
    local object = setmetatable({}, { __index = function() error("index") end, __metatable = false,
      __pairs = function() error("pairs") end, __len = function() error("len") end })
    assert.equal("raised a table: {}", failed(function() error(object) end).error)
  end)

  it("a number, a boolean, a function", function()
    assert.equal("raised 42", failed(function() error(42) end).error)
    assert.equal("raised false", failed(function() error(false) end).error)
    assert.equal("raised a function", failed(function() error(print) end).error)
  end)

  it("bytes that are not UTF-8, or very many", function()
    assert.equal("bad \u{FFFD} byte", failed(function() error("bad \xff byte", 0) end).error)
    assert.equal(8192, #failed(function() error(("x"):rep(100000), 0) end).error)
  end)

  it("in a coroutine of its own", function()
    local record = failed(function() coroutine.wrap(function() helper() end)() end)
    assert.truthy(record.error:find("failure_spec.lua:16: from a helper", 1, true), record.error)
  end)

  it("in a C function", function()
    assert.truthy(failed(function() string.rep() end).error:find("bad argument #1 to 'rep'", 1, true))
    assert.truthy(failed(function() return nil .. "x" end).error:find("attempt to concatenate a nil value", 1, true))
  end)

  it("with a stack overflow", function()
    local record = failed(function()
      local function f() return 1 + f() end
      return f()
    end)
    assert.truthy(record.error:find("stack overflow", 1, true), record.error)
    assert.is_true(#record.traceback < 8192)
  end)

  it("after __close handlers, which may wait, and whose errors count", function()
    local order = {}
    local record = failed(function(ctx)
      local _ <close> = setmetatable({}, { __close = function() ctx:sleep(0); order[1] = "closed" end })
      error("first", 0)
    end)
    assert.same({ "closed" }, order)
    assert.equal("first", record.error)
    record = failed(function()
      local _ <close> = setmetatable({}, { __close = function() error("second", 0) end })
      error("first", 0)
    end)
    assert.equal("second", record.error)
  end)
end)

describe("a task that returns", function()
  it("nil and a message: failed, as everywhere in Lua", function()
    assert.equal("cannot open", failed(function() return nil, "cannot open" end).error)
    assert.truthy(failed(function() return io.open("/no/such/file") end).error:find("No such file", 1, true))
  end)

  it("nil alone, or more values: the first one counts", function()
    assert.equal("SUCCEEDED", flow.task(function() return nil end).state)
    assert.equal("SUCCEEDED", flow.task(function() return nil, 5 end).state)
    assert.equal("a", flow.task(function() return "a", "b" end).output)
    assert.is_false(flow.task(function() return false, "b" end).output)
  end)

  local cyclic = { list = { 1 } }
  cyclic.list[2] = cyclic
  local deep = {}
  for _ = 1, 200 do deep = { deep } end
  local bad = {
    ["a function"] = { function() end, "output: JSON cannot carry a function" },
    ["a function inside"] = { { a = { 1, { ["x y"] = print } } }, 'output.a[2]["x y"]: JSON cannot carry a function' },
    ["a cyclic table"] = { cyclic, "output.list[2]: JSON cannot carry a table that contains itself" },
    ["NaN"] = { { x = 0 / 0 }, "output.x: JSON cannot carry NaN" },
    ["infinity"] = { 1 / 0, "output: JSON cannot carry infinity" },
    ["mixed keys"] = { { 1, 2, x = 3 }, "output: JSON cannot carry a list with other keys or with holes" },
    ["a hole"] = { { 1, nil, 3, [7] = 1 }, "output: JSON cannot carry a list with other keys or with holes" },
    ["a number as key"] = { { [5] = 1 }, "output: JSON cannot carry the key 5 (keys are strings)" },
    ["a table as key"] = { { [{}] = 1 }, "output: JSON cannot carry the key table (keys are strings)" },
    ["bytes"] = { { blob = "\xff\xfe" }, "output.blob: JSON cannot carry text that is not UTF-8" },
    ["a coroutine"] = { { coroutine.create(print) }, "output[1]: JSON cannot carry a thread" },
    ["a file"] = { io.stdout, "output: JSON cannot carry a userdata" },
  }
  for what, case in pairs(bad) do
    it(what .. ": failed, and told where", function()
      local record = failed(function() return case[1] end)
      assert.equal(case[2], record.error)
      assert.is_nil(record.output)
    end)
  end

  it("a table nested too deep", function()
    assert.truthy(failed(function() return deep end).error:find("nested deeper than 128$"))
  end)

  it("what JSON can carry, as it was", function()
    local values = { 1, 1.5, -0.0, math.maxinteger, "text", "nul \0", true, json.null,
      { a = { b = { 1, 2, { c = "d" } } } }, json.array {}, {} }
    for _, value in ipairs(values) do
      local record = flow.task(function() return value end)
      assert.equal("SUCCEEDED", record.state, record.error)
      assert.equal(json.encode(value), json.encode(record.output))
    end
  end)

  it("a table shared in two places", function()
    local shared = { 1 }
    assert.same({ { 1 }, { 1 } }, flow.task(function() return { shared, shared } end).output)
  end)

  it("a table with hostile metamethods: they are not called", function()
    local hostile = setmetatable({ x = 1 }, { __index = error, __pairs = error, __len = error, __gc = error })
    assert.same({ x = 1 }, flow.task(function() return hostile end).output)
  end)

  it("a string of 10 MB", function()
    assert.equal(10 << 20, #flow.task(function() return ("x"):rep(10 << 20) end).output)
  end)

  it("a table that it changes later: the record stays", function()
    local kept
    local eng = flow.run { { "a", function() kept = { 1 }; return kept end },
      { "b", function() kept.self = kept end, needs = "a" } }
    assert.same({ 1 }, eng.records.a.output)
  end)
end)

describe("an input", function()
  it("without a value fails its task before it starts", function()
    local eng = flow.run { { "t", function() error("ran") end, inputs = { a = "$ctx.params.nope" } } }
    assert.equal("FAILED", eng.status)
    assert.equal("Param 'nope' not found in context.", eng.error)
  end)

  it("is resolved by path, params and results alike", function()
    local eng = flow.run({
      { "a", function() return { list = { { x = 5 } } } end },
      { "t", function(p, q) return { p, q } end, needs = "a",
        inputs = { p = "$node.a.output.list.0.x", q = "$ctx.params.deep.er" } },
    }, { params = { deep = { er = "found" } } })
    assert.same({ 5, "found" }, eng.records.t.output)
    assert.same({ p = 5, q = "found" }, eng.records.t.inputs)
  end)
end)

describe("engine.guard", function()
  it("runs code that is no task: results, errors, no waits", function()
    assert.same({ true, 1, 2 }, { engine.guard(function(a, b) return a, b end, 1, 2) })
    local ok, message, trace = engine.guard(helper)
    assert.is_false(ok)
    assert.truthy(message:find("from a helper", 1, true))
    assert.truthy(trace:find("failure_spec.lua:16", 1, true))
    ok, message = engine.guard(function() engine.await(function() end) end)
    assert.is_false(ok)
    assert.equal("cannot wait here: only a running task can", message)
  end)
end)
