--- Conditions: what must have SUCCEEDED before a member (a task or a frame) of a graph starts.
---   COND = "task" | FRAME_REF = { frame = id } | { all = { COND, ... } } | { any = { COND, ... } }
--- They are shared between all that wait for the same, and never copied: everything here is remembered by identity.
local type, ipairs = type, ipairs

local M = {}

local NONE = {} -- never written to

local function is_member(cond) return type(cond) == "string" or cond.frame ~= nil end

--- A condition without nesting of equal kind, without repeats and without groups of one.
---@param cond any COND
---@param memo table cond -> simple one, the same table for all conditions of a graph
---@return any COND
function M.simplify(cond, memo)
  if is_member(cond) then return cond end
  local simple = memo[cond]
  if simple then return simple end
  local op = cond.all and "all" or "any"
  local items, seen = {}, {}
  for _, item in ipairs(cond[op]) do
    item = M.simplify(item, memo)
    for _, part in ipairs(type(item) == "table" and item[op] or { item }) do
      if not seen[part] then
        seen[part] = true
        items[#items + 1] = part
      end
    end
  end
  simple = #items > 1 and { [op] = items } or items[1]
  memo[cond] = simple
  return simple
end

--- One condition out of several that all have to hold.
---@param list table of simple COND
---@param repeated fun(member: any, i: integer) called for a member that the list's item number i requires again
---@return any COND
function M.join(list, repeated)
  local items, seen = {}, {}
  for i, part in ipairs(list) do
    for _, item in ipairs(type(part) == "table" and part.all or { part }) do
      if not seen[item] then
        seen[item] = true
        items[#items + 1] = item
      elseif is_member(item) then
        repeated(item, i)
      end
    end
  end
  return #items > 1 and { all = items } or items[1]
end

--- The member that a condition requires, and that one of its choices has as well: it cannot wait for a, and for
--- whichever of a and b comes first, at once.
---@param cond any simple COND
---@return any member nil if there is none
function M.contradiction(cond)
  if type(cond) ~= "table" or not cond.all then return nil end
  local required
  for _, item in ipairs(cond.all) do
    for _, choice in ipairs(type(item) == "table" and item.any or {}) do
      if not required then
        required = {}
        for _, other in ipairs(cond.all) do required[other] = is_member(other) end
      end
      if required[choice] then return choice end
    end
  end
end

--- The members that a condition mentions.
---@param cond any COND
---@param memo table cond -> list, the same table for all conditions of a graph
---@return any a member, if it is only that
---@return table|nil list of members, each once, if it is a group
function M.leaves(cond, memo)
  if is_member(cond) then return cond, nil end
  local members = memo[cond]
  if members then return nil, members end
  local seen = {}
  members = {}
  local function collect(part)
    if not is_member(part) then
      for _, item in ipairs(part.all or part.any) do collect(item) end
    elseif not seen[part] then
      seen[part] = true
      members[#members + 1] = part
    end
  end
  collect(cond)
  memo[cond] = members
  return nil, members
end

--- The members that a condition mentions, as a list.
---@param cond any COND, or nil
---@param memo table as for M.leaves
---@return table
function M.members(cond, memo)
  if cond == nil then return NONE end
  local one, list = M.leaves(cond, memo)
  return list or { one }
end

return M
