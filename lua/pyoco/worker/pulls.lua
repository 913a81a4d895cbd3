--- The pull requests of a worker: one durable consumer for each tag, all answers into one inbox (FACTS B6).
--- Bookkeeping only: `send` and the clock come from outside.
local M = {}

local NS_PER_SEC = 1000000000
local EXPIRES_SEC = 30    -- of a pull that may wait for as long as it likes
local MARGIN_SEC = 2      -- a pull whose end we have not heard of by then is gone with its server
local RETRY_SEC = 0.25    -- after a refusal

local pulls = {}
pulls.__index = pulls

--- A set of pulls.
---@param deps table send (function(tag, reply suffix, payload): true if it was sent), now (monotonic seconds),
---  on_refused (function(tag, status, text)): the server has refused a pull
---@return table pulls; expires_sec: how long the server keeps one
function M.new(deps)
  return setmetatable({ send = deps.send, now = deps.now, on_refused = deps.on_refused, last_id = 0, by_tag = {},
    by_id = {}, not_before = {}, expires_sec = EXPIRES_SEC }, pulls)
end

function pulls:_list(tag)
  local list = self.by_tag[tag]
  if not list then
    list = {}
    self.by_tag[tag] = list
  end
  return list
end

--- Jobs of a tag that are asked for and have not come.
---@param tag string
---@return integer
function pulls:outstanding(tag)
  local n = 0
  for _, pull in ipairs(self:_list(tag)) do n = n + pull.left end
  return n
end

--- Sees to it that `count` jobs of a tag are asked for.
---@param tag string
---@param count integer
function pulls:want(tag, count)
  local missing = count - self:outstanding(tag)
  if missing <= 0 or (self.not_before[tag] or 0) > self.now() then return end
  self.last_id = self.last_id + 1
  local id = self.last_id
  local expires_ns = math.max(1, self.expires_sec * NS_PER_SEC // 1 | 0)
  if not self.send(tag, tostring(id), ('{"batch":%d,"expires":%d}'):format(missing, expires_ns)) then return end
  local pull = { id = id, tag = tag, left = missing, deadline = self.now() + self.expires_sec + MARGIN_SEC }
  self.by_id[id] = pull
  table.insert(self:_list(tag), pull)
end

function pulls:_forget(pull)
  self.by_id[pull.id] = nil
  local list = self:_list(pull.tag)
  for i, other in ipairs(list) do
    if other == pull then table.remove(list, i) return end
  end
end

--- A job of a tag has come: the oldest pull has one less to bring.
---@param tag string
function pulls:arrived(tag)
  local oldest = self:_list(tag)[1]
  if not oldest then return end
  oldest.left = oldest.left - 1
  if oldest.left <= 0 then self:_forget(oldest) end
end

--- A status message has come for a pull: it is over.
---@param id string what `send` was given
---@param status string "404", "408", "409"
---@param text string|nil
function pulls:ended(id, status, text)
  local pull = self.by_id[tonumber(id)]
  if not pull then return end
  self:_forget(pull)
  if status ~= "404" and status ~= "408" then
    self.not_before[pull.tag] = self.now() + RETRY_SEC
    self.on_refused(pull.tag, status, text)
  end
end

--- Drops the pulls whose end was never told.
function pulls:expire()
  local now = self.now()
  for _, pull in pairs(self.by_id) do
    if pull.deadline <= now then self:_forget(pull) end
  end
end

--- The connection was made anew: whatever was asked for is lost, or comes as a surplus.
function pulls:reset()
  self.by_tag, self.by_id, self.not_before = {}, {}, {}
end

return M
