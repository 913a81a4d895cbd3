---@meta pyoco.client.nats

--- Runs by NATS itself, without a gateway; for scripts.
---@class pyoco.client.nats
local M = {}

---@class pyoco.client.nats.Client
local Client = {}

---@class pyoco.client.nats.Watch
local Watch = {}

--- Queues a run of a flow that the workers know by its name.
---@param flow_name string
---@param params table|nil
---@param opts table|nil { tag, tags (list) }
---@return string|nil run_id
---@return string|nil message
---@return string|nil code
function Client:submit_run(flow_name, params, opts) end

--- The latest snapshot of a run, with the records of its tasks.
---@param run_id string
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found"
function Client:get_run(run_id) end

--- Runs, newest first.
---@param opts table|nil { status, flow, tag, limit (default 50) }
---@return table[]|nil snapshots
---@return string|nil message
---@return string|nil code
function Client:list_runs(opts) end

--- Ends it.
function Watch:close() end

--- Follows a run: `for event in assert(client:watch_run(id)) do`. Events are as the HTTP client's, without heartbeats.
---@param run_id string
---@param opts table|nil { until_terminal (default true), timeout_sec (default 60) }
---@return pyoco.client.nats.Watch? events callable; next(), close()
---@return string|nil message
---@return string|nil code "not_found"
function Client:watch_run(run_id, opts) end

--- Asks for a run's end, as a gateway does.
---@param run_id string
---@return table|nil snapshot without task records
---@return string|nil message
---@return string|nil code
function Client:cancel_run(run_id) end

--- Ends the connection.
function Client:close() end

--- Connects, and makes the streams and buckets that are missing.
---@param values table|nil options by their short name (docs/reference/config.md) over those of the environment:
---  { nats_url = ... }
---@return pyoco.client.nats.Client? client
---@return string|nil message
---@return string|nil code "invalid" | "unavailable" | "timeout" | "unauthorized"
function M.connect(values) end

--- Makes the streams, buckets and object stores that are missing; what is there stays as it is.
---@param values table|nil as M.connect
---@return boolean|nil true
---@return string|nil message
---@return string|nil code
function M.ensure_resources(values) end

return M
