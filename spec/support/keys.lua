--- API keys for specs: records with few rounds, so that a spec does not spend its time on PBKDF2.
local crypto = require "host.crypto"
local json = require "host.json"

local M = {}

--- Makes a key and stores its record.
---@param store table
---@param fields table|nil fields of the record over the usual ones; pepper = text behind the secret
---@return string key its text
---@return string key_id
function M.make(store, fields)
  fields = fields or {}
  local key_id, secret, salt = crypto.hex_encode(crypto.random(12)), crypto.base64url_encode(crypto.random(32)), "salt"
  local record = { key_id = key_id, tenant_id = "acme", kdf = "pbkdf2_hmac_sha256", iterations = 10,
    salt_b64 = crypto.base64url_encode(salt), created_at = 1.5, revoked_at = json.null }
  for name, value in pairs(fields) do record[name] = value end
  record.pepper = nil
  record.hash_b64 = fields.hash_b64
    or crypto.base64url_encode(crypto.pbkdf2(secret .. (fields.pepper or ""), salt, record.iterations, 32))
  assert(store.keys.kv:put("api_keys." .. key_id, assert(json.encode(record))))
  return ("pyoco_%s.%s"):format(key_id, secret), key_id
end

return M
