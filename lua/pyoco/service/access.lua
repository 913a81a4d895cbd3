--- Whose a record is: the one rule that keeps tenants apart (CONTRACT 6). Every service that reads or changes a run, a
--- schedule or a dead letter asks here; what a caller may not see is answered as if it were not there.
local json = require "host.json"

local M = {}

--- Whether a caller may know of a record.
---@param caller table { tenant_id, api_key_id }; without tenant_id when the gateway asks for no keys
---@param record table|nil with tenant_id (nil or null = nobody's: hidden from every tenant)
---@return boolean
function M.may_see(caller, record)
  if record == nil then return false end
  if caller.tenant_id == nil or caller.tenant_id == json.null then return true end
  return record.tenant_id == caller.tenant_id
end

return M
