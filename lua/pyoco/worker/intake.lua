--- Jobs out of the queue: what to ask for, when, and what comes of it. Two kinds of pull requests, with an inbox each:
--- for the slots that have nothing to do, which wait at the server for as long as it takes; and, while there is more in
--- the queue and runs are short, for jobs to have in hand ahead (pyoco.worker.ahead), which the server soon forgets.
local clock = require "host.clock"
local crypto = require "host.crypto"
local jetstream = require "pyoco.nats.jetstream"
local aheads = require "pyoco.worker.ahead"
local consumer = require "pyoco.worker.consumer"
local pulls = require "pyoco.worker.pulls"

local M = {}

local AHEAD_EXPIRES_SEC = 0.2 -- not longer: a job that was given back must not come again at once

local intake = {}
intake.__index = intake

-- one kind of pulls, with its inbox ------------------------------------------------------------------------------

local function send_pull(self, line, tag, id, payload)
  return self.conn:publish(jetstream.pull_subject(self.cfg.work_stream, consumer.name(self.cfg, tag)), payload,
    line.inbox .. "." .. id)
end

--- A message in an inbox: a job, or the end of a pull.
local function on_message(self, line, message)
  local status = message.headers and message.headers.Status
  if status and not message.reply then
    line.pulls:ended(message.subject:sub(#line.inbox + 2), status, message.headers.Description)
    return self:ask()
  end
  local info = message.reply and jetstream.parse_reply(message.reply)
  if not info then return end
  local tag = message.subject:sub(#self.cfg.work_subject_prefix + 2)
  line.pulls:arrived(tag)
  self.pending[tag] = info.pending
  self.take(message, info, tag, line == self.ahead_line)
  if line.pulls:outstanding(tag) == 0 then self:ask() end
end

local function new_line(self, expires_sec)
  local line = {}
  line.pulls = pulls.new { now = clock.monotonic,
    send = function(...) return send_pull(self, line, ...) end,
    on_refused = function(tag, status, text)
      self.log:debug("pull refused", { tag = tag, reason = status .. " " .. tostring(text) })
    end }
  if expires_sec then line.pulls.expires_sec = expires_sec end
  return line
end

local function each_line(self, fn)
  fn(self.line)
  fn(self.ahead_line)
end

-- asking ---------------------------------------------------------------------------------------------------------

--- Jobs of a tag to have in hand beyond those that could start at once. None when so many jobs only are wanted, or the
--- queue has no more.
local function count_ahead(self, tag, limits)
  if self.quota() < math.huge then return 0 end
  return math.min(self.ahead:count(tag, self.board:places(tag), limits.max_deliver), self.pending[tag] or 0)
end

local function ask_for(self, tag, limits)
  local room, base, more = self.board:room(tag), self.line.pulls, self.ahead_line.pulls
  local asked, asked_ahead = base:outstanding(tag), more:outstanding(tag)
  local count = count_ahead(self, tag, limits)
  if count > 0 then
    more:want(tag, aheads.wanted(room, count, asked + asked_ahead) - asked)
    asked_ahead = more:outstanding(tag)
  end
  base:want(tag, math.min(room - asked_ahead, self.quota()))
end

--- Asks for as many jobs of each tag as could start now, and for some more when runs are short.
function intake:ask()
  if not self.is_asking or not self.is_wanted() or self.conn:status() ~= "connected" then return end
  for _, tag in ipairs(self.tags) do
    local limits = self.limits[tag]
    if limits then ask_for(self, tag, limits) end
  end
end

--- A run of a tag has ended, after so long.
---@param tag string
---@param seconds number
function intake:ran(tag, seconds) self.ahead:ran(tag, seconds) end

--- The jobs that were taken ahead and wait too long: they belong to others. Nothing more is taken ahead then, until
--- another run has ended.
---@param jobs table[] those that no slot has got yet
---@param now number monotonic seconds
---@return table[] list
function intake:overdue(jobs, now)
  local list = {}
  for _, job in ipairs(jobs) do
    if job.is_ahead and now - job.arrived_at > aheads.HELD_SEC
        and aheads.may_return(job.delivery, self.limits[job.tag].max_deliver) then
      list[#list + 1] = job
    end
  end
  if list[1] then self.ahead:stall() end
  return list
end

-- life -----------------------------------------------------------------------------------------------------------

--- Begins to take jobs, into inboxes that are new: what was asked for before cannot come any more.
function intake:listen()
  each_line(self, function(line)
    line.inbox = "_INBOX." .. (crypto.uuid4():gsub("-", ""))
    line.sub = self.conn:subscribe(line.inbox .. ".*", function(message) on_message(self, line, message) end)
  end)
  self.is_asking = true
end

--- Asks for no more jobs until `listen`; what was asked for may still come.
---@return boolean whether anything may
function intake:ask_no_more()
  self.is_asking = false
  for _, tag in ipairs(self.tags) do
    if self.line.pulls:outstanding(tag) + self.ahead_line.pulls:outstanding(tag) > 0 then return true end
  end
  return false
end

--- Takes no more jobs until `listen`. The server, which is told at once, gives what was asked for to others.
function intake:rest()
  self.is_asking = false
  each_line(self, function(line)
    if line.sub then line.sub:close() end
    line.sub = nil
    line.pulls:reset()
  end)
  self.conn:flush()
end

--- How long the server keeps what a slot that has nothing to do asks for.
---@param seconds number
function intake:keep_pulls(seconds) self.line.pulls.expires_sec = seconds end

--- Drops the pulls whose end was never told.
function intake:expire()
  each_line(self, function(line) line.pulls:expire() end)
end

--- The connection was made anew.
function intake:reset()
  each_line(self, function(line) line.pulls:reset() end)
end

--- The intake of a worker.
---@param deps table conn (loop-mode connection), cfg, log, tags (list), limits (tag -> { max_deliver }), board, quota
---  (function: how many more jobs to take; math.huge: any number), is_wanted (function: whether jobs are wanted at
---  all), take (function(message, info of its reply, tag, is_ahead))
---@return table intake; asks for nothing before `listen`
function M.new(deps)
  local self = setmetatable(deps, intake)
  self.ahead, self.pending, self.is_asking = aheads.new(), {}, false
  self.line, self.ahead_line = new_line(self), new_line(self, AHEAD_EXPIRES_SEC)
  return self
end

return M
