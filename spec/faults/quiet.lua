--- The moment at which nothing moves any more: every run has ended, the queue is empty, nothing waits for an ack.
local json = require "host.json"
local async = require "pyoco.worker.async"
local states = require "pyoco.run.states"
local people = require "spec.faults.people"

local M = {}

local PATIENCE_SEC, TELL_SEC = 90, 15
local CONSUMERS = { "default", "cpu", "gpu" }

--- All that KV holds of runs: id -> { snapshot, revision }; nil when it cannot be read.
---@param fleet table
---@return table<string, table>|nil
function M.runs(fleet)
  local entries = fleet.store.runs.kv:entries()
  if not entries then return nil end
  local runs = {}
  for _, entry in ipairs(entries) do
    runs[entry.key] = { snapshot = assert(json.decode(entry.value)), revision = entry.revision }
  end
  return runs
end

--- The jobs that are left: list of { seq, run_id }.
local function jobs(fleet)
  local info = fleet.store.js:stream_info "PYOCO_WORK"
  if not info then return nil end
  local list, seq = {}, info.state.first_seq
  while info.state.messages > #list do
    local message = fleet.store.js:next_msg("PYOCO_WORK", seq, ">")
    if not message then break end
    list[#list + 1] = { seq = message.seq, subject = message.subject,
      run_id = message.data:match '"run_id": ?"([^"]+)"' }
    seq = message.seq + 1
  end
  return list
end

--- What still moves, as lines; empty when all is quiet. Second: ids of the runs concerned.
local function moving(world, runs)
  local lines, ids = {}, {}
  local function add(run_id, format, ...)
    lines[#lines + 1], ids[#ids + 1] = format:format(...), run_id
  end
  for id, it in pairs(runs) do
    if not states.is_terminal(it.snapshot.status) then add(id, "run %s is %s", id, it.snapshot.status) end
  end
  local left = jobs(world.fleet)
  for _, job in ipairs(left or { { seq = 0, subject = "cannot be read" } }) do
    local run = runs[job.run_id]
    add(job.run_id, "message %d (%s) of run %s, which is %s", job.seq, job.subject, tostring(job.run_id),
      run and run.snapshot.status or "not there")
  end
  for _, tag in ipairs(CONSUMERS) do
    local info = world.fleet.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_" .. tag)
    if not info then
      add(nil, "consumer of %s cannot be read", tag)
    elseif info.num_ack_pending + info.num_pending > 0 then
      add(nil, "consumer of %s: %d acks pending, %d messages pending", tag, info.num_ack_pending, info.num_pending)
    end
  end
  return lines, ids
end

--- What people have begun and must end.
local function tidy(world, runs)
  for id, it in pairs(runs) do
    if it.snapshot.status == "PENDING_APPROVAL" then people.decide(world, id) end
  end
  local found = world.fleet.store.schedules:list()
  for _, record in ipairs(found or {}) do people.unschedule(world, record.schedule_id) end
end

--- Notes what the server says of the queue, and the workers of themselves.
local function note_state(world)
  local js = world.fleet.store.js
  local function note(what, value)
    world.ledger:note(nil, ("%s: %s"):format(what, json.encode(value, { sort = true })))
  end
  local info = js:stream_info "PYOCO_WORK"
  note("work stream", info and info.state or json.null)
  for _, tag in ipairs(CONSUMERS) do
    info = js:consumer_info("PYOCO_WORK", "pyoco_workers_" .. tag)
    if info then info.config = nil end
    note("consumer of " .. tag, info or json.null)
  end
  for _, entry in ipairs(world.fleet.store.workers:list() or {}) do
    local record = entry.record
    note("worker " .. entry.key, { state = record.state, runs = record.current_run_ids, last = record.last_run_id })
  end
end

--- Waits for it. In a coroutine.
---@param world table
---@return table|nil runs as M.runs gives them; nil: it did not come, and the ledger says what moves
---@return number seconds
function M.await(world)
  local began, lines, ids = world.ledger:time(), {}, {}
  local told_at = began
  repeat
    local runs = M.runs(world.fleet)
    if runs then
      tidy(world, runs)
      lines, ids = moving(world, runs)
      if #lines == 0 then return runs, world.ledger:time() - began end
    end
    if world.ledger:time() - told_at > TELL_SEC then
      told_at = world.ledger:time()
      for i, line in ipairs(lines) do world.ledger:note(ids[i], "no rest yet: " .. line) end
      print(("  no rest yet after %.0f s: %s"):format(told_at - began,
        table.concat(lines, "; ", 1, math.min(3, #lines))))
    end
    async.sleep(0.3)
  until world.ledger:time() - began > PATIENCE_SEC
  note_state(world)
  for i, line in ipairs(lines) do
    world.ledger:breach("everything comes to rest", ("after %d s: %s"):format(PATIENCE_SEC, line), ids[i])
  end
  return nil, PATIENCE_SEC
end

return M
