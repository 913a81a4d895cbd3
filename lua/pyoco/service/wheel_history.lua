--- Who did what to the registry of wheels: GET /wheels/history (CONTRACT 8.6).
local crypto = require "host.crypto"
local json = require "host.json"
local names = require "pyoco.wheel.name"
local fault = require "pyoco.service.fault"
local or_null = require("pyoco.null").or_null

local M = {}

local ACTIONS = { upload = true, delete = true }

--- Adds an event. What it tells of has happened: a failure is logged, nothing else.
---@param app table { store, log }
---@param caller table { tenant_id, api_key_id } or empty
---@param event table { action "upload"|"delete", wheel (as store.wheels gives it), replace (boolean, of an upload),
---  source = { remote_addr, x_forwarded_for, x_real_ip, user_agent, host, scheme } }
function M.add(app, caller, event)
  local wheel, source = event.wheel, {}
  for _, name in ipairs { "remote_addr", "x_forwarded_for", "x_real_ip", "user_agent", "host", "scheme" } do
    source[name] = or_null(event.source[name])
  end
  local ok, message = app.store.wheel_history:append {
    event_id = crypto.hex_encode(crypto.random(16)), occurred_at = app.store:now(), action = event.action,
    wheel_name = wheel.name, tags = json.array(wheel.tags), size_bytes = wheel.size,
    sha256_hex = or_null(wheel.sha256), replace = or_null(event.replace),
    actor = { tenant_id = or_null(caller.tenant_id), api_key_id = or_null(caller.api_key_id) }, source = source,
  }
  if not ok then
    app.log:error("append wheel history failed", { wheel_name = wheel.name, action = event.action },
      { message = message })
  end
end

local function is_before(a, b)
  if a.occurred_at ~= b.occurred_at then return a.occurred_at > b.occurred_at end
  return a.event_id > b.event_id
end

--- GET /wheels/history.
---@param app table { store, log }
---@param query table { limit, wheel_name|nil, action|nil (in any case) }
---@return table[]|nil events, newest first
---@return string|nil message
---@return string|nil code "invalid" | "unavailable"
function M.list(app, query)
  local wheel_name, action = query.wheel_name, query.action and query.action:lower()
  if wheel_name and not names.is_plain(wheel_name) then
    return nil, "invalid wheel name", "invalid"
  end
  if action and not ACTIONS[action] then
    return nil, "invalid action", "invalid"
  end
  local events, message, code = app.store.wheel_history:list()
  if not events then return fault.of_store(message, code) end
  local found = {}
  for _, event in ipairs(events) do
    if (not wheel_name or event.wheel_name == wheel_name) and (not action or event.action == action) then
      found[#found + 1] = event
    end
  end
  table.sort(found, is_before)
  return json.array(table.move(found, 1, math.min(#found, query.limit), 1, {}))
end

return M
