--- A graph as lines of text: a tree in which each task stands below what it waits for. Frames have their body beside
--- a dotted line, and what comes after them below it:
---
---     └─ each1 ↻ each item of $ctx.items, 4 at a time
---        ┆  └─ train                                   retries=3
---        └─ report
local json = require "host.json"
local model_of = require "pyoco.flow.show_model"
local options = require "pyoco.flow.options"

local M = {}

local DEEPEST = 8      -- what stands deeper is not indented further
local WIDEST_NAME = 44 -- cells of the first column
local LONGEST = 60     -- cells of a command
local SHOWN = 400      -- lines of a drawing

--- What stands between a frame's id and its description.
M.ICONS = { times = "↻", each = "↻", ["until"] = "↻", switch = "◇", case = "" }

--- Members of a scope by the parent they stand below; those without one under `false`.
local function children_of(scope)
  local children = { [false] = {} }
  for _, member in ipairs(scope) do
    local parent = member.kind ~= "case" and model_of.deepest_parent(member) or false
    children[parent] = children[parent] or {}
    table.insert(children[parent], member)
  end
  return children
end

--- What a member waits for, when the tree alone does not say it.
local function waits(member, parent, is_capped)
  if #member.parents > 1 or (is_capped and parent) then
    return member.needs and model_of.condition(member.needs) or nil
  end
end

--- Pushes the members of a list, last one first, so that the first is taken next.
local function push(stack, list, children, prefix, level)
  for i = #list, 1, -1 do
    stack[#stack + 1] = { member = list[i], is_last = i == #list, children = children, prefix = prefix, level = level }
  end
end

--- The members of a graph from top to bottom, each once.
---@param model table from show_model.read
---@return table rows { member, prefix = the lines of the tree before its name, waits = text|nil }
function M.layout(model)
  local rows, stack = {}, {}
  local top = children_of(model.top)
  push(stack, top[false], top, "", 1)
  while #stack > 0 do
    local item = table.remove(stack)
    local member, is_capped = item.member, item.level > DEEPEST
    rows[#rows + 1] = { member = member, prefix = item.prefix .. (item.is_last and "└─ " or "├─ "),
      waits = waits(member, model_of.deepest_parent(member), is_capped) }
    local below = is_capped and item.prefix or item.prefix .. (item.is_last and "   " or "│  ")
    local level = item.level + 1
    push(stack, item.children[member] or {}, item.children, below, level)
    if member.body then
      local inner = children_of(member.body)
      local is_dotted = member.kind ~= "case" and not is_capped
      push(stack, inner[false], inner, is_dotted and below .. "┆  " or below, level)
    end
  end
  return rows
end

--- Name of a row without its prefix: "fetch", "each1 ↻ each item of $ctx.items".
---@param member table
---@return string
function M.title(member)
  if member.node then return member.label end
  local words = model_of.describe(member.frame)
  return member.kind == "case" and words or ("%s %s %s"):format(member.label, M.ICONS[member.kind], words)
end

local function cut(text, most)
  text = text:gsub("%s+", " ")
  if (utf8.len(text) or #text) <= most then return text end
  return text:sub(1, (utf8.offset(text, most) or most) - 1) .. "…"
end

--- A task's options as text: `retries=3 timeout_sec=30`, its command, the workflow that it spawns.
---@param node table of a graph
---@return string|nil
function M.options(node)
  local parts, given = {}, node.options or {}
  for _, row in ipairs(options.TASK) do
    local value = given[row.name]
    if value ~= nil then
      parts[#parts + 1] = ("%s=%s"):format(row.name, type(value) == "string" and value or json.encode(value))
    end
  end
  local command = type(node.command) == "table" and node.command or nil
  if command then
    local run = type(command.run) == "table" and table.concat(command.run, " ") or command.run
    parts[#parts + 1] = "$ " .. cut(run, LONGEST)
  end
  local spawn = type(node.spawn) == "table" and node.spawn or nil
  if spawn then
    parts[#parts + 1] = "spawns " .. cut(spawn.workflow, LONGEST) .. (spawn.tag and " on " .. spawn.tag or "")
  end
  return #parts > 0 and table.concat(parts, " ") or nil
end

--- The graph as lines.
---@param graph table from compile.graph, or its decoded canonical JSON
---@param opts table|nil { paint = fn(name, text), width = fn(text) -> cells, clean = fn(text) -> text safe for a
---  terminal, max_lines = 400 }
---@return string[]
function M.lines(graph, opts)
  opts = opts or {}
  local paint = opts.paint or function(_, text) return text end
  local width = opts.width or function(text) return utf8.len(text) or #text end
  local clean = opts.clean or function(text) return text end
  local rows, widest, lines = M.layout(model_of.read(graph)), 0, {}
  local shown = math.min(#rows, opts.max_lines or SHOWN)
  for i = 1, shown do
    local row = rows[i]
    row.title = clean(M.title(row.member))
    if row.member.node then widest = math.max(widest, width(row.prefix) + width(row.title)) end
  end
  widest = math.min(widest, WIDEST_NAME)
  for i = 1, shown do
    local row, details = rows[i], {}
    if row.member.node then details[1] = M.options(row.member.node) end
    if row.waits then details[#details + 1] = "after " .. cut(row.waits, LONGEST) end
    local line = paint("dim", row.prefix) .. (row.member.node and row.title or paint("cyan", row.title))
    if #details > 0 then
      local blanks = (" "):rep(math.max(0, widest - width(row.prefix) - width(row.title)))
      line = line .. blanks .. "  " .. paint("dim", clean(table.concat(details, "  ")))
    end
    lines[i] = line
  end
  if #rows > shown then lines[#lines + 1] = ("… and %d more"):format(#rows - shown) end
  return lines
end

--- The graph as text.
---@param graph table
---@param opts table|nil see lines
---@return string with a newline after each line
function M.text(graph, opts) return table.concat(M.lines(graph, opts), "\n") .. "\n" end

return M
