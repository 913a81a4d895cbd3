--- API keys as records (CONTRACT 13): making, listing and revoking them, and what their text and record must be.
--- The secret itself is stored nowhere; its PBKDF2 is.
local crypto = require "host.crypto"
local json = require "host.json"
local fault = require "pyoco.service.fault"
local or_null = require("pyoco.null").or_null

local M = {}

local KDF = "pbkdf2_hmac_sha256"
local ITERATIONS = 200000
local ITERATIONS_MAX = 10000000 -- a record that wants more would hold a core for seconds: not usable
local HASH_BYTES = 32
local SALT_MAX_BYTES = 128
local TENANT = "^[%w_-]+$"

local function is_tenant(text) return type(text) == "string" and #text <= 64 and text:find(TENANT) ~= nil end

--- Key id and secret of a key's text "pyoco_<key_id>.<secret>"; nil when it has not that form.
---@param text string
---@return string|nil key_id
---@return string|nil secret
function M.split(text)
  local key_id, secret = text:match("^pyoco_([%w_-]+)%.([%w_-]+)$")
  if not key_id or #key_id < 8 or #key_id > 64 or #secret < 16 or #secret > 256 then return nil end
  return key_id, secret
end

--- What is hashed: the secret with the pepper behind it.
---@param cfg table { auth_pepper }
---@param secret string
---@return string
function M.peppered(cfg, secret) return secret .. (cfg.auth_pepper or "") end

--- A stored record, if it is one of that key.
---@param bytes string
---@param key_id string
---@return table|nil { tenant_id, iterations, salt, hash (bytes), revoked = boolean }
function M.read(bytes, key_id)
  local record = json.decode(bytes)
  if type(record) ~= "table" or record.key_id ~= key_id or record.kdf ~= KDF or not is_tenant(record.tenant_id)
    or type(record.salt_b64) ~= "string" or type(record.hash_b64) ~= "string" then
    return nil
  end
  local iterations = math.tointeger(record.iterations)
  if not iterations or iterations < 1 or iterations > ITERATIONS_MAX then return nil end
  local salt = crypto.base64url_decode((record.salt_b64:gsub("=+$", "")))
  local hash = crypto.base64url_decode((record.hash_b64:gsub("=+$", "")))
  if not salt or #salt == 0 or #salt > SALT_MAX_BYTES or not hash or #hash ~= HASH_BYTES then return nil end
  return { tenant_id = record.tenant_id, iterations = iterations, salt = salt, hash = hash,
    revoked = record.revoked_at ~= nil and record.revoked_at ~= json.null }
end

--- Makes a key. Its text is told here and never again.
---@param app table { store, config }
---@param tenant_id string
---@return table|nil { key_id, tenant_id, api_key, created_at }
---@return string|nil message
---@return string|nil code "invalid" | "unavailable"
function M.create(app, tenant_id)
  if not is_tenant(tenant_id) then
    return nil, ("tenant %q: use 1 to 64 letters, digits, _ and -"):format(tenant_id), "invalid"
  end
  local key_id, salt = crypto.hex_encode(crypto.random(12)), crypto.random(16)
  local secret = crypto.base64url_encode(crypto.random(32))
  local hash = crypto.pbkdf2(M.peppered(app.config, secret), salt, ITERATIONS, HASH_BYTES)
  local record = { key_id = key_id, tenant_id = tenant_id, kdf = KDF, iterations = ITERATIONS,
    salt_b64 = crypto.base64url_encode(salt), hash_b64 = crypto.base64url_encode(hash),
    created_at = app.store:now(), revoked_at = json.null }
  local revision, message, code = app.store.keys:create(record)
  if not revision then return fault.of_store(message, code) end
  return { key_id = key_id, tenant_id = tenant_id, api_key = ("pyoco_%s.%s"):format(key_id, secret),
    created_at = record.created_at }
end

--- All keys, newest first; a record that cannot be read comes last, with nulls.
---@param app table { store }
---@return table[]|nil list of { key_id, tenant_id, created_at, revoked_at }
---@return string|nil message
---@return string|nil code
function M.list(app)
  local found, message, code = app.store.keys:list()
  if not found then return fault.of_store(message, code) end
  local list = {}
  for i, entry in ipairs(found) do
    local record = entry.record or {}
    list[i] = { key_id = entry.key_id, tenant_id = or_null(record.tenant_id), created_at = or_null(record.created_at),
      revoked_at = or_null(record.revoked_at) }
  end
  local function age_key(item) return type(item.created_at) == "number" and item.created_at or -1 end
  table.sort(list, function(a, b)
    if age_key(a) ~= age_key(b) then return age_key(a) > age_key(b) end
    return a.key_id < b.key_id
  end)
  return list
end

--- Revokes a key, from now on; once more moves the time.
---@param app table { store }
---@param key_id string
---@return table|nil { key_id, revoked_at }
---@return string|nil message
---@return string|nil code "not_found" | "invalid" | "unavailable"
function M.revoke(app, key_id)
  if not key_id:find("^[%w_-]+$") then return nil, "no such key", "not_found" end
  local record, message, code = app.store.keys:change(key_id, function(record) record.revoked_at = app.store:now() end)
  if not record then return fault.of_store(message, code) end
  return { key_id = key_id, revoked_at = record.revoked_at }
end

return M
