--- Starting a run: the first snapshot, then the job (CONTRACT 7.2, 7.3).
--- The order matters: a worker that finds a job without a snapshot takes the run for deleted or foreign.
local json = require "host.json"
local clock = require "host.clock"
local crypto = require "host.crypto"
local fault = require "pyoco.service.fault"

local M = {}

local PUBLISH_DEADLINE_SEC = 2

local function null_if_nil(value)
  if value == nil then return json.null end
  return value
end

--- What snapshot and job have in common.
---@param app table { store }
---@param caller table { tenant_id, api_key_id } or empty
---@param fields table run_id is kept when it is there; changed in place
---@return table fields with run_id, tenant_id, api_key_id, now
function M.identity(app, caller, fields)
  fields.run_id = fields.run_id or crypto.uuid4()
  fields.tenant_id = null_if_nil(caller.tenant_id)
  fields.api_key_id = null_if_nil(caller.api_key_id)
  fields.now = app.store:now()
  return fields
end

--- Publishes a job; a publish whose fate is unknown is repeated for two seconds (the message id makes that safe).
---@param app table { store }
---@param job table CONTRACT 4
---@return integer|nil stream sequence
---@return string|nil message
---@return string|nil code
---@return boolean|nil is_known a message of this run was there before this call
function M.publish(app, job)
  local deadline, tries = clock.monotonic() + PUBLISH_DEADLINE_SEC, 0
  local seq, message, code, is_known
  repeat
    seq, message, code, is_known = app.store.jobs:publish(job)
    tries = tries + 1
  until seq or code ~= "timeout" or clock.monotonic() >= deadline
  if seq then return seq, nil, nil, is_known and tries == 1 end
  return fault.of_store(message, code)
end

local function is_of_bundle(first) return first.bundle_hash ~= nil and first.bundle_hash ~= json.null end

--- What a submit answers of a run.
local function answer(snapshot)
  local entry = snapshot.entry_workflow
  return { run_id = snapshot.run_id, status = snapshot.status, bundle_hash = null_if_nil(snapshot.bundle_hash),
    entry_workflow = entry ~= json.null and entry or nil }
end

--- Stores the relation record of a bundle's run; other runs have none.
local function relate(app, first)
  if not is_of_bundle(first) then return true end
  local revision, message, code = app.store.relations:put(first, first.updated_at)
  if revision then return true end
  return fault.of_store(message, code)
end

--- Takes back what a start has stored.
local function withdraw(app, first, revision)
  app.store.runs:delete(first.run_id, revision)
  if is_of_bundle(first) then app.store.relations:delete(first.run_id) end
end

--- The job of a run whose key we have just made. Without it the run is withdrawn: should the job have been stored
--- all the same, it is acked unrun, for its key is deleted.
local function publish_or_withdraw(app, first, job, revision)
  local ok, message, code = relate(app, first)
  if ok and job then ok, message, code = M.publish(app, job) end
  if ok then return answer(first) end
  withdraw(app, first, revision)
  return nil, message, code
end

--- Stores the first snapshot and queues the job.
---@param app table { store }
---@param first table snapshot (pyoco.run.snapshot.initial)
---@param job table|nil none for a run that waits for approval
---@return table|nil { run_id, status, bundle_hash, entry_workflow of a bundle's run }
---@return string|nil message
---@return string|nil code "unavailable": the run is withdrawn, as far as NATS can be reached; "conflict": it exists
function M.run(app, first, job)
  local revision, message, code = app.store.runs:create(first)
  if not revision then return fault.of_store(message, code) end
  return publish_or_withdraw(app, first, job, revision)
end

--- Whether a run may lack its job: nobody has begun it.
local function may_lack_job(stored)
  return stored.status == "PENDING" and (stored.attempt == nil or stored.attempt == json.null)
end

--- Starts a run whose id is derived from what it is for, so that doing it twice, or finishing what another process left
--- half done, gives one run. A run that exists is not written again; its job is published again, under the same message
--- id, only if nobody has begun it.
---@param app table { store }
---@param first table snapshot
---@param job table|nil as for run
---@return table|nil { run_id, status, bundle_hash } of the run that exists
---@return string|nil message
---@return string|nil code
function M.resume(app, first, job)
  local revision, message, code = app.store.runs:create(first)
  if revision then return publish_or_withdraw(app, first, job, revision) end
  if code ~= "conflict" then return fault.of_store(message, code) end
  local stored
  stored, message, code = app.store.runs:get(first.run_id)
  if not stored and code == "not_found" then return nil, "the run was withdrawn just now; try again", "conflict" end
  if not stored then return fault.of_store(message, code) end
  if may_lack_job(stored) or not job then
    local ok
    ok, message, code = relate(app, first)
    if ok and job then ok, message, code = M.publish(app, job) end
    if not ok then return nil, message, code end -- not withdrawn: it is another's, and its job may be queued
  end
  return answer(stored)
end

return M
