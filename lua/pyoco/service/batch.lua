--- POST /runs/batch: many runs by one request. Each step is made for all of them at once, in flight together: records
--- of keys, snapshots, jobs, marks. What concerns one run only (a key that is taken, a failure) is then done one by
--- one.
local json = require "host.json"
local clock = require "host.clock"
local crypto = require "host.crypto"
local err = require "pyoco.err"
local fault = require "pyoco.service.fault"
local idempotency = require "pyoco.service.idempotency"
local start = require "pyoco.service.start"
local submit = require "pyoco.service.submit"

local M = {}

local PUBLISH_DEADLINE_SEC = 2

local function refused(message, code)
  return { error = { code = code, detail = type(message) == "string" and err.public(message) or message } }
end

--- Notes what became of an entry: its run is over, for this batch.
local function settle(entry, answer, message, code)
  entry.result = answer or refused(message, code)
end

--- A failure of the store.
local function fail(entry, result)
  local _, message, code = fault.of_store(result.message, result.code)
  settle(entry, nil, message, code)
end

--- The entries of a list that are not settled, and of those the ones that fit.
local function open_ones(entries, fits)
  local list = {}
  for _, entry in ipairs(entries) do
    if not entry.result and not entry.later and (not fits or fits(entry)) then list[#list + 1] = entry end
  end
  return list
end

local function is_keyed(entry) return entry.claim ~= nil end

--- The items as entries; what does not fit is settled.
local function read_items(app, caller, items)
  local entries = {}
  for i, item in ipairs(items) do
    local entry = {}
    entries[i] = entry
    if item.faults then
      settle(entry, nil, item.faults, "invalid")
    else
      local request = item.value
      entry.wanted, entry.make = submit.plan(app, caller, request)
      entry.wanted.key = request.idempotency_key
      if entry.wanted.key ~= nil then
        local message, code
        entry.claim, message, code = idempotency.claim(caller, entry.wanted)
        if not entry.claim then settle(entry, nil, message, code) end
      end
    end
  end
  return entries
end

--- Entries whose key is taken: answered where its run was started for the same request, else for `later`.
local function look_up(app, taken)
  local places = {}
  for i, entry in ipairs(taken) do places[i] = entry.claim.place end
  local records = #taken > 0 and app.store.idempotency:get_many(places) or {}
  for i, entry in ipairs(taken) do
    local record = records[i]
    if record and record.fingerprint ~= entry.claim.fingerprint then
      settle(entry, nil, idempotency.MISMATCH, "invalid")
    elseif record and record.started then
      settle(entry, idempotency.replay(record))
    else
      entry.later = true
    end
  end
end

local function claim_keys(app, entries)
  local keyed, list, taken = open_ones(entries, is_keyed), {}, {}
  for i, entry in ipairs(keyed) do
    entry.record = { run_id = crypto.uuid4(), fingerprint = entry.claim.fingerprint, created_at = app.store:now() }
    list[i] = { entry.claim.place, entry.record }
  end
  if #keyed == 0 then return end
  for i, result in ipairs(app.store.idempotency:claim_many(list)) do
    local entry = keyed[i]
    entry.claim.revision = result.revision
    if result.code == "conflict" then
      taken[#taken + 1] = entry
    elseif not result.revision then
      fail(entry, result)
    end
  end
  look_up(app, taken)
end

local function create_runs(app, entries)
  local open, firsts = open_ones(entries), {}
  for i, entry in ipairs(open) do
    entry.first, entry.job = entry.make(entry.record and entry.record.run_id)
    firsts[i] = entry.first
  end
  for i, result in ipairs(app.store.runs:create_many(firsts)) do
    local entry = open[i]
    entry.revision = result.revision
    if result.code == "conflict" and entry.claim then
      entry.later = true -- another gateway has found the record, and is quicker
    elseif not result.revision then
      fail(entry, result)
    end
  end
end

--- Takes back a run whose job cannot be queued, and gives its key back.
local function withdraw(app, entry, result)
  local _, message, code = fault.of_store(result.message, result.code)
  local answer, is_withdrawn
  answer, message, code, is_withdrawn = start.withdraw(app, entry.first, entry.revision, {}, message, code)
  if is_withdrawn and entry.claim then app.store.idempotency:delete(entry.claim.place, entry.claim.revision) end
  settle(entry, answer, message, code)
end

local function publish_jobs(app, entries)
  local deadline = clock.monotonic() + PUBLISH_DEADLINE_SEC
  local waiting = open_ones(entries)
  while #waiting > 0 do
    local jobs, unknown = {}, {}
    for i, entry in ipairs(waiting) do jobs[i] = entry.job end
    for i, result in ipairs(app.store.jobs:publish_many(jobs)) do
      local entry = waiting[i]
      if result.seq then
        settle(entry, start.answer(entry.first))
        entry.is_queued = true
      elseif result.code == "timeout" and clock.monotonic() < deadline then
        unknown[#unknown + 1] = entry -- the message id makes a second publish safe
      else
        withdraw(app, entry, result)
      end
    end
    waiting = unknown
  end
end

--- Marks the records of runs that were started now.
local function mark_keys(app, entries)
  local list = {}
  for _, entry in ipairs(entries) do
    if entry.is_queued and entry.record then
      list[#list + 1] = { entry.claim.place, idempotency.marked(entry.record, entry.result), entry.claim.revision }
    end
  end
  if #list > 0 then app.store.idempotency:update_many(list) end
end

local function do_later(app, caller, entries)
  for _, entry in ipairs(entries) do
    if entry.later then settle(entry, idempotency.start(app, caller, entry.wanted, entry.make)) end
  end
end

--- The answer; nil when NATS has kept every single run from being started.
local function sum_up(app, entries)
  local results, accepted, unavailable = json.array {}, 0, 0
  for i, entry in ipairs(entries) do
    results[i] = entry.result
    if entry.result.run_id then accepted = accepted + 1 end
    if entry.result.error and entry.result.error.code == "unavailable" then unavailable = unavailable + 1 end
  end
  if unavailable > 0 and unavailable == #entries then
    return nil, entries[1].result.error.detail, "unavailable"
  end
  if unavailable > 0 then
    app.log:warning(("submit batch: %d of %d runs could not be started: nats unavailable"):format(unavailable,
      #entries))
  end
  return { results = results, accepted = accepted, refused = #entries - accepted }
end

--- Queues many runs of flows by their names. One that is refused does not keep the others.
---@param app table { store, config, log }
---@param caller table { tenant_id, api_key_id } or empty
---@param items table[] { value = request as submit.flow takes it, with idempotency_key } or { faults }
---@return table|nil { results = in order { run_id, status, bundle_hash[, replayed] } or { error = { code, detail } },
---  accepted, refused }
---@return string|nil message
---@return string|nil code "unavailable": not one of them was started
function M.submit(app, caller, items)
  local entries = read_items(app, caller, items)
  claim_keys(app, entries)
  create_runs(app, entries)
  publish_jobs(app, entries)
  mark_keys(app, entries)
  do_later(app, caller, entries)
  return sum_up(app, entries)
end

return M
