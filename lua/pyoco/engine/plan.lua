--- A graph made ready to run: who waits for whom as counters, so that the end of a task costs as much as it has
--- followers, and which failures count.
---
--- Members of a scope are its tasks (nodes) and its loops and switches (frames). A scope is the run itself (the top
--- scope, made once), one iteration of a loop, or the branch that a switch took: each has members, conditions and
--- results of its own, made of a `body` when it begins.
---
--- A source (member or gate) has waiters; a waiter (member or gate) has `left`, the sources it still needs. Reaching 0
--- starts a member, or makes a gate a source that is done. `any` is a gate that needs one: later ones pass 0.
local ipairs, type, error, setmetatable, sort, format = ipairs, type, error, setmetatable, table.sort, string.format

local M = {}

local NONE <const> = {}

--- Adds a waiter to a source.
local function add_waiter(source, waiter)
  local waiters = source.waiters
  if waiters then
    waiters[#waiters + 1] = waiter
  else
    source.waiters = { waiter }
  end
end

--- The member of a scope that a graph names: "task" or { frame = id }.
local function member_of(scope, name)
  if type(name) == "string" then
    return scope.by_name[name] or error(format("graph: unknown task '%s' in needs", name))
  end
  return scope.by_id[name.frame] or error(format("graph: unknown frame '%s' in needs", name.frame))
end

--- The source that stands for a condition. Conditions are shared between members, so gates are too.
local function source_of(cond, scope, gates)
  if type(cond) == "string" or cond.frame then return member_of(scope, cond) end
  local gate = gates[cond]
  if gate then return gate end
  local items = cond.all or cond.any
  gate = cond.all and { left = #items } or { left = 1, alive = #items }
  gates[cond] = gate
  for _, item in ipairs(items) do add_waiter(source_of(item, scope, gates), gate) end
  return gate
end

--- Makes one alternative per any-of of a scope: { branches left, of = { member = branch }, order }.
--- Those that a member stands in are nested, so the smallest is the innermost.
local function add_alternatives(scope, any_of)
  local all = {}
  for i, branches in ipairs(any_of) do
    local alternative = { left = #branches, size = 0, failed = {}, branch_of = {}, members = {}, order = i }
    for b, names in ipairs(branches) do
      alternative.size = alternative.size + #names
      for _, name in ipairs(names) do
        local member = member_of(scope, name)
        alternative.branch_of[member] = b
        alternative.members[#alternative.members + 1] = member
      end
    end
    all[i] = alternative
  end
  sort(all, function(a, b)
    if a.size ~= b.size then return a.size < b.size end
    return a.order < b.order
  end)
  for _, alternative in ipairs(all) do
    for _, member in ipairs(alternative.members) do
      member.within = member.within or {}
      member.within[#member.within + 1] = alternative
    end
  end
end

--- Puts a member behind its condition.
local function connect(member, needs, scope, gates)
  if not needs then return end
  member.left = 1
  add_waiter(source_of(needs, scope, gates), member)
end

--- Connects the members of a scope with each other.
local function connect_all(scope, body)
  local gates = {}
  for _, node in ipairs(scope.nodes) do connect(node, node.spec.needs, scope, gates) end
  for _, frame in ipairs(scope.frames or NONE) do connect(frame, frame.spec.needs, scope, gates) end
  if body.any_of then add_alternatives(scope, body.any_of) end
end

--- Makes the frames of a scope.
local function add_frames(scope, body)
  if not body.frames then return end
  scope.frames, scope.by_id = {}, {}
  for i, inner in ipairs(body.frames) do
    local frame = { id = inner.id, name = inner.id, spec = inner.spec, kind = inner.spec.kind, body = inner,
      scope = scope, left = 0, state = "PENDING" }
    scope.frames[i], scope.by_id[inner.id] = frame, frame
  end
end

--- Makes a node of a body's task.
local function instance(task, scope)
  return setmetatable({ scope = scope, left = 0, state = "PENDING", record = nil, waiters = nil, started = nil,
    turn = nil, co = nil }, task.meta) -- named for their room
end

--- Makes the members of a scope inside of a frame.
---@param scope table fields nodes, by_name, frames, by_id, pending (members that have not ended) are set
---@param body table what it is made of
function M.fill(scope, body)
  local tasks = body.tasks
  if #tasks == 1 then
    local node = instance(tasks[1], scope)
    scope.nodes, scope.by_name = { node }, { [node.name] = node }
  else
    local nodes, by_name = {}, {}
    scope.nodes, scope.by_name = nodes, by_name
    for i = 1, #tasks do
      local node = instance(tasks[i], scope)
      nodes[i], by_name[node.name] = node, node
    end
  end
  scope.pending = #tasks + (body.frames and #body.frames or 0)
  if scope.pending > 1 then
    add_frames(scope, body)
    connect_all(scope, body)
  elseif body.frames then
    add_frames(scope, body)
  end
end

--- Sorts a graph's tasks, frames and any-ofs into the bodies that they stand in; only for a graph with frames.
--- body = { id, spec = frame of the graph, tasks = { task }, frames = { body }, any_of, outer = body, depth = number of
--- loops around its tasks, cases = { bodies of a switch } }. A body's task has what all instances of it share.
local function bodies_of(graph, top, shared)
  local bodies = {}
  for _, spec in ipairs(graph.frames) do
    bodies[spec.id] = { id = spec.id, spec = spec, tasks = {} }
  end
  local function around(id) return id == nil and top or bodies[id] or error(format("graph: unknown frame '%s'", id)) end
  for _, spec in ipairs(graph.frames) do -- outer ones come first
    local body, outer = bodies[spec.id], around(spec.frame)
    local list = spec.kind == "case" and "cases" or "frames"
    outer[list] = outer[list] or {}
    outer[list][#outer[list] + 1] = body
    body.outer = outer
    body.depth = outer.depth + ((spec.kind == "case" or spec.kind == "switch") and 0 or 1)
  end
  local meta, frame_of = { __index = shared }, {}
  for i, spec in ipairs(graph.nodes) do
    local body = around(spec.frame)
    frame_of[spec.name] = spec.frame
    if body ~= top then
      local task = setmetatable({ name = spec.name, index = i, spec = spec, depth = body.depth }, meta)
      task.meta = { __index = task }
      body.tasks[#body.tasks + 1] = task
    end
  end
  for _, branches in ipairs(graph.any_of or NONE) do
    local first = branches[1][1]
    local body
    if type(first) == "table" then body = bodies[first.frame].outer else body = around(frame_of[first]) end
    body.any_of = body.any_of or {}
    body.any_of[#body.any_of + 1] = branches
  end
  return bodies
end

--- Makes the top scope of a run.
---@param graph table as pyoco.flow.compile makes it
---@param shared table fields that every node has unless it has its own
---@return table scope { nodes = { node }, by_name, results, frames = { frame }|nil, by_id, bodies = { frame id = body }
---  |nil }; a node has room for all fields that the engine gives it
function M.new(graph, shared)
  local scope = { nodes = {}, by_name = {}, results = {} }
  local has_frames = graph.frames and #graph.frames > 0
  local body = { depth = 0, tasks = NONE, any_of = not has_frames and graph.any_of or nil }
  if has_frames then
    scope.bodies = bodies_of(graph, body, shared)
    add_frames(scope, body)
  end
  shared.scope = scope
  local meta, nodes, by_name = { __index = shared }, scope.nodes, scope.by_name
  for i, spec in ipairs(graph.nodes) do
    if not spec.frame then
      local node = setmetatable({ name = spec.name, index = i, spec = spec, left = 0, state = "PENDING", waiters = nil,
        record = nil, fn = nil, params = nil, inputs = nil, started = nil, turn = nil, co = nil }, meta)
      nodes[#nodes + 1] = node
      by_name[spec.name] = node
    end
  end
  connect_all(scope, body)
  return scope
end

--- Tells the waiters of a source that it is done.
---@param source table member or gate
---@param ready fun(member: table) called for each member that may now start
function M.done(source, ready)
  local waiters = source.waiters
  for i = 1, waiters and #waiters or 0 do
    local waiter = waiters[i]
    local left = waiter.left - 1
    waiter.left = left
    if left == 0 then
      if waiter.name then ready(waiter) else M.done(waiter, ready) end
    end
  end
end

--- Finds the members that can never start since a source never will be done. Each is found once in its life.
---@param source table member
---@return table[] members
function M.lost(source)
  local found, sources = {}, { source }
  while #sources > 0 do
    local waiters = sources[#sources].waiters
    sources[#sources] = nil
    for _, waiter in ipairs(waiters or NONE) do
      if waiter.alive then waiter.alive = waiter.alive - 1 end
      if not waiter.is_lost and waiter.left > 0 and (waiter.alive or 0) == 0 then
        waiter.is_lost = true
        if waiter.name then found[#found + 1] = waiter end
        sources[#sources + 1] = waiter
      end
    end
  end
  return found
end

--- Records that a member failed, and tells whether that counts in its scope: inside an any-of it does only when all
--- branches have failed, and then in the any-of around it.
---@param member table
---@param policy string "stop"|"isolate"
---@return boolean counts
---@return string policy "stop" if one of the any-of's other failures was none to be isolated
function M.failed(member, policy)
  for _, alternative in ipairs(member.within or NONE) do
    local branch = alternative.branch_of[member]
    if not alternative.failed[branch] then
      alternative.failed[branch] = true
      alternative.left = alternative.left - 1
    end
    if policy == "stop" then alternative.is_hard = true end
    if alternative.left > 0 then return false, policy end
    if alternative.is_hard then policy = "stop" end
  end
  return true, policy
end

return M
