--- Beside a reference worker or gateway, which writes snapshots blindly (CONTRACT Part A, lost cancels): a cancel is
--- asked for again as long as a snapshot of a run that has not ended appears without it, and a run that had ended gets
--- its last image back when somebody writes it as if it had not. A duty of the gateway with the lease; host.guard tells
--- what has happened.
local guard = require "host.guard"
local json = require "host.json"
local shared = require "host.shared"
local cancel = require "pyoco.run.cancel"
local snapshot = require "pyoco.run.snapshot"
local states = require "pyoco.run.states"
local lease = require "pyoco.service.lease"

local M = {}

--- How often the duty runs at least; the guard wakes it.
M.EVERY_SEC = 1
local RETRY_SEC, RETRY_MAX = 0.5, 1000
local ATTEMPTS = 5
local TOLD_SEC = 60 -- one line for each run in so long: its writer may write many times a second

local function say(app, run_id, what, counted)
  shared.incr("count.mended." .. counted)
  if shared.add("reassert." .. run_id, true, TOLD_SEC) then
    app.log:warning(what, { run_id = run_id, reason = "another program wrote its snapshot without reading it" })
  end
end

local function value_of(text)
  if text == "" then return nil end
  return (json.decode(text))
end

--- Asks for a cancel again. Each of these answers whether it is done with the fault.
local function cancel_again(app, run_id, at, by)
  local current, _, code = app.store.runs:get(run_id)
  if not current then return code == "not_found" or code == "invalid" end
  if states.is_terminal(current.status) or snapshot.is_cancel_requested(current) then return true end
  local function now() return app.store:now() end
  local done, _, failed = cancel.request(app.store, run_id, now, { at = value_of(at), by = value_of(by) })
  if done then say(app, run_id, "cancel asked for again: it was overwritten", "cancel_again") end
  return done ~= nil or failed == "not_found"
end

--- Puts the end of a run back.
local function end_again(app, run_id, image)
  for _ = 1, ATTEMPTS do
    local current, revision, code = app.store.runs:get(run_id)
    if not current then return code == "not_found" or code == "invalid" end
    if states.is_terminal(current.status) then return true end
    local written
    written, _, code = app.store.runs:update_raw(run_id, image, revision)
    if written then
      say(app, run_id, "the end of a run put back: it was overwritten", "end_again")
      return true
    end
    if code ~= "conflict" then return false end
  end
  return false
end

local MEND = { cancel = cancel_again, ended = end_again }

--- Mends what has happened since the last turn.
---@param app table { store, log }
---@param state table { retry = list of faults }
---@return number seconds until it wants to run again
function M.turn(app, state)
  local faults = state.retry
  state.retry = {}
  while true do
    local kind, run_id, value, by = guard.take()
    if not kind then break end
    faults[#faults + 1] = { kind, run_id, value, by }
  end
  for _, fault in ipairs(faults) do
    local is_done = MEND[fault[1]](app, fault[2], fault[3], fault[4])
    if not is_done and #state.retry < RETRY_MAX then state.retry[#state.retry + 1] = fault end
  end
  return #state.retry > 0 and RETRY_SEC or M.EVERY_SEC
end

--- The duty, for app:every.
---@return function(app)
function M.duty()
  local state = { retry = {} }
  return function(app)
    if lease.held() then return M.turn(app, state) end
    state.retry = {}
    return RETRY_SEC
  end
end

return M
