--- What the forms of several routes share.
local json = require "host.json"

local M = {}

--- Media types of a body that is the document itself.
M.YAML = { ["application/yaml"] = true, ["application/x-yaml"] = true, ["text/yaml"] = true }

--- `params` in the query of a form's route.
M.PARAMS_QUERY = { "params", "string", doc = "As the form's params, which win." }

--- `params` of a form is a JSON object in a text part.
---@param text string|nil
---@return table|nil
---@return string|nil message
---@return string|nil code
function M.params(text)
  if text == nil or text == "" then return {} end
  local value, message = json.decode(text)
  if type(value) ~= "table" or json.is_array(value) then
    return nil, "params: " .. (message or "must be a JSON object, as {\"k\": 1}"), "invalid"
  end
  return value
end

return M
