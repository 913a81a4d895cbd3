--- Starting a run: the first snapshot, then the job (CONTRACT 7.2, 7.3).
--- The order matters: a worker that finds a job without a snapshot takes the run for deleted or foreign.
local json = require "host.json"
local clock = require "host.clock"
local crypto = require "host.crypto"
local wire = require "pyoco.run.wire"
local fault = require "pyoco.service.fault"
local or_null = require("pyoco.null").or_null

local M = {}

local PUBLISH_DEADLINE_SEC = 2

--- What `claimed` says of a run that somebody has withdrawn before.
M.WITHDRAWN = "the run was withdrawn"

--- What snapshot and job have in common.
---@param app table { store }
---@param caller table { tenant_id, api_key_id } or empty
---@param fields table run_id is kept when it is there; changed in place
---@return table fields with run_id, tenant_id, api_key_id, now
function M.identity(app, caller, fields)
  fields.run_id = fields.run_id or crypto.uuid4()
  fields.tenant_id = or_null(caller.tenant_id)
  fields.api_key_id = or_null(caller.api_key_id)
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

--- What a submit answers of a run.
---@param snapshot table
---@return table { run_id, status, bundle_hash, entry_workflow of a bundle's run }
function M.answer(snapshot)
  local entry = snapshot.entry_workflow
  return { run_id = snapshot.run_id, status = snapshot.status, bundle_hash = or_null(snapshot.bundle_hash),
    entry_workflow = entry ~= json.null and entry or nil }
end

--- Whether somebody has begun the run.
local function is_begun(stored)
  if stored.status == "PENDING_APPROVAL" then return false end
  return stored.status ~= "PENDING" or (stored.attempt ~= nil and stored.attempt ~= json.null)
end

--- Takes back a run that could not be finished: its key goes, unless somebody has written it since. Should its job have
--- been stored all the same, it is acked unrun, for its key is deleted.
---@param app table { store }
---@param first table snapshot
---@param revision integer that of its key
---@param hooks table as for run
---@param message string why it could not be finished
---@param code string
---@return table|nil as for run
---@return string|nil message
---@return string|nil code
---@return boolean|nil is_withdrawn
function M.withdraw(app, first, revision, hooks, message, code)
  local marker, _, why = app.store.runs:delete(first.run_id, revision)
  if marker then
    if hooks.withdrawn then hooks.withdrawn(first) end
    return nil, message, code, true
  end
  local stored = why == "conflict" and app.store.runs:get(first.run_id)
  if stored and is_begun(stored) then return M.answer(stored) end -- the job was stored, and a worker was quick
  return nil, message, code
end

--- Queues the job. A message that the stream remembers may be gone: a worker acks unrun what it finds without a key,
--- as it was after a withdrawal. Then it is published anew, without the id.
local function queue(app, job)
  local seq, message, code, is_known = M.publish(app, job)
  if not seq or not is_known then return seq, message, code end
  local found, _, why = app.store.work:get(seq)
  if found or why ~= "not_found" then return seq end
  seq, message, code = app.store.jobs:publish_raw(nil, job.tag, assert(wire.job(job)))
  if seq then return seq end
  return fault.of_store(message, code)
end

--- What comes after a run's key: whatever belongs to it, and the job.
local function finish(app, first, job, hooks)
  local ok, message, code = true, nil, nil
  if hooks.stored then ok, message, code = hooks.stored(first) end
  if ok and job then ok, message, code = queue(app, job) end
  if not ok then return nil, message, code end
  return true
end

--- The rest of a run whose key we have just made.
local function finish_or_withdraw(app, first, job, revision, hooks)
  local ok, message, code = finish(app, first, job, hooks)
  if ok then return M.answer(first) end
  return M.withdraw(app, first, revision, hooks, message, code)
end

--- Stores the first snapshot and queues the job.
---@param app table { store }
---@param first table snapshot (pyoco.run.snapshot.initial)
---@param job table|nil none for a run that waits for approval
---@param hooks table|nil { stored = fn(first) -> true | nil, message, code: stores what else belongs to the run,
---  between key and job; may come again for one run; withdrawn = fn(first): takes that back }
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code "conflict": it exists
---@return boolean|nil is_withdrawn true: nothing is left of it; nil: unknown, for NATS could not be reached
function M.run(app, first, job, hooks)
  local revision, message, code = app.store.runs:create(first)
  if not revision then return fault.of_store(message, code) end
  return finish_or_withdraw(app, first, job, revision, hooks or {})
end

--- Starts a run whose id is derived from what it is for, so that doing it twice, or finishing what another process left
--- half done, gives one run. A run that exists is not written again; its job is published again, under the same message
--- id, only if nobody has begun it. One that was withdrawn is made anew.
---@param app table { store }
---@param first table snapshot
---@param job table|nil as for run
---@param hooks table|nil as for run
---@return table|nil { run_id, status, bundle_hash } of the run that exists
---@return string|nil message
---@return string|nil code
function M.resume(app, first, job, hooks)
  hooks = hooks or {}
  local revision, message, code = app.store.runs:create(first)
  if revision then return finish_or_withdraw(app, first, job, revision, hooks) end
  if code ~= "conflict" then return fault.of_store(message, code) end
  local stored
  stored, message, code = app.store.runs:get(first.run_id)
  if not stored and code == "not_found" then return nil, "the run was withdrawn just now; try again", "conflict" end
  if not stored then return fault.of_store(message, code) end
  if is_begun(stored) then return M.answer(stored) end
  local ok
  ok, message, code = finish(app, first, stored.status == "PENDING" and job or nil, hooks)
  if not ok then return nil, message, code end -- not withdrawn: it is another's, and its job may be queued
  return M.answer(stored)
end

--- Rewrites a run that nobody has begun as it is: whoever made it can withdraw it no more, for its revision has
--- changed. false: somebody was quicker; look again.
local function take_over(app, stored, revision)
  local ok, message, code = app.store.runs:update(stored, revision)
  if ok then return true end
  if code == "conflict" then return false end
  return fault.of_store(message, code)
end

local LOOKS = 10

--- Starts a run whose id was claimed by a record (service/idempotency), or finishes it where another left it, which may
--- be at it still. Unlike resume it makes no run anew that was withdrawn: its job may be remembered by its message id
--- and already be acked unrun, so that no second one would be stored.
---@param app table { store }
---@param first table snapshot
---@param job table|nil as for run
---@param hooks table|nil as for run
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
---@return boolean|nil is_withdrawn true: this run_id is used up, claim another
function M.claimed(app, first, job, hooks)
  hooks = hooks or {}
  for _ = 1, LOOKS do
    local revision, message, code = app.store.runs:update(first, 0) -- only if there never was one
    if revision then return finish_or_withdraw(app, first, job, revision, hooks) end
    if code ~= "conflict" then return fault.of_store(message, code) end
    local stored
    stored, revision, code = app.store.runs:get(first.run_id)
    if not stored then
      if code == "not_found" then return nil, M.WITHDRAWN, "conflict", true end
      return fault.of_store(revision, code)
    end
    if is_begun(stored) then return M.answer(stored) end
    local ours
    ours, message, code = take_over(app, stored, revision)
    if ours == nil then return nil, message, code end
    if ours then
      local ok
      ok, message, code = finish(app, first, stored.status == "PENDING" and job or nil, hooks)
      if not ok then return nil, message, code end
      return M.answer(stored)
    end
  end
  return nil, "the run changes faster than it can be read; try again", "conflict"
end

return M
