--- `ctx`, what a task knows of its run: params, results, and methods that log and wait. Tables that it hands out
--- are the task's own copies. In a spec any table with the same fields serves.
local task = require "host.task"
local value = require "pyoco.engine.value"

local copy, wait = value.copy, task.wait
local format, select, type, next, error, tostring = string.format, select, type, next, error, tostring
local setmetatable, rawset, math_type, huge = setmetatable, rawset, math.type, math.huge

local M = {}

local HIDDEN = {} -- the key of { eng, node } in a ctx

local methods = {}

--- Writes a line to the task's log.
---@param pattern string as for string.format when values follow
function methods:log(pattern, ...) -- luacheck: ignore 212/self
  local text = pattern
  if select("#", ...) > 0 then text = format(pattern, ...) end
  if type(text) ~= "string" then text = tostring(text) end
  task.write(text .. "\n")
end

--- Waits; other tasks of the run go on meanwhile.
---@param seconds number 0 or more
function methods:sleep(seconds)
  if not math_type(seconds) or seconds ~= seconds or seconds < 0 or seconds == huge then
    error(format("ctx:sleep(seconds): expected a number, 0 or more, got %s", tostring(seconds)), 2)
  end
  local after = self[HIDDEN].eng.after
  wait(function(resume) return after(seconds, resume) end)
end

--- Whether the run is being cancelled. A task that waits or computes is ended without asking; this is for code
--- between two calls into C that take long.
---@return boolean
function methods:cancelled() -- luacheck: ignore 212/self
  return task.cancelled()
end

--- Results of ended tasks by name, copied when they are looked at.
local function results_view(results)
  local view = {}
  local function look(_, name)
    local found = copy(results[name])
    if type(found) == "table" then rawset(view, name, found) end
    return found
  end
  return setmetatable(view, { __index = look, __pairs = function()
    return function(_, key)
      local name = next(results, key)
      if name ~= nil then return name, view[name] end
    end, view, nil
  end })
end

--- Fields that are made when they are first asked for.
local lazy = {
  params = function(eng) return (copy(eng.params)) end,
  results = function(eng) return results_view(eng.results) end,
}

local meta = {
  __name = "ctx",
  __index = function(ctx, key)
    local method = methods[key]
    if method then return method end
    local make = lazy[key]
    if not make then return nil end
    local made = make(ctx[HIDDEN].eng, ctx[HIDDEN].node)
    rawset(ctx, key, made)
    return made
  end,
}

--- Makes the ctx of one task.
---@param eng table the engine
---@param node table
---@return table ctx
function M.new(eng, node) return setmetatable({ [HIDDEN] = { eng = eng, node = node } }, meta) end

return M
