--- Who calls (CONTRACT 6, 13; decision 0024): a key's text becomes a caller, or is refused.
---
--- PBKDF2 is paid once for each key and process: what has been verified is remembered under SHA-256 of the key's text,
--- together with SHA-256 of the record that it was verified against. The record is looked at on every request (out of
--- this process's copy of the bucket, or in NATS while that copy is not fresh), so that a changed or revoked one counts
--- at once, and a memory of an older one is worth nothing.
--- Wrong keys are counted by address; too many of them are refused before anything is computed for them.
local clock = require "host.clock"
local crypto = require "host.crypto"
local shared = require "host.shared"
local err = require "pyoco.err"
local fault = require "pyoco.service.fault"
local keys = require "pyoco.service.keys"

local M = {}

local WINDOW_SEC = 60       -- in which wrong keys are counted
local WRONG_KEPT_SEC = 60   -- how long a wrong key of a known id is known to be wrong

--- Seconds until this address may send wrong keys again; nil when it may.
local function wait_of(app, address)
  local failures = shared.get("auth.failures." .. address)
  if not failures or failures < app.config.auth_failures_max then return nil end
  local since = shared.get("auth.since." .. address)
  return math.max(1, math.ceil((since or 0) + WINDOW_SEC - clock.monotonic()))
end

local function count_failure(app, address)
  local failures = shared.incr("auth.failures." .. address, 1, WINDOW_SEC)
  if failures == 1 then shared.set("auth.since." .. address, clock.monotonic(), WINDOW_SEC) end
  if failures == app.config.auth_failures_max then
    app.log:warning("auth limited: too many wrong keys", { remote_addr = address })
  end
end

--- A wrong key. The log says why; the caller is not told.
local function refuse(app, request, reason, key_id)
  local seconds = wait_of(app, request.address)
  if seconds then return nil, "too many wrong api keys", "limited", { retry_after = seconds } end
  count_failure(app, request.address)
  app.log:event("invalid_key", "auth failed: " .. reason, { api_key_id = key_id, remote_addr = request.address })
  return nil, "invalid api key", "forbidden"
end

--- The record's bytes; false when there is none.
local function record_of(app, key_id)
  local bytes, message, code = app.store.keys:get_raw(key_id)
  if bytes then return bytes end
  if code == "not_found" or code == "invalid" then return false end
  app.log:event("nats", "auth failed: nats unavailable", { api_key_id = key_id },
    err.take_cause() or { type = code, message = message })
  return fault.of_store(message, code)
end

--- Compares what was derived with the record, and remembers the outcome.
local function judge(derived, record, name, record_hash)
  local is_right = crypto.equal(derived, record.hash)
  if is_right then
    shared.set("auth.right." .. name, record_hash)
  else
    shared.set("auth.wrong." .. name, record_hash, WRONG_KEPT_SEC)
  end
  return is_right
end

--- Finds out who calls.
---@param app table { config, store, log }
---@param request table { key = text of the header or nil, address = of the caller, derived = what the answer before has
---  asked for }
---@return table|nil caller { tenant_id, api_key_id }; or { derive = { secret, salt, iterations, name } }: PBKDF2 of
---  32 bytes is needed first, call again with it as `derived`
---@return string|nil message
---@return string|nil code "unauthorized" (no key) | "forbidden" (a wrong one) | "limited" | "unavailable"
---@return table|nil detail of "limited": { retry_after = seconds }
function M.check(app, request)
  if not request.key or request.key == "" then
    app.log:event("missing_key", "auth failed: missing api key", { remote_addr = request.address })
    return nil, "api key required", "unauthorized"
  end
  local key_id, secret = keys.split(request.key)
  if not key_id then return refuse(app, request, "invalid api key format") end
  local bytes, message, code = record_of(app, key_id)
  if bytes == nil then return nil, message, code end
  if not bytes then return refuse(app, request, "unknown api key", key_id) end
  local record = keys.read(bytes, key_id)
  if not record then return refuse(app, request, "corrupt api key record", key_id) end
  if record.revoked then return refuse(app, request, "api key mismatch/revoked", key_id) end

  local caller = { tenant_id = record.tenant_id, api_key_id = key_id }
  local name, record_hash = crypto.sha256(request.key), crypto.sha256(bytes)
  if shared.get("auth.right." .. name) == record_hash then return caller end
  if request.derived then
    if judge(request.derived, record, name, record_hash) then return caller end
    return refuse(app, request, "api key mismatch/revoked", key_id)
  end
  if wait_of(app, request.address) or shared.get("auth.wrong." .. name) == record_hash then
    return refuse(app, request, "api key mismatch/revoked", key_id)
  end
  return { derive = { secret = keys.peppered(app.config, secret), salt = record.salt,
    iterations = record.iterations, name = name } }
end

return M
