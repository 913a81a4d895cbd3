--- The run snapshot: its exact key sets (CONTRACT 5), its size cap, and how a worker's image of a run is laid over
--- what others have written. Pure data: no clock, no store.
local json = require "host.json"
local present = require("pyoco.null").present

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

--- Fields that are there only when there is something to say: records of loops and switches, tasks whose failure was
--- isolated, and what is left of records and tasks that were too much for a snapshot.
local OPTIONAL = { "frame_records", "failed_tasks", "task_records_truncated", "tasks_truncated", "task_counts" }

--- What the attempt that runs the job decides; everything else belongs to whoever wrote it last.
local OWNED = {}
for _, key in ipairs(join(STATE, CHILDREN, TIMES, OPTIONAL,
  { "attempt", "worker_id", "graph_sha256", "source_sha256" })) do
  OWNED[key] = true
end

--- Fields that a job may carry for its snapshot (CONTRACT 11.4: the job's override).
local JOB_KEYS = { "flow_name", "tag", "tags", "tenant_id", "api_key_id", "workflow_yaml_sha256", "workflow_yaml_bytes",
  "schedule_id", "bundle_hash", "workflow_bundle_bytes", "root_run_id", "parent_run_id", "spawned_from_task",
  "spawn_depth", "entry_workflow", "params" }

--- Values of a run that has not started.
local function blank(now)
  return { status = "PENDING", params = {}, tasks = {}, task_records = {}, start_time = null, end_time = null,
    heartbeat_at = now, updated_at = now, error = null, child_run_ids = json.array {}, spawn_count = 0,
    result_summary = null }
end

--- The first snapshot of a run. Its kind follows from the fields: `bundle_hash` or `parent_run_id` means one that has a
--- family, `workflow_yaml_sha256` a document's, neither a flow known by name.
---@param run table the contract's fields by name, `now` (unix seconds), and more that is kept as it is (graph_sha256)
---@return table snapshot
function M.initial(run)
  local has_family = present(run.bundle_hash) or present(run.parent_run_id)
  local kind = has_family and "bundle" or present(run.workflow_yaml_sha256) and "yaml" or "flow"
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

local function copied(image)
  local copy = {}
  for key, value in pairs(image) do copy[key] = value end
  return copy
end

--- A snapshot without its task records: what lists, cancels and plain reads answer.
---@param snapshot table
---@return table a shallow copy
function M.brief(snapshot)
  local copy = copied(snapshot)
  copy.task_records, copy.task_records_truncated, copy.frame_records = nil, nil, nil
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

--- Takes what an earlier attempt has left of its tasks out of an image.
---@param image table changed in place
function M.forget_tasks(image)
  image.tasks, image.task_records = {}, {}
  for _, key in ipairs(OPTIONAL) do image[key] = nil end
end

local function table_or_empty(value) return type(value) == "table" and value or {} end

--- What a state becomes in a run that is ended from outside.
local function closed(state, becomes)
  local is_open = state == "RUNNING" or (state == "PENDING" and becomes == "CANCELLED")
  return is_open and becomes or nil
end

--- Ends whatever tasks and frames of an image are still open.
---@param image table changed in place
---@param now number unix seconds
---@param state string what a task that was RUNNING becomes; one that never started becomes that too if "CANCELLED"
---@param message string|nil error of the tasks that it ends
function M.close(image, now, state, message)
  image.end_time, image.heartbeat_at, image.updated_at = now, now, now
  local records = table_or_empty(image.task_records)
  for name, now_state in pairs(table_or_empty(image.tasks)) do
    local record = records[name]
    local ended = closed(now_state, state)
    if ended then image.tasks[name] = ended end
    if ended and record then
      record.state, record.ended_at = ended, now
      if message and not present(record.error) then record.error = message end
      if present(record.started_at) then record.duration_ms = (now - record.started_at) * 1000 end
    end
  end
  for _, frame in pairs(table_or_empty(image.frame_records)) do
    frame.state = closed(frame.state, state) or frame.state
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

local ENCODE = { ascii = true, order = M.WORKER_KEYS }

--- What remains of tasks over the cap: those that have not ended or not ended well, and how many there are of each
--- state.
local function cut_tasks(tasks)
  local left, counts = {}, {}
  for name, state in pairs(tasks) do
    counts[state] = (counts[state] or 0) + 1
    if state ~= "SUCCEEDED" then left[name] = state end
  end
  return left, counts
end

--- The steps of making a snapshot smaller: first the records go, then the tasks that ended well, then the rest.
local CUTS = {
  function(cut) cut.task_records, cut.task_records_truncated = {}, true end,
  function(cut)
    cut.tasks, cut.task_counts = cut_tasks(table_or_empty(cut.tasks))
    cut.tasks_truncated, cut.frame_records = true, nil
  end,
  function(cut)
    cut.tasks, cut.failed_tasks = {}, nil
    if type(cut.result_summary) == "table" then
      local brief = copied(cut.result_summary)
      brief.outputs, brief.summary_metrics, brief.artifacts = {}, {}, json.array {}
      cut.result_summary = brief
    end
  end,
}

--- The bytes to store. Over the cap, first the task records go (task_records_truncated), then the states of tasks that
--- ended well (tasks_truncated, task_counts), then all of them and what the summary holds of outputs: the run itself is
--- always told.
---@param image table; task_records_truncated is set or removed by what became of its records
---@param max_bytes number 0 or less: no cap
---@param known integer? cuts that are needed for sure, since they were the last time: a big output is not printed
---  again and again only to be too big
---@return string|nil bytes
---@return string|nil message names the value that JSON cannot carry
---@return string|integer|nil code; or the number of cuts that were needed
function M.encode(image, max_bytes, known)
  if next(table_or_empty(image.task_records)) ~= nil then image.task_records_truncated = nil end
  local form, cuts = image, 0
  while true do
    if cuts >= (known or 0) then
      ENCODE.max_bytes = cuts < #CUTS and max_bytes > 0 and max_bytes or 0
      local bytes, message, code = json.encode(form, ENCODE)
      if bytes then return bytes, nil, cuts end
      if code ~= "too_large" then return nil, message, code end
    end
    if cuts == 0 then form = copied(image) end
    cuts = cuts + 1
    CUTS[cuts](form)
    image.task_records_truncated = true
  end
end

return M
