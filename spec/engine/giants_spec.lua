--- Tasks that make too much: values that unfold, texts without end, recursion, output. Each has its limit and says so.
local flow = require "spec.support.flow"
local host = require "host"
local json = require "host.json"

--- Runs a task that may use some megabytes more than is used now.
local function with_memory(mb, fn)
  collectgarbage()
  return flow.task(fn, { memory_limit = host.memory() + (mb << 20) })
end

local TOO_MUCH = "output: JSON cannot carry more than 64 MB (a table counts in each place that refers to it); "
  .. "keep it with ctx:save_artifact"

describe("a task that returns", function()
  it("small tables that unfold without end", function()
    local doubling = { 1 }
    for _ = 1, 100 do doubling = { doubling, doubling } end
    assert.equal(TOO_MUCH, flow.task(function() return doubling end).error)
    assert.equal(TOO_MUCH, flow.task(function() return { x = { y = doubling } } end).error)
  end)

  it("one long text, or one long key, very often", function()
    local text, list, map = ("x"):rep(1 << 20), {}, {}
    for i = 1, 65 do list[i], map[i] = text, { [text] = 1 } end
    assert.equal(TOO_MUCH, flow.task(function() return list end).error)
    assert.equal(TOO_MUCH, flow.task(function() return map end).error)
    list[65], list[64] = nil, nil
    assert.equal(63, #flow.task(function() return list end).output)
  end)

  it("much, but not too much", function()
    local list = {}
    for i = 1, 500000 do list[i] = i end
    local record = flow.task(function() return list end)
    assert.equal(500000, #record.output, record.error)
    assert.equal(60 << 20, #flow.task(function() return ("x"):rep(60 << 20) end).output)
  end)

  it("an object whose __len is hostile", function()
    local called
    local object = setmetatable({ 1, 2, 3 }, { __len = function() called = true return 1e9 end })
    assert.same({ 1, 2, 3 }, flow.task(function() return object end).output)
    assert.is_nil(called)
  end)

  it("what three hundred waiting tasks get a copy of: the limit holds", function()
    local rows = { { "a", function()
      local list = {}
      for i = 1, 300000 do list[i] = i end
      return list
    end } }
    for i = 1, 300 do
      rows[i + 1] = { "t" .. i, function(ctx, a) ctx:sleep(60) return #a end, needs = "a" }
    end
    collectgarbage()
    local eng = flow.run(rows, { memory_limit = host.memory() + (32 << 20), on_event = function(event)
      if event.state == "FAILED" then require("host.task").cancel() end
    end })
    assert.equal("SUCCEEDED", eng.tasks.a)
    local failed
    for _, record in pairs(eng.records) do
      failed = failed or record.state == "FAILED" and record.error
    end
    assert.truthy(failed:find("not enough memory", 1, true), failed)
    assert.equal("fine", with_memory(32, function() return "fine" end).output)
  end)

  it("what it gets: each task its own copy, the sum without limit", function()
    local eng = flow.run {
      { "a", function() return ("x"):rep(40 << 20) end },
      { "b", function() return ("y"):rep(40 << 20) end },
      { "c", function(a, b) return #a + #b end, needs = { all = { "a", "b" } } },
    }
    assert.equal(80 << 20, eng.records.c.output)
  end)
end)

describe("a giant", function()
  local giants = {
    ["string.rep of 2 GB"] = { function() return #("x"):rep(1 << 31 | 1) end, "resulting string too large",
      "not enough memory" },
    ["string.rep over the size of a string"] = { function() return ("x"):rep(1 << 62) end, "string too large" },
    ["string.rep with a separator"] = { function() return ("x"):rep(1 << 20, ("y"):rep(1 << 10)) end,
      "not enough memory" },
    ["table.concat"] = { function()
      local list = {}
      for i = 1, 1000 do list[i] = ("x"):rep(100000) end
      return #table.concat(list)
    end, "not enough memory" },
    ["string.format"] = { function() return ("%s%s"):format(("x"):rep(20 << 20), ("x"):rep(20 << 20)) end,
      "not enough memory" },
    ["gsub that grows"] = { function() return #("x"):rep(1 << 20):gsub("x", ("y"):rep(1000)) end, "not enough memory" },
    ["table.unpack"] = { function() return select("#", table.unpack({}, 1, 1e8)) end, "too many results to unpack" },
    ["table.move"] = { function() return table.move({ 1 }, 1, math.maxinteger, 2) end, "too many elements to move",
      "wrap around" },
    ["string.pack"] = { function() return ("i17"):pack(1) end, "integral size (17) out of limits" },
    ["utf8.char"] = { function() return utf8.char(1 << 40) end, "value out of range" },
    ["a wide format"] = { function() return ("%9999d"):format(1) end, "invalid conversion" },
    ["a number of arguments"] = { function() return math.max(table.unpack({ 1 }, 1, 999000)) end, "attempt to compare",
      "too many results" },
    ["a table's size"] = { function()
      local list = {}
      for i = 1, 1e8 do list[i] = i end
      return #list
    end, "not enough memory" },
    ["a stack of values"] = { function()
      local function f(...) return 1 + f(1, ...) end
      return f()
    end, "stack overflow", "not enough memory" },
    ["io.read of an endless file"] = { function() return io.open("/dev/zero"):read("a") end, "not enough memory" },
    ["io.lines of an endless line"] = { function() return io.lines("/dev/zero")() end, "not enough memory" },
  }
  for what, case in pairs(giants) do
    it("ends at its limit: " .. what, function()
      local record = with_memory(32, case[1])
      assert.equal("FAILED", record.state)
      local found = record.error:find(case[2], 1, true) or (case[3] and record.error:find(case[3], 1, true))
      assert.truthy(found, record.error)
    end)
  end
end)

describe("recursion", function()
  local function lua() return 1 + lua() end
  local function gsub() return (string.gsub("x", "x", gsub)) end
  local function sort() table.sort({ 1, 2 }, sort) end
  local function resume() return coroutine.wrap(resume)() end
  local function protected()
    local ok, message = pcall(protected)
    if not ok then error(message, 0) end
  end
  local text = setmetatable({}, {})
  getmetatable(text).__tostring = function() return tostring(text) end
  local index = setmetatable({}, {})
  getmetatable(index).__index = function(t, key) return t[key] end
  local concat = setmetatable({}, {})
  getmetatable(concat).__concat = function(a, b) return a .. b end
  for what, fn in pairs {
    ["of Lua"] = lua, ["of gsub"] = gsub, ["of sort"] = sort, ["of wrap"] = resume, ["of pcall"] = protected,
    ["of __tostring"] = function() return tostring(text) end, ["of __index"] = function() return index.x end,
    ["of __concat"] = function() return concat .. concat end,
    ["of load"] = function() return assert(load(("("):rep(1000000))) end,
    ["of functions in functions"] = function() return assert(load(("function f() "):rep(10000))) end,
    ["of tables in tables"] = function() return assert(load("return " .. ("{"):rep(10000))) end,
    ["of a pattern"] = function() return ("x"):rep(300000):find(("x?"):rep(300000)) end,
  } do
    it("without end is an error: " .. what, function()
      local record = flow.task(fn)
      assert.equal("FAILED", record.state)
      assert.truthy(record.error:find("overflow", 1, true) or record.error:find("levels", 1, true)
        or record.error:find("too complex", 1, true), record.error)
      assert.is_true(#record.error <= 8192 and #(record.traceback or "") < 16384)
      assert.equal(1, flow.task(function() return 1 end).output)
    end)
  end
end)

describe("output", function()
  it("of a hundred thousand lines costs what a line costs, and keeps the last", function()
    local events = 0
    local record = flow.task(function(ctx)
      for i = 1, 50000 do
        print("line", i)
        ctx:log("line %d", i)
      end
    end, { on_event = function(event) if event.type == "log" then events = events + 1 end end })
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.is_true(#record.log_tail <= 4096)
    assert.truthy(record.log_tail:find("line\t50000\nline 50000\n$"))
    assert.equal(100000, events)
  end)

  it("of binary, of one giant line, of every byte", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    local record = flow.task(function()
      print(("\xff"):rep(1 << 18))
      print(("x"):rep(10 << 20))
      io.write(("\xf0\x9f"):rep(10000), "\n")
      print(table.concat(bytes))
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.truthy(utf8.len(record.log_tail))
    assert.truthy(record.log_tail:find("abc", 1, true))
    assert.truthy(json.encode(record))
  end)

  it("of two thousand tasks that each say something", function()
    local rows = {}
    for i = 1, 2000 do rows[i] = { "t" .. i, function() print(("x"):rep(10000)) end } end
    local eng = flow.run(rows)
    assert.equal("COMPLETED", eng.status)
    assert.equal(4096, #eng.records.t2000.log_tail)
  end)
end)
