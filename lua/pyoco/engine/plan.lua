--- A graph made ready to run: who waits for whom as counters, so that the end of a task costs as much as it has
--- followers, and which failures count.
---
--- A source (node or gate) has waiters; a waiter (node or gate) has `left`, the sources it still needs. Reaching 0
--- starts a node, or makes a gate a source that is done. `any` is a gate that needs one: later ones pass 0.
local ipairs = ipairs

local M = {}

--- Adds a waiter to a source.
local function add_waiter(source, waiter)
  local waiters = source.waiters
  if waiters then
    waiters[#waiters + 1] = waiter
  else
    source.waiters = { waiter }
  end
end

--- The source that stands for a condition. Conditions are shared between nodes, so gates are too.
local function source_of(cond, plan, gates)
  if type(cond) == "string" then
    return plan.by_name[cond] or error(("graph: unknown task '%s' in needs"):format(cond))
  end
  local gate = gates[cond]
  if gate then return gate end
  local items = cond.all or cond.any
  gate = { left = cond.all and #items or 1 }
  gates[cond] = gate
  for _, item in ipairs(items) do add_waiter(source_of(item, plan, gates), gate) end
  return gate
end

--- Makes one alternative per any-of of the graph: { branches left, of = { name = branch }, outer = alternative }.
--- Those that a task stands in are nested, so the smallest is the innermost.
local function add_alternatives(plan, any_of)
  local all = {}
  for i, branches in ipairs(any_of or {}) do
    local alternative = { left = #branches, size = 0, failed = {}, branch_of = {}, order = i }
    for b, names in ipairs(branches) do
      alternative.size = alternative.size + #names
      for _, name in ipairs(names) do alternative.branch_of[name] = b end
    end
    all[i] = alternative
  end
  table.sort(all, function(a, b)
    if a.size ~= b.size then return a.size < b.size end
    return a.order < b.order
  end)
  for _, alternative in ipairs(all) do
    for name in pairs(alternative.branch_of) do
      local node = plan.by_name[name]
      node.within = node.within or {}
      node.within[#node.within + 1] = alternative
    end
  end
end

--- Makes a plan.
---@param graph table as pyoco.flow.compile makes it
---@return table plan { nodes = { node }, by_name }; a node has room for all fields that the engine gives it
function M.new(graph)
  local plan = { nodes = {}, by_name = {} }
  for i, spec in ipairs(graph.nodes) do
    local node = { name = spec.name, index = i, spec = spec, left = 0, state = "PENDING", waiters = nil, record = nil,
      eng = nil, fn = nil, params = nil, inputs = nil, started = nil, turn = nil, co = nil } -- named for their room
    plan.nodes[i] = node
    plan.by_name[spec.name] = node
  end
  local gates = {}
  for _, node in ipairs(plan.nodes) do
    if node.spec.needs then
      node.left = 1
      add_waiter(source_of(node.spec.needs, plan, gates), node)
    end
  end
  add_alternatives(plan, graph.any_of)
  return plan
end

--- Tells the waiters of a source that it is done.
---@param source table node or gate
---@param ready fun(node: table) called for each node that may now start
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

--- Records that a node failed, and tells whether that fails the run: inside an any-of it does only when all
--- branches have failed, and then in the any-of around it.
---@param node table
---@return boolean counts
function M.failed(node)
  for _, alternative in ipairs(node.within or {}) do
    local branch = alternative.branch_of[node.name]
    if not alternative.failed[branch] then
      alternative.failed[branch] = true
      alternative.left = alternative.left - 1
    end
    if alternative.left > 0 then return false end
  end
  return true
end

return M
