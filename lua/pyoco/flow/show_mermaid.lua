--- A graph as a Mermaid flowchart. Frames are subgraphs; where a task starts after the first of several, or after all
--- of some within such a choice, a small node says so.
local model_of = require "pyoco.flow.show_model"
local show = require "pyoco.flow.show"

local M = {}

--- Text inside quotes: what Mermaid or its HTML would take for something else becomes an entity.
local function quoted(text)
  return '"' .. text:gsub("[%c]+", " "):gsub('["#<>&`\\]', function(char)
    return ("#%d;"):format(char:byte())
  end) .. '"'
end

local SHAPES = { first = { '{{"', '"}}' }, all = { '(("', '"))' } }

--- Writes a condition's arrows into `target`; a choice, and a group within one, get a node of their own (once: they
--- are shared).
local function wire(w, cond, target, indent)
  if type(cond) == "string" or cond.frame then
    local from = w.ids[type(cond) == "string" and w.model.by_task[cond] or w.model.by_frame[cond.frame]]
    w.edges[#w.edges + 1] = ("%s --> %s"):format(from, target)
    return
  end
  local gate = w.gates[cond]
  if not gate then
    w.count = w.count + 1
    gate = "j" .. w.count
    w.gates[cond] = gate
    local kind = cond.any and "first" or "all"
    w.lines[#w.lines + 1] = indent .. gate .. SHAPES[kind][1] .. kind .. SHAPES[kind][2]
    for _, item in ipairs(cond.any or cond.all) do wire(w, item, gate, indent) end
  end
  w.edges[#w.edges + 1] = ("%s --> %s"):format(gate, target)
end

--- Writes the arrows into one member.
local function wire_member(w, member, indent)
  local cond = member.needs
  if not cond then return end
  local is_group = type(cond) == "table" and cond.all
  for _, item in ipairs(is_group and cond.all or { cond }) do wire(w, item, w.ids[member], indent) end
end

local function label_of(member)
  if not member.node then return show.title(member) end
  local details = show.options(member.node)
  return details and member.label .. " · " .. details or member.label
end

--- Writes the members of a scope.
local function write(w, scope, indent)
  for _, member in ipairs(scope) do
    if member.node then
      w.lines[#w.lines + 1] = ("%s%s[%s]"):format(indent, w.ids[member], quoted(label_of(member)))
    else
      w.lines[#w.lines + 1] = ("%ssubgraph %s[%s]"):format(indent, w.ids[member], quoted(label_of(member)))
      write(w, member.body, indent .. "  ")
      w.lines[#w.lines + 1] = indent .. "end"
    end
  end
  for _, member in ipairs(scope) do wire_member(w, member, indent) end
end

--- Draws a graph.
---@param graph table from compile.graph, or its decoded canonical JSON
---@return string Mermaid source
function M.text(graph)
  local model = model_of.read(graph)
  local w = { model = model, ids = {}, gates = {}, lines = { "flowchart TD" }, edges = {}, count = 0 }
  for i, member in ipairs(model.members) do w.ids[member] = (member.node and "t" or "f") .. i end
  write(w, model.top, "  ")
  for _, edge in ipairs(w.edges) do w.lines[#w.lines + 1] = "  " .. edge end
  return table.concat(w.lines, "\n") .. "\n"
end

return M
