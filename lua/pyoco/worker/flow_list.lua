--- The flows of a worker's task roots, for the registry. Listing them runs user code, so an idle slot does it, now and
--- then and when they have changed.
local clock = require "host.clock"

local M = {}

local KEPT_SEC = 30

local list = {}
list.__index = list

--- Has an idle slot list the flows, when the last list is old.
function list:renew()
  if self.listed_at and clock.monotonic() - self.listed_at < KEPT_SEC then return end
  local key = self.board:idle_slot()
  if not key or not self.board:pause(key) then return end
  self.listed_at = clock.monotonic()
  self.wheels = self.wheel_set()
  self.pool:send(key, "R", { list = true, roots = self.wheels and self.wheels.roots })
end

--- The flows may be others than before: they are listed as soon as a slot is idle.
function list:changed()
  self.listed_at = nil
  self:renew()
end

--- The list has come: the registry shows it; each file that does not load is logged, once for each of its errors.
---@param found table { flows, errors }
function list:came(found)
  local told = {}
  self.wheels = nil
  for _, fault in ipairs(found.errors) do
    told[fault.message] = true
    if not self.told[fault.message] then
      self.log:error("flows cannot be loaded; runs that need them fail until this is mended", { file = fault.file },
        { message = fault.message })
    end
  end
  self.told = told
  self.registry:flows(found)
end

--- The list of a worker's flows.
---@param deps table board, pool, registry, log, wheel_set (function: the wheels that a slot gets, { roots, sites }; nil
---  when the worker installs none)
---@return table list; `wheels`: those that are in use by the slot that lists now
function M.new(deps)
  deps.told = {}
  return setmetatable(deps, list)
end

return M
