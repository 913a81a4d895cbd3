--- Calls of user code that block the whole slot, or may crash it: a command through io.popen or os.execute, a C
--- module. Before the first of them the run's RUNNING must be stored, since nothing can be written while they last
--- (DESIGN D6).
local uv = require "luv"

local M = {}

local function wrap(fn, before)
  return function(...)
    before()
    return fn(...)
  end
end

local function with(library, names, before)
  local copy = {}
  for key, value in pairs(library) do copy[key] = value end
  for _, name in ipairs(names) do copy[name] = wrap(library[name], before) end
  return copy
end

--- Turns the loop until a condition holds: user code waits where it cannot be suspended.
---@param is_done fun():boolean
function M.wait(is_done)
  while not is_done() do uv.run("once") end
end

--- Globals for flow files whose calls out are preceded by `before`; C modules are found the same way.
---@param before fun() returns when RUNNING is stored; called each time, so it must be quick once it is
---@return table globals io and os
function M.globals(before)
  for i, search in ipairs(package.searchers) do
    if i > 2 then -- after the preloaded ones and our own library
      package.searchers[i] = function(name)
        local loader, path = search(name)
        if type(loader) == "function" and type(path) == "string" and path:find("%.so$") then before() end
        return loader, path
      end
    end
  end
  return { io = with(io, { "popen" }, before), os = with(os, { "execute" }, before) }
end

return M
