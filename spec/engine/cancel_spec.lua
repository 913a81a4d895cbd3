--- Cancel reaches a task wherever it is: waiting, computing, swallowing errors, in coroutines of its own.
local flow = require "spec.support.flow"
local task = require "host.task"
local uv = require "luv"

--- Calls fn once, from the loop, after some milliseconds.
local function after_ms(ms, fn)
  local timer = uv.new_timer()
  timer:start(ms, 0, function()
    timer:close()
    fn()
  end)
end

--- Runs a task, cancels it from the loop, and returns its record and the engine. A cancel that does not reach the
--- task lets the spec hang, which the runner notices.
local function cancelled(fn)
  return flow.task(fn, { on_start = function(eng) after_ms(5, function() eng:cancel() end) end })
end

local loops = {
  ["sleeps"] = function(ctx) ctx:sleep(1000) end,
  ["loops"] = function() while true do end end,
  ["loops over a numeric for"] = function() for _ = 1, math.maxinteger do end end,
  ["swallows errors with pcall"] = function() while true do pcall(function() while true do end end) end end,
  ["swallows errors of a sleep"] = function(ctx) while true do pcall(ctx.sleep, ctx, 1000) end end,
  ["loops in a message handler's task"] = function()
    while true do xpcall(function() while true do end end, function() end) end
  end,
  ["loops in its own coroutine"] = function()
    local co = coroutine.create(function() while true do end end)
    while true do coroutine.resume(co) end
  end,
  ["loops in nested wraps"] = function()
    coroutine.wrap(function() coroutine.wrap(function() while true do pcall(error) end end)() end)()
  end,
  ["sleeps in its own coroutine"] = function(ctx)
    coroutine.wrap(function() while true do pcall(ctx.sleep, ctx, 1000) end end)()
  end,
  ["makes coroutines without end"] = function()
    while true do coroutine.resume(coroutine.create(function() coroutine.yield() end)) end
  end,
  ["sorts without end"] = function()
    while true do
      local list = {}
      for i = 1, 100 do list[i] = -i end
      pcall(table.sort, list, function(a, b) return a < b end)
    end
  end,
  ["loops in a gsub callback"] = function()
    while true do string.gsub(("x"):rep(100), "x", function() for _ = 1, 1000 do end end) end
  end,
  ["loops in a metamethod"] = function()
    local t = setmetatable({}, { __index = function() while true do end end })
    while true do pcall(function() return t.x end) end
  end,
  ["loops in __close"] = function()
    while true do
      local _ <close> = setmetatable({}, { __close = function() while true do end end })
    end
  end,
  ["loops in __close on the way out"] = function(ctx)
    local _ <close> = setmetatable({}, { __close = function() while true do end end })
    ctx:sleep(1000)
  end,
  ["resumes from __close"] = function(ctx)
    local _ <close> = setmetatable({}, { __close = function() while true do pcall(ctx.sleep, ctx, 1) end end })
    while true do end
  end,
  ["recurses"] = function()
    local function f() pcall(f) return f() end
    f()
  end,
  ["loads code without end"] = function() while true do load("for i = 1, 1000 do end")() end end,
  ["loops printing"] = function() while true do print("x") end end,
  ["loops in ctx calls"] = function(ctx) while true do ctx:log("x") end end,
  ["collects its coroutine while it waits"] = function(ctx)
    local co = coroutine.create(function() ctx:sleep(1000) end)
    coroutine.resume(co)
  end,
}

describe("a cancel", function()
  for what, fn in pairs(loops) do
    it("ends a task that " .. what, function()
      local record, eng = cancelled(fn)
      assert.equal("CANCELLED", eng.status)
      assert.equal("CANCELLED", record.state)
      assert.equal("run cancelled", record.error)
      assert.is_number(record.ended_at)
    end)
  end

  it("ends waiting tasks and marks what has not started", function()
    local eng = flow.run({ { "a", function(ctx) ctx:sleep(1000) end }, { "b", function() end, needs = "a" } },
      { on_start = function(eng) after_ms(1, function() eng:cancel() end) end })
    assert.equal("CANCELLED", eng.status)
    assert.same({ a = "CANCELLED", b = "CANCELLED" }, eng.tasks)
    assert.is_nil(eng.records.b.started_at)
    assert.is_nil(eng.records.b.error)
    assert.is_number(eng.records.b.ended_at)
  end)

  it("before the first task starts none", function()
    local record, eng = flow.task(function() error("ran") end, { on_start = function(eng) eng:cancel() end })
    assert.equal("CANCELLED", eng.status)
    assert.equal("CANCELLED", record.state)
    assert.is_nil(record.started_at)
  end)

  it("from a timer that was due before the engine came to wait is heard at once", function()
    local timer = uv.new_timer()
    local record = flow.task(function(ctx) ctx:sleep(1000) end, { on_start = function(eng)
      timer:start(0, 0, function() eng:cancel() end)
    end })
    timer:close()
    assert.equal("CANCELLED", record.state)
  end)

  it("leaves a run complete whose last task ended first", function()
    local engine
    local record, eng = flow.task(function() engine.late = true end, {
      on_start = function(e) engine = e end,
      on_event = function(event) if event.state == "SUCCEEDED" then engine:cancel() end end,
    })
    assert.equal("SUCCEEDED", record.state)
    assert.equal("COMPLETED", eng.status)
    assert.is_false(task.cancelled())
  end)

  it("leaves the next run of the VM alone", function()
    cancelled(loops["loops"])
    local record = flow.task(function(ctx) ctx:sleep(0) return ctx:cancelled() end)
    assert.equal("SUCCEEDED", record.state)
    assert.is_false(record.output)
  end)

  it("shows where the task was", function()
    local record = cancelled(function() while true do end end)
    assert.truthy(record.traceback:find("spec/engine/cancel_spec.lua:%d+: in function"), record.traceback)
  end)

  it("runs the rest of a library call before it cuts", function()
    local inside, done
    package.loaded["pyoco.spec_probe"] = assert(load("return function(f) f() return 'kept' end",
      "@" .. require("host").home .. "/lua/pyoco/probe.lua"))()
    local probe = package.loaded["pyoco.spec_probe"]
    cancelled(function()
      while true do done = probe(function() inside = true end) end
    end)
    package.loaded["pyoco.spec_probe"] = nil
    assert.is_true(inside)
    assert.equal("kept", done)
  end)
end)

describe("the loop", function()
  it("gets its turns while a task computes", function()
    local ticks = 0
    local timer = uv.new_timer()
    timer:start(1, 1, function() ticks = ticks + 1 end)
    local record = flow.task(function() while ticks < 3 do end return ticks end)
    timer:close()
    assert.equal("SUCCEEDED", record.state)
    assert.is_true(record.output >= 3)
  end)

  it("gets them between many short tasks", function()
    local rows, ticked = {}, 0
    local timer = uv.new_timer()
    timer:start(1, 1, function() ticked = ticked + 1 end)
    for i = 1, 2000 do rows[i] = { "t" .. i, function() for _ = 1, 2000 do end end } end
    assert.equal("COMPLETED", flow.run(rows).status)
    timer:close()
    assert.is_true(ticked > 0)
  end)

  it("does not end on an error in a callback", function()
    local text
    task.on_callback_error(function(message) text = message end)
    local record = flow.task(function(ctx)
      after_ms(0, function() error("in a callback") end)
      ctx:sleep(0.005)
      return "on"
    end)
    task.on_callback_error(nil)
    assert.equal("on", record.output)
    assert.truthy(text:find("in a callback", 1, true))
  end)
end)
