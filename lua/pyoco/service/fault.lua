--- How a store's failure is told to a caller: one wording for all services.
local err = require "pyoco.err"

local M = {}

--- Passes a failure of the store on. What the caller cannot mend becomes "unavailable" in the contract's words.
---@param message string
---@param code string
---@return nil
---@return string message
---@return string code
function M.of_store(message, code)
  if code == "unavailable" or code == "timeout" then
    err.note_cause(code, message)
    return nil, "nats unavailable: " .. message, "unavailable"
  end
  return nil, message, code
end

return M
