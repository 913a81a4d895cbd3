--- What each run has been: every snapshot that a follower of the bucket sees, in order.
local json = require "host.json"
local nats = require "host.nats"
local tails = require "host.tail"
local async = require "pyoco.worker.async"
local states = require "pyoco.run.states"

local M = {}
local History = {}
History.__index = History

local TURN_MAX = 200

--- A run that had ended is something else now, though it was not deleted between.
local function check(self, run_id, before, now)
  if not before or not states.is_terminal(before.status) or before.status == now.status then return end
  -- each write is a compare-and-set of what was read: only a server that has lost the end explains it
  if self.ledger:nats_was_killed(before.at - 2) then return end
  self.ledger:breach("an end is for good", ("was %s at revision %d, is %s at %d"):format(before.status, before.revision,
    now.status, now.revision), run_id)
end

local function take(self, entry)
  if entry.deleted then
    self.runs[entry.key] = nil
    self.deleted[entry.key] = entry.revision
    return
  end
  local snapshot = json.decode(entry.value)
  if type(snapshot) ~= "table" then return end
  local list = self.runs[entry.key] or {}
  self.runs[entry.key] = list
  local last = list[#list]
  if last and last.revision == entry.revision then return end
  local attempt = type(snapshot.attempt) == "table" and snapshot.attempt or {}
  local now = { status = snapshot.status, revision = entry.revision, at = self.ledger:time(), seq = attempt.seq,
    delivery = attempt.delivery, worker = snapshot.worker_id, error = snapshot.error, created = entry.created,
    crashes = snapshot.crash_count }
  check(self, entry.key, last, now)
  list[#list + 1] = now
end

--- Takes in what has come; called each few milliseconds.
function History:turn()
  for _ = 1, TURN_MAX do
    local kind, entry = self.tail:next(0)
    if kind == nil then return end
    if kind == "entry" then
      take(self, entry)
    elseif kind == "reset" then
      self.ledger:note(nil, "the bucket's follower starts over")
    end
  end
end

--- Lines that tell a run's past.
---@param run_id string
---@return string[]
function History:lines(run_id)
  local lines = {}
  for i, it in ipairs(self.runs[run_id] or {}) do
    lines[i] = ("%7.2f  snapshot %s rev %d attempt %s.%s worker %s crashes %s%s"):format(it.at, it.status, it.revision,
      tostring(it.seq), tostring(it.delivery), tostring(it.worker), tostring(it.crashes),
      type(it.error) == "string" and " error " .. it.error:sub(1, 160) or "")
  end
  return lines
end

function History:stop()
  self.stop_turns()
  self.tail:stop()
  self.conn:close()
end

--- Begins to follow.
---@param url string of NATS
---@param ledger table
---@return table { runs = id -> list of { status, revision, at, seq, delivery, worker, error } }
function M.start(url, ledger)
  local self = setmetatable({ runs = {}, deleted = {}, ledger = ledger }, History)
  self.conn = assert(nats.connect { url = url })
  self.tail = assert(tails.start(self.conn, "pyoco_runs", 1))
  self.stop_turns = async.every(0.005, function() self:turn() end)
  return self
end

return M
