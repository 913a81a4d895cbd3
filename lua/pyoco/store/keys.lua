--- API keys (CONTRACT 13): records in the bucket auth_bucket under "api_keys.<key_id>". What they mean is the
--- service's; here they are bytes and tables.
local json = require "host.json"

local M = {}

local PREFIX = "api_keys."
local FIELDS = { ascii = true, order = { "key_id", "tenant_id", "kdf", "iterations", "salt_b64", "hash_b64",
  "created_at", "revoked_at" } }

local keys = {}
keys.__index = keys

--- The stored bytes of a key's record: from this process's copy of the bucket while that is fresh, else from NATS.
---@param key_id string of the alphabet of key ids
---@return string|nil bytes
---@return string|nil message
---@return string|nil code "not_found" | "unavailable" | "timeout"
function keys:get_raw(key_id)
  if self.mirrored then
    local bytes, is_fresh = self.mirrored(self.bucket, PREFIX .. key_id)
    -- one that is not in the copy may have been made this moment
    if bytes and is_fresh then return bytes end
  end
  local bytes, message, code = self.kv:get(PREFIX .. key_id)
  if not bytes then return nil, message, code end
  return bytes
end

--- Stores a new record.
---@param record table with key_id
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict" if the key exists
function keys:create(record)
  local bytes, message, code = json.encode(record, FIELDS)
  if not bytes then return nil, message, code end
  return self.kv:create(PREFIX .. record.key_id, bytes)
end

--- Changes a record: change(record) edits it in place. Repeated when somebody else writes meanwhile.
---@param key_id string
---@param change fun(record: table)
---@return table|nil record as it was written
---@return string|nil message
---@return string|nil code "not_found" | "invalid" (the stored one cannot be read) | "conflict"
function keys:change(key_id, change)
  local written, message, code
  for _ = 1, 10 do
    local bytes, revision, failed = self.kv:get(PREFIX .. key_id)
    if not bytes then return nil, revision, failed end
    local record = json.decode(bytes)
    if type(record) ~= "table" or json.is_array(record) then
      return nil, ("the record of key %s is no JSON object"):format(key_id), "invalid"
    end
    change(record)
    written, message, code = self.kv:update(PREFIX .. key_id, assert(json.encode(record, FIELDS)), revision)
    if written then return record end
    if code ~= "conflict" then break end
  end
  return nil, message, code
end

--- All keys. One whose record cannot be read has its key_id only.
---@return table[]|nil list of { key_id, record = table or nil }
---@return string|nil message
---@return string|nil code
function keys:list()
  local entries, message, code = self.kv:entries()
  if not entries then return nil, message, code end
  local list = {}
  for _, entry in ipairs(entries) do
    if entry.key:sub(1, #PREFIX) == PREFIX then
      local record = json.decode(entry.value)
      list[#list + 1] = { key_id = entry.key:sub(#PREFIX + 1), record = type(record) == "table" and record or nil }
    end
  end
  return list
end

--- The verbs over one backend.
---@param cfg table { auth_bucket }
---@param backend table { kv(bucket), mirrored(bucket, key) -> value | nil, is_fresh (where there is a copy) }
---@return table
function M.new(cfg, backend)
  return setmetatable({ bucket = cfg.auth_bucket, kv = backend.kv(cfg.auth_bucket), mirrored = backend.mirrored }, keys)
end

return M
