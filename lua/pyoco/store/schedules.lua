--- Schedules (CONTRACT 9): one record for each in their bucket. Revisions are KV revisions; every write of a record
--- that exists is a compare-and-set, as the reference has it too.
local json = require "host.json"

local M = {}

--- The keys in the order in which the contract's records have them.
local function ordered(...)
  return { ascii = true, order = { "schedule_id", "flow_name", "tag", "status", "schedule_type", "workflow_yaml",
    "workflow_yaml_sha256", "workflow_yaml_bytes", "params", "tenant_id", "api_key_id", "created_at", "updated_at",
    "last_submitted_at", "last_run_id", "dispatch_count", "last_error", "lease_until", ... } }
end

local FORMS = { once = ordered("run_at", "next_run_at", "interval_seconds", "start_at"),
  interval = ordered("run_at", "interval_seconds", "start_at", "next_run_at") }

--- The bytes of a record.
local function encode(record) return json.encode(record, FORMS[record.schedule_type] or FORMS.interval) end

local schedules = {}
schedules.__index = schedules

local function decode(bytes, key)
  local record, message = json.decode(bytes)
  if type(record) == "table" and not json.is_array(record) then return record end
  return nil, ("record of schedule %s is not a JSON object: %s"):format(key, message or type(record)), "internal"
end

--- One record.
---@param schedule_id string
---@return table|nil record
---@return integer|string revision or message
---@return table|string entry or code "not_found" | "invalid" (no key could be called so) | "unavailable"
function schedules:get(schedule_id)
  local bytes, revision, entry = self.kv:get(schedule_id)
  if not bytes then return nil, revision, entry end
  local record, message, code = decode(bytes, schedule_id)
  if not record then return nil, message, code end
  return record, revision, entry
end

--- All records; one that cannot be read is left out.
---@return table[]|nil records
---@return string|nil message
---@return string|nil code
function schedules:list()
  local entries, message, code = self.kv:entries()
  if not entries then return nil, message, code end
  local list = {}
  for _, entry in ipairs(entries) do list[#list + 1] = decode(entry.value, entry.key) end
  return list
end

--- Stores a new one.
---@param record table with schedule_id
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function schedules:create(record)
  local bytes, message, code = encode(record)
  if not bytes then return nil, message, code end
  return self.kv:create(record.schedule_id, bytes)
end

--- Compare-and-set.
---@param record table
---@param revision integer the one that was read
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict"
function schedules:update(record, revision)
  local bytes, message, code = encode(record)
  if not bytes then return nil, message, code end
  return self.kv:update(record.schedule_id, bytes, revision)
end

--- Removes one, whatever is being done with it.
---@param schedule_id string
---@return integer|nil revision of the marker
---@return string|nil message
---@return string|nil code
function schedules:delete(schedule_id) return self.kv:delete(schedule_id) end

--- Follows the bucket: what it holds, then every change.
---@return table|nil tail as host.tail's: next(timeout_ms) -> "entry" with { key, value, revision, deleted }, "live",
---  "reset"; stop()
---@return string|nil message
---@return string|nil code
function schedules:follow() return self.backend.follow(self.bucket) end

--- What a followed entry says.
---@param entry table { key, value }
---@return table|nil record nil when it is none
function schedules:read(entry) return self and (decode(entry.value, entry.key)) end

--- The verbs over a backend.
---@param cfg table yaml_schedules_bucket
---@param backend table
---@return table
function M.new(cfg, backend)
  return setmetatable({ kv = backend.kv(cfg.yaml_schedules_bucket), backend = backend,
    bucket = cfg.yaml_schedules_bucket }, schedules)
end

return M
