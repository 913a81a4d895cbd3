--- The run snapshot: its exact key sets (CONTRACT 5), its size cap, and how a worker's image of a run is laid over
--- what others have written. Pure data: no clock, no store.
local json = require "host.json"

local M = {}

local null = json.null

local ERROR_MAX_BYTES = 16384 -- of the run's error text; a task may raise a megabyte

local WHO = { "run_id", "flow_name", "tag", "tags", "tenant_id", "api_key_id" }
local YAML = { "workflow_yaml_sha256", "workflow_yaml_bytes" }
local BUNDLE = { "bundle_hash", "workflow_bundle_bytes", "root_run_id", "parent_run_id", "spawned_from_task",
  "spawn_depth", "entry_workflow", "approval_required", "approval_status", "approval_requested_at", "approved_at",
  "approved_by", "approval_comment", "rejected_at", "rejected_by", "rejection_reason" }
local CANCEL = { "cancel_requested_at", "cancel_requested_by" }
local STATE = { "status", "params", "tasks", "task_records" }
local CHILDREN = { "child_run_ids", "spawn_count", "result_summary" }
local TIMES = { "start_time", "end_time", "heartbeat_at", "updated_at", "error" }

local function join(...)
  local list = {}
  for _, keys in ipairs { ... } do table.move(keys, 1, #keys, #list + 1, list) end
  return list
end

--- Keys of the first snapshot, by kind of run, in the contract's order.
M.INITIAL_KEYS = {
  flow = join(WHO, STATE, TIMES),
  yaml = join(WHO, YAML, { "schedule_id" }, STATE, TIMES),
  bundle = join(WHO, YAML, BUNDLE, STATE, TIMES, CHILDREN),
}

--- Keys of every snapshot that a worker writes, in the contract's order.
M.WORKER_KEYS = join(WHO, YAML, { "schedule_id" }, BUNDLE, CANCEL, STATE, CHILDREN, TIMES)

--- What the attempt that runs the job decides; everything else belongs to whoever wrote it last.
local OWNED = {}
for _, key in ipairs(join(STATE, CHILDREN, TIMES, { "attempt", "worker_id", "graph_sha256", "source_sha256" })) do
  OWNED[key] = true
end

--- Fields that a job may carry for its snapshot (CONTRACT 11.4: the job's override).
local JOB_KEYS = { "flow_name", "tag", "tags", "tenant_id", "api_key_id", "workflow_yaml_sha256", "workflow_yaml_bytes",
  "schedule_id", "bundle_hash", "workflow_bundle_bytes", "root_run_id", "parent_run_id", "spawned_from_task",
  "spawn_depth", "entry_workflow", "params" }

local function present(value) return value ~= nil and value ~= null end

--- Values of a run that has not started.
local function blank(now)
  return { status = "PENDING", params = {}, tasks = {}, task_records = {}, start_time = null, end_time = null,
    heartbeat_at = now, updated_at = now, error = null, child_run_ids = json.array {}, spawn_count = 0,
    result_summary = null }
end

--- The first snapshot of a run. Its kind follows from the fields: `bundle_hash` means a bundle's,
--- `workflow_yaml_sha256` a document's, neither a flow known by name.
---@param run table the contract's fields by name, `now` (unix seconds), and more that is kept as it is (graph_sha256)
---@return table snapshot
function M.initial(run)
  local kind = present(run.bundle_hash) and "bundle" or present(run.workflow_yaml_sha256) and "yaml" or "flow"
  local snapshot = blank(run.now)
  if kind ~= "bundle" then
    for _, key in ipairs(CHILDREN) do snapshot[key] = nil end
  end
  for _, key in ipairs(M.INITIAL_KEYS[kind]) do
    if run[key] ~= nil then snapshot[key] = run[key] end
    if snapshot[key] == nil then snapshot[key] = null end
  end
  snapshot.graph_sha256 = run.graph_sha256
  return snapshot
end

--- A snapshot without its task records: what lists, cancels and plain reads answer.
---@param snapshot table
---@return table a shallow copy
function M.brief(snapshot)
  local copy = {}
  for key, value in pairs(snapshot) do copy[key] = value end
  copy.task_records, copy.task_records_truncated = nil, nil
  return copy
end

--- A worker's image of a run: every key that a worker writes, from the stored snapshot, with the job's fields on top.
---@param stored table|nil the snapshot as read; nil if there was none
---@param job table the decoded job
---@param now number unix seconds
---@return table image, to be changed in place and encoded
function M.image(stored, job, now)
  local image = blank(now)
  for key, value in pairs(stored or {}) do image[key] = value end
  for _, key in ipairs(JOB_KEYS) do
    if job[key] ~= nil then image[key] = job[key] end
  end
  image.run_id = job.run_id
  if present(job.workflow_bundle_sha256) then image.bundle_hash = job.workflow_bundle_sha256 end
  for _, key in ipairs(M.WORKER_KEYS) do
    if image[key] == nil then image[key] = null end
  end
  if not present(image.spawn_depth) then image.spawn_depth = 0 end
  image.heartbeat_at, image.updated_at = now, now
  return image
end

--- Lays an image over a snapshot that somebody else has written meanwhile: theirs is kept wherever the attempt
--- does not own the field. A cancel request of theirs thus reaches the image.
---@param image table changed in place
---@param stored table
function M.rebase(image, stored)
  for key, value in pairs(stored) do
    if not OWNED[key] then image[key] = value end
  end
end

--- Whether a cancel has been asked for (by us or by a reference gateway).
---@param snapshot table
---@return boolean
function M.is_cancel_requested(snapshot)
  return snapshot.status == "CANCELLING" or snapshot.status == "CANCELLED" or present(snapshot.cancel_requested_at)
end

--- Turns an image into its CANCELLED end: what has not ended is CANCELLED, what has ended stays.
---@param image table changed in place
---@param now number unix seconds
function M.mark_cancelled(image, now)
  image.status, image.error = "CANCELLED", null
  M.close(image, now, "CANCELLED")
end

--- Ends whatever tasks of an image are still open.
---@param image table changed in place
---@param now number unix seconds
---@param state string what a task that was RUNNING becomes; one that never started becomes that too if "CANCELLED"
function M.close(image, now, state)
  image.end_time, image.heartbeat_at, image.updated_at = now, now, now
  local records = type(image.task_records) == "table" and image.task_records or {}
  for name, now_state in pairs(type(image.tasks) == "table" and image.tasks or {}) do
    if now_state == "RUNNING" or (now_state == "PENDING" and state == "CANCELLED") then
      image.tasks[name] = state
      local record = records[name]
      if record then
        record.state, record.ended_at = state, now
        if present(record.started_at) then record.duration_ms = (now - record.started_at) * 1000 end
      end
    end
  end
end

--- Cuts a text that is too long for a snapshot.
---@param text string
---@return string
function M.short_error(text)
  if #text <= ERROR_MAX_BYTES then return text end
  local cut = text:sub(1, utf8.offset(text, 0, ERROR_MAX_BYTES) - 1)
  return ("%s ... (%d bytes in all)"):format(cut, #text)
end

local ENCODE = { ascii = true }

--- The bytes to store. Over the cap, first the task records go (task_records_truncated), then the task states
--- (tasks_truncated): the run itself is always told.
---@param image table; its two flags are set or removed
---@param max_bytes number 0 or less: no cap
---@return string|nil bytes
---@return string|nil message names the value that JSON cannot carry
---@return string|nil code
function M.encode(image, max_bytes)
  image.task_records_truncated, image.tasks_truncated = nil, nil
  local bytes, message, code = json.encode(image, ENCODE)
  if not bytes or max_bytes <= 0 or #bytes <= max_bytes then return bytes, message, code end
  local cut = { task_records = {}, task_records_truncated = true }
  for key, value in pairs(image) do
    if cut[key] == nil then cut[key] = value end
  end
  image.task_records_truncated = true
  bytes = json.encode(cut, ENCODE)
  if #bytes <= max_bytes then return bytes end
  cut.tasks, cut.tasks_truncated, image.tasks_truncated = {}, true, true
  return json.encode(cut, ENCODE)
end

return M
