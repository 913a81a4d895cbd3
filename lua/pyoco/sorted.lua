--- Tables in an order that is the same each time: for what people read, and for bytes that are compared.
local M = {}

--- The keys of a table, sorted.
---@param map table<string, any>
---@return string[]
function M.keys(map)
  local list = {}
  for key in pairs(map) do list[#list + 1] = key end
  table.sort(list)
  return list
end

return M
