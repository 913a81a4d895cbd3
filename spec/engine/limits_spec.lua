--- What a task cannot do to its slot: use it all, end it, or wait where it is impossible.
local flow = require "spec.support.flow"
local host = require "host"
local json = require "host.json"

--- Runs a task that may use some megabytes more than is used now.
local function with_memory(mb, fn)
  collectgarbage()
  return flow.task(fn, { memory_limit = host.memory() + (mb << 20) })
end

local hogs = {
  ["one allocation"] = function() return #("x"):rep(1 << 30) end,
  ["many small ones"] = function()
    local list
    while true do list = { list, {} } end
  end,
  ["one growing string"] = function()
    local text = "x"
    while true do text = text .. text end
  end,
  ["a table of coroutines"] = function()
    local list
    while true do list = { list, coroutine.create(print) } end
  end,
  ["a coroutine of its own"] = function()
    coroutine.wrap(function()
      local list = {}
      while true do list[#list + 1] = ("x"):rep(1000) .. #list end
    end)()
  end,
}

describe("the memory limit", function()
  for what, hog in pairs(hogs) do
    it("stops a task that exhausts memory by " .. what .. ", and the next one is fine", function()
      local record, eng = with_memory(16, hog)
      assert.equal("FAILED", eng.status)
      assert.truthy(record.error:find("not enough memory", 1, true), record.error)
      record = with_memory(16, function() return #("x"):rep(1 << 20) end)
      assert.equal(1 << 20, record.output)
    end)
  end

  it("is not met by garbage, however much of what is allowed is in use", function()
    local kept = ("x"):rep(64 << 20) -- Lua's own pace would collect at twice of this
    local record = with_memory(16, function()
      for i = 1, 2000 do
        local text = ("y"):rep(100000) .. i
        local parts = { text:sub(1, 50000), text:upper(), text:gsub("y", "z") }
        table.concat(parts)
      end
      return #kept
    end)
    assert.equal(64 << 20, record.output, record.error)
  end)

  it("can be caught", function()
    local record = with_memory(16, function()
      local failures = 0
      for _ = 1, 20 do
        local ok, message = pcall(hogs["one allocation"])
        if not ok and message:find("not enough memory", 1, true) then failures = failures + 1 end
      end
      return failures
    end)
    assert.equal(20, record.output)
  end)

  it("says what it is", function()
    local record = flow.task(hogs["many small ones"], { memory_limit = 64 << 20 })
    assert.equal("not enough memory (the limit is 64 MB)", record.error)
  end)

  it("holds for what a task prints and logs", function()
    local record = with_memory(16, function(ctx)
      for _ = 1, 10000 do
        print(("x"):rep(5000))
        ctx:log(("y"):rep(5000))
      end
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.equal(4096, #record.log_tail)
  end)
end)

describe("os.exit in a task", function()
  it("raises", function()
    for _, fn in ipairs { function() os.exit() end, function() os.exit(0, true) end,
      function() coroutine.wrap(os.exit)(1) end } do
      local record = flow.task(fn)
      assert.equal("FAILED", record.state)
      assert.truthy(record.error:find("os.exit cannot be used in a flow", 1, true), record.error)
    end
  end)
end)

describe("a task that changes the standard library", function()
  it("harms itself, not the engine", function()
    local kept = {}
    for _, name in ipairs { "string", "table", "math", "utf8", "coroutine" } do
      for key, value in pairs(_G[name]) do kept[#kept + 1] = { _G[name], key, value } end
    end
    local _ <close> = setmetatable({}, { __close = function()
      for _, row in ipairs(kept) do row[1][row[2]] = row[3] end
    end })
    local eng = flow.run {
      { "a", function()
        for _, row in ipairs(kept) do row[1][row[2]] = nil end
        return { "text", { x = 1 } }
      end },
      { "b", function(ctx, a)
        ctx:log("%s", a[1])
        ctx:sleep(0)
        error({ message = a[1] })
      end, needs = "a" },
    }
    for _, row in ipairs(kept) do row[1][row[2]] = row[3] end
    assert.same({ a = "SUCCEEDED", b = "FAILED" }, eng.tasks)
    assert.equal("text", eng.error)
    assert.equal("text\n", eng.records.b.log_tail)
  end)
end)

describe("a wait", function()
  it("passes outward through a user's coroutines, and the answer back in", function()
    local record = flow.task(function(ctx)
      local seen = {}
      local outer = coroutine.wrap(function(a)
        local inner = coroutine.create(function(b)
          ctx:sleep(0)
          local c = coroutine.yield(b + 1)
          ctx:sleep(0)
          return c + 1
        end)
        local _, first = coroutine.resume(inner, a)
        local got = coroutine.yield(first)
        ctx:sleep(0)
        local _, last = coroutine.resume(inner, got)
        seen.status = coroutine.status(inner)
        return last
      end)
      return { outer(1), outer(10), seen.status }
    end)
    assert.same({ 2, 11, "dead" }, record.output)
  end)

  it("works in a for loop over a generator, in pcall, in a metamethod and in __close", function()
    local record = flow.task(function(ctx)
      local list = {}
      for i in coroutine.wrap(function()
        for i = 1, 3 do
          ctx:sleep(0)
          coroutine.yield(i)
        end
      end) do list[#list + 1] = i end
      local ok, a = pcall(function() ctx:sleep(0) return "in pcall" end)
      local t = setmetatable({}, { __index = function(_, k) ctx:sleep(0) return k end })
      do
        local _ <close> = setmetatable({}, { __close = function() ctx:sleep(0) list[#list + 1] = "closed" end })
      end
      return { list, ok, a, t.key }
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.same({ { 1, 2, 3, "closed" }, true, "in pcall", "key" }, record.output)
  end)

  it("lets other tasks go on", function()
    local list = {}
    flow.run {
      { "a", function(ctx) coroutine.wrap(function() ctx:sleep(0.005) list[#list + 1] = "a" end)() end },
      { "b", function() list[#list + 1] = "b" end },
    }
    assert.same({ "b", "a" }, list)
  end)

  for what, fn in pairs {
    ["a sort"] = function(ctx) table.sort({ 3, 2, 1 }, function(a, b) ctx:sleep(0) return a < b end) end,
    ["a gsub"] = function(ctx) return (("abc"):gsub(".", function() ctx:sleep(0) end)) end,
    ["a coroutine inside of a sort"] = function(ctx)
      table.sort({ 3, 2, 1 }, function(a, b)
        coroutine.wrap(function() ctx:sleep(0) end)()
        return a < b
      end)
    end,
    ["a metamethod that C called"] = function(ctx)
      tostring(setmetatable({}, { __tostring = function() ctx:sleep(0) return "x" end }))
    end,
  } do
    it("inside of " .. what .. " is an error that says so", function()
      local record = flow.task(fn)
      assert.equal("FAILED", record.state)
      assert.truthy(record.error:find("cannot wait here: ", 1, true), record.error)
      assert.truthy(record.error:find("sort, gsub", 1, true), record.error)
    end)
  end

  it("cannot be ended, closed or doubled by another task that got the coroutine", function()
    local co, kept
    local eng = flow.run {
      { "a", function(ctx)
        co = coroutine.running()
        kept = coroutine.create(function() ctx:sleep(0.01) return "inner" end)
        return (select(2, coroutine.resume(kept)))
      end },
      { "b", function()
        local list = {}
        for i, it in ipairs { co, kept } do
          list[#list + 1] = coroutine.status(it)
          list[#list + 1] = select(2, coroutine.resume(it, false, "x"))
          list[#list + 1] = select(2, pcall(coroutine.close, it)):gsub("^.*: ", "")
          list[#list + 1] = i
        end
        return list
      end },
    }
    assert.equal("inner", eng.records.a.output)
    local text = "cannot resume a coroutine in a wait: it goes on when the wait ends"
    assert.same({ "suspended", text, "cannot close a coroutine in a wait", 1,
      "suspended", text, "cannot close a coroutine in a wait", 2 }, eng.records.b.output)
  end)

  it("takes seconds, 0 or more", function()
    for _, value in ipairs { -1, "1", json.null, 0 / 0, 1 / 0 } do
      local record = flow.task(function(ctx) ctx:sleep(value) end)
      assert.truthy(record.error:find("limits_spec.lua:%d+: ctx:sleep%(seconds%): expected a number, 0 or more, got"),
        record.error)
    end
  end)

  it("is refused to a ctx that outlives its task", function()
    local kept
    local eng = flow.run { { "a", function(ctx) kept = ctx end }, { "b", function() kept:sleep(0) end, needs = "a" } }
    local record = eng.records.b
    assert.truthy(record.error:find("limits_spec.lua:%d+: ctx:sleep: this ctx is task 'a''s, and here runs task 'b'"),
      record.error)
    local ok, message = pcall(kept.sleep, kept, 0)
    assert.is_false(ok)
    assert.truthy(message:find("ctx:sleep: this ctx is task 'a''s, which does not run", 1, true), message)
  end)
end)

describe("coroutine.yield", function()
  it("outside of a coroutine of its own fails the task", function()
    local record = flow.task(function() coroutine.yield(1) end)
    assert.truthy(record.error:find("coroutine.yield outside of a coroutine of your own", 1, true), record.error)
  end)

  it("works across pcall in a coroutine that outlives its task", function()
    local co
    local eng = flow.run {
      { "a", function()
        co = coroutine.create(function() pcall(function() coroutine.yield(1) coroutine.yield(2) end) return 3 end)
        return select(2, coroutine.resume(co))
      end },
      { "b", function() return { select(2, coroutine.resume(co)), select(2, coroutine.resume(co)) } end, needs = "a" },
    }
    assert.equal(1, eng.records.a.output)
    assert.same({ 2, 3 }, eng.records.b.output)
  end)
end)

describe("output", function()
  it("of print, io.write and ctx:log ends in the task's log_tail, in order", function()
    local eng = flow.run {
      { "a", function(ctx)
        print("print", 1, nil)
        io.write("write ", 2):write("")
        ctx:sleep(0)
        ctx:log("log %s", 3)
        ctx:log("100%")
      end },
      { "b", function() print "from b" end },
    }
    assert.equal("print\t1\tnil\nwrite 2log 3\n100%\n", eng.records.a.log_tail)
    assert.equal("from b\n", eng.records.b.log_tail)
  end)

  it("keeps the last 4 KB, from a character's start", function()
    local record = flow.task(function() print(("\u{20AC}"):rep(2000)) end)
    assert.is_true(#record.log_tail <= 4096 and #record.log_tail > 4090)
    assert.truthy(utf8.len(record.log_tail))
  end)

  it("that is not UTF-8 can still be recorded", function()
    local record = flow.task(function() io.write("a\xff\xfeb") end)
    assert.equal("a\u{FFFD}\u{FFFD}b", record.log_tail)
    assert.truthy(json.encode(record))
  end)

  it("of a __tostring that raises fails the task, not the engine", function()
    local object = setmetatable({}, { __tostring = function() error("no text", 0) end })
    local record = flow.task(function() print(object) end)
    assert.equal("no text", record.error)
  end)

  it("to a file of io.output goes to the file", function()
    local path = os.tmpname()
    local record = flow.task(function()
      local before = io.output()
      io.output(path)
      io.write("to file")
      io.close()
      io.output(before)
      io.write("to log")
    end)
    local file = assert(io.open(path))
    assert.equal("to file", file:read("a"))
    file:close()
    os.remove(path)
    assert.equal("to log", record.log_tail)
  end)
end)

describe("a large graph", function()
  --- Rows of a chain or a fan.
  local function chain(n)
    local rows = {}
    for i = 1, n do rows[i] = { "t" .. i, function() end, needs = i > 1 and "t" .. i - 1 or nil } end
    return rows
  end

  it("of 50,000 tasks in a chain, or side by side into one, runs", function()
    assert.equal("COMPLETED", flow.run(chain(50000)).status)
    local rows, all = {}, {}
    for i = 1, 50000 do rows[i], all[i] = { "t" .. i, function() return i end }, "t" .. i end
    rows[#rows + 1] = { "last", function(t1, t50000) return t1 + t50000 end, needs = { all = all } }
    assert.equal(50001, flow.run(rows).records.last.output)
  end)

  it("between two large groups of tasks is linear: they share one condition", function()
    local rows, all = {}, {}
    for i = 1, 5000 do rows[i], all[i] = { "a" .. i, function() end }, "a" .. i end
    local needs = { all = all }
    for i = 1, 5000 do rows[5000 + i] = { "b" .. i, function() end, needs = needs } end
    assert.equal("COMPLETED", flow.run(rows).status)
  end)
end)
