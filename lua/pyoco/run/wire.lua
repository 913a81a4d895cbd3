--- How records are written to NATS: ASCII JSON with their keys in the contract's order (sections 4, 5, 10.4, 11.2, 12),
--- what is ours beside them behind. Everything that stores a snapshot, a job, a dead letter, a worker's record or a
--- relation encodes it here.
local json = require "host.json"
local snapshots = require "pyoco.run.snapshot"
local present = require("pyoco.null").present

local M = {}

local function keys(text)
  local list = {}
  for name in text:gmatch("%S+") do list[#list + 1] = name end
  return list
end

local function ordered(order) return { ascii = true, order = order } end

local CANCEL = { "cancel_requested_at", "cancel_requested_by" }

local function with_cancel(list)
  return ordered(table.move(CANCEL, 1, #CANCEL, #list + 1, { table.unpack(list) }))
end

--- A snapshot that no worker has written keeps the order of its first form, the gateway's fields of a cancel behind.
local FIRST = { flow = with_cancel(snapshots.INITIAL_KEYS.flow), yaml = with_cancel(snapshots.INITIAL_KEYS.yaml),
  bundle = with_cancel(snapshots.INITIAL_KEYS.bundle) }
local WORKER = ordered(snapshots.WORKER_KEYS)

--- The keys of the other records, in order.
M.KEYS = {
  job = keys [[run_id flow_name tag tags tenant_id api_key_id params workflow_yaml workflow_yaml_sha256
    workflow_yaml_bytes schedule_id submitted_at]],
  ["bundle job"] = keys [[run_id flow_name tag tags params submitted_at tenant_id api_key_id workflow_yaml
    workflow_yaml_sha256 workflow_yaml_bytes workflow_bundle workflow_bundle_sha256 bundle_hash workflow_bundle_bytes
    root_run_id parent_run_id spawned_from_task spawn_depth entry_workflow]],
  ["invalid job letter"] = keys "reason error timestamp subject worker_id num_delivered payload",
  letter = keys "reason error timestamp run_id flow_name tag tags tenant_id api_key_id worker_id",
  worker = keys [[worker_id instance_id state hidden tags last_seen_at last_heartbeat_at heartbeat_at current_run_id
    last_run_id last_run_status last_run_started_at last_run_finished_at stopped_at stop_reason updated_at wheel_sync]],
  relation = keys [[run_id root_run_id parent_run_id workflow_name bundle_hash spawned_from_task depth entry_workflow
    submitted_at]],
}

local FORMS = {}
for name, list in pairs(M.KEYS) do FORMS[name] = ordered(list) end

--- The form of a snapshot: a worker's has all keys, so also those that no first snapshot of its kind has.
local function form_of(snapshot)
  local is_bundle = present(snapshot.bundle_hash)
  if snapshot.cancel_requested_by ~= nil and (is_bundle and snapshot.schedule_id ~= nil
      or not is_bundle and snapshot.spawn_depth ~= nil) then
    return WORKER
  end
  if is_bundle then return FIRST.bundle end
  return present(snapshot.workflow_yaml_sha256) and FIRST.yaml or FIRST.flow
end

--- The bytes of a run's snapshot.
---@param snapshot table
---@return string|nil bytes
---@return string|nil message names the value that JSON cannot carry
---@return string|nil code "invalid"
function M.snapshot(snapshot) return json.encode(snapshot, form_of(snapshot)) end

--- The bytes of a job.
---@param job table
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
function M.job(job) return json.encode(job, FORMS[present(job.workflow_bundle) and "bundle job" or "job"]) end

--- The bytes of a dead letter.
---@param body table
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
function M.letter(body)
  return json.encode(body, FORMS[body.reason == "invalid_job" and "invalid job letter" or "letter"])
end

--- The bytes of a worker's record.
---@param record table
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
function M.worker(record) return json.encode(record, FORMS.worker) end

--- The bytes of a relation.
---@param record table
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
function M.relation(record) return json.encode(record, FORMS.relation) end

return M
