--- Schemas of what users write, for editors.
local schema = require "pyoco.flow.schema"

local M = {}

local text -- made once for each VM

--- The JSON Schema of flow documents and bundles.
---@return string
function M.flow()
  text = text or schema.text()
  return text
end

return M
