--- What people did and what they were answered: the promises that the checks hold the fleet to.
local uv = require "luv"

local M = {}
local Ledger = {}
Ledger.__index = Ledger

--- Seconds since the stress began.
---@return number
function Ledger:time() return (uv.hrtime() - self.began) / 1e9 end

--- Notes something in the story: of a run when it is one's.
---@param run_id string|nil
---@param text string
function Ledger:note(run_id, text)
  self.story[#self.story + 1] = { at = self:time(), run_id = run_id, text = text }
end

--- A submit was answered 200 (or 202): a run that must be there and come to an end.
---@param run_id string
---@param run table { kind, key (Idempotency-Key), gateway }
function Ledger:accepted(run_id, run)
  local known = self.runs[run_id]
  if not known then
    run.at, run.run_id = self:time(), run_id
    self.runs[run_id], self.count = run, self.count + 1
  end
  self:note(run_id, ("accepted by %s as %s%s"):format(run.gateway, run.kind, run.key and ", key " .. run.key or ""))
  if not run.key then return end
  local ids = self.keys[run.key] or {}
  self.keys[run.key], ids[run_id] = ids, self:time()
end

--- A cancel was answered 200.
function Ledger:cancelled(run_id, status, gateway)
  self.cancels[run_id] = self.cancels[run_id] or { at = self:time(), status = status }
  self:note(run_id, ("cancel answered %s by %s"):format(status, gateway))
end

--- A breach of a promise.
---@param rule string which
---@param text string
---@param run_id string|nil
function Ledger:breach(rule, text, run_id)
  local seen = ("%s %s %s"):format(rule, run_id or "", run_id and "" or text)
  if self.breaches[seen] then return end
  self.breaches[seen] = true
  self.breaches[#self.breaches + 1] = { rule = rule, text = text, run_id = run_id, at = self:time() }
  self:note(run_id, ("BREACH %s: %s"):format(rule, text))
end

--- A misfortune has begun. Its end is noted by the function that is returned.
---@param what string
---@return fun() over
function Ledger:mishap(what)
  local one = { what = what, from = self:time() }
  self.mishaps[#self.mishaps + 1] = one
  self:note(nil, what)
  return function()
    one.to = self:time()
    self:note(nil, what .. ": over")
  end
end

--- Whether nats-server was killed with what it had not written yet since a run was touched last before: what was
--- answered in the moments before may be lost then, whoever wrote it.
---@param from number seconds since the stress began
---@param to number|nil default: now
---@return boolean
function Ledger:nats_was_killed(from, to)
  for _, one in ipairs(self.mishaps) do
    local is_kill = one.what == "nats: SIGKILL"
    if is_kill and (one.to or math.huge) >= from and one.from <= (to or math.huge) then return true end
  end
  return false
end

--- Whether there was misfortune of any kind.
function Ledger:was_calm() return #self.mishaps == 0 end

--- A ledger of one round.
---@return table { runs, keys, cancels, schedules, mishaps, breaches, story }
function M.new()
  return setmetatable({ began = uv.hrtime(), runs = {}, keys = {}, cancels = {}, schedules = {}, mishaps = {},
    breaches = {}, story = {}, count = 0, acts = {} }, Ledger)
end

return M
