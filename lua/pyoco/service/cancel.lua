--- Cancelling a run (CONTRACT 7.8 and Part A), and with it the runs that it has spawned.
local cancel = require "pyoco.run.cancel"
local snapshot = require "pyoco.run.snapshot"
local access = require "pyoco.service.access"
local fault = require "pyoco.service.fault"

local M = {}

--- Requests the cancellation of a run.
---@param app table { store }
---@param caller table { tenant_id, api_key_id } or empty
---@param run_id string
---@return table|nil snapshot without task records
---@return string|nil message
---@return string|nil code "not_found" | "unavailable" | "conflict"
function M.run(app, caller, run_id)
  local function now() return app.store:now() end
  local opts = { by = caller.api_key_id and "api_key:" .. caller.api_key_id or nil,
    may = function(found) return access.may_see(caller, found) end }
  local current, shown, code = cancel.request(app.store, run_id, now, opts)
  if not current and code == "not_found" then return nil, "run not found", "not_found" end
  if not current then return fault.of_store(shown, code) end
  if current.status == "CANCELLING" or current.status == "CANCELLED" then
    -- of one that had ended too: its worker may have died before it got to the children. Whom we do not reach, the
    -- parent's worker does, or the child itself when it starts
    cancel.children(app.store, current, now, opts)
  end
  current.status = shown
  return snapshot.brief(current)
end

return M
