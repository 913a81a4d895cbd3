--- What is too big for a run's snapshot goes to the object store: outputs of tasks that have ended, each as
--- <run_id>/<task>/output, with a reference in the record (DESIGN D15). Only loaded when a snapshot is over its cap.
local json = require "host.json"

local M = {}

local null = json.null

local SHARE = 16       -- an output above this part of the cap is moved out: so many still fit
local MIN_BYTES = 256  -- a reference is hardly smaller than that

local Spill = {}
Spill.__index = Spill

--- For one attempt at a run.
---@param data table store.data
---@param run_id string
---@return table spill
function M.new(data, run_id)
  return setmetatable({ data = data, run_id = run_id, outputs = {}, inputs = {} }, Spill)
end

--- Whether a task is over: the list that a loop makes is moved out once, not after each iteration.
local function has_ended(record) return record.state ~= "RUNNING" and record.state ~= "PENDING" end

local function is_over(value, bytes)
  if type(value) ~= "table" and type(value) ~= "string" then return false end
  local text, _, code = json.encode(value, { max_bytes = bytes })
  return not text and code == "too_large"
end

--- Whether a record's value is still the one that was looked at.
local function is_known(known, value, record, least)
  return known and known.value == value and known.ended_at == record.ended_at and known.least == least
end

function Spill:_take_output(task, record, least)
  local output = record.output
  if is_known(self.outputs[task], output, record, least) then return false end
  local known = { value = output, ended_at = record.ended_at, least = least }
  if is_over(output, least) then
    local bytes = json.encode(output)
    known.ref = bytes and self.data:put(self.run_id, task, "output", bytes)
    if not known.ref then return false end -- the next write tries again; until then the records are cut
  end
  self.outputs[task] = known
  return known.ref ~= nil
end

function Spill:_take_inputs(task, record, least)
  local inputs = record.inputs
  if is_known(self.inputs[task], inputs, record, least) then return false end
  local known = { value = inputs, ended_at = record.ended_at, least = least, is_big = is_over(inputs, least) }
  self.inputs[task] = known
  return known.is_big
end

--- Stores the outputs that are big for a snapshot of that size. May wait for NATS.
---@param records table task -> record, as the snapshot has them
---@param max_bytes integer the snapshot's cap
---@return boolean moved whether `apply` would make the records smaller than they are
function Spill:take(records, max_bytes)
  local least, moved = math.max(MIN_BYTES, max_bytes // SHARE), false
  for task, record in pairs(records) do
    if has_ended(record) and not record.output_ref then
      -- a value as big as the memory allows is not printed as well: then the records are cut, as without us
      local ok, is_moved = pcall(self._take_output, self, task, record, least)
      moved = moved or (ok and is_moved)
    end
    if not record.inputs_truncated and self:_take_inputs(task, record, least) then moved = true end
  end
  return moved
end

--- Puts the references in the place of what was moved out; inputs that are big are left out: they are others' outputs.
---@param records table task -> record, changed in place
function Spill:apply(records)
  for task, known in pairs(self.outputs) do
    local record = records[task]
    if record and known.ref and is_known(known, record.output, record, known.least) then
      record.output, record.output_ref = null, known.ref
    end
  end
  for task, known in pairs(self.inputs) do
    local record = records[task]
    if record and known.is_big and is_known(known, record.inputs, record, known.least) then
      record.inputs, record.inputs_truncated = {}, true
    end
  end
end

return M
