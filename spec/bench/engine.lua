--- The engine's overhead per task: functions that do nothing, in graphs of 10,000, beside the floor: the same functions
--- as plain coroutines. One figure is from the flow object to the end of the run, another without engine.new. It is CPU
--- time of this process, which is all there is: nothing waits.
local host = require "host"
local engine_local = require "pyoco.engine.local"
local flow = require "spec.support.flow"

local cpu = os.clock

local N <const> = 10000
local AIM_US <const> = 10

local function nothing() end

--- Rows of a graph: `needs(i)` is what task i waits for.
local function rows_of(needs, fn)
  local rows = {}
  for i = 1, N do rows[i] = { "t" .. i, fn or nothing, needs = needs(i) } end
  return rows
end

local function chain(i) return i > 1 and "t" .. i - 1 or nil end
local function fan(i) return i > 1 and "t1" or nil end

--- Cases: name, how many tasks (or iterations) a run has, a function that makes the flow object; params.
local CASES = {
  { "chain of 10,000", N, function() return flow.of(rows_of(chain)) end },
  { "fan-out of 10,000", N, function() return flow.of(rows_of(fan)) end },
  { "chain of 10,000, ctx and a result each", N, function()
    local rows = rows_of(chain, function(ctx) return ctx.attempt end)
    return flow.of(rows)
  end },
  { "x[10000]", N, function() return flow.compiled("x[10000]", { { "x", nothing } }) end },
  { "(x >> y)[5000]", N, function()
    return flow.compiled("(x >> y)[5000]", { { "x", nothing }, { "y", nothing } })
  end },
  { 'x["$ctx.items as item"], 16 at a time', N, function()
    return flow.compiled('x["$ctx.items as item"]',
      { { "x", function(item) return item end, options = { parallel = 16 } } })
  end },
  { "x[1][10000], per iteration", 2 * N, function() return flow.compiled("x[1][10000]", { { "x", nothing } }) end },
}

--- The least of some measurements: what other processes take is not the engine's.
local function least(times, fn)
  local best = {}
  for i = 1, times do
    for key, value in pairs(fn()) do best[key] = i > 1 and math.min(best[key], value) or value end
  end
  return best
end

local function measure(case, params)
  local flow_object = case[3]()
  collectgarbage()
  collectgarbage()
  local started, made = cpu(), nil
  local eng = assert(engine_local.run(flow_object, { params = params, on_start = function()
    made = cpu()
  end }))
  local ended = cpu()
  assert(eng.status == "COMPLETED", eng.error)
  return { whole = (ended - started) / case[2] * 1e6, run = (ended - made) / case[2] * 1e6 }
end

--- Microseconds of a coroutine's whole life around a function that does nothing.
local function floor()
  collectgarbage()
  local started = cpu()
  for _ = 1, N do coroutine.resume(coroutine.create(nothing)) end
  return { whole = (cpu() - started) / N * 1e6 }
end

return function(out)
  local times = math.max(5, out.times)
  out.say("\nengine: overhead per task (least of %d), Lua %s", times, _VERSION:match("[%d.]+"))
  local base = least(times, floor).whole
  out.row("floor: coroutine create and resume", ("%.2f us"):format(base))
  local items = {}
  for i = 1, N do items[i] = i end
  for _, case in ipairs(CASES) do
    local got = least(times, function() return measure(case, { items = items }) end)
    out.row(case[1], ("%.2f us"):format(got.whole), ("< %d us"):format(AIM_US), got.whole < AIM_US)
    out.say("    %.2f us without engine.new; %.0f times the floor", got.run, got.whole / base)
  end
  out.say("    memory now %.1f MB", host.memory() / 1048576)
end
