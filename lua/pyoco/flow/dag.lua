--- The graph as a whole: edges out of conditions, cycles, and which task comes before which.
local selector = require "pyoco.flow.selector"

local M = {}

local MAX_EDGES = 200000
local MAX_CYCLES = 10
local BITS = 62
local NONE = {} -- never written to

--- Names that a condition mentions, each once; remembered, since conditions are shared.
local function leaves(cond, memo)
  if cond == nil then return NONE end
  if memo[cond] then return memo[cond] end
  local names, seen = { type(cond) == "string" and cond or nil }, {}
  local function collect(part)
    if type(part) == "table" then
      for _, item in ipairs(part.all or part.any) do collect(item) end
    elseif not seen[part] then
      seen[part] = true
      names[#names + 1] = part
    end
  end
  if #names == 0 then collect(cond) end
  memo[cond] = names
  return names
end

--- Fills graph.edges and returns before = { name = names it waits for }; nil if there are too many.
local function add_edges(graph, d)
  local before, memo, edges = {}, {}, graph.edges
  for _, node in ipairs(graph.nodes) do
    local names = leaves(node.needs, memo)
    if #edges + #names > MAX_EDGES then
      d.fail(d.waits[node.name][1].place, "too_large", ("the graph has more than %d edges"):format(MAX_EDGES),
        { hint = "put one task between the two groups" })
      return nil
    end
    before[node.name] = names
    for _, from in ipairs(names) do edges[#edges + 1] = { from, node.name } end
  end
  return before
end

--- The mention that puts `name` behind `from`.
local function place_of(d, name, from)
  for _, wait in ipairs(d.waits[name]) do
    for _, leaf in ipairs(leaves(wait.cond, {})) do
      if leaf == from then return wait.place end
    end
  end
end

--- Reports the cycle path[start..], in which each task waits for the next, and the last for the first.
local function report_cycle(d, path, start)
  local names = { path[start] }
  for i = #path, start, -1 do names[#names + 1] = path[i] end
  local text = #names > 9 and table.concat(names, " >> ", 1, 4) .. " >> ... >> " .. names[#names]
    or table.concat(names, " >> ")
  d.fail(place_of(d, path[start], path[start + 1] or path[start]), "cycle", "cycle: " .. text,
    { hint = "a task cannot wait for itself" })
end

--- Sorts the tasks so that each comes after what it waits for. Goes down from each task to what it waits for; one
--- that is met again on the way down closes a cycle, which is reported. Returns the names in order, or nil.
local function sort(graph, d, before)
  local order, is_done, depth, cursor, cycles = {}, {}, {}, {}, 0
  for _, node in ipairs(graph.nodes) do
    local path = { not is_done[node.name] and node.name or nil }
    if path[1] then depth[path[1]] = 1 end
    while #path > 0 do
      local top = path[#path]
      local i = (cursor[top] or 0) + 1
      cursor[top] = i
      local from = before[top][i]
      if from == nil then
        order[#order + 1] = top
        is_done[top], depth[top], path[#path] = true, nil, nil
      elseif depth[from] then
        cycles = cycles + 1
        if cycles <= MAX_CYCLES then report_cycle(d, path, depth[from]) end
      elseif not is_done[from] then
        path[#path + 1] = from
        depth[from] = #path
      end
    end
  end
  return cycles == 0 and order or nil
end

--- Tells which of `wanted` (task -> set of tasks that it reads) do not come before. One pass over the edges for
--- each BITS tasks that are read, so that a document of thousands of selectors stays cheap.
local function not_before(order, before, targets)
  local masks, missing = {}, {}
  for from = 1, #targets.list, BITS do
    local bit = {}
    for i = from, math.min(from + BITS - 1, #targets.list) do bit[targets.list[i]] = 1 << (i - from) end
    for _, name in ipairs(order) do
      local mask = 0
      for _, earlier in ipairs(before[name]) do mask = mask | masks[earlier] | (bit[earlier] or 0) end
      masks[name] = mask
    end
    for _, read in ipairs(targets.reads) do
      local wanted = bit[read.selector.node]
      if wanted and masks[read.task] & wanted == 0 then missing[#missing + 1] = read end
    end
  end
  return missing
end

--- Parses the selectors of all inputs. Reports what is wrong in itself; returns the reads of other tasks' outputs.
local function collect_reads(graph, d)
  local targets, exposed = { list = {}, reads = {}, seen = {} }, {}
  for _, name in ipairs(d.opts.expose_env or {}) do exposed[name] = true end
  local function check(node, key, text)
    local row = d.rows[node.name]
    local place = row.place_of_input and row.place_of_input(key) or row
    local path = ("tasks.%s.inputs.%s"):format(node.name, key)
    local parsed, message = selector.parse(text)
    if not parsed then
      d.fail(place, "bad_selector", message, { path = path })
    elseif parsed.root == "env" and not exposed[parsed.path[1]] then
      d.fail(place, "bad_selector", ("%s is not exposed"):format(text),
        { path = path, hint = ("list %s in runtime.expose_env"):format(parsed.path[1]) })
    elseif parsed.node and not d.rows[parsed.node] then
      d.fail(place, "bad_selector", ("%s: unknown task '%s'"):format(text, parsed.node),
        { path = path, got = parsed.node, names = d.names })
    elseif parsed.node then
      targets.reads[#targets.reads + 1] = { task = node.name, selector = parsed, place = place, path = path }
      if not targets.seen[parsed.node] then
        targets.seen[parsed.node] = true
        targets.list[#targets.list + 1] = parsed.node
      end
    end
  end
  for _, node in ipairs(graph.nodes) do
    for key, value in pairs(node.inputs) do
      if selector.is_selector(value) then check(node, key, value) end
    end
  end
  return targets
end

--- Completes a graph with its edges, and checks cycles and selectors.
---@param graph table with nodes
---@param d table { rows = name -> row, names = list of them, waits = name -> { { cond, place } },
---  fail = function(place, code, message, more), opts = those of compile.graph }
function M.check(graph, d)
  local before = add_edges(graph, d)
  local targets = collect_reads(graph, d)
  if not before then return end
  local order = sort(graph, d, before)
  if not order or d.opts.partial then return end
  for _, read in ipairs(not_before(order, before, targets)) do
    local text, from = read.selector.text, read.selector.node
    d.fail(read.place, "bad_selector", ("%s: '%s' does not come before '%s'"):format(text, from, read.task),
      { path = read.path, hint = ("write %s >> %s in the graph"):format(from, read.task) })
  end
end

return M
