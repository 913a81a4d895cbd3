--- A gateway on a NATS of its own, and a writer of snapshots beside it, as a worker is: for specs of lists.
local json = require "host.json"
local config = require "pyoco.config"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local store = require "pyoco.store.jetstream"

local M = {}
local Runs = {}
Runs.__index = Runs

--- A snapshot as POST /runs stores it, with other fields over it.
---@param run_id string
---@param fields table|nil
---@return table
function M.snapshot(run_id, fields)
  local value = { run_id = run_id, flow_name = "main", tag = "default", tags = json.array { "default" },
    tenant_id = json.null, api_key_id = json.null, status = "PENDING", params = {}, tasks = {}, task_records = {},
    start_time = json.null, end_time = json.null, heartbeat_at = 1.5, updated_at = 1.5, error = json.null }
  for key, field in pairs(fields or {}) do value[key] = field end
  return value
end

--- Opens the writer, and makes streams and buckets.
function Runs:connect()
  local cfg = assert(config.load { env = { PYOCO_NATS_URL = self.server.url }, cwd = "/nonexistent" })
  self.store = assert(store.connect(cfg, { name = "spec" }))
  assert(self.store:ensure())
end

--- Writes a snapshot, whatever is there.
---@param run_id string
---@param fields table|nil
---@return integer revision
function Runs:put(run_id, fields)
  return assert(self.store.runs.kv:put(run_id, assert(json.encode(M.snapshot(run_id, fields), { ascii = true }))))
end

--- Answer of GET /runs, decoded; it must be 200.
---@param query string|nil with its "?"
---@return table
function Runs:list(query)
  local answer = assert(self.gateway:fetch("/runs" .. (query or "")))
  if answer.status ~= 200 then error(("GET /runs%s: %d %s"):format(query or "", answer.status, answer.body), 2) end
  return answer.json
end

local function ids_of(answer)
  local found = {}
  for i, item in ipairs(answer.items or answer) do found[i] = item.run_id end
  return found
end

--- Ids of the runs that are listed, and next_cursor.
---@param query string|nil
---@return string[]
---@return string|nil
function Runs:ids(query)
  local answer = self:list(query)
  return ids_of(answer), answer.next_cursor
end

--- Waits until the gateway lists exactly these.
---@param expected string[]
---@param query string|nil
function Runs:settle(expected, query)
  local last
  local ok = pcall(process.wait_for, function()
    local answer = self.gateway:fetch("/runs" .. (query or ""))
    last = answer and answer.body
    return answer and answer.status == 200
      and table.concat(ids_of(answer.json), " ") == table.concat(expected, " ")
  end, 10000, "the list")
  if not ok then error("not listed as expected; last answer: " .. tostring(last), 2) end
end

--- Ends all of it.
function Runs:stop()
  if self.store then self.store:close() end
  if self.gateway then self.gateway:stop() end
  self.server:stop()
end

--- Starts NATS, and unless told otherwise the gateway and the writer.
---@param opts table|nil bare (only NATS), env (of the gateway)
---@return table runs { server, gateway, store }
function M.start(opts)
  opts = opts or {}
  local self = setmetatable({ server = nats.start() }, Runs)
  if opts.bare then return self end
  self.gateway = gateways.start { nats_url = self.server.url, env = opts.env }
  self:connect()
  return self
end

return M
