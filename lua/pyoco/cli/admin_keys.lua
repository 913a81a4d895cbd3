--- admin.lua api-key create, list, revoke (CONTRACT 16.5).
local called = require "pyoco.cli.called"
local json = require "host.json"
local output = require "pyoco.cli.output"
local keys = require "pyoco.service.keys"
local text = require "pyoco.cli.text"

local M = {}

--- A record on one line, its fields in this order.
local function line(record, order)
  return output.json_line(assert(json.encode(record, { order = order })))
end

local function failed(message, code)
  local shape = code == "invalid" and "arguments" or code == "unavailable" and "connection" or "unexpected"
  return nil, message, code, { shape = shape, reason = message,
    hints = { shape == "arguments" and "choose another name" or "is NATS well? its log says more" } }
end

--- api-key create.
---@param app table { store, config }
---@param values table { tenant }
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.create(app, values, context)
  local made, message, code = keys.create(app, values.tenant)
  if not made then return failed(message, code) end
  if context.terminal then
    io.write(("key of tenant %s, shown this once: %s\n"):format(made.tenant_id, context.paint("bold", made.api_key)))
    io.write(("revoke it with: %s api-key revoke --key-id %s\n"):format(called.program "admin", made.key_id))
    return 0
  end
  io.write(line(made, { "key_id", "tenant_id", "api_key", "created_at" }), "\n")
  return 0
end

--- api-key list.
---@param app table { store }
---@param values table { output }
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.list(app, values, context)
  local list, message, code = keys.list(app)
  if not list then return failed(message, code) end
  local lines, rows = {}, {}
  for i, item in ipairs(list) do
    lines[i] = line(item, { "key_id", "tenant_id", "created_at", "revoked_at" })
    rows[i] = { item.key_id, type(item.tenant_id) == "string" and item.tenant_id or "-", text.when(item.created_at),
      text.when(item.revoked_at) }
  end
  if (values.output or (context.terminal and "table")) == "table" then
    io.write(output.table({ "key_id", "tenant_id", "created_at", "revoked_at" }, rows))
  else
    io.write("[", table.concat(lines, ", "), "]\n")
  end
  return 0
end

--- api-key revoke.
---@param app table { store }
---@param values table { key_id }
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.revoke(app, values, context)
  local revoked, message, code = keys.revoke(app, values.key_id)
  if not revoked and code == "not_found" then
    io.write(line({ error = "not_found", key_id = values.key_id }, { "error", "key_id" }), "\n")
    return 1
  end
  if not revoked then return failed(message, code) end
  if context.terminal then
    io.write(("key %s is revoked\n"):format(revoked.key_id))
  else
    io.write(line(revoked, { "key_id", "revoked_at" }), "\n")
  end
  return 0
end

return M
