--- `params` of a form: a JSON object in a text part.
local json = require "host.json"

--- Reads it.
---@param text string|nil
---@return table|nil params empty when there is none
---@return string|nil message
---@return string|nil code "invalid"
return function(text)
  if text == nil or text == "" then return {} end
  local value, message = json.decode(text)
  if type(value) ~= "table" or json.is_array(value) then
    return nil, "params: " .. (message or "must be a JSON object, as {\"k\": 1}"), "invalid"
  end
  return value
end
