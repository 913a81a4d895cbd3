--- The fresh VM that every run gets: how long a slot takes from one run's end until it is ready for the next, and how
--- much memory the VM has by then.
local clock = require "host.clock"
local host = require "host"
local json = require "host.json"
local slots = require "host.slots"
local uv = require "luv"
local config = require "pyoco.config"
local nats = require "spec.support.nats"

local COUNT <const> = 2000
local AIM_US <const>, AIM_KB <const> = 300, 200

--- Boot text of a slot that has all it needs for a run.
local function boot(nats_url)
  local cfg = assert(config.load { env = {}, flags = { nats_url = nats_url } })
  return assert(json.encode { cfg = { task_path = { "/nonexistent" }, runs_bucket = cfg.runs_bucket },
    worker_id = "bench", is_direct = true, memory_limit_bytes = cfg.run_memory_max_bytes,
    nats = { url = nats_url, name = "bench" } })
end

--- Has a slot make fresh VMs, one after the other. Returns { p50_us, p99_us (from a job's start to ready again:
--- the socket twice, an empty run, the VM), first_us (from the process start to its first VM), kb (of the VM, when its
--- run begins) }.
local function measure(nats_url)
  local ready, kb, problem = 0, nil, nil
  local began = clock.monotonic()
  local slot = assert(slots.spawn {
    script = host.home .. "/spec/bench/vm_worker.lua",
    on_frame = function(kind, head)
      if kind == "I" then ready = ready + 1 end
      if kind == "F" then kb = tonumber(head) end
      if kind == "E" then problem = json.decode(head).error end
    end,
    on_exit = function() problem = problem or "the slot ended" end,
  })
  local function wait_for(n)
    while ready < n and not problem do uv.run("once") end
    if problem then error(problem, 0) end
  end
  slot:send("B", boot(nats_url))
  wait_for(1)
  local first, times = clock.monotonic() - began, {}
  for i = 1, COUNT do
    local before = clock.monotonic()
    slot:send("R", "{}", "")
    wait_for(i + 1)
    times[i] = clock.monotonic() - before
  end
  slot:close()
  uv.run("nowait")
  table.sort(times)
  local function at(share) return times[math.max(1, math.ceil(share * COUNT))] * 1e6 end
  return { first_us = first * 1e6, p50_us = at(0.5), p99_us = at(0.99), kb = kb }
end

return function(out)
  local server = nats.start()
  local ok, got = pcall(measure, server.url)
  server:stop()
  if not ok then error(got, 0) end
  out.say("\nthe fresh VM of a run, %d times, from the end of one to ready for the next", COUNT)
  out.row("time, with a job's way to the slot and back", ("%.0f us"):format(got.p50_us), ("< %d us"):format(AIM_US),
    got.p50_us < AIM_US)
  out.say("    p99 %.0f us; the first one of a process after %.1f ms", got.p99_us, got.first_us / 1000)
  out.row("memory", ("%.0f KB"):format(got.kb), ("< %d KB"):format(AIM_KB), got.kb < AIM_KB)
end
