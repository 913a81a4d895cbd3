--- The NATS client library: runs without a gateway, for scripts beside NATS (`pyoco-host my.lua`):
---
---   local client = assert(require("pyoco.client.nats").connect { nats_url = "nats://127.0.0.1:4222" })
---   local run_id = assert(client:submit_run("etl", { url = "http://..." }, { tag = "cpu" }))
---   for event in client:watch_run(run_id) do print(event.data.snapshot.status) end
---
--- Snapshots and jobs have the shapes of the reference's PyocoNatsClient: neither tenant nor key. Calls block; failures
--- are nil, message, code. Lists read the whole bucket: for a look at few runs. A gateway has an index, use that.
local clock = require "host.clock"
local json = require "host.json"
local config = require "pyoco.config"
local snapshots = require "pyoco.run.snapshot"
local states = require "pyoco.run.states"
local cancel = require "pyoco.service.cancel"
local start = require "pyoco.service.start"
local stores = require "pyoco.store.jetstream"

local M = {}

local Client = {}
Client.__index = Client

local LOOK_MS = 1000 -- how long a change can stay unseen when NATS has lost the message that tells of it

local function invalid(text, ...) return nil, text:format(...), "invalid" end

--- Queues a run of a flow that the workers know by its name.
---@param flow_name string
---@param params table|nil
---@param opts table|nil { tag, tags (list) }
---@return string|nil run_id
---@return string|nil message
---@return string|nil code
function Client:submit_run(flow_name, params, opts)
  local tag = opts and opts.tag or self.config.default_tag
  if type(flow_name) ~= "string" or flow_name == "" or flow_name:find("%c") then
    return invalid("flow_name must be a text without control characters, got %s", tostring(flow_name))
  elseif type(tag) ~= "string" or not tag:find("^[%w_-]+$") then
    return invalid("tag must be of letters, digits, _ and -, got %s", tostring(tag))
  elseif params ~= nil and (type(params) ~= "table" or json.is_array(params)) then
    return invalid("params must be a table of names and values, got %s", type(params))
  end
  local given = opts and opts.tags
  local run = start.identity(self, {}, { flow_name = flow_name, tag = tag, params = params or {},
    tags = json.array(given and #given > 0 and { table.unpack(given) } or { tag }) })
  local first = snapshots.initial(run)
  first.tenant_id, first.api_key_id = nil, nil
  local answer, message, code = start.run(self, first, { run_id = run.run_id, flow_name = flow_name, tag = tag,
    tags = run.tags, params = run.params, submitted_at = run.now })
  if not answer then return nil, message, code end
  return answer.run_id
end

--- The latest snapshot of a run, with the records of its tasks.
---@param run_id string
---@return table|nil snapshot
---@return string|nil message
---@return string|nil code "not_found"
function Client:get_run(run_id)
  local snapshot, message, code = self.store.runs:get(run_id)
  if not snapshot then return nil, message, code end
  return snapshot
end

--- Runs, newest first.
---@param opts table|nil { status, flow, tag, limit (default 50) }
---@return table[]|nil snapshots
---@return string|nil message
---@return string|nil code
function Client:list_runs(opts)
  opts = opts or {}
  local entries, message, code = self.store.runs.kv:entries()
  if not entries then return nil, message, code end
  local list = {}
  for _, entry in ipairs(entries) do
    local run = json.decode(entry.value)
    if type(run) == "table" and (not opts.status or run.status == opts.status)
      and (not opts.flow or run.flow_name == opts.flow) and (not opts.tag or run.tag == opts.tag) then
      list[#list + 1] = run
    end
  end
  local function updated(run) return tonumber(run.updated_at) or 0 end
  table.sort(list, function(a, b)
    if updated(a) ~= updated(b) then return updated(a) > updated(b) end
    return tostring(a.run_id) > tostring(b.run_id)
  end)
  return table.move(list, 1, math.min(#list, opts.limit or 50), 1, json.array {})
end

--- The next snapshot after the last one, or nil at the end.
local function next_event(watch)
  while not watch.ended do
    local bytes, revision, entry = watch.client.store.runs:get_raw(watch.run_id)
    if bytes and revision ~= watch.revision then
      watch.revision = revision
      local snapshot = json.decode(bytes)
      if type(snapshot) == "table" then
        watch.ended = watch.until_terminal and states.is_terminal(snapshot.status)
        return { event = "snapshot", id = tostring(revision),
          data = { run_id = watch.run_id, snapshot = snapshot, ts = watch.client.store:now() } }
      end
    elseif not bytes and entry == "not_found" then
      break -- deleted
    end
    local left_ms = (watch.deadline - clock.monotonic()) * 1000
    if left_ms <= 0 then break end
    watch.sub:next(math.max(1, math.min(LOOK_MS, left_ms) // 1 | 0)) -- whatever it says: we look
  end
  watch:close()
end

local Watch = { __call = next_event, next = next_event }
Watch.__index = Watch

--- Ends it.
function Watch:close()
  self.ended = true
  if self.sub then self.sub:close() end
  self.sub = nil
end

Watch.__close = Watch.close

--- Follows a run: `for event in assert(client:watch_run(id)) do`. Events are as the HTTP client's, without heartbeats.
---@param run_id string
---@param opts table|nil { until_terminal (default true), timeout_sec (default 60) }
---@return table|nil events callable; next(), close()
---@return string|nil message
---@return string|nil code "not_found"
function Client:watch_run(run_id, opts)
  opts = opts or {}
  local known, message, code = self.store.runs:get(run_id)
  if not known then return nil, message, code end
  local sub
  sub, message, code = self.store.conn:subscribe(self.store.runs.kv.prefix .. run_id)
  if not sub then return nil, message, code end
  return setmetatable({ client = self, run_id = run_id, sub = sub, until_terminal = opts.until_terminal ~= false,
    deadline = clock.monotonic() + (opts.timeout_sec or 60) }, Watch)
end

--- Asks for a run's end, as a gateway does.
---@param run_id string
---@return table|nil snapshot without task records
---@return string|nil message
---@return string|nil code
function Client:cancel_run(run_id) return cancel.run(self, {}, run_id) end

--- Ends the connection.
function Client:close() self.store:close() end

local function open(values, name)
  local cfg, message, code = config.load { values = values }
  if not cfg then return nil, message, code end
  local store
  store, message, code = stores.connect(cfg, { name = name })
  if not store then return nil, message, code end
  local ok
  ok, message, code = store:ensure()
  if ok then return store, cfg end
  store:close()
  return nil, message, code
end

--- Connects, and makes the streams and buckets that are missing.
---@param values table|nil options by their short name (docs/reference/config.md) over those of the environment:
---  { nats_url = ... }
---@return table|nil client
---@return string|nil message
---@return string|nil code "invalid" | "unavailable" | "timeout" | "unauthorized"
function M.connect(values)
  local store, cfg, code = open(values, "pyoco-nats-client")
  if not store then return nil, cfg, code end
  return setmetatable({ store = store, config = cfg }, Client)
end

--- Makes the streams, buckets and object stores that are missing; what is there stays as it is.
---@param values table|nil as M.connect
---@return boolean|nil true
---@return string|nil message
---@return string|nil code
function M.ensure_resources(values)
  local store, message, code = open(values, "pyoco-nats-client")
  if not store then return nil, message, code end
  store:close()
  return true
end

return M
