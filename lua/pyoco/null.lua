--- JSON's null, which is a value, and Lua's nil, which is none: records have the one, tables the other.
local json = require "host.json"

local null = json.null

local M = {}

--- Whether there is a value: neither nil nor null.
---@param value any
---@return boolean
function M.present(value) return value ~= nil and value ~= null end

--- Whether there is a value that says something: neither nil, null nor the empty text.
---@param value any
---@return boolean
function M.filled(value) return value ~= nil and value ~= null and value ~= "" end

--- A value as a record keeps it: null for nil.
---@param value any
---@return any
function M.or_null(value)
  if value == nil then return null end
  return value
end

return M
