--- How a store's failure is told to a caller: one wording for all services.
local err = require "pyoco.err"

local M = {}

--- One message holds no more than NATS takes; other limits are our own, and told as they are.
local function is_too_large_for_nats(message, code)
  return code == "too_large" and message:find("greater than maximum allowed", 1, true) ~= nil
end

--- Passes a failure of the store on. What the caller cannot mend becomes "unavailable" in the contract's words.
---@param message string
---@param code string
---@return nil
---@return string message
---@return string code
function M.of_store(message, code)
  if code == "unavailable" or code == "timeout" or is_too_large_for_nats(message, code) then
    err.note_cause(code, message)
    return nil, "nats unavailable: " .. message, "unavailable"
  end
  return nil, message, code
end

return M
