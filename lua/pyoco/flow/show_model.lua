--- A graph made ready to be drawn: scopes with their members (tasks and frames) and what each waits for. Takes what
--- compile.graph returns and what decoding its canonical JSON gives.
---
---   model  = { name, top = scope, members = list of all, in order, tasks = number of tasks }
---   scope  = list of members, in declaration order; a frame stands where its first task does
---   member = { label = task name or frame id, kind = "task"|"times"|"each"|"until"|"switch"|"case", order,
---              node | frame = the graph's own, parents = members it waits for, needs = COND|nil,
---              depth = length of the longest way to it within its scope, body = scope of a frame, outer = member|nil }
local M = {}

local NONE = {}

--- A value that is there: JSON's null is not.
local function given(value)
  if type(value) == "userdata" then return nil end
  return value
end

--- The member that one end of an edge, or a leaf of a condition, stands for.
local function member_of(model, ref)
  if type(ref) == "table" then return model.by_frame[ref.frame] end
  return model.by_task[ref]
end

--- Makes the members, without what joins them.
local function add_members(model, graph)
  for order, node in ipairs(graph.nodes or NONE) do
    local member = { kind = "task", label = node.name, node = node, order = order, parents = {},
      needs = given(node.needs) }
    model.by_task[node.name] = member
    model.members[#model.members + 1] = member
  end
  for _, frame in ipairs(graph.frames or NONE) do
    local member = { kind = frame.kind, label = frame.id, frame = frame, order = math.huge, parents = {},
      needs = given(frame.needs), body = {} }
    model.by_frame[frame.id] = member
    model.members[#model.members + 1] = member
  end
end

--- Puts each member into its scope. Cases stay in the order that the graph has them in, "*" last.
local function add_scopes(model)
  for i, member in ipairs(model.members) do
    local outer = model.by_frame[given((member.node or member.frame).frame)]
    member.outer, member.index = outer, i
    if member.kind == "case" then member.order = i end
    while outer and member.node do -- a frame stands where its first task does
      if outer.kind ~= "case" then outer.order = math.min(outer.order, member.order) end
      outer = model.by_frame[given(outer.frame.frame)]
    end
  end
  table.sort(model.members, function(a, b)
    if a.order ~= b.order then return a.order < b.order end
    if (a.node ~= nil) ~= (b.node ~= nil) then return b.node ~= nil end -- a frame before the task it begins with
    return a.index < b.index
  end)
  for _, member in ipairs(model.members) do
    local scope = member.outer and member.outer.body or model.top
    scope[#scope + 1] = member
  end
end

--- Sets depth: one more than that of the deepest parent. Without recursion: a chain may have any length.
local function add_depths(members)
  local children, waiting, ready = {}, {}, {}
  for _, member in ipairs(members) do
    waiting[member] = #member.parents
    if #member.parents == 0 then ready[#ready + 1] = member end
    for _, parent in ipairs(member.parents) do
      children[parent] = children[parent] or {}
      table.insert(children[parent], member)
    end
  end
  local at = 1
  while ready[at] do
    local member = ready[at]
    member.depth = member.depth or 0
    for _, child in ipairs(children[member] or NONE) do
      child.depth = math.max(child.depth or 0, member.depth + 1)
      waiting[child] = waiting[child] - 1
      if waiting[child] == 0 then ready[#ready + 1] = child end
    end
    at = at + 1
  end
  for _, member in ipairs(members) do member.depth = member.depth or 0 end -- in a cycle, which no graph has
end

--- Reads a graph.
---@param graph table { name, nodes, edges, frames, any_of }; edges as { from, to } or { from =, to = }
---@return table model
function M.read(graph)
  local model = { name = graph.name, members = {}, by_task = {}, by_frame = {}, top = {},
    tasks = #(graph.nodes or NONE) }
  add_members(model, graph)
  for _, edge in ipairs(graph.edges or NONE) do
    local from, to = member_of(model, edge.from or edge[1]), member_of(model, edge.to or edge[2])
    if from and to then table.insert(to.parents, from) end
  end
  add_scopes(model)
  add_depths(model.members)
  return model
end

--- The parent below which a tree shows a member: the deepest one.
---@param member table
---@return table|nil
function M.deepest_parent(member)
  local deepest
  for _, parent in ipairs(member.parents) do
    if not deepest or parent.depth > deepest.depth then deepest = parent end
  end
  return deepest
end

--- A condition as the graph text writes it: "a & (b | each1)".
---@param cond any COND
---@param inner boolean|nil whether it stands within another one
---@return string
function M.condition(cond, inner)
  if type(cond) == "string" then return cond end
  if cond.frame then return cond.frame end
  local op, parts = cond.all and "all" or "any", {}
  for i, item in ipairs(cond[op]) do parts[i] = M.condition(item, true) end
  local text = table.concat(parts, op == "all" and " & " or " | ")
  return inner and "(" .. text .. ")" or text
end

--- What a frame does, in words: "3 times", "each item of $ctx.items, 4 at a time".
---@param frame table
---@return string
function M.describe(frame)
  if frame.kind == "times" then return ("%s times"):format(frame.count) end
  if frame.kind == "each" then
    local parallel = given(frame.parallel) or 1
    return ("each %s of %s%s"):format(frame.as, frame.over, parallel > 1
      and (", %d at a time"):format(parallel) or "")
  end
  if frame.kind == "until" then return ("until %s, at most %d times"):format(frame.cond, frame.max) end
  if frame.kind == "switch" then return ("by %s"):format(frame.on) end
  return frame.label == "*" and "otherwise" or ('"%s"'):format(frame.label)
end

--- "5 tasks, 2 loops, 1 switch".
---@param model table
---@return string
function M.summary(model)
  local loops, switches = 0, 0
  for _, member in ipairs(model.members) do
    if member.kind == "switch" then switches = switches + 1
    elseif member.frame and member.kind ~= "case" then loops = loops + 1 end
  end
  local function count(n, one, many) return n > 0 and (", %d %s"):format(n, n == 1 and one or many) or "" end
  return ("%d task%s%s%s"):format(model.tasks, model.tasks == 1 and "" or "s", count(loops, "loop", "loops"),
    count(switches, "switch", "switches"))
end

return M
