--- Approving and rejecting a run that waits for it (CONTRACT 7.5). Exactly once: the move out of PENDING_APPROVAL is a
--- compare-and-set, so of any number of approvals, on any number of gateways, one publishes the job.
---
--- A gateway that dies between the two leaves a PENDING run without a job. Another approve, made some seconds later,
--- publishes it (under the run's message id, so that nothing is queued twice); else the sweeper finds it.
local json = require "host.json"
local clock = require "host.clock"
local run_bundle = require "pyoco.run.bundle"
local snapshot = require "pyoco.run.snapshot"
local wire = require "pyoco.run.wire"
local access = require "pyoco.service.access"
local fault = require "pyoco.service.fault"
local start = require "pyoco.service.start"
local present = require("pyoco.null").present
local or_null = require("pyoco.null").or_null

local M = {}

local ATTEMPTS = 20
local NOT_PENDING = "run is not pending approval"
local PUT_BACK_SEC = 1
local LEFT_SEC = 5        -- after this an approval whose job is missing has been left; publishing takes 2 s at most
local REMEMBERED_SEC = 110 -- the stream drops a second message of one id for two minutes

--- Who decides, as the snapshot has it.
local function actor(caller)
  return present(caller.api_key_id) and "api_key:" .. caller.api_key_id or json.null
end

local function fetch(app, caller, run_id)
  local current, revision, code = app.store.runs:get(run_id)
  if not current and code ~= "not_found" and code ~= "invalid" then return fault.of_store(revision, code) end
  if not access.may_see(caller, current) then return nil, "run not found", "not_found" end
  return current, revision
end

--- The bundle's text.
local function text_of(app, current)
  local hash = current.bundle_hash
  if not present(hash) or hash == "" then return nil, "bundle hash missing", "conflict" end
  local text, message, code = app.store.documents:get(hash)
  if text then return text end
  if code == "not_found" or code == "invalid" then return nil, "workflow bundle not found", "conflict" end
  return fault.of_store(message, code)
end

--- Publishes the job of an approved run. An approval that was put back may have left a message which its worker has
--- acked unrun, and the stream then takes ours for it: it is published again, without the id.
local function publish(app, current, text)
  local job = run_bundle.job(current, text, current.approved_at)
  local seq, message, code, is_known = start.publish(app, job)
  if not seq then return nil, message, code end
  if is_known then
    seq, message, code = app.store.jobs:publish_raw(nil, job.tag, assert(wire.job(job)))
    if not seq then return fault.of_store(message, code) end
  end
  return true
end

--- The job could not be published: the run waits for its approval again.
local function put_back(app, before, revision)
  local deadline = clock.monotonic() + PUT_BACK_SEC
  repeat
    local written, _, code = app.store.runs:update_raw(before.run_id, before.bytes, revision)
    if written or code == "conflict" then return end
    clock.sleep(0.05)
  until clock.monotonic() >= deadline
end

--- An approved run that nobody has begun: its job is published, should the gateway that approved it have died.
local function finish_left(app, current)
  local is_left = current.status == "PENDING" and current.approval_status == "approved"
    and not present(current.attempt) and type(current.approved_at) == "number"
  local age = is_left and app.store:now() - current.approved_at
  if not age or age < LEFT_SEC or age > REMEMBERED_SEC then return end
  local text = text_of(app, current)
  if text then start.publish(app, run_bundle.job(current, text, current.approved_at)) end
end

--- Tries to move a run out of PENDING_APPROVAL until it is done or cannot be.
---@param prepare function (current) -> value | nil, message, code: what must hold beside the status
---@param change function (current, now) sets the fields
---@return table|nil current as stored
---@return table|string before { run_id, bytes } of the snapshot before, or message
---@return integer|string revision or code
---@return any more what `prepare` returned; for a run that is not pending approval its snapshot
local function decide(app, caller, run_id, prepare, change)
  for _ = 1, ATTEMPTS do
    local current, revision, code = fetch(app, caller, run_id)
    if not current then return nil, revision, code end
    if tostring(current.status):upper() ~= "PENDING_APPROVAL" then
      return nil, NOT_PENDING, "conflict", current
    end
    local prepared, message
    prepared, message, code = prepare(current)
    if not prepared then return nil, message, code end
    local before = { run_id = run_id, bytes = assert(wire.snapshot(current)) }
    change(current, app.store:now())
    local written
    written, message, code = app.store.runs:update(current, revision)
    if written then return current, before, written, prepared end
    if code ~= "conflict" then return fault.of_store(message, code) end
  end
  return nil, "the run changes faster than it can be decided; try again", "conflict"
end

--- POST /runs/{id}/approve.
---@param app table { store }
---@param caller table { tenant_id, api_key_id }
---@param run_id string
---@param comment string|nil
---@return table|nil snapshot without task records
---@return string|nil message
---@return string|nil code "not_found" | "conflict" | "unavailable"
function M.approve(app, caller, run_id, comment)
  local current, before, revision, more = decide(app, caller, run_id,
    function(found) return text_of(app, found) end,
    function(found, now)
      found.status, found.approval_status, found.approved_at, found.updated_at = "PENDING", "approved", now, now
      found.approved_by, found.approval_comment = actor(caller), or_null(comment)
    end)
  if not current then
    if before == NOT_PENDING then finish_left(app, more) end
    return nil, before, revision
  end
  local ok, message, code = publish(app, current, more)
  if ok then return snapshot.brief(current) end
  put_back(app, before, revision)
  return nil, message, code
end

--- POST /runs/{id}/reject.
---@param app table { store }
---@param caller table
---@param run_id string
---@param reason string|nil
---@return table|nil snapshot without task records
---@return string|nil message
---@return string|nil code
function M.reject(app, caller, run_id, reason)
  local current, message, code = decide(app, caller, run_id, function() return true end, function(found, now)
    found.status, found.approval_status, found.rejected_at, found.updated_at = "CANCELLED", "rejected", now, now
    found.end_time, found.rejected_by, found.rejection_reason = now, actor(caller), or_null(reason)
  end)
  if not current then return nil, message, code end
  return snapshot.brief(current)
end

return M
