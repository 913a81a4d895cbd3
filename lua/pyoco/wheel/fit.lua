--- Which wheels our workers can use: Lua 5.4 for any machine, or with C modules for this one; and of what size.
local uv = require "luv"

local M = {}

--- The tag of a wheel that holds C modules for this machine.
---@return string
function M.native_tag()
  local name = uv.os_uname()
  return ("lua54-none-%s_%s"):format(name.sysname:lower(), name.machine:lower())
end

--- The tags that our workers on this machine take, as a set.
---@return table tag -> true
function M.supported()
  return { ["lua54-none-any"] = true, [M.native_tag()] = true }
end

--- Whether one of a wheel's tags is among the supported ones.
---@param tags string[] of pyoco.wheel.name
---@param supported table|nil default M.supported()
---@return boolean
function M.fits(tags, supported)
  supported = supported or M.supported()
  for _, tag in ipairs(tags) do
    if supported[tag] then return true end
  end
  return false
end

--- Whether a wheel of these tags is for any machine: then it holds no C modules.
---@param tags string[]
---@return boolean
function M.is_portable(tags)
  for _, tag in ipairs(tags) do
    if tag:find("-any$") then return true end
  end
  return false
end

--- How large a wheel may be, as the configuration says.
---@param cfg table
---@return table limits { max_bytes (unpacked), max_ratio (unpacked to packed), max_entries }
function M.limits(cfg)
  return { max_bytes = cfg.wheel_unpacked_max_bytes, max_ratio = cfg.wheel_max_ratio,
    max_entries = cfg.wheel_max_entries }
end

return M
