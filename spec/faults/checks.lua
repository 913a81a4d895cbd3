--- What must hold at a quiet moment, whatever has happened: one function for each rule, all over one picture of KV.
local async = require "pyoco.worker.async"
local states = require "pyoco.run.states"
local present = require("pyoco.null").present
local flows = require "spec.faults.flows"
local follower = require "spec.faults.follower"
local logs = require "spec.faults.logs"

local M = {}

local LOST_SEC = 2    -- what was answered so shortly before a SIGKILL of nats-server may be lost
local SEEN_SEC = 15   -- how long gateways may take to show what KV holds

-- Ends that misfortune may give to any run; the other two only when nats-server has lost a message.
local BY_MISFORTUNE = { "^worker_crashed", "^max_attempts_exceeded" }
local BY_LOSS = { "^worker_lost", "^job_lost" }

local function matches(text, patterns)
  for _, pattern in ipairs(patterns) do
    if type(text) == "string" and text:find(pattern) then return true end
  end
  return false
end

local function may_be_lost(world, at) return world.ledger:nats_was_killed(at - LOST_SEC, at + LOST_SEC) end

--- Whether nats-server was killed while a run was about.
local function saw_a_loss(world, run_id)
  local past = world.history.runs[run_id]
  return world.ledger:nats_was_killed((past and past[1].at or 0) - LOST_SEC)
end

local rules = {}

rules["an accepted run is there"] = function(world, runs, breach)
  for id, run in pairs(world.ledger.runs) do
    if not runs[id] and not (world.pruned and world.history.deleted[id]) and not may_be_lost(world, run.at) then
      breach("it is not", id)
    end
  end
end

rules["a cancel that was accepted ends CANCELLED"] = function(world, runs, breach)
  for id, cancel in pairs(world.ledger.cancels) do
    local status = runs[id] and runs[id].snapshot.status
    local wanted = cancel.status == "CANCELLING" and "CANCELLED" or cancel.status
    if status and status ~= wanted and not world.ledger:nats_was_killed(cancel.at - LOST_SEC) then
      breach(("answered %s, ended %s"):format(cancel.status, status), id)
    end
  end
end

rules["a key is one run"] = function(world, _, breach)
  for key, ids in pairs(world.ledger.keys) do
    local list, is_excused = {}, false
    for id, at in pairs(ids) do list[#list + 1], is_excused = id, is_excused or may_be_lost(world, at) end
    if #list > 1 and not is_excused then breach(("%s: %s"):format(key, table.concat(list, ", ")), list[1]) end
  end
end

rules["a run ends as its flow says"] = function(world, runs, breach)
  for id, it in pairs(runs) do
    local run, kind = it.snapshot, flows.KINDS[it.snapshot.flow_name]
    local is_cancelled = run.status == "CANCELLED" and (present(run.cancel_requested_at) or present(run.rejected_at)
      or run.approval_status == "PENDING_APPROVAL" or kind and kind.is_bundle)
    local is_meant = kind and run.status == kind[1] and (not kind.error or matches(run.error, { kind.error }))
    local is_misfortune = run.status == "FAILED" and not world.ledger:was_calm()
      and (matches(run.error, BY_MISFORTUNE) or matches(run.error, BY_LOSS) and saw_a_loss(world, id))
    if not is_cancelled and not is_meant and not is_misfortune and not (kind and kind.may_miss) then
      breach(("%s ended %s: %s"):format(run.flow_name, run.status, tostring(run.error)), id)
    end
  end
end

--- Effects by run, and how often each task began by delivery.
local function effects_of(world)
  local by_run = {}
  for _, it in ipairs(world.fleet:effects()) do
    local run = by_run[it.run_id] or { list = {}, begun = {}, ended = {} }
    by_run[it.run_id] = run
    run.list[#run.list + 1] = it
    local what = it.what == "begin" and run.begun or run.ended
    what[it.delivery] = what[it.delivery] or {}
    what[it.delivery][it.task] = (what[it.delivery][it.task] or 0) + 1
  end
  return by_run
end

--- Whether the past of a run shows more than one message: it was published again.
local function was_republished(world, run_id)
  local seqs, count = {}, 0
  for _, it in ipairs(world.history.runs[run_id] or {}) do
    if it.seq and not seqs[it.seq] then seqs[it.seq], count = true, count + 1 end
  end
  return count > 1 or logs.mentions(world, run_id, "published again")
end

rules["a task runs once in a delivery"] = function(world, runs, breach)
  for id, effects in pairs(effects_of(world)) do
    local seen = {}
    for _, it in ipairs(effects.list) do
      local what = ("%s round %d attempt %d %s in delivery %d"):format(it.task, it.round, it.attempt, it.what,
        it.delivery)
      if seen[what] and not was_republished(world, id) and not saw_a_loss(world, id) then
        breach(what .. " twice", id)
      end
      seen[what] = true
      local last = runs[id] and runs[id].snapshot.attempt
      if type(last) == "table" and it.delivery > last.delivery and not was_republished(world, id)
        and not saw_a_loss(world, id) then
        breach(what .. (", but the run's attempt is %d"):format(last.delivery), id)
      end
    end
  end
end

--- Whether some delivery has run all tasks of a kind to their end.
local function is_whole(effects, kind)
  for _, ended in pairs(effects and effects.ended or {}) do
    local all = true
    for task in pairs(kind.tasks) do all = all and ended[task] ~= nil end
    if all then return true end
  end
  return false
end

rules["what COMPLETED was done"] = function(world, runs, breach)
  local by_run = effects_of(world)
  for id, it in pairs(runs) do
    local kind = flows.KINDS[it.snapshot.flow_name]
    if it.snapshot.status == "COMPLETED" and kind and not is_whole(by_run[id], kind) then
      breach("no delivery has run all its tasks to their end", id)
    end
  end
end

rules["without misfortune each task runs as often as it should"] = function(world, runs, breach)
  if not world.ledger:was_calm() then return end
  local by_run = effects_of(world)
  for id, it in pairs(runs) do
    local kind = flows.KINDS[it.snapshot.flow_name]
    if it.snapshot.status ~= "CANCELLED" and kind then
      local counts = {}
      for _, effect in ipairs(by_run[id] and by_run[id].list or {}) do
        if effect.what == "begin" then counts[effect.task] = (counts[effect.task] or 0) + 1 end
      end
      for task, times in pairs(kind.tasks) do
        if counts[task] ~= times then
          breach(("%s ran %d times, not %d"):format(task, counts[task] or 0, times), id)
        end
      end
    end
  end
end

rules["a due time has one run"] = function(world, runs, breach)
  local counts = {}
  for _, it in pairs(runs) do
    local id = it.snapshot.schedule_id
    if present(id) then counts[id] = (counts[id] or 0) + 1 end
  end
  for id, schedule in pairs(world.ledger.schedules) do
    local most = schedule.interval_sec and ((schedule.deleted_at or world.ledger:time()) - schedule.created_at)
      / schedule.interval_sec + 2 or 1
    if (counts[id] or 0) > most then breach(("schedule %s has %d runs"):format(id, counts[id])) end
  end
end

rules["children and parents know each other"] = function(world, runs, breach)
  for id, it in pairs(runs) do
    local run = it.snapshot
    local parent_id = run.parent_run_id
    local parent = present(parent_id) and runs[parent_id]
    if present(parent_id) and not parent and not world.pruned and not saw_a_loss(world, id) then
      breach("its parent is not there: " .. parent_id, id)
    elseif parent then
      local is_known = false
      for _, child_id in ipairs(parent.snapshot.child_run_ids) do is_known = is_known or child_id == id end
      if not is_known and not saw_a_loss(world, id) then breach("its parent does not name it: " .. parent_id, id) end
    end
    if run.flow_name == "study" and run.status == "COMPLETED" and #run.child_run_ids ~= 3 then
      breach(("it has %d children, not 3"):format(#run.child_run_ids), id)
    end
  end
end

--- How two pictures of runs differ, as lines.
local function differences(runs, shown)
  local lines = {}
  for id, it in pairs(runs) do
    local item = shown[id]
    if not item then
      lines[#lines + 1] = ("%s (%s) is missing"):format(id, it.snapshot.status)
    elseif item.status ~= it.snapshot.status or item.updated_at ~= it.snapshot.updated_at then
      lines[#lines + 1] = ("%s is %s at %s, shown as %s at %s"):format(id, it.snapshot.status, it.snapshot.updated_at,
        item.status, item.updated_at)
    end
  end
  for id, item in pairs(shown) do
    if not runs[id] then lines[#lines + 1] = ("%s is shown as %s, but is not there"):format(id, item.status) end
  end
  return lines
end

--- Waits until fn() gives no more complaint, then is silent; tells the last one when it takes too long.
local function soon(world, fn, breach)
  local deadline = world.ledger:time() + SEEN_SEC
  while true do
    local complaint = fn()
    if not complaint then return end
    if world.ledger:time() > deadline then return breach(complaint) end
    async.sleep(0.2)
  end
end

local function counts_of(runs)
  local counts = {}
  for _, it in pairs(runs) do counts[it.snapshot.status] = (counts[it.snapshot.status] or 0) + 1 end
  return counts
end

--- What a gateway shows beside what KV holds; nil when both agree.
local function gateway_differs(gateway, runs, letters)
  local shown, message = follower.list(gateway)
  if not shown then
    local health = follower.ask { url = gateway.url .. "/health", timeout_sec = 5 }
    return ("its list cannot be read: %s; /health: %s"):format(message, health and health.body or "no answer")
  end
  local lines = differences(runs, shown)
  if #lines > 0 then return table.concat(lines, "; ", 1, math.min(#lines, 5)) end
  local counts, answer = counts_of(runs), follower.ask { url = gateway.url .. "/runs/counts", timeout_sec = 10 }
  for status, count in pairs(counts) do
    if not answer or answer.json.counts[status] ~= count then
      return ("/runs/counts: %s; %s is %d"):format(answer and answer.body or "no answer", status, count)
    end
  end
  answer = follower.ask { url = gateway.url .. "/metrics", timeout_sec = 10 }
  for status, count in pairs(counts) do
    local said = answer and answer.body:match('pyoco_runs_total{status="' .. status .. '"} (%d+)')
    if tonumber(said) ~= count then return ("/metrics: %s is %s, not %d"):format(status, said, count) end
  end
  local said = answer.body:match "\npyoco_dlq_messages_total (%d+)"
  if tonumber(said) ~= letters then return ("/metrics: %s dead letters, not %d"):format(said, letters) end
end

rules["gateways show what KV holds"] = function(world, runs, breach)
  local letters = assert(world.fleet.store.js:stream_info "PYOCO_DLQ").state.messages
  for _, gateway in ipairs(world.fleet.gateways) do
    soon(world, function() return gateway_differs(gateway, runs, letters) end,
      function(text) breach(gateway.name .. ": " .. text) end)
  end
end

rules["a follower of /events has the list's picture"] = function(world, runs, breach)
  for number, one in ipairs(world.followers) do
    soon(world, function()
      local lines = differences(runs, one.picture)
      return #lines > 0 and table.concat(lines, "; ", 1, math.min(#lines, 5)) or nil
    end, function(text)
      breach(("follower %d, at %s, %d resets (last %s)%s: %s"):format(number, one.gateway and one.gateway.name,
        one.resets, tostring(one.reasons[#one.reasons]), one.is_listing and ", listing" or "", text))
    end)
  end
end

rules["a watcher sees the end"] = function(world, runs, breach)
  for _, one in ipairs(world.watchers) do
    local run = runs[one.run_id]
    soon(world, function()
      if run and not one.has_ended then return ("it still waits; last seen: %s"):format(tostring(one.last)) end
      if run and one.last and one.last ~= run.snapshot.status and not saw_a_loss(world, one.run_id) then
        return ("it saw %s, the run is %s"):format(one.last, run.snapshot.status)
      end
    end, function(text) breach(text, one.run_id) end)
  end
end

rules["nothing of a task is left running"] = function(world, _, breach)
  for _, one in ipairs(world.fleet:strays()) do breach(("%d %s"):format(one.pid, one.command)) end
end

rules["logs hold no error that was not to be expected"] = function(world, _, breach)
  for _, line in ipairs(logs.unexpected(world)) do breach(line) end
end

--- Checks all rules.
---@param world table
---@param runs table<string, table> what KV holds, as quiet.runs gives it
function M.all(world, runs)
  for id, it in pairs(runs) do assert(states.is_terminal(it.snapshot.status), id) end
  local names = {}
  for name in pairs(rules) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    rules[name](world, runs, function(text, run_id) world.ledger:breach(name, text, run_id) end)
  end
end

return M
