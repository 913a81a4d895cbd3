---@meta pyoco.client.http

--- Calls of a gateway, for scripts.
---@class pyoco.client.http
local M = {}

---@class pyoco.client.http.Client
local Client = {}

--- Queues a run of a flow that the workers know by its name.
---@param flow_name string
---@param params table|nil
---@param opts table|nil { tag, tags (list), idempotency_key, wait_sec (answer with the ended run, if it ends in time) }
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_run(flow_name, params, opts) end

--- Queues a run of a YAML document.
---@param workflow_yaml string the document's text
---@param opts table { flow_name, tag, params (over the document's defaults), idempotency_key, wait_sec }
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_run_yaml(workflow_yaml, opts) end

--- Queues a run of a bundle of workflows. One that spawns may wait for its approval first.
---@param bundle_yaml string the bundle's text
---@param opts table|nil { tag, params (over the bundle's inputs), idempotency_key, wait_sec }
---@return table|nil { run_id, status, bundle_hash, ... }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_run_bundle(bundle_yaml, opts) end

--- Queues up to 1,000 runs at once.
---@param runs table list of { flow_name, params, tag, tags, ... }
---@return table|nil a result for each
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_batch(runs) end

--- Lets a run that waits for approval go.
---@param run_id string
---@param opts table|nil { comment }
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found" | "conflict": it does not wait (any more)
---@return table|nil failure
function Client:approve_run(run_id, opts) end

--- Ends a run that waits for approval.
---@param run_id string
---@param opts table|nil { reason }
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found" | "conflict"
---@return table|nil failure
function Client:reject_run(run_id, opts) end

--- The latest snapshot of a run, without the records of its tasks.
---@param run_id string
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found"
---@return table|nil failure
function Client:get_run(run_id) end

--- The latest snapshot of a run, with the records of its tasks.
---@param run_id string
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_run_with_records(run_id) end

--- States and records of a run's tasks.
---@param run_id string
---@return table|nil { run_id, flow_name, status, tasks, task_records, task_records_truncated }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_tasks(run_id) end

--- Runs, newest first.
---@param opts table|nil { status, flow, tag, full, limit, schedule_id, q, sort }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_runs(opts) end

--- Runs page by page: pass `next_cursor` on as `cursor` until it is null. Or only what has changed: `updated_after`.
---@param opts table|nil as list_runs, and updated_after, cursor, workflow_yaml_sha256
---@return table|nil { items, next_cursor }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_runs_vnext(opts) end

--- Follows a run: `for event in assert(client:watch_run(id)) do`. An event is { event = "snapshot" | "heartbeat",
--- data = { run_id, snapshot, ts }, id }. The stream ends at timeout_sec, or with until_terminal at the run's end. One
--- that breaks ends the loop too; then events.message and events.code say why. Leave the loop early: events:close().
---@param run_id string
---@param opts table|nil { include_records, since (unix seconds), timeout_sec, until_terminal, last_event_id }
---@return table|nil events callable; next(), close(), message, code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:watch_run(run_id, opts) end

--- Asks for a run's end, and with `wait` stays until it has come.
---@param run_id string
---@param opts table|nil { wait, timeout_sec (default 30) }
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "timeout": it has not ended in time; the cancel stands
---@return table|nil failure
function Client:cancel_run(run_id, opts) end

--- The workers, last seen first.
---@param opts table|nil { scope = "active" | "all", state, include_hidden, limit }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_workers(opts) end

--- Hides a worker from lists, or shows it again.
---@param worker_id string
---@param opts table { hidden = boolean }
---@return table|nil { worker_id, hidden, updated_at }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:patch_worker_hidden(worker_id, opts) end

--- The wheels in the registry, by name.
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_wheels() end

--- Uploads and deletions of wheels, newest first.
---@param opts table|nil { limit, wheel_name, action = "upload" | "delete" }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_wheel_history(opts) end

--- Adds a wheel. Its version must be above all stored ones of the same package.
---@param opts table { filename, data (bytes) or path (of a file, read while it is sent), replace (default true), tags }
---@return table|nil { name, size_bytes, digest, ... }
---@return string|nil message
---@return string|nil code "conflict": the version
---@return table|nil failure
function Client:upload_wheel(opts) end

--- The bytes of a wheel.
---@param wheel_name string
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:download_wheel(wheel_name) end

--- Gets a wheel of any size into a file, which appears when it is complete and verified.
---@param wheel_name string
---@param path string
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:download_wheel_file(wheel_name, path) end

--- Removes a wheel.
---@param wheel_name string
---@return table|nil { name, deleted }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:delete_wheel(wheel_name) end

--- Makes a schedule of a YAML document: `run_at`, or `interval_seconds` and perhaps `start_at`.
---@param workflow_yaml string the document's text
---@param opts table { flow_name, tag, run_at, start_at (ISO 8601 with offset), interval_seconds }
---@return table|nil schedule
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:create_schedule_yaml(workflow_yaml, opts) end

--- The schedules, active ones first.
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_schedules() end

--- Runs of a schedule, newest first.
---@param schedule_id string
---@param opts table|nil { limit, full }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_schedule_runs(schedule_id, opts) end

--- Ends a schedule; its runs stay.
---@param schedule_id string
---@return table|nil { schedule_id, deleted }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:delete_schedule(schedule_id) end

--- The gateway's metrics, in Prometheus's text format.
---@return string|nil text
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_metrics() end

--- Any other call of the gateway, such as one that a gateway script has added.
---@param method string
---@param path string
---@param opts table|nil { query = {{name, value}}, json = value, headers, timeout_sec }
---@return any answer decoded
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:call(method, path, opts) end

--- Closes the connections that are kept for further calls.
function Client:close() end

--- A client.
---@param base_url string|nil default: PYOCO_SERVER_URL, else http://127.0.0.1:8000
---@param opts table|nil { api_key (default: PYOCO_API_KEY), api_key_header (default X-API-Key), timeout_sec (30) }
---@return pyoco.client.http.Client? client
---@return string|nil message what is wrong with the environment
---@return string|nil code "invalid"
function M.new(base_url, opts) end

return M
