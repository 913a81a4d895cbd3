--- Ids of runs that are derived from what the run is for, so that starting it twice gives one run.
local crypto = require "host.crypto"

local M = {}

--- The same id for the same text, in the form of a UUID (version 8, made of a hash).
---@param text string
---@return string
function M.derived(text)
  local hex = crypto.sha256(text)
  local variant = ("%x"):format(8 | (tonumber(hex:sub(17, 17), 16) & 3))
  return ("%s-%s-8%s-%s%s-%s"):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16), variant, hex:sub(18, 20),
    hex:sub(21, 32))
end

return M
