--- An order in which the members of a graph can run: cycles, and which member comes before which. Needed only by graphs
--- that read outputs by selectors, or whose mentions are not in order already.
local condition = require "pyoco.flow.condition"

local M = {}

local ipairs, type = ipairs, type
local leaves = condition.leaves

local MAX_CYCLES = 10
local BITS = 62
local NEAR = 8    -- single steps that are tried before all edges are looked at
local NONE = {} -- never written to

--- The mention that puts a member behind `from`.
local function place_of(record, from)
  local function has(cond)
    for _, leaf in ipairs(condition.members(cond, {})) do
      if leaf == from then return true end
    end
    return false
  end
  for _, wait in ipairs(record.more or NONE) do
    if has(wait.cond) and not has(record.need) then return wait.place end
  end
  return record.place
end

--- Reports the cycle path[start..], in which each member waits for the next, and the last for the first.
local function report_cycle(c, path, start)
  local function name(record) return record.name or c.label(record.key) end
  local names = { name(path[start]) }
  for i = #path, start, -1 do names[#names + 1] = name(path[i]) end
  local text = #names > 9 and table.concat(names, " >> ", 1, 4) .. " >> ... >> " .. names[#names]
    or table.concat(names, " >> ")
  local from = path[start + 1] or path[start]
  c.fail(place_of(path[start], from.name or from.key), "cycle", "cycle: " .. text,
    { hint = "a task cannot wait for itself" })
end

--- Sorts the members so that each comes after what it waits for. Goes down from each to what it waits for; one that
--- is met again on the way down closes a cycle, which is reported.
---@param c table the compiler's state
---@param memo table of condition.leaves
---@return table|nil order
function M.sort(c, memo)
  local order, before, is_done, depth, cursor, cycles = {}, {}, {}, {}, {}, 0
  for _, record in ipairs(c.order) do
    local path = { not is_done[record] and record or nil }
    if path[1] then depth[record] = 1 end
    while #path > 0 do
      local top = path[#path]
      local list = before[top] or condition.members(top.needs, memo)
      local i = (cursor[top] or 0) + 1
      before[top], cursor[top] = list, i
      local from = list[i] ~= nil and c.record[list[i]]
      if not from then
        order[#order + 1] = top
        is_done[top], depth[top], path[#path] = true, nil, nil
      elseif depth[from] then
        cycles = cycles + 1
        if cycles <= MAX_CYCLES then report_cycle(c, path, depth[from]) end
      elseif not is_done[from] then
        path[#path + 1] = from
        depth[from] = #path
      end
    end
  end
  return cycles == 0 and order or nil
end

--- Tells whether `from` stands just before `by`, or a few single steps: most of what is read does.
local function is_near(c, read, memo, sets)
  local record = c.record[read.by]
  for _ = 1, NEAR do
    if not record.needs then return false end
    local one, group = leaves(record.needs, memo)
    if one == read.from then return true end
    if group then
      local set = sets[group]
      if not set then
        set = {}
        for i = 1, #group do set[group[i]] = true end
        sets[group] = set
      end
      return set[read.from] ~= nil
    end
    record = c.record[one]
  end
  return false
end

--- The reads whose `from` is not near, and the members that they are of, each once.
local function far_reads(c, reads, memo)
  local far, list, seen, sets = {}, {}, {}, {}
  for _, read in ipairs(reads) do
    if not is_near(c, read, memo, sets) then
      far[#far + 1] = read
      if not seen[read.from] then
        seen[read.from] = true
        list[#list + 1] = read.from
      end
    end
  end
  return far, list
end

--- Tells which reads are of a member that does not come before. One pass over the edges for each BITS members that
--- are read from afar, so that a document of thousands of selectors stays cheap.
---@param c table the compiler's state
---@param order table records, each after what it waits for
---@param reads table list of { from = key of a member, by = key of a member of the same scope }
---@param memo table of condition.leaves
---@return table those of them whose `from` cannot have ended when `by` starts
function M.not_before(c, order, reads, memo)
  local far, list = far_reads(c, reads, memo)
  local missing, masks = {}, {}
  for from = 1, #list, BITS do
    local bit = {}
    for i = from, math.min(from + BITS - 1, #list) do bit[list[i]] = 1 << (i - from) end
    for _, record in ipairs(order) do
      local mask, needs = 0, record.needs
      if type(needs) == "string" then
        mask = masks[needs] | (bit[needs] or 0)
      elseif needs then
        for _, from_key in ipairs(condition.members(needs, memo)) do
          mask = mask | masks[from_key] | (bit[from_key] or 0)
        end
      end
      masks[record.name or record.key] = mask
    end
    for _, read in ipairs(far) do
      local wanted = bit[read.from]
      if wanted and (masks[read.by] or 0) & wanted == 0 then missing[#missing + 1] = read end
    end
  end
  return missing
end

return M
