--- Start and end of a program by ctx:exec, beside posix_spawn and waitpid (spec/bench/spawn.c), in turns.
local uv = require "luv"
local engine_local = require "pyoco.engine.local"
local system = require "spec.bench.system"

local PROGRAM <const> = "/bin/true"
local TIMES <const>, TURNS <const> = 300, 7

--- Runs the program many times in one task; returns the times in microseconds, sorted.
local function run(times)
  local took = {}
  local function bench(ctx)
    for i = 1, times do
      local start = uv.hrtime()
      ctx:exec { PROGRAM }
      took[i] = (uv.hrtime() - start) / 1000
    end
  end
  local eng = assert(engine_local.run { name = "bench", functions = { t = bench }, params = { t = { "ctx" } },
    graph = { version = 1, name = "bench", nodes = { { name = "t", inputs = {}, outputs = {}, options = {} } },
      edges = {}, frames = {}, any_of = {} } })
  if eng.status ~= "COMPLETED" then error(eng.error) end
  table.sort(took)
  return took
end

--- Measures both, several times in turns, since the machine is never quite the same; sorted by their ratio.
local function measure()
  local list = {}
  run(20)
  for i = 1, TURNS do
    local floor = system.tool("spawn", { "--times", tostring(TIMES), "--program", PROGRAM }).spawn_p50_us
    local took = run(TIMES)
    local p50 = took[#took // 2 + 1]
    list[i] = { floor = floor, p50 = p50, p99 = took[math.ceil(#took * 0.99)], ratio = p50 / floor }
  end
  table.sort(list, function(a, b) return a.ratio < b.ratio end)
  return list
end

--- Tells the figures of the turn in the middle.
---@param out table { say, row } of bench.lua
return function(out)
  out.say("\nctx:exec of %s, and posix_spawn + waitpid of it, %d times each, in %d turns", PROGRAM, TIMES, TURNS)
  local list = measure()
  local got = list[(#list + 1) // 2]
  out.row("floor, posix_spawn: p50", ("%.2f ms"):format(got.floor / 1000))
  out.row("ctx:exec: p50", ("%.2f ms"):format(got.p50 / 1000))
  out.row("  as a multiple of the floor", ("%.2f"):format(got.ratio), "under 2", got.ratio < 2)
  out.say("    p99 %.2f ms; the turns: %.2f to %.2f", got.p99 / 1000, list[1].ratio, list[#list].ratio)
end
