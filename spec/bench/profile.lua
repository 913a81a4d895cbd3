--- Where the CPU goes while a load runs: `perf record` on each process of the system, reports as text.
--- perf is Debian's linux-perf; without it the bench says so and goes on.
local host = require "host"
local process = require "spec.support.process"

local M = {}

local FOLDER <const> = host.exe:gsub("[^/]*$", "") .. "bench/"

--- Runs perf to its end and writes what it prints to a file.
local function report(data, file, args)
  local run = process.spawn("perf", table.move(args, 1, #args, 4, { "report", "-i", data }))
  run:wait(120000)
  local out <close> = assert(io.open(file, "wb"))
  out:write(run.stdout)
  return run.stdout
end

--- Calls fn while perf samples the processes.
---@param list table[] {name, pid}, as System:processes gives them
---@param fn fun():table
---@return table values of fn
---@return table[] reports {name, file, text: the functions that took most, own time, over 1 %}
function M.during(list, fn)
  local recorders = {}
  for i, it in ipairs(list) do
    local data = FOLDER .. it.name:gsub("%W", "-") .. ".perf"
    recorders[i] = process.spawn("perf", { "record", "-q", "-F", "1999", "-g", "-e", "cpu-clock", "-p",
      tostring(it.pid), "-o", data })
    recorders[i].data, recorders[i].of = data, it.name
  end
  local values = fn()
  local reports = {}
  for i, recorder in ipairs(recorders) do
    recorder:kill("sigint") -- perf writes its file out and ends
    recorder:wait(60000)
    local text = report(recorder.data, recorder.data .. ".txt",
      { "--stdio", "--no-children", "-g", "none", "--percent-limit", "1", "--sort", "dso,symbol" })
    report(recorder.data, recorder.data .. ".callers.txt",
      { "--stdio", "--children", "-g", "none", "--percent-limit", "1", "--sort", "symbol" })
    reports[i] = { name = recorder.of, file = recorder.data .. ".txt", text = text }
  end
  return values, reports
end

return M
