--- The compiler: AST and task rows to the graph that the engine runs. Both front ends end here.
---
---   graph = { version = 1, name, nodes, edges, frames, any_of }
---   nodes   in declaration order: { name, needs = COND|nil, inputs = {}, outputs = {}, options = { those given },
---           command = { run = list or text, env = {}, cwd }|nil, callable, line, column, file }
---   COND    "task" | { all = { COND, ... } } | { any = { COND, ... } }: what must have SUCCEEDED before it starts
---   edges   { { from, to }, ... }, derived from needs, in node order
---   any_of  one entry for each `a | b`: its branches, each a list of task names; a failure inside counts for the
---           run only when all branches have failed
---   frames  control nodes with bodies (loops, switches); none yet
---
--- Conditions are shared between the nodes behind them (never copied), so compiling is linear in the text; only
--- `edges` can grow quadratically, and is bounded. A new operator of the AST is a new row of VISIT.
local dag = require "pyoco.flow.dag"

local M = {}

local MAX_MENTIONS = 200000 -- a Lua fragment may be used twice, and that one twice, and so on
local MAX_NESTING = 400
local NONE = {} -- never written to
local MAX_PROBLEMS = 200 -- hostile documents have any number

--- Records an error or warning at a mention or a task row (both carry at/to, line/column or file/line).
local function report(list, place, code, message, more)
  if #list >= MAX_PROBLEMS then return end
  local problem = { code = code, message = message, at = place.at, to = place.to, line = place.line,
    column = place.column, file = place.file }
  for key, value in pairs(more or {}) do problem[key] = value end
  list[#list + 1] = problem
end

--- A nested chain of one operator as one list, in order: `(a >> b) >> c` has three items however it was built.
local function flatten(node)
  local is_flat = true
  for i = 1, #node do is_flat = is_flat and node[i].op ~= node.op end
  if is_flat then return node end
  local items, stack = {}, { node }
  while #stack > 0 do
    local top = table.remove(stack)
    if top.op == node.op then
      for i = #top, 1, -1 do stack[#stack + 1] = top[i] end
    else
      items[#items + 1] = top
    end
  end
  return items
end

--- The distinct names among list[from..].
local function unique(list, from)
  if from == #list then return { list[from] } end
  local names, seen = {}, {}
  for i = from, #list do
    local name = list[i]
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

local visit

--- Parallel items: each starts after `need`; the exit is all, or any, of theirs.
local function visit_parallel(c, node, need, depth)
  local items, exits, branches = flatten(node), {}, {}
  for i = 1, #items do
    local from = #c.mentioned + 1
    exits[#exits + 1] = visit(c, items[i], need, depth + 1)
    if node.op == "any" and not c.stopped then branches[#branches + 1] = unique(c.mentioned, from) end
  end
  if #branches > 1 then c.any_of[#c.any_of + 1] = branches end
  return #exits > 1 and { [node.op] = exits } or exits[1]
end

--- For each operator: wires the items of `node` behind the condition `need` and returns the condition that holds
--- when all of it has ended.
local VISIT = {
  seq = function(c, node, need, depth)
    local items = flatten(node)
    for i = 1, #items do need = visit(c, items[i], need, depth + 1) end
    return need
  end,
  all = visit_parallel,
  any = visit_parallel,
}

--- A mention of a task.
local function visit_task(c, node, need)
  local name = node.name
  if not c.index[name] then
    if name == "flow" and node.bare then return need end -- the `flow >>` that may lead a statement
    if not c.unknown[name] then -- once is enough
      report(c.errors, node, "unknown_task", ("unknown task '%s'"):format(name), { got = name, names = c.names })
    end
    c.unknown[name] = true
    return need
  end
  c.mentioned[#c.mentioned + 1] = name
  local waits = c.waits[name] or {}
  c.waits[name] = waits
  if need then waits[#waits + 1] = { cond = need, place = node } end
  return name
end

--- Any node of the AST; see VISIT.
function visit(c, node, need, depth)
  if depth > MAX_NESTING or #c.mentioned > MAX_MENTIONS then
    if not c.stopped then
      report(c.errors, node, "too_deep", depth > MAX_NESTING
        and ("the graph is nested deeper than %d"):format(MAX_NESTING)
        or ("the graph mentions tasks more than %d times"):format(MAX_MENTIONS))
    end
    c.stopped = true
  end
  if c.stopped then return need end
  if node.op then
    local rule = VISIT[node.op]
    if rule then return rule(c, node, need, depth) end
    report(c.errors, node, "unsupported_syntax", "loops and switches are not available in this version")
    return need
  end
  return visit_task(c, node, need)
end

--- A condition without nesting of equal kind, without repeats and without groups of one. Remembered by identity,
--- so that nodes behind one condition go on sharing it.
local function simplify(c, cond)
  if type(cond) == "string" then return cond end
  if c.simple[cond] then return c.simple[cond] end
  local op = cond.all and "all" or "any"
  local items, seen = {}, {}
  for _, item in ipairs(cond[op]) do
    item = simplify(c, item)
    for _, part in ipairs(type(item) == "table" and item[op] or { item }) do
      if not seen[part] then
        seen[part] = true
        items[#items + 1] = part
      end
    end
  end
  local simple = #items > 1 and { [op] = items } or items[1]
  c.simple[cond] = simple
  return simple
end

--- Reports `a` beside `a | b` before one task: it cannot wait for a, and for whichever comes first, at once.
local function check_contradiction(c, name, cond)
  if type(cond) ~= "table" or not cond.all then return end
  local required, choices = {}, {}
  for _, item in ipairs(cond.all) do
    if type(item) == "string" then required[item] = true else choices[#choices + 1] = item end
  end
  for _, choice in ipairs(choices) do
    for _, item in ipairs(choice.any) do
      if required[item] then
        report(c.errors, c.waits[name][#c.waits[name]].place, "contradiction",
          ("'%s' waits for '%s', and also for the first of a choice that has '%s' in it"):format(name, item, item),
          { hint = "keep one of the two" })
      end
    end
  end
end

--- What a task waits for: one condition out of all its mentions.
local function needs_of(c, name)
  local waits = c.waits[name] or {}
  if #waits == 0 then return nil end
  local cond
  if #waits == 1 then
    cond = simplify(c, waits[1].cond)
  else
    local items, seen = {}, {}
    for _, wait in ipairs(waits) do
      local part = simplify(c, wait.cond)
      for _, item in ipairs(type(part) == "table" and part.all or { part }) do
        if not seen[item] then
          seen[item] = true
          items[#items + 1] = item
        elseif type(item) == "string" then
          report(c.warnings, wait.place, "duplicate_edge", ("'%s' >> '%s' is written twice"):format(item, name))
        end
      end
    end
    cond = #items > 1 and { all = items } or items[1]
  end
  check_contradiction(c, name, cond)
  return cond
end

--- Tells whether a declared task belongs to the run; warns where that may surprise.
local function is_included(c, row, run_all)
  local can_run = row.callable or row.command
  if c.waits[row.name] then
    if run_all and not can_run then
      report(c.warnings, row, "no_callable", ("task '%s' has no callable and no run: our workers cannot run it")
        :format(row.name))
    end
    return true
  elseif run_all and can_run then
    report(c.warnings, row, "not_in_graph",
      ("the graph does not name '%s': it runs, and waits for nothing"):format(row.name))
    return true
  elseif run_all then
    report(c.warnings, row, "not_in_graph", ("'%s' has nothing to run and is not in the graph: ignored")
      :format(row.name))
  end
  return false
end

--- Compiles.
---@param ast table see flow/text.lua
---@param rows table task rows in declaration order: { name, callable, inputs, outputs, line, column, file }
---@param opts table { name = flow name, run_all = tasks that the graph does not name run too (documents),
---  expose_env = list of variables that `$env` may name, partial = the AST has gaps: report only what is sure }
---@return table|nil graph
---@return table problems without a graph the errors, else the warnings: raw ones, for problem.finish
function M.graph(ast, rows, opts)
  local c = { index = {}, names = {}, waits = {}, mentioned = {}, any_of = {}, simple = {}, unknown = {}, errors = {},
    warnings = {} }
  for i, row in ipairs(rows) do c.index[row.name], c.names[i] = row, row.name end
  visit(c, ast, nil, 0)
  local graph = { version = 1, name = opts.name, nodes = {}, edges = {}, frames = {}, any_of = c.any_of }
  for _, row in ipairs(rows) do
    if is_included(c, row, opts.run_all) then
      graph.nodes[#graph.nodes + 1] = {
        name = row.name, callable = row.callable, inputs = row.inputs or NONE, outputs = row.outputs or NONE,
        options = row.options or NONE, command = row.command, needs = needs_of(c, row.name), line = row.line,
        column = row.column, file = row.file,
      }
    end
  end
  local function fail(...) report(c.errors, ...) end
  if not c.stopped then
    dag.check(graph, { rows = c.index, names = c.names, waits = c.waits, fail = fail, opts = opts })
  end
  if #c.errors > 0 then return nil, c.errors end
  return graph, c.warnings
end

return M
