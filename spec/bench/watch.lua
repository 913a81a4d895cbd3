--- Event streams: how long a change takes to one watcher, to 1,000 watchers of one run, to 1,000 streams of all runs,
--- and what these cost the gateway in memory, threads and CPU.
local host = require "host"
local process = require "spec.support.process"
local proc = require "spec.bench.proc"
local gateways = require "spec.support.gateway"
local runs = require "spec.support.runs"

local MANY <const> = 1000
local AIM_MS <const> = 20
local TOOL <const> = host.exe:gsub("[^/]*$", "") .. "bench/watchers"

local WATCH <const> = "/runs/bench-watched/watch?timeout_sec=600"
local CASES <const> = {
  { "1 watcher", WATCH, 1 },
  { "1,000 watchers of a run", WATCH, MANY },
  { "1 stream of all runs", "/events?timeout_sec=600", 1 },
  { "1,000 streams of all runs", "/events?timeout_sec=600", MANY },
}

local function values_of(text)
  local values = {}
  for key, value in text:gmatch "([%w_]+)=(%S+)" do values[key] = tonumber(value) end
  return values
end

local function measure(it, out, case)
  local name, path, count = table.unpack(case)
  it.gateway = gateways.start { nats_url = it.server.url, env = { PYOCO_HTTP_THREADS = tostring(MANY + 100) } }
  it.gateway:wait("/runs", function(answer) return answer.status == 200 end, "the read model")
  local pid = it.gateway.process.pid
  local before = proc.memory(pid)
  local tool = process.spawn(TOOL, { "--port", it.gateway.url:match ":(%d+)$", "--url", it.server.url, "--path", path,
    "--watchers", tostring(count) })
  local function said(pattern)
    return process.wait_for(function()
      if tool.code and tool.code ~= 0 then error("watchers failed: " .. tool.stderr, 0) end
      return tool.stdout:match(pattern)
    end, 120000, "the watchers")
  end
  local opened = values_of(said "[^\n]*open_seconds[^\n]*\n")
  local memory, cpu = proc.memory(pid) - before, proc.cpu(pid)
  local got = values_of(said "[^\n]*rounds=[^\n]*\n")
  cpu = proc.cpu(pid) - cpu
  out.say("\n%s", name)
  out.row("a change until the last has it: p50", ("%.2f ms"):format(got.all_p50_us / 1e3), ("< %d ms"):format(AIM_MS),
    got.all_p50_us < AIM_MS * 1e3)
  out.row("a change until each has it: p99", ("%.2f ms"):format(got.each_p99_us / 1e3), ("< %d ms"):format(AIM_MS),
    got.each_p99_us < AIM_MS * 1e3)
  out.say("    the first: p50 %.2f ms; each: p50 %.2f ms; worst %.2f ms; CPU of the gateway a change %.2f ms",
    got.first_p50_us / 1e3, got.each_p50_us / 1e3, got.each_max_us / 1e3, cpu / got.rounds * 1e3)
  out.say("    all open after %.2f s; memory of a stream %.1f KB (Pss of the gateway %.1f MB with them)",
    opened.open_seconds, memory / count / 1024, proc.memory(pid) / 1048576)
  tool:wait(10000)
  it.gateway:stop()
  it.gateway = nil
end

--- Runs the part.
---@param out table say, row
return function(out)
  local it = runs.start { bare = true }
  it:connect()
  local ok, problem = xpcall(function()
    for _, case in ipairs(CASES) do measure(it, out, case) end
  end, debug.traceback)
  it:stop()
  if not ok then error(problem, 0) end
end
