--- The query parameter `include`: whether a snapshot is wanted with its task records.
local M = {}

--- The parameter, for a route's `query`.
M.QUERY = { "include", "string", list = true, doc = "`records` (or task_records, all, full) keeps task_records." }

local RECORDS = { records = true, task_records = true, all = true, full = true }

--- Whether any of the values asks for task records.
---@param values string[]|nil
---@return boolean
function M.with_records(values)
  for _, value in ipairs(values or {}) do
    if RECORDS[value] then return true end
  end
  return false
end

return M
