--- Lists, searches and counts of a gateway over 1,000, 10,000 and 100,000 stored runs, and the time from exec to the
--- first list. As one client sees it on a kept connection; snapshots of 1.5 KB, and once of 10 KB.
local clock = require "host.clock"
local http = require "host.http"
local json = require "host.json"
local crypto = require "host.crypto"
local process = require "spec.support.process"
local proc = require "spec.bench.proc"
local gateways = require "spec.support.gateway"
local runs = require "spec.support.runs"

local REQUESTS <const> = 500
local AIM_MS <const>, AIM_START_SEC <const> = 3, 3
local STATUSES <const> = { "COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED", "FAILED",
  "CANCELLED", "RUNNING", "PENDING" }

--- The questions; each gives the path of its i-th request.
local QUESTIONS <const> = {
  { "list", function() return "/runs" end },
  { "list, limit 200", function() return "/runs?limit=200" end },
  { "list by status", function(i) return "/runs?status=" .. STATUSES[i % 10 + 1] end },
  { "list by flow and status", function(i) return ("/runs?flow=flow-%d&status=FAILED"):format(i % 20) end },
  { "second page", function(_, cursor) return "/runs?cursor=" .. cursor end },
  { "search, found everywhere", function(i) return "/runs?q=flow-" .. i % 10 end },
  { "search, one run's id", function(_, _, run_id) return "/runs?q=" .. run_id end },
  { "search, found nowhere", function(i) return "/runs?q=nothing-has-this-" .. i end },
  { "/metrics", function() return "/metrics" end },
}

--- A snapshot of about `size` bytes.
local function snapshot(i, size, base)
  local status = STATUSES[i % 10 + 1]
  local value = runs.snapshot(crypto.uuid4(), { flow_name = "flow-" .. i * 7 % 20, tag = "tag-" .. i % 4,
    status = status, updated_at = base + i / 64, heartbeat_at = base + i / 64, worker_id = "worker-" .. i % 8,
    error = status == "FAILED" and "task 'train' failed: out of memory on device " .. i % 16 or json.null })
  local text = assert(json.encode(value, { ascii = true }))
  value.task_records = { train = { state = "SUCCEEDED", output = ("x"):rep(math.max(0, size - #text - 60)) } }
  return value.run_id, assert(json.encode(value, { ascii = true }))
end

--- Stores runs from..to, without waiting for each, and returns one's id.
local function fill(it, from, to, size)
  local stream, base, some = "KV_pyoco_runs", 1795000000, nil
  local before = assert(it.store.js:stream_info(stream)).state.messages
  for i = from, to do
    local run_id, bytes = snapshot(i, size, base)
    assert(it.store.conn:publish("$KV.pyoco_runs." .. run_id, bytes))
    if i == from + (to - from) // 3 then some = run_id end
    if i % 2000 == 0 or i == to then -- the server takes in what was sent so far
      process.wait_for(function()
        return assert(it.store.js:stream_info(stream)).state.messages >= before + i - from + 1
      end, 60000, "the runs to be stored")
    end
  end
  return some
end

--- Seconds from exec until a list is answered, and until /health is.
local function start(it)
  local before = clock.monotonic()
  it.gateway = gateways.start { nats_url = it.server.url }
  local listening = clock.monotonic() - before
  local answer
  repeat answer = it.gateway:fetch "/runs?limit=1" until answer and answer.status == 200
  return clock.monotonic() - before, listening
end

--- p50 and p99 in milliseconds of REQUESTS requests.
local function time(it, path_of)
  local _, cursor = it:ids "?cursor="
  local times = {}
  for i = -20, REQUESTS do
    local path = path_of(i + 20, cursor, it.some)
    local before = clock.monotonic()
    local answer = assert(http.request { url = it.gateway.url .. path })
    if answer.status ~= 200 then error(("GET %s: %d %s"):format(path, answer.status, answer.body)) end
    if i > 0 then times[i] = (clock.monotonic() - before) * 1e3 end
  end
  table.sort(times)
  return times[REQUESTS // 2], times[math.ceil(REQUESTS * 0.99)]
end

local function measure(it, out, count, size)
  local seconds, listening = start(it)
  out.say("\n%d runs of %.1f KB", count, size / 1000)
  local is_large = count >= 100000
  out.row("from exec to the first list", ("%.2f s"):format(seconds), is_large and ("< %d s"):format(AIM_START_SEC),
    seconds < AIM_START_SEC)
  out.say("    it listened after %.2f s", listening)
  for _, question in ipairs(QUESTIONS) do
    local p50, p99 = time(it, question[2])
    out.row(question[1] .. ": p99", ("%.2f ms"):format(p99), is_large and ("< %d ms"):format(AIM_MS), p99 < AIM_MS)
    out.say("    p50 %.2f ms", p50)
  end
  out.row("gateway, Pss", ("%.1f MB"):format(proc.memory(it.gateway.process.pid) / 1048576))
  it.gateway:stop()
  it.gateway = nil
end

--- Runs the part.
---@param out table say, row
return function(out)
  for _, case in ipairs { { 1500, 1000, 10000, 100000 }, { 10000, 10000 } } do
    local it = runs.start { bare = true }
    it:connect()
    local ok, problem = xpcall(function()
      local stored = 0
      for i = 2, #case do
        it.some = fill(it, stored + 1, case[i], case[1])
        stored = case[i]
        measure(it, out, stored, case[1])
      end
    end, debug.traceback)
    it:stop()
    if not ok then error(problem, 0) end
  end
end
