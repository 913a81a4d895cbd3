--- The result summary of a bundle's run, as its slot stores it with the run's end. It is made of whole outputs,
--- whatever becomes of the records; one that is too much for a snapshot goes to the object store as
--- <run_id>/result_summary/summary, where the parent reads it (CONTRACT 10.5 and Part A, D8).
local json = require "host.json"
local summary = require "pyoco.run.summary"

local M = {}

M.TASK, M.KIND = "result_summary", "summary"

local SHARE = 2 -- a summary above this part of the cap leaves too little for the rest

local Result = {}
Result.__index = Result

--- For one attempt at a run.
---@param data table store.data
---@param run_id string
---@return table result
function M.new(data, run_id) return setmetatable({ data = data, run_id = run_id }, Result) end

--- Puts the summary into an image that has its end.
---@param image table
---@param records table|nil task -> record, with whole outputs
function Result:apply(image, records)
  local error_summary = type(image.error) == "string" and image.error or nil
  local made = summary.make({ run_id = self.run_id, status = image.status, error = error_summary }, records or {})
  if self.ref and self.status == image.status then made = summary.brief(made, self.ref) end
  image.result_summary = made
end

--- Moves the summary out of an image that is over its cap, if it has a part in that.
---@param image table
---@param max_bytes integer the snapshot's cap
---@return boolean moved
function Result:take(image, max_bytes)
  local made = image.result_summary
  if type(made) ~= "table" or made.summary_ref then return false end
  local _, _, code = json.encode(made, { max_bytes = max_bytes // SHARE })
  if code ~= "too_large" then return false end
  local bytes = json.encode(made)
  local ref = bytes and self.data:put(self.run_id, M.TASK, M.KIND, bytes)
  if not ref then return false end
  self.ref, self.status = ref, image.status
  image.result_summary = summary.brief(made, ref)
  return true
end

return M
