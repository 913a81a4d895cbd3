--- The HTTP client library: a gateway's calls as methods, their answers decoded. For scripts (`pyoco-host my.lua`):
---
---   local client = require("pyoco.client.http").new("http://127.0.0.1:8000", { api_key = key })
---   local run = assert(client:submit_run("etl", { url = "http://..." }, { tag = "cpu" }))
---   for event in assert(client:watch_run(run.run_id, { until_terminal = true })) do print(event.event) end
---
--- A method returns what the gateway answers, or nil, message, code, failure (pyoco.client.transport). JSON's null is
--- host.json's `null`. The methods are those of the reference's PyocoHttpClient, and what our gateway has beside.
local clock = require "host.clock"
local json = require "host.json"
local states = require "pyoco.run.states"
local transport = require "pyoco.client.transport"

local M = {}

local Client = {}
Client.__index = Client

local CANCEL_POLL_SEC = 0.25

local segment = transport.segment

--- A request whose answer is JSON.
local function call(self, method, path, opts)
  local answer, message, code, failure = self.transport:request(method, path, opts)
  if not answer then return nil, message, code, failure end
  local value, fault = json.decode(answer.body)
  if value == nil then return nil, ("%s %s: the answer is no JSON: %s"):format(method, path, fault), "internal" end
  return value
end

local function get(self, path, query) return call(self, "GET", path, { query = query }) end

local function post_json(self, path, value, opts)
  local body, message, code = json.encode(value, { sort = true })
  if not body then return nil, message, code end
  return call(self, "POST", path, { body = body, headers = opts and opts.headers, query = opts and opts.query,
    timeout_sec = opts and opts.timeout_sec })
end

--- Headers and query that every submit takes.
local function submit_options(self, opts)
  local wait = opts.wait_sec
  return { headers = opts.idempotency_key and { ["idempotency-key"] = opts.idempotency_key } or nil,
    query = { { "wait", wait } }, timeout_sec = wait and wait + self.transport.timeout_sec or nil }
end

local function post_document(self, path, part, document, fields, opts)
  local list, options = {}, submit_options(self, opts)
  for _, field in ipairs(fields) do
    if field[2] ~= nil then list[#list + 1] = { field[1], tostring(field[2]) } end
  end
  if opts.params then
    local text, message, code = json.encode(opts.params)
    if not text then return nil, message, code end
    list[#list + 1] = { "params", text }
  end
  local answer, message, code, failure = self.transport:post_form(path, list, { { name = part,
    filename = part == "bundle" and "bundle.yaml" or "flow.yaml", content_type = "application/x-yaml",
    data = document } }, options)
  if not answer then return nil, message, code, failure end
  return json.decode(answer.body)
end

--- Queues a run of a flow that the workers know by its name.
---@param flow_name string
---@param params table|nil
---@param opts table|nil { tag, tags (list), idempotency_key, wait_sec (answer with the ended run, if it ends in time) }
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_run(flow_name, params, opts)
  opts = opts or {}
  return post_json(self, "/runs", { flow_name = flow_name, params = params or {}, tag = opts.tag,
    tags = opts.tags and json.array { table.unpack(opts.tags) } or nil }, submit_options(self, opts))
end

--- Queues a run of a YAML document.
---@param workflow_yaml string the document's text
---@param opts table { flow_name, tag, params (over the document's defaults), idempotency_key, wait_sec }
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_run_yaml(workflow_yaml, opts)
  return post_document(self, "/runs/yaml", "workflow", workflow_yaml,
    { { "flow_name", opts.flow_name }, { "tag", opts.tag } }, opts)
end

--- Queues a run of a bundle of workflows. One that spawns may wait for its approval first.
---@param bundle_yaml string the bundle's text
---@param opts table|nil { tag, params (over the bundle's inputs), idempotency_key, wait_sec }
---@return table|nil { run_id, status, bundle_hash, ... }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_run_bundle(bundle_yaml, opts)
  opts = opts or {}
  return post_document(self, "/runs/bundle", "bundle", bundle_yaml, { { "tag", opts.tag } }, opts)
end

--- Queues up to 1,000 runs at once.
---@param runs table list of { flow_name, params, tag, tags, ... }
---@return table|nil a result for each
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:submit_batch(runs)
  return post_json(self, "/runs/batch", { runs = json.array { table.unpack(runs) } })
end

--- Lets a run that waits for approval go.
---@param run_id string
---@param opts table|nil { comment }
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found" | "conflict": it does not wait (any more)
---@return table|nil failure
function Client:approve_run(run_id, opts)
  return post_json(self, ("/runs/%s/approve"):format(segment(run_id)), { comment = opts and opts.comment })
end

--- Ends a run that waits for approval.
---@param run_id string
---@param opts table|nil { reason }
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found" | "conflict"
---@return table|nil failure
function Client:reject_run(run_id, opts)
  return post_json(self, ("/runs/%s/reject"):format(segment(run_id)), { reason = opts and opts.reason })
end

--- The latest snapshot of a run, without the records of its tasks.
---@param run_id string
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found"
---@return table|nil failure
function Client:get_run(run_id) return get(self, "/runs/" .. segment(run_id)) end

--- The latest snapshot of a run, with the records of its tasks.
---@param run_id string
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_run_with_records(run_id)
  return get(self, "/runs/" .. segment(run_id), { { "include", "records" } })
end

--- States and records of a run's tasks.
---@param run_id string
---@return table|nil { run_id, flow_name, status, tasks, task_records, task_records_truncated }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_tasks(run_id) return get(self, ("/runs/%s/tasks"):format(segment(run_id))) end

local function list_query(opts)
  return { { "status", opts.status }, { "flow", opts.flow }, { "tag", opts.tag },
    { "include", opts.full and "full" or nil }, { "limit", opts.limit }, { "schedule_id", opts.schedule_id },
    { "q", opts.q }, { "sort", opts.sort } }
end

--- Runs, newest first.
---@param opts table|nil { status, flow, tag, full, limit, schedule_id, q, sort }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_runs(opts)
  local value, message, code, failure = get(self, "/runs", list_query(opts or {}))
  if value and not json.is_array(value) then return value.items end
  return value, message, code, failure
end

--- Runs page by page: pass `next_cursor` on as `cursor` until it is null. Or only what has changed: `updated_after`.
---@param opts table|nil as list_runs, and updated_after, cursor, workflow_yaml_sha256
---@return table|nil { items, next_cursor }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_runs_vnext(opts)
  opts = opts or {}
  local query = list_query(opts)
  table.move({ { "updated_after", opts.updated_after }, { "cursor", opts.cursor or "" }, -- "" is the first page
    { "workflow_yaml_sha256", opts.workflow_yaml_sha256 } }, 1, 3, #query + 1, query)
  local value, message, code, failure = get(self, "/runs", query)
  if value and json.is_array(value) then return { items = value, next_cursor = json.null } end
  return value, message, code, failure
end

--- Follows a run: `for event in assert(client:watch_run(id)) do`. An event is { event = "snapshot" | "heartbeat",
--- data = { run_id, snapshot, ts }, id }. The stream ends at timeout_sec, or with until_terminal at the run's end. One
--- that breaks ends the loop too; then events.message and events.code say why. Leave the loop early: events:close().
---@param run_id string
---@param opts table|nil { include_records, since (unix seconds), timeout_sec, until_terminal, last_event_id }
---@return table|nil events callable; next(), close(), message, code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:watch_run(run_id, opts)
  opts = opts or {}
  return self.transport:events(("/runs/%s/watch"):format(segment(run_id)), {
    { "include", opts.include_records and "records" or nil }, { "since", opts.since },
    { "timeout_sec", opts.timeout_sec }, { "until", opts.until_terminal and "terminal" or nil },
  }, opts.last_event_id and { ["last-event-id"] = tostring(opts.last_event_id) } or nil)
end

--- Asks for a run's end, and with `wait` stays until it has come.
---@param run_id string
---@param opts table|nil { wait, timeout_sec (default 30) }
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "timeout": it has not ended in time; the cancel stands
---@return table|nil failure
function Client:cancel_run(run_id, opts)
  opts = opts or {}
  local snapshot, message, code, failure = post_json(self, ("/runs/%s/cancel"):format(segment(run_id)), {})
  local deadline = clock.monotonic() + (opts.timeout_sec or 30)
  while snapshot and opts.wait and not states.is_terminal(snapshot.status) do
    if clock.monotonic() >= deadline then
      return nil, "cancel wait timeout for run_id=" .. run_id, "timeout"
    end
    clock.sleep(CANCEL_POLL_SEC)
    snapshot, message, code, failure = self:get_run(run_id)
  end
  return snapshot, message, code, failure
end

--- The workers, last seen first.
---@param opts table|nil { scope = "active" | "all", state, include_hidden, limit }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_workers(opts)
  opts = opts or {}
  return get(self, "/workers", { { "scope", opts.scope }, { "state", opts.state },
    { "include_hidden", opts.include_hidden }, { "limit", opts.limit } })
end

--- Hides a worker from lists, or shows it again.
---@param worker_id string
---@param opts table { hidden = boolean }
---@return table|nil { worker_id, hidden, updated_at }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:patch_worker_hidden(worker_id, opts)
  return call(self, "PATCH", "/workers/" .. segment(worker_id), { body = json.encode { hidden = opts.hidden == true } })
end

--- The wheels in the registry, by name.
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_wheels() return get(self, "/wheels") end

--- Uploads and deletions of wheels, newest first.
---@param opts table|nil { limit, wheel_name, action = "upload" | "delete" }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_wheel_history(opts)
  opts = opts or {}
  return get(self, "/wheels/history", { { "limit", opts.limit }, { "wheel_name", opts.wheel_name },
    { "action", opts.action } })
end

--- Adds a wheel. Its version must be above all stored ones of the same package.
---@param opts table { filename, data (bytes) or path (of a file, which is read while it is sent), replace (default
---  true), tags (list) }
---@return table|nil { name, size_bytes, digest, ... }
---@return string|nil message
---@return string|nil code "conflict": the version
---@return table|nil failure
function Client:upload_wheel(opts)
  local fields = { { "replace", opts.replace == false and "false" or "true" } }
  if opts.tags and #opts.tags > 0 then fields[2] = { "tags", table.concat(opts.tags, ",") } end
  local file = { name = "wheel", path = opts.path, filename = opts.filename or opts.path:match("[^/]*$"),
    content_type = "application/octet-stream", data = opts.data }
  local answer, message, code, failure
  if opts.path then
    answer, message, code, failure = self.transport:post_file("/wheels", fields, file)
  else
    answer, message, code, failure = self.transport:post_form("/wheels", fields, { file },
      { timeout_sec = opts.timeout_sec or 600 })
  end
  if not answer then return nil, message, code, failure end
  return json.decode(answer.body)
end

--- The bytes of a wheel.
---@param wheel_name string
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:download_wheel(wheel_name)
  local answer, message, code, failure = self.transport:request("GET", "/wheels/" .. segment(wheel_name),
    { timeout_sec = 600 })
  if not answer then return nil, message, code, failure end
  return answer.body
end

--- Gets a wheel of any size into a file.
---@param wheel_name string
---@param path string appears when the wheel is complete and verified
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:download_wheel_file(wheel_name, path)
  local answer, message, code, failure = self.transport:get_file("/wheels/" .. segment(wheel_name), path)
  if not answer then return nil, message, code, failure end
  return true
end

--- Removes a wheel.
---@param wheel_name string
---@return table|nil { name, deleted }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:delete_wheel(wheel_name) return call(self, "DELETE", "/wheels/" .. segment(wheel_name)) end

--- Makes a schedule of a YAML document: `run_at`, or `interval_seconds` and perhaps `start_at`.
---@param workflow_yaml string the document's text
---@param opts table { flow_name, tag, run_at, start_at (ISO 8601 with offset), interval_seconds }
---@return table|nil schedule
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:create_schedule_yaml(workflow_yaml, opts)
  return post_document(self, "/schedules/yaml", "workflow", workflow_yaml, { { "flow_name", opts.flow_name },
    { "tag", opts.tag }, { "run_at", opts.run_at }, { "interval_seconds", opts.interval_seconds },
    { "start_at", opts.start_at } }, opts)
end

--- The schedules, active ones first.
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_schedules() return get(self, "/schedules") end

--- Runs of a schedule, newest first.
---@param schedule_id string
---@param opts table|nil { limit, full }
---@return table|nil list
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:list_schedule_runs(schedule_id, opts)
  opts = opts or {}
  return get(self, ("/schedules/%s/runs"):format(segment(schedule_id)),
    { { "limit", opts.limit }, { "include", opts.full and "full" or nil } })
end

--- Ends a schedule; its runs stay.
---@param schedule_id string
---@return table|nil { schedule_id, deleted }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:delete_schedule(schedule_id) return call(self, "DELETE", "/schedules/" .. segment(schedule_id)) end

--- The gateway's metrics, in Prometheus's text format.
---@return string|nil text
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:get_metrics()
  local answer, message, code, failure = self.transport:request("GET", "/metrics")
  if not answer then return nil, message, code, failure end
  return answer.body
end

--- Any other call of the gateway, such as one that a gateway script has added.
---@param method string
---@param path string
---@param opts table|nil { query = {{name, value}}, json = value, headers, timeout_sec }
---@return any answer decoded
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Client:call(method, path, opts)
  opts = opts or {}
  local body, message, code
  if opts.json ~= nil then
    body, message, code = json.encode(opts.json)
    if not body then return nil, message, code end
  end
  return call(self, method, path, { query = opts.query, body = body, headers = opts.headers,
    timeout_sec = opts.timeout_sec })
end

--- Closes the connections that are kept for further calls.
function Client:close() self.transport:close() end

--- A client.
---@param base_url string|nil default: PYOCO_SERVER_URL, else http://127.0.0.1:8000
---@param opts table|nil { api_key (default: PYOCO_API_KEY), api_key_header (default X-API-Key), timeout_sec (30) }
---@return table|nil client
---@return string|nil message what is wrong with the environment
---@return string|nil code "invalid"
function M.new(base_url, opts)
  opts = opts or {}
  local cfg, message, code = require("pyoco.config").load { only = { "client" } }
  if not cfg then return nil, message, code end
  return setmetatable({ transport = transport.new(base_url or cfg.server_url, { api_key = opts.api_key or cfg.api_key,
    api_key_header = opts.api_key_header or cfg.api_key_header, timeout_sec = opts.timeout_sec }) }, Client)
end

return M
