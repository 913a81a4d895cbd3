--- A graph in Graphviz's language. Frames are clusters; arrows to and from a frame end at its border.
local model_of = require "pyoco.flow.show_model"
local show = require "pyoco.flow.show"

local M = {}

local HEAD = [[
digraph %s {
  rankdir=TB
  compound=true
  node [shape=box style=rounded fontname="sans-serif"]
  graph [fontname="sans-serif" style="rounded,dashed"]
]]

local function quoted(text) return '"' .. text:gsub('[\\"]', "\\%0"):gsub("%c+", " ") .. '"' end

--- The first, or last, task inside a member: where arrows are tied to.
local function anchor(member, is_last)
  while member.body do member = member.body[is_last and #member.body or 1] end
  return member
end

--- Both ends of an arrow out of, or into, a member: the node, and the cluster at whose border it ends.
local function out_of(w, member)
  return w.ids[anchor(member, true)], member.body and ("ltail=cluster_%s"):format(w.ids[member]) or nil
end

local function into(w, member)
  return w.ids[anchor(member, false)], member.body and ("lhead=cluster_%s"):format(w.ids[member]) or nil
end

local function arrow(w, from, tail, to, head)
  local attributes = table.concat({ tail or head, tail and head }, " ")
  w.edges[#w.edges + 1] = ("%s -> %s%s"):format(from, to, attributes ~= "" and " [" .. attributes .. "]" or "")
end

--- Writes a condition's arrows into a node; choices, and groups within them, are small nodes, each written once.
local function wire(w, cond, to, head, indent)
  if type(cond) == "string" or cond.frame then
    local member = type(cond) == "string" and w.model.by_task[cond] or w.model.by_frame[cond.frame]
    local from, tail = out_of(w, member)
    return arrow(w, from, tail, to, head)
  end
  local gate = w.gates[cond]
  if not gate then
    w.count = w.count + 1
    gate = "j" .. w.count
    w.gates[cond] = gate
    w.lines[#w.lines + 1] = ("%s%s [label=%s shape=%s style=solid]"):format(indent, gate,
      cond.any and '"first"' or '"all"', cond.any and "diamond" or "circle")
    for _, item in ipairs(cond.any or cond.all) do wire(w, item, gate, nil, indent) end
  end
  arrow(w, gate, nil, to, head)
end

local function label_of(member)
  if not member.node then return quoted(show.title(member)) end
  local details = show.options(member.node)
  local name = quoted(member.label)
  return details and name:sub(1, -2) .. "\\n" .. quoted(details):sub(2) or name
end

local function write(w, scope, indent)
  for _, member in ipairs(scope) do
    if member.node then
      w.lines[#w.lines + 1] = ("%s%s [label=%s]"):format(indent, w.ids[member], label_of(member))
    else
      w.lines[#w.lines + 1] = ("%ssubgraph cluster_%s {"):format(indent, w.ids[member])
      w.lines[#w.lines + 1] = ("%s  label=%s"):format(indent, label_of(member))
      write(w, member.body, indent .. "  ")
      w.lines[#w.lines + 1] = indent .. "}"
    end
  end
  for _, member in ipairs(scope) do
    local cond = member.needs
    local to, head = into(w, member)
    local is_group = type(cond) == "table" and cond.all
    for _, item in ipairs(is_group and cond.all or { cond }) do wire(w, item, to, head, indent) end
  end
end

--- Draws a graph.
---@param graph table from compile.graph, or its decoded canonical JSON
---@return string DOT source
function M.text(graph)
  local model = model_of.read(graph)
  local w = { model = model, ids = {}, gates = {}, lines = { HEAD:format(quoted(graph.name or "flow")):sub(1, -2) },
    edges = {}, count = 0 }
  for i, member in ipairs(model.members) do w.ids[member] = (member.node and "t" or "f") .. i end
  write(w, model.top, "  ")
  for _, edge in ipairs(w.edges) do w.lines[#w.lines + 1] = "  " .. edge end
  w.lines[#w.lines + 1] = "}"
  return table.concat(w.lines, "\n") .. "\n"
end

return M
