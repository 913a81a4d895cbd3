--- Start and end of a program by ctx:exec, beside posix_spawn and waitpid (spec/bench/spawn.c), in turns.
local uv = require "luv"
local engine_local = require "pyoco.engine.local"
local system = require "spec.bench.system"

local M = {}

local PROGRAM = "/bin/true"

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

--- Measures both, several times in turns, since the machine is never quite the same.
---@param times integer programs in a stretch
---@param stretches integer
---@return table list of { floor, p50, p99 } microseconds, one for each stretch
function M.measure(times, stretches)
  local list = {}
  run(20)
  for i = 1, stretches do
    local floor = system.tool("spawn", { "--times", tostring(times), "--program", PROGRAM })
    local took = run(times)
    list[i] = { floor = floor.spawn_p50_us, p50 = took[#took // 2 + 1], p99 = took[math.ceil(#took * 0.99)] }
  end
  return list
end

return M
