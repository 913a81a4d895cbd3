--- Records of Idempotency-Keys: which run a key has begun, and of what request. They go by the bucket's age limit.
local json = require "host.json"

local M = {}
local Records = {}
Records.__index = Records

local ASCII = { ascii = true }

--- Takes a key that nobody has.
---@param key string in NATS's alphabet
---@param record table { run_id, fingerprint, ... }
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict": somebody has it
function Records:claim(key, record)
  local bytes, message, code = json.encode(record, ASCII)
  if not bytes then return nil, message, code end
  return self.kv:create(key, bytes)
end

--- Takes several keys that nobody has and nobody has given back, all in flight together.
---@param list table[] { key, record }
---@return table[] results { revision } or { message, code }, in order
function Records:claim_many(list)
  local entries = {}
  for i, it in ipairs(list) do entries[i] = { it[1], assert(json.encode(it[2], ASCII)), 0 } end
  return self.kv:update_many(entries)
end

--- What a key stands for.
---@param key string
---@return table|nil record {} when what is stored is no record: it equals no other
---@return integer|string revision or message
---@return string|nil code "not_found"
function Records:get(key)
  local bytes, revision, code = self.kv:get(key)
  if not bytes then return nil, revision, code end
  local record = json.decode(bytes)
  return type(record) == "table" and not json.is_array(record) and record or {}, revision
end

--- What several keys stand for.
---@param keys string[]
---@return table|nil place in keys -> record; nil for what is not there
---@return string|nil message
---@return string|nil code
function Records:get_many(keys)
  local values, message, code = self.kv:get_many(keys)
  if not values then return nil, message, code end
  local records = {}
  for i, bytes in pairs(values) do
    local record = json.decode(bytes)
    records[i] = type(record) == "table" and record or {}
  end
  return records
end

--- Changes a record that is still as it was read.
---@param key string
---@param record table
---@param revision integer
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict"
function Records:update(key, record, revision)
  return self.kv:update(key, assert(json.encode(record, ASCII)), revision)
end

--- Changes several records, all in flight together.
---@param list table[] { key, record, revision }
---@return table[] results { revision } or { message, code }, in order
function Records:update_many(list)
  local entries = {}
  for i, it in ipairs(list) do entries[i] = { it[1], assert(json.encode(it[2], ASCII)), it[3] } end
  return self.kv:update_many(entries)
end

--- Gives a key back, if it is still as it was read.
---@param key string
---@param revision integer
---@return integer|nil revision of the marker
---@return string|nil message
---@return string|nil code
function Records:delete(key, revision) return self.kv:delete(key, revision) end

--- The verbs over a backend.
---@param cfg table idempotency_bucket
---@param backend table (store/verbs.lua)
---@return table records
function M.new(cfg, backend)
  return setmetatable({ kv = backend.kv(cfg.idempotency_bucket) }, Records)
end

return M
