--- The compiler: AST and task rows to the graph that the engine runs. Both front ends end here.
---
---   graph = { version = 1, name, nodes, edges, frames, any_of }
---   nodes   in declaration order: { name, needs = COND|nil, frame = id|nil, inputs = {}, outputs = {}, options = {
---           those given }, command = { run = list or text, env = {}, cwd }|nil, spawn = { workflow, fail_on = {}|nil }
---           |nil, callable, line, column, file }
---   COND    "task" | FRAME_REF | { all = { COND, ... } } | { any = { COND, ... } }: what must have SUCCEEDED before
---   FRAME_REF  { frame = id }: one table per frame, wherever it is mentioned
---   frames  loops, switches and their branches, outer ones first: { id, kind, frame = id of the one around it|nil,
---           needs = COND|nil, title, line, column, file } and, by kind,
---             times   count = text
---             each    over = text, as = name, parallel = how many at once
---             until   cond = text, max
---             switch  on = text
---             case    label = text; frame is its switch; it never has needs
---   edges   { { from, to }, ... }, derived from needs, of tasks and FRAME_REFs: nodes first, then frames
---   any_of  one entry for each `a | b`: its branches, each a list of members ("task" or FRAME_REF) of one scope; a
---           failure inside counts for the run only when all branches have failed
---
--- A member of a graph is a task or a frame. It stands in one scope (the top, or a frame), and waits for members of its
--- own scope only; one without needs starts when its scope does. Conditions are shared between the members behind them
--- (never copied), so compiling is linear in the text; only `edges` can grow quadratically, and is bounded.
---
--- While it works, the compiler keeps what it knows of a member in its record, a task's row or a frame's entry:
---   first, scope   where it was mentioned first, and in which frame (an entry, false for the top)
---   need, place    the first condition that a mention puts before it, and that mention
---   more           list of { cond, place }: the other ones
local condition = require "pyoco.flow.condition"
local dag = require "pyoco.flow.dag"

local ipairs, next, remove, type = ipairs, next, table.remove, type

local M = {}

local MAX_MENTIONS = 200000 -- a Lua fragment may be used twice, and that one twice, and so on
local MAX_NESTING = 400
local MAX_PROBLEMS = 200 -- hostile documents have any number
local LARGE = 500        -- tasks of a graph during whose compiling the collector rests
local NONE = {}          -- never written to

--- Records an error or warning at a mention, a row or a place (all carry at/to, line/column or file/line).
local function report(list, place, code, message, more)
  if #list >= MAX_PROBLEMS then return end
  local problem = { code = code, message = message, at = place.at, to = place.to, line = place.line,
    column = place.column, file = place.file, expression = place.expression }
  for key, value in pairs(more or NONE) do problem[key] = value end
  list[#list + 1] = problem
end

--- A nested chain of one operator as one list, in order: `(a >> b) >> c` has three items however it was built.
local function flatten(node)
  local op, is_flat = node.op, true
  for i = 1, #node do
    if node[i].op == op then
      is_flat = false
      break
    end
  end
  if is_flat then return node end
  local items, stack = {}, { node }
  while #stack > 0 do
    local top = remove(stack)
    if top.op == op then
      for i = #top, 1, -1 do stack[#stack + 1] = top[i] end
    else
      items[#items + 1] = top
    end
  end
  return items
end

--- The distinct members among list[from..].
local function unique(list, from)
  if from == #list then return { list[from] } end
  local members, seen = {}, {}
  for i = from, #list do
    local member = list[i]
    if not seen[member] then
      seen[member] = true
      members[#members + 1] = member
    end
  end
  return members
end

--- Puts a member behind `need`, at one of its mentions.
local function mention(c, key, record, node, need)
  local scope, branch = c.scope, c.branch
  if branch then branch[#branch + 1] = key end
  if record.first == nil then
    record.first, record.scope = node, scope
    local count = c.count + 1
    c.count, c.order[count] = count, record
    if scope then scope.has_member = true end
    if need then record.need, record.place = need, node end -- whose members were mentioned before: no cycle so far
    return
  elseif record.scope ~= scope then
    if scope then scope.has_member = true end
    return require("pyoco.flow.frame").report_conflict(c, record, node)
  elseif not need then
    return
  end
  c.is_in_order = false
  if record.need == nil then
    record.need, record.place = need, node
  else
    local more = record.more or {}
    record.more = more
    more[#more + 1] = { cond = need, place = node }
  end
end

local visit

--- One after the other: each starts when the one before it has ended.
local function visit_seq(c, node, need, depth)
  local items = flatten(node)
  for i = 1, #items do need = visit(c, items[i], need, depth + 1) end
  return need
end

--- Parallel items: each starts after `need`; the exit is that of all of them.
local function visit_all(c, node, need, depth)
  local items, exits, count = flatten(node), {}, 0
  for i = 1, #items do
    local exit = visit(c, items[i], need, depth + 1)
    if exit then
      count = count + 1
      exits[count] = exit
    end
  end
  return count > 1 and { all = exits } or exits[1]
end

--- Parallel items; the exit is that of the first. Notes which members stand in which branch: c.branch is the list of
--- what is mentioned inside of the outermost any-of of a scope.
local function visit_any(c, node, need, depth)
  local items, exits, branches, outer = flatten(node), {}, {}, c.branch
  local mentioned = outer or {}
  c.branch = mentioned
  for i = 1, #items do
    local from = #mentioned + 1
    exits[#exits + 1] = visit(c, items[i], need, depth + 1)
    if #mentioned >= from and not c.stopped then branches[#branches + 1] = unique(mentioned, from) end
  end
  c.branch = outer
  if #branches > 1 then c.any_of[#c.any_of + 1] = branches end
  return #exits > 1 and { any = exits } or exits[1]
end

--- Goes into a frame that is met for the first time. Returns its entry, false after an error.
local function open_frame(c, node, depth)
  local entry, items = require("pyoco.flow.frame").new(c, node)
  c.entries[node] = entry or false
  if not entry then return false end
  c.record[entry.key] = entry
  local scope, branch = c.scope, c.branch
  c.scope, c.branch = entry, nil
  for i = 1, #items do
    if items[i] then visit(c, items[i], nil, depth + 1) end
  end
  c.scope, c.branch = scope, branch
  if #items > 0 and not entry.has_member and not c.opts.partial then
    c.fail(node, "empty_frame", ("%s holds no task"):format(entry.frame.title))
  end
  return entry
end

--- A loop, a switch or a branch. One that is met again (the same table of a Lua flow) is one frame mentioned twice.
local function visit_frame(c, node, need, depth)
  local entry = c.entries[node]
  if entry == nil then entry = open_frame(c, node, depth) end
  if not entry then return need end
  mention(c, entry.key, entry, node, need)
  return entry.key
end

--- For each operator: wires the items of `node` behind the condition `need` and returns the condition that holds
--- when all of it has ended.
local VISIT = { seq = visit_seq, all = visit_all, any = visit_any, times = visit_frame, each = visit_frame,
  ["until"] = visit_frame, switch = visit_frame, case = visit_frame }

--- Names of all tasks, for what is said of an unknown one.
local function task_names(c)
  if not c.names then
    c.names = {}
    for i, row in ipairs(c.rows) do c.names[i] = row.name end
  end
  return c.names
end

--- A mention of a task that is not declared. Returns the condition that holds after it.
local function visit_unknown(c, node, need)
  local name = node.name
  if name == "flow" and node.bare then return need end -- the `flow >>` that may lead a statement
  if c.scope then c.scope.has_member = true end
  if not c.unknown[name] then -- once is enough
    c.unknown[name] = true
    c.fail(node, "unknown_task", ("unknown task '%s'"):format(name), { got = name, names = task_names(c),
      hint = "declare it below tasks:, or correct its name" })
  end
  return need
end

--- Stops at a graph that is too large; the first time it says so.
local function stop(c, node, message, hint)
  if not c.stopped then c.fail(node, "too_large", message, { hint = hint }) end
  c.stopped = true
end

--- Any node of the AST; see VISIT.
function visit(c, node, need, depth)
  local op = node.op
  if op then
    if depth > MAX_NESTING then stop(c, node, "the graph is nested too deeply", "flatten it") end
    if c.stopped then return need end
    return VISIT[op](c, node, need, depth)
  end
  local name = node.name
  local record = c.record[name]
  local left = c.left - 1
  c.left = left
  if left < 0 then
    stop(c, node, ("the graph mentions tasks more than %d times"):format(MAX_MENTIONS))
    return need
  elseif not record then
    return visit_unknown(c, node, need)
  end
  mention(c, name, record, node, need)
  return name
end

--- A member as errors name it.
local function label(c, member)
  return type(member) == "string" and ("'%s'"):format(member) or c.record[member].frame.title
end

--- What a member waits for: one condition out of all its mentions.
local function needs_of(c, record)
  local cond, more = record.need, record.more
  if not more and (cond == nil or type(cond) == "string") then return cond end
  cond = condition.simplify(cond, c.simple)
  if more then
    local list, places = { cond }, { record.place }
    for i, wait in ipairs(more) do list[i + 1], places[i + 1] = condition.simplify(wait.cond, c.simple), wait.place end
    cond = condition.join(list, function(member, i)
      report(c.warnings, places[i], "duplicate_edge", ("%s >> %s is written twice"):format(label(c, member),
        label(c, record.name or record.key)))
    end)
  end
  local member = condition.contradiction(cond)
  if member then
    local from = label(c, member)
    c.fail(more and more[#more].place or record.place, "contradiction",
      ("%s waits for %s, and also for the first of a choice that has %s in it"):format(
        label(c, record.name or record.key), from, from), { hint = "keep one of the two" })
  end
  return cond
end

--- Tells whether a declared task belongs to the run; warns where that may surprise.
local function is_included(c, row, run_all)
  local first = row.first
  if not run_all then return first ~= nil end
  local can_run = row.callable or row.command or row.spawn
  if first and can_run then return true end
  local message
  if first then
    message = ("task '%s' has no callable and no run: our workers cannot run it"):format(row.name)
  elseif can_run then
    message = ("the graph does not name '%s': it runs, and waits for nothing"):format(row.name)
  else
    message = ("'%s' has nothing to run and is not in the graph: ignored"):format(row.name)
  end
  c.warn(row, first and "no_callable" or "not_in_graph", message)
  return first or can_run
end

--- Makes a node of each row that belongs to the run, and completes the frames.
local function complete(c, graph)
  local nodes, run_all = graph.nodes, c.opts.run_all
  for _, row in ipairs(c.rows) do
    row.needs, row.frame = nil, nil
    if is_included(c, row, run_all) then
      local inputs = row.inputs
      if not inputs then row.inputs = NONE elseif next(inputs) ~= nil then c.has_reads = true end
      if not row.outputs then row.outputs = NONE end
      if not row.options then row.options = NONE end
      if row.command then c.has_reads = true end
      if row.need then row.needs = needs_of(c, row) end
      if row.scope then row.frame = row.scope.frame.id end
      if row.options.parallel then require("pyoco.flow.frame").set_parallel(c, row) end
      nodes[#nodes + 1] = row
    end
  end
  for _, entry in ipairs(c.opened) do
    entry.needs = needs_of(c, entry)
    entry.frame.needs = entry.needs
  end
end

--- Takes what only the compiler needs out of the rows, which are the nodes of the graph now.
local function clean(rows)
  for _, row in ipairs(rows) do
    row.first, row.scope, row.need, row.place, row.more, row.is_reported = nil, nil, nil, nil, nil, nil
  end
end

local RESTART = setmetatable({}, { __close = function() collectgarbage("restart") end })

--- Lets the collector rest until the value is closed: all that a compiler makes is either wanted or gone at its end.
--- An allocation that fails still collects.
---@param size integer tasks of the graph; a small one is not worth it
---@return table|nil for a variable with <close>
function M.rest_collector(size)
  if size < LARGE or not collectgarbage("isrunning") then return nil end
  collectgarbage("stop")
  return RESTART
end

--- The compiler's state.
local function new_state(rows, opts)
  local c = { rows = rows, opts = opts, record = {}, order = {}, count = 0, is_in_order = true, left = MAX_MENTIONS,
    scope = false, branch = nil,
    entries = {}, opened = {}, counts = {}, reads = {}, any_of = {}, simple = {}, unknown = {}, errors = {},
    warnings = {} }
  for _, row in ipairs(rows) do c.record[row.name] = row end
  function c.fail(...) report(c.errors, ...) end
  function c.warn(...) report(c.warnings, ...) end
  function c.label(member) return label(c, member) end
  function c.task_names() return task_names(c) end
  return c
end

--- Compiles. The rows become the nodes of the graph: they are changed, and serve one graph only.
---@param ast table see flow/text.lua
---@param rows table task rows in declaration order: { name, callable, inputs, outputs, options, command, line, column,
---  file }, see options.row
---@param opts table { name = flow name, run_all = tasks that the graph does not name run too (documents),
---  expose_env = list of variables that `$env` may name, defaults = the flow's params, partial = the AST has gaps:
---  report only what is sure, max_iterations = what a loop may ask for, place = fun(at) -> line, column of a byte of
---  the graph text, place_in = fun(name, "inputs"|"env"|"run", key) -> place of what a task's row has there }
---@return table|nil graph
---@return table problems without a graph the errors, else the warnings: raw ones, for problem.finish
function M.graph(ast, rows, opts)
  local resting <close> = M.rest_collector(#rows) -- luacheck: ignore
  local c = new_state(rows, opts)
  visit(c, ast, nil, 0)
  local frames = {}
  for i, entry in ipairs(c.opened) do frames[i] = entry.frame end
  local graph = { version = 1, name = opts.name, nodes = {}, edges = {}, frames = frames, any_of = c.any_of }
  complete(c, graph)
  if #c.reads > 0 then c.has_reads = true end
  if not c.stopped then dag.check(graph, c) end
  clean(rows)
  if #c.errors > 0 then return nil, c.errors end
  return graph, c.warnings
end

return M
