--- Finding values by name from inside a scope: each iteration of a loop, and each branch, has results of its own;
--- what is not there is looked for in the scope around it, up to the run's own.
local next, insert = next, table.insert

local M = {}

--- The result of a task as a scope sees it: this instance's first, then outward.
---@param eng table the engine
---@param scope table? nil: the run's own
---@param name string
---@return any output nil if there is none
function M.result(eng, scope, name)
  while scope do
    local found = scope.results[name]
    if found ~= nil then return found end
    scope = scope.parent
  end
  return eng.results[name]
end

--- All results that a scope sees, by name.
---@param eng table
---@param scope table?
---@return table results not to be changed: it is the run's own table when no loop is around
function M.results(eng, scope)
  if not scope or not scope.parent then return eng.results end
  local chain = { eng.results }
  while scope do
    insert(chain, 2, scope.results)
    scope = scope.parent
  end
  local merged = {}
  for i = 1, #chain do
    for name, output in next, chain[i] do merged[name] = output end
  end
  return merged
end

--- The item of the innermost loop that calls it so (`x["$ctx.files as file"]`).
---@param scope table?
---@param name string
---@return any item nil if no loop around has that alias
function M.alias(scope, name)
  while scope do
    if scope.as == name then return scope.item end
    scope = scope.parent
  end
end

--- The item: of a loop whose alias is `item`, else of the innermost loop that has one.
---@param scope table?
---@return any
function M.item(scope)
  local found = M.alias(scope, "item")
  while found == nil and scope do
    found = scope.item
    scope = scope.parent
  end
  return found
end

--- The loops around a scope, outermost first.
---@param scope table?
---@return table[] list of { index (from 0), count = total or nil, item, name = the frame's id }
function M.loops(scope)
  local loops = {}
  while scope do
    local frame = scope.frame
    if scope.index and frame then
      local count = frame.kind ~= "until" and frame.count or nil -- of the other loops it is known beforehand
      insert(loops, 1, { index = scope.index, count = count, item = scope.item, name = frame.id })
    end
    scope = scope.parent
  end
  return loops
end

return M
