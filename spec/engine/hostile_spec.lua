--- Tasks that mean harm: by metamethods, by errors, by what they overwrite. Whatever they do, their record says what
--- went wrong, the run ends, and the next one is fine.
local flow = require "spec.support.flow"
local json = require "host.json"
local sandbox = require "pyoco.flow.sandbox"
local uv = require "luv"

local function loop() while true do end end
local function raise() error("raised by a metamethod", 0) end

--- Cancels the run soon, from the loop.
local function cancel_soon(eng)
  local timer = uv.new_timer()
  timer:start(5, 0, function()
    timer:close()
    eng:cancel()
  end)
end

--- Runs fn as a task and says whether the run came to `state`, and the next one, with nothing of it, to its end.
local function ends(state, fn, options)
  local record, eng = flow.task(fn, options)
  assert.equal(state, record.state, record.error)
  assert.equal("fine", flow.task(function() return "fine" end).output)
  return record, eng
end

local METAMETHODS = { "__index", "__newindex", "__pairs", "__len", "__tostring", "__name", "__metatable", "__call",
  "__eq", "__lt", "__le", "__concat", "__close", "__gc", "__mode", "__add", "__unm", "__idiv", "__band" }

--- A table with one entry and every metamethod there is.
local function hostile(what, list)
  local meta = {}
  for _, name in ipairs(METAMETHODS) do meta[name] = what end
  return setmetatable(list and { 1, 2 } or { x = 1 }, meta)
end

describe("an object whose metamethods raise, loop, or are no functions", function()
  for kind, what in pairs { raise = raise, loop = loop, text = "text", ["false"] = false, number = 5 } do
    local object = hostile(what)
    debug.getmetatable(object).__gc = nil -- collected while other specs run

    it("is returned (" .. kind .. "): none is called", function()
      assert.same({ x = 1 }, ends("SUCCEEDED", function() return object end).output)
      assert.same({ y = { x = 1 } }, ends("SUCCEEDED", function() return { y = object } end).output)
      local list = hostile(what, true)
      debug.getmetatable(list).__gc = nil
      assert.same({ 1, 2 }, ends("SUCCEEDED", function() return list end).output)
    end)

    it("is a second result (" .. kind .. ")", function()
      ends("SUCCEEDED", function() return nil, object end)
    end)

    it("is a ctx:log pattern or value (" .. kind .. ")", function()
      local options = kind == "loop" and { on_start = cancel_soon } or nil
      local state = kind == "loop" and "CANCELLED" or "FAILED"
      ends(state, function(ctx) ctx:log(object) end, options)
      ends(state, function(ctx) ctx:log("%s", object) end, options)
      ends(state, function() print(object) end, options)
      ends(state, function(ctx) ctx:sleep(object) end, options)
    end)
  end

  for kind, what in pairs { raise = raise, text = "text", ["false"] = false, number = 5 } do
    it("is raised (" .. kind .. ")", function()
      local object = hostile(what)
      debug.getmetatable(object).__gc = nil
      local record = ends("FAILED", function() error(object) end)
      assert.equal('raised a table: {"x":1}', record.error)
    end)
  end

  it("is raised (loop): a cancel ends its __tostring", function()
    local _, eng = flow.task(function() error(setmetatable({}, { __tostring = loop })) end,
      { on_start = cancel_soon })
    assert.truthy(eng.status)
    assert.equal("fine", flow.task(function() return "fine" end).output)
  end)

  it("has a __name, for messages of C functions", function()
    local named = setmetatable({}, { __name = ("n"):rep(100000) .. "\0\xff" })
    local record = ends("FAILED", function() ("x"):rep(named) end)
    assert.is_true(#record.error <= 8192)
    assert.truthy(utf8.len(record.error))
    assert.truthy(json.encode(record))
  end)
end)

describe("__gc", function()
  --- Makes garbage until a flag is set.
  local function collect(is_done)
    while not is_done() do collectgarbage("step", 1000) end
  end

  it("raises, resurrects, makes more of its kind", function()
    local count = 0
    ends("SUCCEEDED", function()
      local function make()
        setmetatable({}, { __gc = function(self)
          count = count + 1
          if count < 50 then make() end
          rawset(self, "again", self)
          error("in __gc")
        end })
      end
      make()
      collect(function() return count >= 50 end)
    end)
    assert.is_true(count >= 50)
  end)

  it("cannot wait, print into another task or end the process", function()
    local seen = {}
    local record = ends("SUCCEEDED", function(ctx)
      setmetatable({}, { __gc = function()
        seen[1] = select(2, pcall(ctx.sleep, ctx, 0))
        seen[2] = select(2, pcall(coroutine.yield))
        seen[3] = select(2, pcall(os.exit))
      end })
      collect(function() return seen[3] end)
    end)
    assert.truthy(seen[1]:find("cannot wait here", 1, true), seen[1])
    assert.truthy(seen[2]:find("yield", 1, true), seen[2])
    assert.truthy(seen[3]:find("os.exit cannot be used in a flow", 1, true), seen[3])
    assert.is_nil(record.log_tail)
  end)

  it("hogs memory: its own allocation fails", function()
    local failed
    collectgarbage()
    ends("SUCCEEDED", function()
      setmetatable({}, { __gc = function()
        local ok, message = pcall(string.rep, "x", 1 << 30)
        failed = not ok and message or "got it"
      end })
      collect(function() return failed end)
    end, { memory_limit = require("host").memory() + (32 << 20) })
    assert.equal("not enough memory", failed)
  end)
end)

describe("__close", function()
  local function closing(fn) return setmetatable({}, { __close = fn }) end

  it("waits, raises over the error, closes others", function()
    local order = {}
    local record = ends("FAILED", function(ctx)
      local _ <close> = closing(function() order[#order + 1] = "outer" end)
      local _ <close> = closing(function(_, message) ctx:sleep(0) error("second after " .. message, 0) end)
      local _ <close> = closing(function()
        local _ <close> = closing(function() ctx:sleep(0) order[#order + 1] = "inner" end)
      end)
      error("first", 0)
    end)
    assert.equal("second after first", record.error)
    assert.same({ "inner", "outer" }, order)
  end)

  it("loops or waits for ever after a failure: a cancel ends it", function()
    for _, fn in ipairs { loop, function() while true do pcall(loop) end end } do
      ends("CANCELLED", function() local _ <close> = closing(fn) error("first") end, { on_start = cancel_soon })
    end
    ends("CANCELLED", function(ctx)
      local _ <close> = closing(function() while true do pcall(ctx.sleep, ctx, 100) end end)
      error("first")
    end, { on_start = cancel_soon })
  end)

  it("loops after a stack overflow of Lua or C, or in a dead coroutine: a cancel ends it", function()
    local function deep() return 1 + deep() end
    local function deep_c() return (string.gsub("x", "x", deep_c)) end
    for _, fall in ipairs { deep, deep_c, function() error() end } do
      ends("CANCELLED", function() local _ <close> = closing(loop) fall() end, { on_start = cancel_soon })
      ends("CANCELLED", function()
        coroutine.wrap(function() local _ <close> = closing(loop) fall() end)()
      end, { on_start = cancel_soon })
      ends("CANCELLED", function()
        local co = coroutine.create(function() local _ <close> = closing(loop) coroutine.yield() end)
        coroutine.resume(co)
        coroutine.close(co)
      end, { on_start = cancel_soon })
    end
  end)
end)

describe("an error of any kind", function()
  local odd = setmetatable({}, { __index = raise, __tostring = function() return 5 end })
  for what, case in pairs {
    ["a light userdata"] = { json.null, "raised a userdata" },
    ["a coroutine"] = { coroutine.create(print), "raised a thread" },
    ["NaN"] = { 0 / 0, "raised -nan" },
    ["a cyclic table"] = { (function() local t = {} t.t = t return t end)(), "raised a table" },
    ["a table whose message is none"] = { { message = { 1 } }, 'raised a table: {"message":[1]}' },
    ["an object whose __tostring gives a number"] = { odd, "5" },
    ["the empty text"] = { "", "" },
    ["NUL and more"] = { "a\0b\n\27[31mred", "a\0b\n\27[31mred" },
  } do
    it("is a message: " .. what, function()
      local record = ends("FAILED", function() error(case[1], 0) end)
      assert.equal(case[2], (record.error:gsub("%-?nan", "-nan")))
      assert.truthy(json.encode(record))
    end)
  end

  it("is a message: tables that double forty times", function()
    local table_of = { 1 }
    for _ = 1, 40 do table_of = { table_of, table_of } end
    assert.equal("raised a table", ends("FAILED", function() error(table_of) end).error)
  end)

  it("in error handling: xpcall's handler raises, overflows, is no function", function()
    local function again() error("again") end
    local function deep() return deep() + 1 end
    ends("SUCCEEDED", function()
      assert(not xpcall(error, again))
      assert(not xpcall(error, deep))
      assert(not pcall(xpcall, error, 5))
      assert(not xpcall(function() xpcall(error, again) error("x") end, again))
    end)
  end)

  it("swallowed over and over with goto: a cancel ends it", function()
    ends("CANCELLED", function(ctx)
      ::again::
      pcall(function() pcall(ctx.sleep, ctx, 1) error({}) end)
      xpcall(loop, function(message) return message end)
      goto again
    end, { on_start = cancel_soon })
  end)
end)

describe("an engine that breaks, by a bug of ours or for lack of memory,", function()
  it("ends its run as failed, with the place, and what waits is let go", function()
    local released
    local eng = flow.run({
      { "a", function(ctx) ctx:sleep(0.001) end },
      { "b", function(ctx)
        ctx:sleep(60)
        error("not reached")
      end },
    }, {
      on_start = function(eng) eng:at_end(function() released = true end) end,
      on_event = function(event) if event.state == "SUCCEEDED" then error("a bug") end end,
    })
    assert.equal("FAILED", eng.status)
    assert.truthy(eng.error:find("^the engine cannot go on: .*hostile_spec.lua:%d+: a bug"), eng.error)
    assert.equal("FAILED", eng.tasks.b)
    assert.is_true(released)
    assert.equal("fine", flow.task(function() return "fine" end).output)
  end)
end)

describe("a task in a sandbox", function()
  --- Runs a chunk in a fresh sandbox and its result, a function, as a task.
  local function task(text, options)
    local box = sandbox.new({})
    local ok, fn = box:run("spec", text)
    assert(ok, fn)
    return ends(options and options.state or "SUCCEEDED", fn, options)
  end

  it("overwrites all that it sees, by global or by require: only its own copies", function()
    local before = { string.format, table.insert, coroutine.wrap, math.floor, io.write, os.time, debug.getinfo }
    local record = task [[
      local seen = 0
      return function()
        for _, name in ipairs { "string", "table", "coroutine", "math", "io", "os", "utf8", "debug" } do
          for _, library in ipairs { require(name), _ENV[name] } do
            for key in pairs(library) do seen = seen + 1 library[key] = error end
          end
        end
        rawset(_G, "pcall", nil)
        rawset(_G, "type", error)
        return seen
      end]]
    assert.is_true(record.output > 100)
    assert.same(before, { string.format, table.insert, coroutine.wrap, math.floor, io.write, os.time, debug.getinfo })
    assert.equal("ab", ("%s%s"):format("a", "b"))
  end)

  it("cannot reach the real libraries, the strings' metatable, debug, package or the program's own modules", function()
    local record = task [[
      return function()
        local list = {}
        for _, name in ipairs { "_G", "package", "host.slot", "host.slots", "host.task", "host.httpd" } do
          local ok, message = pcall(require, name)
          list[#list + 1] = not ok and message or name
        end
        list[#list + 1] = tostring(getmetatable("")) .. tostring(pcall(setmetatable, "", {}))
        list[#list + 1] = tostring(debug.sethook) .. tostring(debug.getregistry) .. tostring(require("debug").sethook)
        return list
      end]]
    assert.same({ "module '_G' is not for flows", "module 'package' is not for flows",
      "module 'host.slot' is not for flows", "module 'host.slots' is not for flows",
      "module 'host.task' is not for flows", "module 'host.httpd' is not for flows", "stringfalse", "nilnilnil" },
      record.output)
  end)

  it("loads no bytecode, and text only in an environment of its own", function()
    local record = task [[
      return function()
        local list = { tostring(load(string.dump(function() return 1 end))) }
        list[2] = select(2, load(string.dump(function() end), "x", "b"))
        list[3] = select(2, pcall(load("leaked = 1")))
        list[4] = load("return _G == ...")(_G)
        list[5] = load(function() return nil end) ~= nil
        return list
      end]]
    assert.equal("nil", record.output[1])
    assert.truthy(record.output[2]:find("attempt to load a binary chunk", 1, true))
    assert.truthy(record.output[3]:find("assignment to undeclared global 'leaked'", 1, true))
    assert.is_false(record.output[4])
  end)

  it("starts no threads", function()
    for _, name in ipairs { "new_thread", "new_work", "queue_work" } do
      local record = task(("return function() require('luv').%s(print) end"):format(name), { state = "FAILED" })
      assert.truthy(record.error:find("a flow cannot start threads", 1, true), record.error)
    end
    assert.is_function(uv.new_thread)
  end)

  it("stops or abuses the garbage collector: the limit still holds, and it goes on afterwards", function()
    local record = task([[
      return function()
        collectgarbage("stop")
        for i = 1, 200 do local _ = ("x"):rep(1 << 20) .. i end
        collectgarbage("generational")
        for i = 1, 200 do local _ = ("x"):rep(1 << 20) .. i end
        collectgarbage("incremental", 1000, 1000)
        collectgarbage("setpause", 100000)
        return pcall(string.rep, "x", 1 << 31)
      end]], { memory_limit = require("host").memory() + (32 << 20) })
    assert.is_false(record.output)
    collectgarbage("restart")
    collectgarbage("incremental", 200, 100)
  end)
end)
