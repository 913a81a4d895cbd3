--- The slot processes of a worker: started, started again when they die, talked to. What their frames mean is the
--- supervisor's business; the frames themselves are described here:
---
---   to a slot    "B" boot text (first) · "R" a job: {seq, delivery, ack_wait_sec, max_deliver, clock_offset, roots
---                (of wheels), found: {run_id, revision, created, deleted, size}}, its message as body, behind it
---                `size` bytes of the snapshot that was found; or {list = true, roots (nil: no wheels)}: list flows ·
---                'C' cancel: {seq} · 'D' delivered again: {seq, delivery}
---   from a slot  'I' ready · 'E' cannot work: {error} · 'T' heartbeat · 'L' is cancelling · 'S' {waits}: its run does
---                nothing but wait for child runs, or does again · 'N' nearly done: a next job may be sent ·
---                'F' finished: {outcome, error, run_id, is_handed_over, revision ...}, as body the last snapshot if
---                it is handed over · 'W' flows: {flows, errors}
local json = require "host.json"
local slots = require "host.slots"

local M = {}

local RESPAWN_MIN_SEC, RESPAWN_MAX_SEC = 0.25, 5.0

local pool = {}
pool.__index = pool

local SIGNALS = { [4] = "SIGILL", [6] = "SIGABRT", [7] = "SIGBUS", [8] = "SIGFPE", [9] = "SIGKILL", [11] = "SIGSEGV" }

--- How a slot's end reads in an error.
local function describe(code, signal)
  if signal ~= 0 then return ("its process was ended by signal %d (%s)"):format(signal, SIGNALS[signal] or "?") end
  return ("its process exited with code %d"):format(code)
end

function pool:_start()
  self.last_key = self.last_key + 1
  local key = self.last_key
  local member = { key = key, ready = false }
  local slot, message = slots.spawn {
    script = self.script,
    on_frame = function(kind, head, body)
      if kind == "I" then member.ready, self.delay = true, RESPAWN_MIN_SEC end
      if kind == "E" then member.error = json.decode(head).error end
      self.on_frame(key, kind, head, body)
    end,
    on_exit = function(code, signal)
      member.slot:close()
      self.members[key], self.size = nil, self.size - 1
      local text = member.error or describe(code, signal)
      self.on_exit(key, text, member.ready)
      self:_again(member.ready)
    end,
  }
  if not slot then
    self.on_exit(nil, message, false)
    return self:_again(false)
  end
  member.slot = slot
  self.members[key], self.size = member, self.size + 1
  self.on_start(key)
  slot:send("B", self.boot())
end

--- Whether there are fewer slots than there should be, those counted that are about to start.
function pool:_lacks() return not self.closed and self.size + self.due < self.count end

--- Starts another slot for one that has died, if it is still needed: at once if it had worked, else after a growing
--- delay.
function pool:_again(worked)
  if not self:_lacks() then return end
  if worked then return self:_start() end
  local delay = self.delay
  self.delay, self.due = math.min(delay * 2, RESPAWN_MAX_SEC), self.due + 1
  self.after(delay, function()
    self.due = self.due - 1
    if self:_lacks() then self:_start() end
  end)
end

--- Starts all slots.
function pool:start()
  slots.adopt()
  self:resize(self.count)
end

--- Changes how many slots there should be. Missing ones start now; of those that are too many none ends by itself.
---@param count integer
function pool:resize(count)
  self.count = count
  while self:_lacks() do self:_start() end
end

--- Ends a slot that is not needed any more; no `on_exit` follows.
---@param key any
function pool:retire(key)
  local member = self.members[key]
  if not member then return end
  self.members[key], self.size = nil, self.size - 1
  member.slot:close()
end

--- Sends a frame.
---@param key any
---@param kind string one letter
---@param fields table|nil
---@param body string|nil
---@return boolean|nil sent
function pool:send(key, kind, fields, body)
  local member = self.members[key]
  return member and member.slot:send(kind, fields and json.encode(fields) or "{}", body)
end

--- Sends a signal.
---@param key any
---@param signal integer
function pool:signal(key, signal)
  local member = self.members[key]
  if member then member.slot:signal(signal) end
end

--- Process ids, for the registry and for logs.
---@param key any
---@return integer|nil
function pool:pid(key)
  local member = self.members[key]
  return member and member.slot:pid()
end

--- The earliest deadline of what a slot runs.
---@param key any
---@return number|nil at clock.monotonic's seconds; nil when there is none
---@return string|nil task
---@return number|nil seconds the task's limit
function pool:deadline(key)
  local member = self.members[key]
  if member then return member.slot:deadline() end
end

--- Ends all slots at once.
function pool:close()
  self.closed = true
  for _, member in pairs(self.members) do member.slot:close() end
  self.members = {}
end

--- A pool.
---@param deps table script (path), count, boot (function: boot text), after (function(sec, fn)), on_start
---  (function(key)), on_frame (function(key, type, head, body)), on_exit (function(key|nil, text, had_worked))
---@return table
function M.new(deps)
  return setmetatable({ script = deps.script, count = deps.count, boot = deps.boot, after = deps.after,
    on_start = deps.on_start, on_frame = deps.on_frame, on_exit = deps.on_exit, members = {}, last_key = 0,
    size = 0, due = 0,
    delay = RESPAWN_MIN_SEC }, pool)
end

return M
