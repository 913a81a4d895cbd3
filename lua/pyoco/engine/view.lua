--- What ctx.results and ctx.scratch are: a table that reads the run's values, each copied when it is looked at, so
--- that a task pays for what it uses and always sees the newest.
local json = require "host.json"
local value = require "pyoco.engine.value"

local copy, null, next = value.copy, json.null, next
local type, error, format, tostring, setmetatable = type, error, string.format, tostring, setmetatable

local M = {}

--- Makes a view.
---@param name string of the ctx field, for messages
---@param eng table the engine; eng.writes counts what ctx:set has changed
---@param all fun(): table the values by name
---@param find fun(name: any): any one of them
---@return table
function M.new(name, eng, all, find)
  local copies, writes = {}, eng.writes -- copies by what they are copies of

  local function look(_, key)
    local found = find(key)
    if type(found) ~= "table" then
      if found == null then return nil end
      return found
    end
    if eng.writes ~= writes then copies, writes = {}, eng.writes end
    local copied = copies[found]
    if copied == nil then
      copied = copy(found)
      copies[found] = copied
    end
    return copied
  end

  local function iterate(view)
    local values, key = all(), nil
    return function()
      key = next(values, key)
      if key ~= nil then return key, look(view, key) end
    end, view, nil
  end

  local function refuse(_, key)
    error(format("ctx.%s is read only: other tasks see what ctx:set(\"%s.%s\", value) keeps", name, name,
      tostring(key)), 2)
  end

  return value.mark_view(setmetatable({}, { __index = look, __pairs = iterate, __newindex = refuse,
    __name = "ctx." .. name }), all)
end

return M
