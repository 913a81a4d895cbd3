--- Cancelling a run (CONTRACT 7.8 and Part A): a compare-and-set that never loses and never revives a run.
local json = require "host.json"
local states = require "pyoco.run.states"
local snapshot = require "pyoco.run.snapshot"
local access = require "pyoco.service.access"
local fault = require "pyoco.service.fault"

local M = {}

local ATTEMPTS = 20 -- conflicts in a row before we give up: each means that another writer was faster

--- What a cancel does to a snapshot of each status: the fields to set, and the status that the answer shows.
local EFFECT = {
  PENDING_APPROVAL = function(now) return { status = "CANCELLED", end_time = now, updated_at = now } end,
  PENDING = function(now, at) return { status = "CANCELLED", end_time = now, updated_at = now,
    cancel_requested_at = at }, "CANCELLING" end,
  RUNNING = function(now, at) return { status = "CANCELLING", updated_at = now, cancel_requested_at = at } end,
}
EFFECT.CANCELLING = EFFECT.RUNNING

--- Requests the cancellation of a run.
---@param app table { store }
---@param caller table { tenant_id, api_key_id } or empty
---@param run_id string
---@return table|nil snapshot without task records
---@return string|nil message
---@return string|nil code "not_found" | "unavailable" | "conflict"
function M.run(app, caller, run_id)
  for _ = 1, ATTEMPTS do
    local current, revision, code = app.store.runs:get(run_id)
    if not current and code ~= "not_found" and code ~= "invalid" then return fault.of_store(revision, code) end
    if not access.may_see(caller, current) then return nil, "run not found", "not_found" end
    if states.is_terminal(current.status) then return snapshot.brief(current) end
    local now = app.store:now()
    local at = current.cancel_requested_at
    if at == nil or at == json.null then at = now end
    local effect, shown = (EFFECT[current.status] or EFFECT.RUNNING)(now, at)
    for key, value in pairs(effect) do current[key] = value end
    if caller.api_key_id and effect.cancel_requested_at then
      current.cancel_requested_by = "api_key:" .. caller.api_key_id
    end
    local written, message, write_code = app.store.runs:update(current, revision)
    if written then
      app.store.hints:cancel(run_id)
      current.status = shown or current.status
      return snapshot.brief(current)
    end
    if write_code ~= "conflict" then return fault.of_store(message, write_code) end
  end
  return nil, "the run changes faster than it can be cancelled; try again", "conflict"
end

return M
