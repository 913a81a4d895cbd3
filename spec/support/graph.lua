--- Graphs for specs: from a text and some task names, and what can be said of them in one line.
local compile = require "pyoco.flow.compile"
local problem = require "pyoco.flow.problem"
local text = require "pyoco.flow.text"

local M = {}

--- Task rows named by the words of `names`; `more` = { task = fields of its row }.
function M.rows(names, more)
  local rows = {}
  for name in names:gmatch("%S+") do
    local row = { name = name, callable = "m:" .. name, line = #rows + 1 }
    for key, value in pairs(more and more[name] or {}) do row[key] = value end
    rows[#rows + 1] = row
  end
  return rows
end

--- A condition as text: all(a,any(b,each1)).
function M.show(cond)
  if type(cond) ~= "table" then return cond end
  if cond.frame then return cond.frame end
  local op = cond.all and "all" or "any"
  local items = {}
  for i, item in ipairs(cond[op]) do items[i] = M.show(item) end
  return op .. "(" .. table.concat(items, ",") .. ")"
end

--- Compiles a graph text. `opts` are those of compile.graph, with names = task names and rows = { task = fields }.
--- Returns the graph and its warnings; or nil and the errors.
function M.build(source, opts)
  opts = opts or {}
  local found = {}
  local settings = { name = "t" }
  for key, value in pairs(opts) do settings[key] = value end
  local ast, errors = text.read(source)
  assert(#errors == 0, problem.text(problem.finish(errors, problem.source(source))))
  local graph, problems = compile.graph(ast, M.rows(opts.names or "a b c d e f", opts.rows), settings)
  for i, it in ipairs(problem.finish(problems, problem.source(source))) do found[i] = it end
  return graph, found
end

--- What a graph says, one line per member: "a", "b in each1 after a", `each1 in switch1 after all(a,b)`.
function M.describe(graph)
  local lines = {}
  for _, list in ipairs { graph.frames, graph.nodes } do
    for _, member in ipairs(list) do
      lines[#lines + 1] = (member.id or member.name) .. (member.frame and " in " .. member.frame or "")
        .. (member.needs and " after " .. M.show(member.needs) or "")
    end
  end
  return table.concat(lines, "; ")
end

--- Problems as text, "line:column code message" each.
function M.lines(problems)
  local lines = {}
  for i, it in ipairs(problems) do
    lines[i] = ("%s:%s %s %s"):format(it.line or "-", it.column or "-", it.code, it.message)
  end
  return table.concat(lines, "\n")
end

--- The errors of a graph text as M.lines has them, and themselves.
function M.refuse(source, opts)
  local graph, errors = M.build(source, opts)
  assert(graph == nil, "compiled: " .. source)
  return M.lines(errors), errors
end

return M
