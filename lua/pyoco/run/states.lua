--- The states of a run and every move between them. Whoever changes a status asks this table.
local M = {}

--- One row per move: from, event, to, who may cause it, and what it means (docs are drawn from this).
M.MOVES = {
  { "PENDING_APPROVAL", "approve",   "PENDING",    "gateway", doc = "approved: the job is queued" },
  { "PENDING_APPROVAL", "reject",    "CANCELLED",  "gateway", doc = "rejected" },
  { "PENDING_APPROVAL", "cancel",    "CANCELLED",  "gateway", doc = "cancelled before anybody approved it" },
  { "PENDING",          "cancel",    "CANCELLED",  "gateway", doc = "cancelled before a worker had it" },
  { "PENDING",          "start",     "RUNNING",    "worker",  doc = "an attempt has begun" },
  { "PENDING",          "complete",  "COMPLETED",  "worker",  doc = "over before RUNNING was worth a write" },
  { "PENDING",          "fail",      "FAILED",     "worker",  doc = "the same, or the flow could not be built" },
  { "RUNNING",          "start",     "RUNNING",    "worker",  doc = "a newer attempt has taken over" },
  { "RUNNING",          "cancel",    "CANCELLING", "gateway", doc = "cancel requested" },
  { "RUNNING",          "hand_back", "PENDING",    "worker",  doc = "drained, or its slot died: another will come" },
  { "RUNNING",          "complete",  "COMPLETED",  "worker",  doc = "every task ended well" },
  { "RUNNING",          "fail",      "FAILED",     "worker",  doc = "a task failed, or the attempts are used up" },
  { "CANCELLING",       "cancel",    "CANCELLING", "gateway", doc = "requested again" },
  { "CANCELLING",       "cancelled", "CANCELLED",  "worker",  doc = "the cancel is done; a result is discarded" },
}

local TERMINAL = { COMPLETED = true, FAILED = true, CANCELLED = true }

local to = {}
for _, move in ipairs(M.MOVES) do
  to[move[1]] = to[move[1]] or {}
  to[move[1]][move[2]] = move[3]
end

--- Whether a run of this status has ended for good.
---@param status any
---@return boolean
function M.is_terminal(status)
  return TERMINAL[status] == true
end

--- Where an event leads.
---@param from string status
---@param event string
---@return string|nil status; nil when the event means nothing in that status
function M.target(from, event)
  return to[from] and to[from][event]
end

--- Where an event must lead.
---@param from string status
---@param event string
---@return string status; raises on an illegal move: the caller has a bug
function M.move(from, event)
  return M.target(from, event) or error(("a run that is %s cannot %s"):format(from, event), 2)
end

return M
