--- What a cancel does to a run (CONTRACT 7.8 and Part A): a compare-and-set that never loses and never revives a run.
--- Gateways cancel runs, and workers the children of runs that are cancelled; the store's verbs are given.
local states = require "pyoco.run.states"
local present = require("pyoco.null").present

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

--- Requests the cancel of a run, and tells who may want to know at once.
---@param store table runs, hints
---@param run_id string
---@param now fun(): number server's unix seconds
---@param opts table|nil by = text for cancel_requested_by; at = when it was asked for, if before now; may =
---  fn(snapshot) -> whether it may be cancelled (else "not_found")
---@return table|nil snapshot as stored; of a run that had ended, that one
---@return string|nil shown the status that the answer shows; or message
---@return string|nil code "not_found" | "unavailable" | "timeout" | "conflict"
function M.request(store, run_id, now, opts)
  for _ = 1, ATTEMPTS do
    local current, revision, code = store.runs:get(run_id)
    if not current then return nil, revision, code == "invalid" and "not_found" or code end
    if opts and opts.may and not opts.may(current) then return nil, "run not found", "not_found" end
    if states.is_terminal(current.status) then return current, current.status end
    local at, moment = current.cancel_requested_at, now()
    if not present(at) then at = opts and opts.at or moment end
    local effect, shown = (EFFECT[current.status] or EFFECT.RUNNING)(moment, at)
    for key, value in pairs(effect) do current[key] = value end
    if opts and opts.by and effect.cancel_requested_at then current.cancel_requested_by = opts.by end
    local written, message, write_code = store.runs:update(current, revision)
    if written then
      store.hints:cancel(run_id)
      if states.is_terminal(current.status) and present(current.parent_run_id) then store.hints:done(run_id) end
      return current, shown or current.status
    end
    if write_code ~= "conflict" then return nil, message, write_code end
  end
  return nil, "the run changes faster than it can be cancelled; try again", "conflict"
end

--- Requests the cancel of all children of a run that is cancelled. Those that have ended, or are gone, are left.
---@param store table runs, hints
---@param snapshot table of the run: its child_run_ids
---@param now fun(): number
---@param opts table|nil by
---@return boolean|nil true when none is left that goes on without knowing
---@return string|nil message of the first child that could not be reached
---@return string|nil code
function M.children(store, snapshot, now, opts)
  local fault
  for _, run_id in ipairs(type(snapshot.child_run_ids) == "table" and snapshot.child_run_ids or {}) do
    local done, message, code = M.request(store, run_id, now, opts)
    if not done and code ~= "not_found" then fault = fault or { message, code } end
  end
  if not fault then return true end
  return nil, fault[1], fault[2]
end

return M
