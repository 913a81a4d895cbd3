--- What an attempt does with the snapshot that it finds: the table of DESIGN D6, as data.
--- An attempt is one delivery of a job: { seq = stream sequence, delivery = its number }. Acks match on the stream
--- sequence alone, so an attempt that has been overtaken must send nothing at all.
local states = require "pyoco.run.states"

local M = {}

--- How the attempt that a snapshot carries stands to ours.
---@param stored table|nil the snapshot's `attempt`
---@param ours table { seq, delivery }
---@return string "none" | "older" | "same" | "newer" (same sequence) | "higher" | "lower" (another sequence)
function M.compare(stored, ours)
  if type(stored) ~= "table" or math.type(stored.seq) ~= "integer" then return "none" end
  if stored.seq ~= ours.seq then return stored.seq > ours.seq and "higher" or "lower" end
  local delivery = math.type(stored.delivery) == "integer" and stored.delivery or 0
  if delivery == ours.delivery then return "same" end
  return delivery > ours.delivery and "newer" or "older"
end

local function is_status(status)
  return function(case) return case.status == status end
end

--- First row that holds decides. `act`:
---   ack       settle our message, run nothing
---   cancelled write CANCELLED, then ack
---   run       run the job (create the snapshot if there is none)
---   fenced    send nothing more: no put, no ack, no nak, no term
---   busy      another message's attempt is alive: nak with delay ack_wait
M.ROWS = {
  { when = function(case) return case.deleted end, act = "ack", doc = "the run was deleted" },
  { when = function(case) return states.is_terminal(case.status) end, act = "ack", doc = "the run has ended" },
  { when = is_status "PENDING_APPROVAL", act = "ack", doc = "nobody has approved it" },
  { when = is_status "CANCELLING", act = "cancelled", doc = "cancelled before this attempt" },
  { when = function(case) return case.absent end, act = "run", doc = "no snapshot: create it" },
  { when = function(case) return case.relation == "none" end, act = "run", doc = "nobody has tried yet" },
  { when = function(case) return case.relation == "older" or case.relation == "same" end, act = "run",
    doc = "an earlier delivery: take over" },
  { when = function(case) return case.relation == "newer" end, act = "fenced", doc = "a later delivery has the run" },
  { when = function(case) return case.relation == "higher" end, act = "ack", doc = "the run was republished" },
  { when = function(case)
      return case.relation == "lower" and case.status == "RUNNING" and case.age_sec < case.ack_wait_sec
    end, act = "busy", doc = "the earlier message's attempt is alive" },
  { when = function() return true end, act = "run", doc = "the earlier message's attempt is gone: take over" },
}

--- What to do with a job. After the table comes the rule for the last delivery (DESIGN D3): it is not run, since
--- JetStream would leave its message in the queue, invisible.
---@param found table { snapshot = table|nil, deleted = bool, age_sec = seconds since the snapshot was written, by the
---  server's clock }
---@param ours table { seq, delivery }
---@param limits table { ack_wait_sec, max_deliver (-1: no limit) }
---@return string act one of ROWS', or "exhausted" (end it: FAILED, dead letter, term) or "republish" (publish it
---  again without message id and ack this one: no attempt has been made at all)
---@return string doc why
function M.decide(found, ours, limits)
  local snapshot = found.snapshot
  local case = {
    deleted = found.deleted == true, absent = snapshot == nil, status = snapshot and snapshot.status,
    relation = M.compare(snapshot and snapshot.attempt, ours), age_sec = found.age_sec or 0,
    ack_wait_sec = limits.ack_wait_sec,
  }
  for _, row in ipairs(M.ROWS) do
    if row.when(case) then
      if row.act == "run" and limits.max_deliver > 1 and ours.delivery >= limits.max_deliver then
        if case.relation == "none" and not (snapshot and snapshot.crash_count) then
          return "republish", "its deliveries are used up, yet nobody has tried"
        end
        return "exhausted", ("delivery %d of %d"):format(ours.delivery, limits.max_deliver)
      end
      return row.act, row.doc
    end
  end
end

--- Whether a stored snapshot still belongs to our attempt, seen from the middle of a run.
---@param snapshot table|nil nil: deleted
---@param ours table { seq, delivery }
---@return string "ours" | "ended" (terminal or deleted: nothing more to write) | "fenced" (a newer attempt has it)
function M.holds(snapshot, ours)
  if snapshot == nil or states.is_terminal(snapshot.status) then return "ended" end
  local relation = M.compare(snapshot.attempt, ours)
  return (relation == "newer" or relation == "higher") and "fenced" or "ours"
end

--- The attempt as it is kept in a snapshot.
---@param ours table { seq, delivery }
---@return table
function M.record(ours)
  return { seq = ours.seq, delivery = ours.delivery }
end

return M
