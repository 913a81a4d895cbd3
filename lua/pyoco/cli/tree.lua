--- A run as a tree of its tasks: lines for a terminal, drawn again as it goes on. Pure, but for the clock it is given.
local json = require "host.json"
local output = require "pyoco.cli.output"
local text = require "pyoco.cli.text"

local M = {}

local SPINNER = { "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" }
local ICONS = { PENDING = { "○", "dim" }, RUNNING = { "⠿", "cyan" }, SUCCEEDED = { "✔", "green" },
  FAILED = { "✘", "red" }, CANCELLED = { "⊘", "yellow" } }
local STATUS_COLOURS = { COMPLETED = "green", FAILED = "red", CANCELLED = "yellow", CANCELLING = "yellow",
  RUNNING = "cyan" }
local TERMINAL = { COMPLETED = true, FAILED = true, CANCELLED = true }
local PENDING_SEC = 3 -- a run that waits longer has a remark
local DEEPEST = 8 -- a longer chain is not indented further

local Tree = {}
Tree.__index = Tree

--- A JSON value that is neither missing nor null.
local function given(value) return value ~= nil and value ~= json.null and value or nil end

---@param snapshot table
---@return boolean whether its run has ended
function M.is_terminal(snapshot) return TERMINAL[snapshot.status] == true end

--- Depth of each node: one more than its deepest parent.
local function depths(nodes, parents)
  local depth = {}
  local function of(name)
    if depth[name] then return depth[name] end
    depth[name] = 0 -- also ends a cycle, which a graph never has
    local deepest = -1
    for _, parent in ipairs(parents[name] or {}) do deepest = math.max(deepest, of(parent)) end
    depth[name] = deepest + 1
    return depth[name]
  end
  for _, name in ipairs(nodes) do of(name) end
  return depth
end

--- Where each task stands: { name, prefix } from top to bottom. A task stands below its deepest parent.
local function layout(graph, tasks)
  local names, known, parents, children = {}, {}, {}, {}
  for _, node in ipairs(graph and graph.nodes or {}) do names[#names + 1], known[node.name] = node.name, true end
  local others = {}
  for name in pairs(tasks) do
    if not known[name] then others[#others + 1] = name end
  end
  table.sort(others)
  for _, name in ipairs(others) do names[#names + 1] = name end
  for _, edge in ipairs(graph and graph.edges or {}) do
    local from, to = edge.from or edge[1], edge.to or edge[2]
    parents[to] = parents[to] or {}
    table.insert(parents[to], from)
  end
  local depth = depths(names, parents)
  for _, name in ipairs(names) do
    local under = ""
    for _, parent in ipairs(parents[name] or {}) do
      if under == "" or depth[parent] > depth[under] then under = parent end
    end
    children[under] = children[under] or {}
    table.insert(children[under], name)
  end
  local rows = {}
  local function place(parent, prefix, level)
    local list = children[parent] or {}
    for i, name in ipairs(list) do
      local is_last = i == #list
      rows[#rows + 1] = { name = name, prefix = prefix .. (is_last and "└─ " or "├─ ") }
      place(name, level < DEEPEST and prefix .. (is_last and "   " or "│  ") or prefix, level + 1)
    end
  end
  place("", "", 1)
  return rows
end

--- Takes a new snapshot (with task records).
---@param snapshot table
function Tree:update(snapshot)
  self.snapshot = snapshot
  self.rows = layout(self.graph, snapshot.tasks or {})
  self.name_width = 0
  for _, row in ipairs(self.rows) do
    self.name_width = math.max(self.name_width, text.width(row.prefix) + text.width(text.clean(row.name)))
  end
  self.name_width = math.min(self.name_width, 40)
end

local function elapsed(from, to, now)
  from = given(from)
  return from and output.duration(math.max(0, (given(to) or now) - from)) or ""
end

--- A remark beside the run: trouble with watching, or why nothing happens.
local function note_of(self, now)
  if self.note then return self.note end
  local snapshot = self.snapshot
  local waits = snapshot.status == "PENDING" and type(snapshot.updated_at) == "number"
    and now - snapshot.updated_at > PENDING_SEC
  return waits and ("(no worker of tag %s has taken it yet)"):format(text.clean(tostring(snapshot.tag)))
end

--- The line of the run itself.
local function header(self, now)
  local snapshot = self.snapshot
  local note = note_of(self, now)
  local colour = STATUS_COLOURS[snapshot.status] or "dim"
  return ("%s  %s  %s  %s"):format(self.paint("bold", text.clean(tostring(snapshot.flow_name))),
    self.paint(colour, tostring(snapshot.status)), elapsed(snapshot.start_time, snapshot.end_time, now),
    self.paint("dim", "run " .. text.clean(tostring(snapshot.run_id)) .. (note and "  " .. note or "")))
end

--- The line of one task.
local function task_line(self, row, now, width)
  local record = (self.snapshot.task_records or {})[row.name] or {}
  local state = self.snapshot.tasks[row.name] or "PENDING"
  local icon = ICONS[state] or ICONS.PENDING
  local shown = state == "RUNNING" and SPINNER[math.floor(now * 10) % #SPINNER + 1] or icon[1]
  local name = text.pad(text.cut(text.clean(row.name), self.name_width), self.name_width - text.width(row.prefix))
  local time = text.pad(elapsed(record.started_at, record.ended_at, now), 8)
  local says = state == "FAILED" and given(record.error) or given(record.log_tail)
  says = says and text.last_line(says) or ""
  local room = width - text.width(row.prefix) - 2 - text.width(name) - 2 - text.width(time) - 1
  return self.paint("dim", row.prefix) .. self.paint(icon[2], shown) .. " " .. name .. "  " .. time
    .. self.paint(state == "FAILED" and "red" or "dim", text.cut(says, room))
end

--- The lines of this moment, at most `height` of them: what runs or failed comes first when not all fit.
---@param now number unix seconds
---@param width integer cells
---@param height integer|nil lines
---@return string[]
function Tree:lines(now, width, height)
  local lines, rows = { header(self, now) }, self.rows
  local room = (height or math.huge) - 2
  if #rows > room then
    local chosen, left = {}, room
    for _, first in ipairs { true, false } do
      for _, row in ipairs(rows) do
        local state = self.snapshot.tasks[row.name]
        local is_first = state == "RUNNING" or state == "FAILED"
        if left > 0 and is_first == first then chosen[row], left = true, left - 1 end
      end
    end
    for _, row in ipairs(rows) do
      if chosen[row] then lines[#lines + 1] = task_line(self, row, now, width) end
    end
    lines[#lines + 1] = self.paint("dim", ("… and %d more tasks"):format(#rows - math.max(0, room)))
    return lines
  end
  for _, row in ipairs(rows) do lines[#lines + 1] = task_line(self, row, now, width) end
  return lines
end

local function append_lines(lines, block, indent)
  for line in (block .. "\n"):gmatch("(.-)\n") do
    if line ~= "" then lines[#lines + 1] = indent .. text.clean(line) end
  end
end

--- What is said once a run has ended: outputs, errors, what to do next.
---@param width integer
---@return string[]
function Tree:ending(width)
  local snapshot, lines = self.snapshot, {}
  local records = snapshot.task_records or {}
  local outputs, widest = {}, 0
  for _, row in ipairs(self.rows) do
    local value = given((records[row.name] or {}).output)
    if value ~= nil then
      local name = text.clean(row.name)
      outputs[#outputs + 1] = { name, json.encode(value, { sort = true }) or tostring(value) }
      widest = math.max(widest, text.width(name))
    end
  end
  if #outputs > 0 then lines[#lines + 1] = self.paint("bold", "outputs") end
  for _, pair in ipairs(outputs) do
    local shown = text.cut(text.clean(pair[2]), math.max(20, width * 3 - widest - 4))
    lines[#lines + 1] = "  " .. text.pad(pair[1], widest) .. "  " .. shown
  end
  if snapshot.task_records_truncated then
    lines[#lines + 1] = self.paint("dim", "outputs are left out: the run's record is over PYOCO_MAX_RUN_SNAPSHOT_BYTES")
  end
  if given(snapshot.error) then
    lines[#lines + 1] = self.paint("red", "error")
    append_lines(lines, tostring(snapshot.error), "  ")
    for _, row in ipairs(self.rows) do
      local trace = given((records[row.name] or {}).traceback)
      if trace then
        lines[#lines + 1] = self.paint("dim", "  in task " .. text.clean(row.name))
        append_lines(lines, trace, "    ")
      end
    end
  end
  return lines
end

---@param paint fun(name: string, text: string): string
---@param graph table|nil the compiled graph, once known
---@return table
function M.new(paint, graph) return setmetatable({ paint = paint, graph = graph, rows = {}, name_width = 0 }, Tree) end

return M
