--- Reading and compiling a graph text of 10,000 lines, and putting a Lua flow of 50,000 tasks together. CPU time of
--- this process, the least of some; rows are made anew each time, since the compiler makes the nodes out of them.
local compile = require "pyoco.flow.compile"
local options = require "pyoco.flow.options"
local pyoco = require "pyoco"
local text = require "pyoco.flow.text"

local cpu = os.clock

local N <const>, LARGE <const> = 10000, 50000
local AIM_MS <const> = 50

--- Task rows t0 .. tN.
local function rows_of(count)
  local rows = {}
  for i = 0, count do rows[i + 1] = options.row({ callable = "m:f" }, "task_" .. i, i, 1) end
  return rows
end

--- A graph text of N lines.
local function lines_of(line)
  local lines = {}
  for i = 1, N do lines[i] = line(i) end
  return table.concat(lines, "\n")
end

local CASES = {
  { "chain, one edge a line", N, function(i) return ("task_%d >> task_%d"):format(i - 1, i) end },
  { "fan-out, one edge a line", N, function(i) return ("task_0 >> task_%d"):format(i) end },
  { "fan-in, one edge a line", N, function(i) return ("task_%d >> task_0"):format(i) end },
  { "loops, one a line", 2 * N, function(i)
    return ('task_%d >> task_%d["$ctx.items as item"]'):format(2 * i - 1, 2 * i)
  end, has_no_aim = true },
}

local function measure(case, source)
  local rows = rows_of(case[2])
  collectgarbage()
  collectgarbage()
  local resting <close> = compile.rest_collector(#rows) -- luacheck: ignore
  local memory, started = collectgarbage("count"), cpu()
  local ast = text.read(source)
  local parsed = cpu()
  assert(compile.graph(ast, rows, { name = "bench" }))
  local ended = cpu()
  return { whole = (ended - started) * 1e3, parse = (parsed - started) * 1e3, compile = (ended - parsed) * 1e3,
    kb = collectgarbage("count") - memory }
end

--- A chain of LARGE tasks in Lua: milliseconds and megabytes, from the tasks to the flow.
local function measure_lua()
  local function nothing() end
  collectgarbage()
  collectgarbage()
  local memory, started, expr = collectgarbage("count"), cpu(), nil
  for i = 1, LARGE do
    local task = pyoco.task("task_" .. i, nothing)
    expr = expr and expr >> task or task
  end
  local built = cpu()
  local flow = pyoco.flow("bench", expr)
  local ended = cpu()
  collectgarbage()
  return { whole = (ended - started) * 1e3, flow = (ended - built) * 1e3, kb = collectgarbage("count") - memory,
    tasks = #flow.graph.nodes }
end

--- The least of some measurements, each figure by itself.
local function least(times, fn, ...)
  local best = fn(...)
  for _ = 2, times do
    for key, value in pairs(fn(...)) do best[key] = math.min(best[key], value) end
  end
  return best
end

return function(out)
  local times = math.max(5, out.times)
  out.say("\ncompile: a graph text of 10,000 lines (least of %d)", times)
  for _, case in ipairs(CASES) do
    local got = least(times, measure, case, lines_of(case[3]))
    out.row(case[1], ("%.1f ms"):format(got.whole), not case.has_no_aim and ("< %d ms"):format(AIM_MS) or nil,
      got.whole < AIM_MS)
    out.say("    parse %.1f ms, compile %.1f ms, %.1f MB", got.parse, got.compile, got.kb / 1024)
  end
  local got = least(3, measure_lua)
  out.row("a Lua flow of 50,000 tasks", ("%.0f ms"):format(got.whole))
  out.say("    pyoco.flow %.0f ms of it, %.1f MB kept", got.flow, got.kb / 1024)
end
