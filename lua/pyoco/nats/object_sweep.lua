--- Removing objects of a store without a trace, and what broken uploads have left of their chunks. Deleting as other
--- clients do, with a marker for each, is pyoco.nats.objects'.
local lasts = require "pyoco.nats.last"
local metas = require "pyoco.nats.object_meta"

local M = {}
local Sweep = {}
Sweep.__index = Sweep

local NO_MESSAGE <const> = 10037

--- The sweeper of an object store; nothing is asked of the server yet.
---@param js table jetstream context
---@param bucket string
---@return table sweep
function M.new(js, bucket)
  local stream = "OBJ_" .. bucket
  return setmetatable({ js = js, bucket = bucket, stream = stream, last = lasts.new(js, stream) }, Sweep)
end

--- Names of all objects, deleted ones too; no metadata is read.
---@return string[]|nil
---@return string|nil message
---@return string|nil code
function Sweep:names()
  local subjects, message, code = self.last:subjects(("$O.%s.M.>"):format(self.bucket))
  if not subjects then return nil, message, code end
  local names = {}
  for _, subject in ipairs(subjects) do names[#names + 1] = metas.name_of(self.bucket, subject) end
  return names
end

local function purge(sweep, subject, seq)
  return sweep.js:purge(sweep.stream, { subject = subject, seq = seq and seq + 1 })
end

--- Removes an object without a trace, unless it is younger than wanted; a deleted one's marker too.
---@param name string
---@param before number|nil unix seconds, the server's: what was stored then or later stays
---@return boolean|nil is_gone false when it stays; true when there was nothing, too
---@return string|nil message
---@return string|nil code
function Sweep:erase(name, before)
  local subject = metas.subject(self.bucket, name)
  local msg, message, code, err_code = self.last:get(subject)
  if not msg then
    if err_code == NO_MESSAGE then return true end
    return nil, message, code
  end
  if before and msg.time >= before then return false end
  local ok
  ok, message, code = purge(self, subject, msg.seq)
  local info = metas.decode(msg)
  if ok and info and info.nuid and not info.link then
    ok, message, code = purge(self, metas.chunk_subject(self.bucket, info.nuid))
  end
  if not ok then return nil, message, code end
  return true
end

--- Subjects of the chunks that objects have.
local function owned_chunks(sweep, pause)
  local owned = {}
  local ok, message, code = sweep.last:each(("$O.%s.M.>"):format(sweep.bucket), function(msg)
    local info = metas.decode(msg)
    if info and info.nuid and not info.deleted then owned[metas.chunk_subject(sweep.bucket, info.nuid)] = true end
    if pause then pause() end
  end)
  if not ok then return nil, message, code end
  return owned
end

--- Removes chunks that no object has: those of uploads that broke off.
---@param before number unix seconds, the server's: an upload that still wrote then or later stays
---@param pause fun()|nil called now and then
---@return integer|nil removed uploads
---@return string|nil message
---@return string|nil code
function Sweep:erase_orphans(before, pause)
  -- chunks first: those of an object that is finished between the two questions are then known as owned
  local subjects, message, code = self.last:subjects(("$O.%s.C.>"):format(self.bucket))
  local owned, removed = nil, 0
  if subjects then owned, message, code = owned_chunks(self, pause) end
  if not owned then return nil, message, code end
  for _, subject in ipairs(subjects) do
    if pause then pause() end
    local last = not owned[subject] and self.last:get(subject)
    if last and last.time < before then
      local ok
      ok, message, code = purge(self, subject, last.seq)
      if not ok then return nil, message, code end
      removed = removed + 1
    end
  end
  return removed
end

return M
