--- Idempotency-Key: a submit that is sent again is the run that it was the first time (decision 0019).
---
--- Steps: a record { run_id, fingerprint } is created under the key, then the run is started, then the record is marked
--- as started. A record that is not marked: the gateway that made it has died, or is at it still; whoever finds it
--- finishes the run. A run that was withdrawn takes its record with it.
local json = require "host.json"
local crypto = require "host.crypto"
local fault = require "pyoco.service.fault"
local start = require "pyoco.service.start"

local M = {}

local KEY_MAX = 255
local ROUNDS = 5
local SORTED = { sort = true }

--- Whether a text may be a key: from 1 to 255 characters, none of them control characters.
---@param key any
---@return boolean|nil
---@return string|nil message
---@return string|nil code "invalid"
function M.check(key)
  if type(key) == "string" and #key >= 1 and #key <= KEY_MAX and not key:find("%c") then return true end
  return nil, ("an Idempotency-Key has 1 to %d characters, none of them control characters"):format(KEY_MAX), "invalid"
end

--- Where the record of a submit is, and what it must agree with.
---@param caller table { tenant_id }
---@param wanted table { key, flow_name, request = what the run depends on, as data }
---@return table|nil claim { place = key of the record, fingerprint }
---@return string|nil message
---@return string|nil code "invalid"
function M.claim(caller, wanted)
  local ok, message, code = M.check(wanted.key)
  if not ok then return nil, message, code end
  local bytes
  bytes, message, code = json.encode(wanted.request, SORTED)
  if not bytes then return nil, message, code end
  local tenant = type(caller.tenant_id) == "string" and caller.tenant_id or ""
  return { place = crypto.sha256(("%s\0%s\0%s"):format(tenant, wanted.flow_name, wanted.key)),
    fingerprint = crypto.sha256(bytes) }
end

--- The record that a key has: the one made now, or that of an earlier submit.
local function open_record(app, claim)
  local record = { run_id = crypto.uuid4(), fingerprint = claim.fingerprint, created_at = app.store:now() }
  local revision, message, code = app.store.idempotency:claim(claim.place, record)
  if revision then return record, revision, false end
  if code ~= "conflict" then return fault.of_store(message, code) end
  record, revision, code = app.store.idempotency:get(claim.place)
  if record then return record, revision, true end
  if code == "not_found" then return false end -- given back this moment
  return fault.of_store(revision, code)
end

--- The answer of a submit whose record is marked: word for word the first one.
---@param record table
---@return table { run_id, status, bundle_hash, replayed }
function M.replay(record)
  return { run_id = record.run_id, status = record.status, bundle_hash = record.bundle_hash,
    entry_workflow = record.entry_workflow, replayed = true }
end

--- A record as it is once its run has been started.
---@param record table changed in place
---@param answer table { status, bundle_hash }
---@return table record
function M.marked(record, answer)
  record.status, record.bundle_hash, record.started = answer.status, answer.bundle_hash, true
  record.entry_workflow = answer.entry_workflow
  return record
end

M.MISMATCH = "this Idempotency-Key was used before, with another request; take a new key for a new run"

--- Finishes the run of an unmarked record.
local function finish(app, claim, record, revision, was_there, make)
  local first, job, hooks, errors = make(record.run_id)
  if not first then return nil, job, hooks, errors end
  local answer, message, code, is_withdrawn = start.claimed(app, first, job, hooks)
  if answer then
    -- should this fail, the next replay finds the run and does the same
    app.store.idempotency:update(claim.place, M.marked(record, answer), revision)
    answer.replayed = was_there or nil
    return answer
  end
  if not is_withdrawn then return nil, message, code end
  app.store.idempotency:delete(claim.place, revision)
  if message == start.WITHDRAWN then return false end
  return nil, message, code
end

--- Starts a run, once for each key.
---@param app table { store }
---@param caller table { tenant_id }
---@param wanted table { key (nil: none, the run is started at once), flow_name, request = whatever the run depends on,
---  as data: a second submit of the key must have the same }
---@param make fun(run_id:string|nil):table|nil, table|string|nil, table|string|nil, table|nil gives the first snapshot,
---  the job (nil: none yet) and hooks as start.run takes them, having stored what the snapshot refers to; or nil,
---  message, code, errors. May be called again
---@return table|nil { run_id, status, bundle_hash, replayed = true where it is an earlier submit's run }
---@return string|nil message
---@return string|nil code "invalid": the key is none, or another request's
---@return table|nil errors as make has them
function M.start(app, caller, wanted, make)
  if wanted.key == nil then
    local first, job, hooks, errors = make()
    if not first then return nil, job, hooks, errors end
    local answer, message, code = start.run(app, first, job, hooks)
    return answer, message, code
  end
  local claim, message, code = M.claim(caller, wanted)
  if not claim then return nil, message, code end
  for _ = 1, ROUNDS do
    local record, revision, was_there = open_record(app, claim)
    if record == nil then return nil, revision, was_there end
    if record then
      if record.fingerprint ~= claim.fingerprint then return nil, M.MISMATCH, "invalid" end
      if record.started then return M.replay(record) end
      local answer, errors
      answer, message, code, errors = finish(app, claim, record, revision, was_there, make)
      if answer ~= false then return answer, message, code, errors end
    end
  end
  return nil, "the runs of this Idempotency-Key are withdrawn again and again; try again", "conflict"
end

--- Starts a run as a submit's options say: under the id that was derived for it, or once for its key, or just so.
---@param app table { store }
---@param caller table
---@param opts table run_id, idempotency_key
---@param wanted table as for start, without key
---@param make function as for start
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return table|nil errors
function M.launch(app, caller, opts, wanted, make)
  if not opts.run_id then
    wanted.key = opts.idempotency_key
    return M.start(app, caller, wanted, make)
  end
  local first, job, hooks, errors = make(opts.run_id)
  if not first then return nil, job, hooks, errors end
  return start.resume(app, first, job, hooks)
end

return M
