--- Which wheels of the registry a worker wants: of each package the newest version that it can use (CONTRACT 8.8).
local json = require "host.json"
local fit = require "pyoco.wheel.fit"
local names = require "pyoco.wheel.name"
local versions = require "pyoco.wheel.version"

local M = {}

--- Whether a wheel is for this worker: it has no tags, or shares one.
local function is_for(wheel, tags)
  if #wheel.tags == 0 then return true end
  for _, tag in ipairs(wheel.tags) do
    for _, own in ipairs(tags) do
      if tag == own then return true end
    end
  end
  return false
end

local function is_newer(one, other)
  local order = versions.compare(one.parsed.parsed_version, other.parsed.parsed_version)
  if order ~= 0 then return order > 0 end
  return one.wheel.name > other.wheel.name
end

--- Chooses.
---@param wheels table[] of store.wheels:list
---@param tags string[] of the worker
---@param refused fun(wheel): boolean whether a wheel was found to be unusable
---@param supported table|nil wheel tags that this machine takes
---@return table[] chosen list of { wheel, parsed } by wheel name
---@return table[] skipped list of { wheel_name, package_name, package_version, reason } by wheel name
---@return table usable wheel name -> { wheel, parsed } of all that could be chosen
function M.pick(wheels, tags, refused, supported)
  supported = supported or fit.supported()
  local best, skipped, usable = {}, {}, {}
  for _, wheel in ipairs(wheels) do
    local parsed = is_for(wheel, tags) and names.parse(wheel.name)
    local candidate = parsed and { wheel = wheel, parsed = parsed }
    if candidate and not fit.fits(parsed.tags, supported) then
      skipped[#skipped + 1] = { wheel_name = wheel.name, package_name = parsed.package,
        package_version = parsed.version, reason = "unsupported_wheel_tags" }
    elseif candidate and not refused(wheel) then
      usable[wheel.name] = candidate
      local other = best[parsed.package]
      if not other or is_newer(candidate, other) then best[parsed.package] = candidate end
    end
  end
  local chosen = {}
  for _, candidate in pairs(best) do chosen[#chosen + 1] = candidate end
  table.sort(chosen, function(a, b) return a.wheel.name < b.wheel.name end)
  table.sort(skipped, function(a, b) return a.wheel_name < b.wheel_name end)
  return chosen, json.array(skipped), usable
end

return M
