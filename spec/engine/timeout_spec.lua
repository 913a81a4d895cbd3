--- timeout_sec: hard, per attempt, for code that waits and for code that computes.
local flow = require "spec.support.flow"
local clock = require "host.clock"

--- Runs a task with a limit on the real clock; it must be cut by it. A limit that does not reach the task lets the
--- spec hang, which the runner notices.
local function timed_out(fn, options)
  local eng = flow.run { { "t", fn, options = options or { timeout_sec = 0.02 } } }
  assert.equal("FAILED", eng.status)
  local seconds = options and options.timeout_sec or 0.02
  assert.equal(("task 't' timed out after %s s (timeout_sec)"):format(seconds), eng.records.t.error)
  assert.equal(eng.error, eng.records.t.error)
  assert.is_true(eng.records.t.duration_ms >= 19)
  return eng
end

local loops = {
  ["waits"] = function(ctx) ctx:sleep(1000) end,
  ["swallows the errors of its waits"] = function(ctx) while true do pcall(ctx.sleep, ctx, 1000) end end,
  ["returns what its cut wait gave it"] = function(ctx) return pcall(ctx.sleep, ctx, 1000) end,
  ["computes"] = function() while true do end end,
  ["swallows errors with pcall"] = function() while true do pcall(function() while true do end end) end end,
  ["computes in its own coroutine"] = function()
    local co = coroutine.create(function() while true do pcall(error) end end)
    while true do coroutine.resume(co) end
  end,
  ["waits in its own coroutine"] = function(ctx)
    coroutine.wrap(function() while true do pcall(ctx.sleep, ctx, 1000) end end)()
  end,
  ["makes coroutines without end"] = function()
    while true do coroutine.resume(coroutine.create(function() coroutine.yield() end)) end
  end,
  ["waits a little, without end"] = function(ctx) while true do pcall(ctx.sleep, ctx, 0) end end,
  ["computes in __close"] = function(ctx)
    local _ <close> = setmetatable({}, { __close = function() while true do end end })
    ctx:sleep(1000)
  end,
  ["computes in the __tostring of its error"] = function()
    error(setmetatable({}, { __tostring = function() while true do end end }))
  end,
  ["prints without end"] = function() while true do print("x") end end,
}

describe("timeout_sec", function()
  for what, fn in pairs(loops) do
    it("cuts a task that " .. what, function() timed_out(fn) end)
  end

  it("shows where the task was", function()
    local record = timed_out(function() while true do end end).records.t
    assert.truthy(record.traceback:find("spec/engine/timeout_spec.lua:%d+: in function"), record.traceback)
  end)

  it("leaves a task alone that is quicker, and the tasks after it", function()
    local eng, virtual = flow.virtual {
      { "t", function(ctx) ctx:sleep(4) return "in time" end, options = { timeout_sec = 5 } },
      { "u", function(ctx, t) ctx:sleep(100) return t end, needs = "t" },
    }
    assert.equal("COMPLETED", eng.status)
    assert.equal("in time", eng.records.u.output)
    assert.equal(104, virtual.now)
  end)

  it("is per attempt, and is retried", function()
    local n = 0
    local eng, virtual = flow.virtual { { "t", function(ctx)
      n = n + 1
      ctx:sleep(n < 3 and 100 or 1)
      return n
    end, options = { timeout_sec = 5, retries = 2, retry_delay_sec = 0 } } }
    assert.equal(3, eng.records.t.output)
    assert.equal(11, virtual.now)
    assert.equal("task 't' timed out after 5 s (timeout_sec)", eng.records.t.attempts[1].error)
    assert.equal(5, eng.records.t.attempts[1].ended_at)
  end)

  it("of one task leaves those beside it alone, computing or waiting", function()
    local eng = flow.run {
      { "long", function(ctx) ctx:sleep(0.05) return "done" end },
      { "loop", function() while true do end end, options = { timeout_sec = 0.02, fail_policy = "isolate" } },
      { "busy", function()
        local stop_at = clock.monotonic() + 0.05
        while clock.monotonic() < stop_at do end
        return "done"
      end },
    }
    assert.same({ long = "SUCCEEDED", loop = "FAILED", busy = "SUCCEEDED" }, eng.tasks)
  end)

  it("of a task that waits comes true after another one has computed", function()
    local eng = flow.run {
      { "waits", function(ctx) ctx:sleep(1000) end, options = { timeout_sec = 0.01, fail_policy = "isolate" } },
      { "busy", function()
        local stop_at = clock.monotonic() + 0.05
        while clock.monotonic() < stop_at do end
        return "done"
      end },
    }
    assert.equal("task 'waits' timed out after 0.01 s (timeout_sec)", eng.records.waits.error)
    assert.equal("done", eng.records.busy.output)
  end)

  it("is less than a cancel", function()
    local engine
    local eng = flow.virtual({ { "t", function(ctx)
      ctx:sleep(1)
      engine:cancel()
      ctx:sleep(100)
    end, options = { timeout_sec = 5 } } }, { on_start = function(e) engine = e end })
    assert.equal("CANCELLED", eng.tasks.t)
    assert.equal("run cancelled", eng.records.t.error)
  end)

  it("gives up what the task waited for", function()
    local engine, given_up = require "pyoco.engine", false
    flow.virtual { { "t", function()
      engine.await(function() return function() given_up = true end end)
    end, options = { timeout_sec = 5 } } }
    assert.is_true(given_up)
  end)
end)

describe("eng.on_deadline", function()
  it("hears of the earliest deadline of running attempts whenever it changes", function()
    local heard = {}
    flow.virtual({
      { "a", function(ctx) ctx:sleep(3) end, options = { timeout_sec = 30 } },
      { "b", function(ctx) ctx:sleep(1) end, options = { timeout_sec = 10 } },
      { "c", function(ctx) ctx:sleep(5) end, options = { timeout_sec = 60 } },
      { "d", function() end, needs = "c" },
    }, { on_start = function(eng)
      eng.on_deadline = function(at, task, seconds)
        heard[#heard + 1] = at and ("%g: %s %g %g"):format(eng.clock.now, task, at, seconds) or "none"
      end
    end })
    assert.same({ "0: a 30 30", "0: b 10 10", "1: a 30 30", "3: c 60 60", "none" }, heard)
  end)
end)
