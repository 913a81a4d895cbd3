--- Write-behind of one run's snapshot: at most one put in flight, the newest image wins, every put is a
--- compare-and-set, the last one is a barrier (DESIGN D6).
---
--- Invariant: a put succeeds only from the revision that this attempt saw last, so an attempt that was overtaken, by a
--- cancel, a terminal write or a newer attempt, learns of it before it changes anything. Holding the writes after an
--- outage needs nothing more.
---
--- Store calls may suspend the calling coroutine; `go` starts one. Nothing here knows the event loop.
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local attempt = require "pyoco.worker.attempt"

local M = {}

local RETRY_MIN_SEC, RETRY_MAX_SEC = 0.05, 1.0
local GAP_SEC = 0.02             -- between two puts of one run: a hundred transitions a second need no more
local GAP_BYTES_PER_SEC = 2e6    -- big images are written less often
local HAND_OVER_BYTES = 65536    -- of a last image that is put by the supervisor: it must not keep others waiting
local MIN_CAP_BYTES = 1024       -- below this "too large" is not about task records any more

local writer = {}
writer.__index = writer

--- Puts the image once. Returns true when it is stored; false when the reason was dealt with and another try is due;
--- nil when the attempt has lost the run (self.lost says how).
function writer:_put()
  local now = self.now()
  self.image.heartbeat_at, self.image.updated_at = now, now
  self.refresh()
  local bytes, message, cuts = snapshot.encode(self.image, self.max_bytes, self.cuts)
  if bytes and cuts > 0 and self.move_out(self.max_bytes) then
    self.refresh()
    bytes, message, cuts = snapshot.encode(self.image, self.max_bytes)
  end
  if not bytes then
    self.on_unwritable(message)
    return false
  end
  self.cuts = math.min(cuts, 1) -- records only grow; what of the tasks is left out shrinks
  local revision, code
  if self.revision then
    revision, message, code = self.runs:update_raw(self.image.run_id, bytes, self.revision)
  else
    revision, message, code = self.runs:create_raw(self.image.run_id, bytes)
  end
  if revision then
    self.revision, self.retry_sec, self.put_bytes, self.puts = revision, RETRY_MIN_SEC, #bytes, self.puts + 1
    return true
  end
  if code == "too_large" and #bytes > MIN_CAP_BYTES then
    self.max_bytes = #bytes // 2
    return false
  end
  self.log("snapshot put failed", { code = code, reason = message })
  if code == "conflict" then return self:_reconcile(bytes) end
  -- Of unknown fate, or not sent at all. Either way the next try settles it: had this one been stored, the next
  -- meets a conflict and finds our own bytes.
  self.unsure = bytes
  self:_back_off()
  return false
end

function writer:_back_off()
  self.sleep(self.retry_sec)
  self.retry_sec = math.min(self.retry_sec * 2, RETRY_MAX_SEC)
end

--- Somebody else has written: reads what, and lays our image over it.
function writer:_reconcile(bytes)
  local stored, revision, code = self.runs:get_raw(self.image.run_id)
  if not stored then
    if code == "not_found" then return self:_lose("ended") end
    self.unsure = bytes
    self:_back_off()
    return false
  end
  self.retry_sec = RETRY_MIN_SEC
  if stored == bytes or stored == self.unsure then
    self.revision, self.unsure = revision, nil
    return stored == bytes
  end
  local other = json.decode(stored)
  if type(other) ~= "table" then other = {} end -- a blind write of nonsense: ours replaces it
  local holds = attempt.holds(other, self.ours)
  if holds ~= "ours" then return self:_lose(holds) end
  self.revision = revision
  snapshot.rebase(self.image, other)
  if snapshot.is_cancel_requested(other) then self:_cancel() end
  return false
end

function writer:_lose(how)
  self.lost = how
  self.on_lost(how)
  return nil
end

function writer:_cancel()
  if self.image.status == "RUNNING" or self.image.status == "PENDING" then self.image.status = "CANCELLING" end
  if not snapshot.is_cancel_requested(self.image) then self.image.cancel_requested_at = self.now() end
  if self.cancelled then return end
  self.cancelled = true
  self.on_cancel()
end

--- The least time between two puts.
function writer:_gap()
  return GAP_SEC + (self.put_bytes or 0) / GAP_BYTES_PER_SEC
end

--- The put in flight is over: lets those who wait for that go on. Returns whether there were any.
function writer:_go_on()
  self.writing = false
  local waiters = self.waiters
  self.waiters = {}
  for _, waiter in ipairs(waiters) do waiter() end
  return #waiters > 0
end

--- After a put: whoever waits is next, else a little rest.
function writer:_end_write()
  if self:_go_on() then return end
  self.resting = true
  self.stop_rest = self.after(self:_gap(), function()
    self.resting = false
    if self.dirty then self:touch() end
  end)
end

--- A put that knows its number: how many were begun.
function writer:_numbered_put()
  self.begun = self.begun + 1
  local number = self.begun
  local done = self:_put()
  if done then self.stored = number end
  return done
end

--- One put; then a rest, after which whatever changed meanwhile goes out.
function writer:_write()
  self.dirty = false
  if self:_numbered_put() == false then self.dirty = true end
  self:_end_write()
end

--- Says that the image has changed: it is written soon, together with whatever changes until then.
function writer:touch()
  self.dirty = true
  if self.writing or self.resting or self.finishing or self.lost then return end
  self.writing = true
  self.go(function() self:_write() end)
end

--- Writes the image as it is now and waits until it is stored. Of several that ask at once, one put serves all.
---@return boolean|nil nil when the attempt has lost the run, or ends it
---@return string|nil how "ended" | "fenced"
function writer:flush()
  local wanted = self.begun + 1 -- the put that goes on now may have been made of an earlier image
  self:_wait_idle()
  if self.stored >= wanted then return true end
  if self.finishing then return nil, "ended" end
  self.writing, self.dirty = true, false
  while not self.lost and self:_numbered_put() == false do end
  self:_end_write()
  if self.lost then return nil, self.lost end
  return true
end

--- Waits until no put is in flight.
function writer:_wait_idle()
  while self.writing do
    self.wait(function(resume) self.waiters[#self.waiters + 1] = resume end)
  end
end

--- Makes the last image for somebody else to put, from `revision`: the write that ends the run without waiting.
---@param mark function (image) as finish's
---@return string|nil bytes; nil when it has to be written here, by `finish`: it is big, an earlier put is of unknown
---  fate, or the run is lost
function writer:hand_over(mark)
  self.finishing = true
  if self.stop_rest then self.stop_rest() end
  self:_wait_idle()
  if self.unsure or self.lost then return nil end
  mark(self.image)
  local now = self.now()
  self.image.heartbeat_at, self.image.updated_at = now, now
  self.refresh()
  local bytes, _, cuts = snapshot.encode(self.image, self.max_bytes, self.cuts)
  return bytes and cuts == 0 and #bytes <= HAND_OVER_BYTES and bytes or nil
end

--- The terminal write: the barrier before the ack. Tries for as long as it takes.
---@param mark function (image) makes the image terminal; called before each try, since a cancel may have arrived
---@return string "written" | "ended" (deleted, or ended by somebody else: the result is dropped) | "fenced"
function writer:finish(mark)
  self.finishing = true
  if self.stop_rest then self.stop_rest() end
  self:_wait_idle()
  self.writing = true
  local how = self:_put_end(mark)
  self:_go_on()
  return how
end

--- Puts the end until it is stored, or somebody else's is.
function writer:_put_end(mark)
  while not self.lost do
    mark(self.image)
    if self:_put() then return "written" end
    if self.lost == "ended" and self:_is_own_end() then return "written" end
  end
  return self.lost
end

--- Whether the end that is stored is the one that we wanted to write: a put of unknown fate that did arrive.
function writer:_is_own_end()
  if not self.unsure then return false end
  local stored = self.runs:get_raw(self.image.run_id)
  local other = stored and json.decode(stored)
  return type(other) == "table" and other.status == self.image.status
    and attempt.compare(other.attempt, self.ours) == "same"
end

--- Our delivery has become a later one (`ours` says so): the supervisor still has the job.
function writer:adopt()
  self.image.attempt = attempt.record(self.ours)
  self:touch()
end

--- Whether the run may go on: reads the snapshot without writing (a hint said that something is up).
function writer:check()
  local stored, revision, code = self.runs:get_raw(self.image.run_id)
  if not stored then
    if code == "not_found" then self:_lose("ended") end
    return
  end
  local other = revision ~= self.revision and json.decode(stored)
  if type(other) ~= "table" then return end
  local holds = attempt.holds(other, self.ours)
  if holds ~= "ours" then
    self:_lose(holds)
  elseif snapshot.is_cancel_requested(other) then
    self:_cancel()
  end
end

local function nothing() end

--- A writer for one attempt at a run.
---@param deps table
---  runs (store.runs), image (live table: the owner changes it), revision (integer, or nil to create),
---  ours {seq, delivery}, max_bytes (snapshot cap), now (function: server's unix seconds),
---  go (function(fn): runs fn in a coroutine), wait (function(start(resume)): suspends), sleep (function(sec)),
---  after (function(sec, fn): calls fn later), refresh (function: bring the image up to date),
---  on_cancel (function: a cancel was found), on_lost (function(how)), on_unwritable (function(message): the image
---  cannot be JSON; must mend it), move_out (function(max_bytes): the image is over the cap; may keep parts of it
---  elsewhere, and returns whether `refresh` will find it smaller), log (function(message, fields))
---@return table writer: touch, flush, finish, check; fields lost, cancelled, puts
function M.new(deps)
  local self = setmetatable({ retry_sec = RETRY_MIN_SEC, puts = 0, begun = 0, stored = 0, waiters = {},
    on_cancel = nothing, on_lost = nothing, refresh = nothing, move_out = nothing, log = nothing }, writer)
  for key, value in pairs(deps) do self[key] = value end
  self.image.attempt = attempt.record(self.ours)
  return self
end

return M
