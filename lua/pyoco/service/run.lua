--- Reading one run: snapshot, tasks, graph, source. A run that the caller may not see is as if it were not there.
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local access = require "pyoco.service.access"
local worker = require "pyoco.service.worker"
local fault = require "pyoco.service.fault"

local M = {}

local INLINE_MAX_BYTES = 1048576 -- what is larger is sent from the object store piece by piece

--- The stored snapshot, or the contract's words for why not.
local function fetch(app, caller, run_id)
  local current, message, code = app.store.runs:get(run_id)
  if current and access.may_see(caller, current) then return current end
  if current or code == "not_found" or code == "invalid" then return nil, "run not found", "not_found" end
  return fault.of_store(message, code)
end

--- Adds what the registry knows of the run's worker. Trouble with the registry adds nothing.
local function enrich(app, current)
  if type(current.worker_id) ~= "string" then return current end
  local record, message, code = worker.get(app, current.worker_id)
  if record then
    current.worker_state = record.state
    current.worker_alive = record.state == "RUNNING" or record.state == "IDLE"
    current.worker_heartbeat_at = record.heartbeat_at
    current.worker_hidden = record.hidden
    current.worker_tags = record.tags
  elseif message and code == "not_found" then
    current.worker_state, current.worker_alive, current.worker_heartbeat_at = "DISCONNECTED", false, json.null
  end
  return current
end

--- GET /runs/{id}.
---@param app table { store, config }
---@param caller table { tenant_id } or empty
---@param run_id string
---@param with_records boolean keep task_records
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found" | "unavailable"
function M.get(app, caller, run_id, with_records)
  local current, message, code = fetch(app, caller, run_id)
  if not current then return nil, message, code end
  return enrich(app, with_records and current or snapshot.brief(current))
end

--- GET /runs/{id}/tasks.
---@param app table
---@param caller table { tenant_id } or empty
---@param run_id string
---@return table|nil
function M.tasks(app, caller, run_id)
  local current, message, code = fetch(app, caller, run_id)
  if not current then return nil, message, code end
  return {
    run_id = run_id, flow_name = current.flow_name or json.null, status = current.status or json.null,
    tasks = current.tasks or {}, task_records = current.task_records or {},
    task_records_truncated = current.task_records_truncated == true,
    frame_records = current.frame_records, failed_tasks = current.failed_tasks, -- these where there are any
    tasks_truncated = current.tasks_truncated, task_counts = current.task_counts,
  }
end

--- What the object store keeps of a task; `ref` is what its record says of it, when there is one.
local function kept(app, run_id, task, kind, ref)
  local function failed(message, code)
    if code == "not_found" then return nil, "not known yet", "not_found" end
    return fault.of_store(message, code)
  end
  local source, message, code = app.store.data:source(run_id, task, kind)
  if not source then return failed(message, code) end
  local bytes, info = nil, source
  if source.size <= INLINE_MAX_BYTES then
    bytes, info, code = app.store.data:get(run_id, task, kind)
    if not bytes then return failed(info, code) end
  end
  if ref and ref.sha256 ~= info.sha256 then
    return nil, "another attempt at this run is replacing it; ask again", "conflict"
  end
  return bytes or source
end

--- A kind of data of one task: what `read(record)` makes of its record, or the object store's when the snapshot had
--- no room for records.
local function of_task(app, caller, run_id, task, kind, read)
  local current, message, code = fetch(app, caller, run_id)
  if not current then return nil, message, code end
  local record = (current.task_records or {})[task]
  if record then
    local ref = record[kind .. "_ref"]
    if type(ref) == "table" then return kept(app, run_id, task, kind, ref) end
    return read(record)
  end
  if current.task_records_truncated then return kept(app, run_id, task, kind) end
  if (current.tasks or {})[task] then return nil, "not known yet", "not_found" end
  return nil, "task not found", "not_found"
end

--- GET /runs/{id}/tasks/{task}/output: the task's output as JSON, from its record or, when it was too big for the
--- snapshot, from the object store.
---@param app table
---@param caller table { tenant_id } or empty
---@param run_id string
---@param task string
---@return string|table|nil bytes, or where they are (pyoco.nats.objects, source) when they are many
---@return string|nil message "run not found" | "task not found" | "not known yet"
---@return string|nil code
function M.output(app, caller, run_id, task)
  return of_task(app, caller, run_id, task, "output", function(record)
    if record.state ~= "SUCCEEDED" then return nil, "not known yet", "not_found" end
    return json.encode(record.output == nil and json.null or record.output)
  end)
end

--- GET /runs/{id}/tasks/{task}/log: all that the task has said; its last 4 KB while it runs, or when no more was kept.
---@param app table
---@param caller table { tenant_id } or empty
---@param run_id string
---@param task string
---@return string|table|nil text, or where it is (pyoco.nats.objects, source) when it is long
---@return string|nil message "run not found" | "task not found" | "not known yet"
---@return string|nil code
function M.log(app, caller, run_id, task)
  return of_task(app, caller, run_id, task, "log", function(record)
    return type(record.log_tail) == "string" and record.log_tail or ""
  end)
end

--- A stored document that a field of the snapshot points to.
local function document(app, caller, run_id, fields)
  local current, message, code = fetch(app, caller, run_id)
  if not current then return nil, message, code end
  for _, field in ipairs(fields) do
    if type(current[field]) == "string" then
      local bytes
      bytes, message, code = app.store.documents:get(current[field])
      if bytes then return bytes end
      if code ~= "not_found" then return fault.of_store(message, code) end
    end
  end
  return nil, "not known yet", "not_found"
end

--- GET /runs/{id}/graph: the compiled graph as it was stored (canonical JSON).
---@param app table
---@param caller table { tenant_id } or empty
---@param run_id string
---@return string|nil bytes
---@return string|nil message "run not found" | "not known yet"
---@return string|nil code
function M.graph(app, caller, run_id)
  return document(app, caller, run_id, { "graph_sha256" })
end

--- GET /runs/{id}/source: the document or the Lua file that ran.
---@param app table
---@param caller table { tenant_id } or empty
---@param run_id string
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
function M.source(app, caller, run_id)
  return document(app, caller, run_id, { "source_sha256", "workflow_yaml_sha256", "bundle_hash" })
end

return M
