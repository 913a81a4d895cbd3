--- Whole logs of a run's tasks. What the record's log_tail does not hold goes through one temporary file, so that a
--- task that says much costs no memory, and at the run's end to the object store, as <run_id>/<task>/log (DESIGN D15).
local async = require "pyoco.worker.async"

local M = {}

local TAIL_BYTES = 4096     -- a shorter log stands in the record as it is
local BUFFER_BYTES = 16384  -- of one task, before it goes to the file
local TRIES, RETRY_SEC = 3, 1.0

local Logs = {}
Logs.__index = Logs

--- The logs of one attempt at a run.
---@param data table store.data
---@param run_id string
---@param max_bytes integer most that is kept of one task's log
---@return table logs
function M.new(data, run_id, max_bytes)
  return setmetatable({ data = data, run_id = run_id, max_bytes = max_bytes, tasks = {}, written = 0 }, Logs)
end

--- Moves what is buffered of a task to the file.
function Logs:_flush(log)
  if not self.file and not self.fault then self.file, self.fault = io.tmpfile() end
  local text = table.concat(log.parts)
  log.parts, log.buffered = {}, 0
  if self.fault then return end
  self.file:seek("set", self.written)
  local ok, fault = self.file:write(text)
  if not ok then
    self.fault = fault
    return
  end
  local last = log.segments[#log.segments]
  if last and last.at + last.size == self.written then
    last.size = last.size + #text
  else
    log.segments[#log.segments + 1] = { at = self.written, size = #text }
  end
  self.written = self.written + #text
end

--- Adds what a task says.
---@param task string
---@param text string
function Logs:append(task, text)
  local log = self.tasks[task]
  if not log then
    log = { size = 0, parts = {}, buffered = 0, segments = {} }
    self.tasks[task] = log
  end
  local room = self.max_bytes - log.size
  if #text > room then
    log.is_cut, text = true, text:sub(1, room)
    if text == "" then return end
  end
  log.size, log.buffered = log.size + #text, log.buffered + #text
  log.parts[#log.parts + 1] = text
  if log.buffered >= BUFFER_BYTES then self:_flush(log) end
end

--- A reader of a task's log, as the object store wants one.
function Logs:_reader(log)
  local i, at, is_over = 1, 0, false
  return function(size)
    local segment = log.segments[i]
    if segment then
      local n = math.min(size, segment.size - at)
      self.file:seek("set", segment.at + at)
      local bytes = self.file:read(n)
      if not bytes or #bytes < n then return nil, "the temporary file lacks a part of it", "internal" end
      at = at + n
      if at == segment.size then i, at = i + 1, 0 end
      return bytes
    end
    if is_over then return nil end
    is_over = true
    return table.concat(log.parts) .. (log.is_cut and ("\n[the log was cut after %d bytes]\n"):format(log.size) or "")
  end
end

--- Stores one log; NATS may be away for a moment.
function Logs:_put(task, log)
  for i = 1, TRIES do
    local ref, _, code = self.data:put(self.run_id, task, "log", self:_reader(log))
    if ref or (code ~= "unavailable" and code ~= "timeout") then return ref end
    if i < TRIES then async.sleep(RETRY_SEC) end
  end
end

--- Stores the logs that are longer than the records tell. One that cannot be stored keeps its log_tail only.
function Logs:store()
  for task, log in pairs(self.tasks) do
    if log.size > TAIL_BYTES and not self.fault then log.ref = self:_put(task, log) end
  end
  if self.file then self.file:close() end
  self.file = nil
end

--- Puts the references into the records.
---@param records table task -> record, changed in place
function Logs:apply(records)
  for task, log in pairs(self.tasks) do
    if log.ref and records[task] then records[task].log_ref = log.ref end
  end
end

return M
