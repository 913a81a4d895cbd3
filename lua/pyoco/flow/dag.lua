--- The graph as a whole: edges out of conditions, cycles, and which member comes before which. Frames are members like
--- tasks; nothing leads from one scope into another, so that all scopes are looked at in one pass.
local condition = require "pyoco.flow.condition"

local M = {}

local ipairs, next, type = ipairs, next, type
local leaves = condition.leaves

local MAX_EDGES = 200000
local MAX_CYCLES = 10
local BITS = 62
local NONE = {} -- never written to

--- Members that have to end before `record`, as a list.
local function list_before(record, memo)
  local needs = record.needs
  if not needs then return NONE end
  local one, list = leaves(needs, memo)
  return list or { one }
end

--- Fills graph.edges. Returns false, after an error, if there are too many.
local function add_edges(graph, c, memo)
  local edges, count = graph.edges, 0
  for _, records in ipairs { graph.nodes, c.opened } do
    for _, record in ipairs(records) do
      local needs, key = record.needs, record.name or record.key
      if type(needs) == "string" then
        count = count + 1
        edges[count] = { needs, key }
      elseif needs then
        local list = list_before(record, memo)
        for i = 1, count + #list <= MAX_EDGES and #list or 0 do edges[count + i] = { list[i], key } end
        count = count + #list
      end
      if count > MAX_EDGES then
        c.fail(record.place, "too_large", ("the graph has more than %d edges"):format(MAX_EDGES),
          { hint = "put one task between the two groups" })
        return false
      end
    end
  end
  return true
end

--- The mention that puts a member behind `from`.
local function place_of(record, from)
  local function has(cond)
    for _, leaf in ipairs(list_before({ needs = cond }, {})) do
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
--- is met again on the way down closes a cycle, which is reported. Returns the records in order, or nil.
local function sort(c, memo)
  local order, before, is_done, depth, cursor, cycles = {}, {}, {}, {}, {}, 0
  for _, record in ipairs(c.order) do
    local path = { not is_done[record] and record or nil }
    if path[1] then depth[record] = 1 end
    while #path > 0 do
      local top = path[#path]
      local list = before[top] or list_before(top, memo)
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

--- Tells which reads are of a member that does not come before. One pass over the edges for each BITS members that
--- are read, so that a document of thousands of selectors stays cheap.
---@param order table records, each after what it waits for
---@param reads table list of { from = key of a member, by = key of a member of the same scope }
---@return table those of them whose `from` cannot have ended when `by` starts
local function not_before(order, reads, memo)
  local list, seen, missing = {}, {}, {}
  for _, read in ipairs(reads) do
    if not seen[read.from] then
      seen[read.from] = true
      list[#list + 1] = read.from
    end
  end
  for from = 1, #list, BITS do
    local bit, masks = {}, {}
    for i = from, math.min(from + BITS - 1, #list) do bit[list[i]] = 1 << (i - from) end
    for _, record in ipairs(order) do
      local mask, needs = 0, record.needs
      if needs then
        local one, group = leaves(needs, memo)
        if one then mask = masks[one] | (bit[one] or 0) end
        for j = 1, group and #group or 0 do mask = mask | masks[group[j]] | (bit[group[j]] or 0) end
      end
      masks[record.name or record.key] = mask
    end
    for _, read in ipairs(reads) do
      local wanted = bit[read.from]
      if wanted and (masks[read.by] or 0) & wanted == 0 then missing[#missing + 1] = read end
    end
  end
  return missing
end

--- Completes a graph with its edges, and checks cycles and what is read.
---@param graph table with nodes and frames
---@param c table the compiler's state
function M.check(graph, c)
  local memo = {}
  local is_fine = add_edges(graph, c, memo)
  local reads = (#c.reads > 0 or c.has_reads) and require("pyoco.flow.reads").collect(graph, c) or NONE
  if not is_fine then return end
  local order = c.is_in_order and c.order or sort(c, memo)
  if not order or c.opts.partial or next(reads) == nil then return end
  require("pyoco.flow.reads").report(c, not_before(order, reads, memo))
end

return M
