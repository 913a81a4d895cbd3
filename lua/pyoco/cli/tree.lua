--- A run as a tree of its tasks: lines for a terminal, drawn again as it goes on. Pure, but for the clock it is given.
local json = require "host.json"
local output = require "pyoco.cli.output"
local show = require "pyoco.flow.show"
local show_model = require "pyoco.flow.show_model"
local text = require "pyoco.cli.text"

local M = {}

local SPINNER = { "⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏" }
local ICONS = { PENDING = { "○", "dim" }, RUNNING = { "⠿", "cyan" }, SUCCEEDED = { "✔", "green" },
  FAILED = { "✘", "red" }, CANCELLED = { "⊘", "yellow" } }
local SKIPPED = { "–", "dim" }
local STATUS_COLOURS = { COMPLETED = "green", FAILED = "red", CANCELLED = "yellow", CANCELLING = "yellow",
  RUNNING = "cyan" }
local RUN_ICONS = { COMPLETED = "SUCCEEDED", CANCELLING = "CANCELLED" } -- status of a run -> state of a task like it
local TERMINAL = { COMPLETED = true, FAILED = true, CANCELLED = true }
local PENDING_SEC = 3 -- a run that waits longer has a remark
local WIDEST_NAME = 40

local Tree = {}
Tree.__index = Tree

--- A JSON value that is neither missing nor null.
local function given(value) return value ~= nil and value ~= json.null and value or nil end

---@param snapshot table
---@return boolean whether its run has ended
function M.is_terminal(snapshot) return TERMINAL[snapshot.status] == true end

--- Where each task and frame stands, from top to bottom: { name = a task's, frame = a frame, prefix }.
local function layout(graph, tasks)
  local rows, known, others = {}, {}, {}
  for _, row in ipairs(graph and show.layout(show_model.read(graph)) or {}) do
    local node = row.member.node
    rows[#rows + 1] = { prefix = row.prefix, name = node and node.name, frame = row.member.frame }
    if node then known[node.name] = true end
  end
  for name in pairs(tasks) do
    if not known[name] then others[#others + 1] = name end
  end
  table.sort(others)
  for i, name in ipairs(others) do
    rows[#rows + 1] = { name = name, prefix = i == #others and "└─ " or "├─ " }
  end
  return rows
end

--- Whether the layout has a row for every task.
local function has_all(self, tasks)
  for name in pairs(tasks) do
    if not self.placed[name] then return false end
  end
  return self.graph == self.drawn_graph
end

--- Lays out anew.
local function place(self, tasks)
  self.rows, self.placed, self.drawn_graph, self.name_width = layout(self.graph, tasks), {}, self.graph, 0
  for _, row in ipairs(self.rows) do
    if row.name then
      self.placed[row.name] = true
      self.name_width = math.max(self.name_width, text.width(row.prefix) + text.width(text.clean(row.name)))
    end
  end
  self.name_width = math.min(self.name_width, WIDEST_NAME)
end

--- Trees of the child runs, by the task that has spawned them.
local function plant(self, children)
  self.children = {}
  for _, child in ipairs(children) do
    local tree = self.planted[child.run_id]
    if not tree then
      tree = M.new(self.paint)
      self.planted[child.run_id], tree.label = tree, child.label
    end
    tree.graph = child.flow and child.flow.graph
    tree:update(child.image)
    local siblings = self.children[child.task] or {}
    self.children[child.task] = siblings
    siblings[#siblings + 1] = tree
  end
end

--- Takes a new snapshot (with task records).
---@param snapshot table
---@param children table|nil list of child runs: { run_id, task = that spawned it, label, image = its snapshot, flow }
function Tree:update(snapshot, children)
  self.snapshot = snapshot
  plant(self, children or {})
  local tasks = snapshot.tasks or {}
  if not has_all(self, tasks) then place(self, tasks) end
  self.isolated = {}
  for _, name in ipairs(given(snapshot.failed_tasks) or {}) do self.isolated[name] = true end
end

local function elapsed(from, to, now)
  from = given(from)
  return from and output.duration(math.max(0, (given(to) or now) - from)) or ""
end

--- A remark beside the run: trouble with watching, or why nothing happens.
local function note_of(self, now)
  if self.note then return self.note end
  local snapshot = self.snapshot
  if snapshot.status == "PENDING_APPROVAL" then return "(waits for somebody to approve or reject it)" end
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

--- What there is to say beside a task's time: iterations, attempts, why it did not run.
local function remarks(self, row, record, state)
  local parts = {}
  if given(record.skipped) then return "skipped" end
  if given(record.iterations) then parts[1] = ("×%d"):format(record.iterations) end
  if given(record.attempt) then parts[#parts + 1] = ("attempt %d"):format(record.attempt) end
  if state == "FAILED" and self.isolated[row.name] then parts[#parts + 1] = "isolated" end
  return table.concat(parts, " ")
end

--- Text that fills what is left of a line.
local function rest_of_line(says, used, width) return text.cut(says, width - used) end

--- The line of one task. What stands before the tree (a child run's stands in another one) is `lead`.
local function task_line(self, row, now, width, lead)
  local record = (self.snapshot.task_records or {})[row.name] or {}
  local state = self.snapshot.tasks[row.name] or "PENDING"
  local icon = given(record.skipped) and SKIPPED or ICONS[state] or ICONS.PENDING
  local shown = state == "RUNNING" and SPINNER[math.floor(now * 10) % #SPINNER + 1] or icon[1]
  local name = text.pad(text.cut(text.clean(row.name), self.name_width), self.name_width - text.width(row.prefix))
  local time = text.pad(elapsed(record.started_at, record.ended_at, now), 8)
  local remark = remarks(self, row, record, state)
  if remark ~= "" then remark = remark .. "  " end
  local says = state == "FAILED" and given(record.error) or given(record.log_tail)
  says = says and text.last_line(says) or ""
  local used = text.width(lead .. row.prefix) + 2 + text.width(name) + 2 + text.width(time) + 1
  remark = rest_of_line(remark, used, width)
  return self.paint("dim", lead .. row.prefix) .. self.paint(icon[2], shown) .. " " .. name .. "  " .. time
    .. self.paint("cyan", remark)
    .. self.paint(state == "FAILED" and "red" or "dim", rest_of_line(says, used + text.width(remark), width))
end

--- The line of a loop, a switch or a branch.
local function frame_line(self, row, _, width, lead)
  local frame = row.frame
  local record = (given(self.snapshot.frame_records) or {})[frame.id] or {}
  local icon = frame.kind == "case" and "" or show.ICONS[frame.kind] .. " "
  local colour = (ICONS[record.state] or ICONS.PENDING)[2]
  local says = given(record.error) or given(record.skipped) and (frame.kind == "case" and "not taken" or "skipped")
    or given(record.iterations) and ("×%d"):format(record.iterations) or ""
  says = text.last_line(says)
  local used = text.width(lead .. row.prefix .. icon)
  local kept = says ~= "" and math.min(text.width(says), width // 2) + 2 or 0 -- of long ones, both are cut
  local words = rest_of_line(text.clean(show_model.describe(frame)), used + kept, width)
  used = used + text.width(words) + 2
  local shown = self.paint(given(record.error) and "red" or "dim", rest_of_line(says, used, width))
  return self.paint("dim", lead .. row.prefix) .. self.paint(colour, icon .. words)
    .. (says ~= "" and "  " .. shown or "")
end

--- The line of a child run.
local function child_line(self, now, width, lead)
  local snapshot = self.snapshot
  local icon = ICONS[RUN_ICONS[snapshot.status] or snapshot.status] or ICONS.PENDING
  local shown = icon == ICONS.RUNNING and SPINNER[math.floor(now * 10) % #SPINNER + 1] or icon[1]
  local words = ("%s %s  %s"):format(text.clean(self.label), text.clean(tostring(snapshot.flow_name)),
    elapsed(snapshot.start_time, snapshot.end_time, now))
  local used = text.width(lead) + 2
  local says = given(snapshot.error) and text.last_line(tostring(snapshot.error)) or ""
  words = rest_of_line(words, used, width)
  return self.paint("dim", lead) .. self.paint(icon[2], shown) .. " " .. words .. "  "
    .. self.paint("red", rest_of_line(says, used + text.width(words) + 2, width))
end

--- Whether a child run is shown with its tasks: while it goes on, and when it has failed.
local function is_open(tree) return tree.snapshot.status ~= "COMPLETED" and #tree.rows > 0 end

--- All lines there are: of tasks and frames, below tasks that spawn those of their child runs. Each is { line =
--- fn(now, width), is_first = what must be seen }.
local function entries_of(self, lead, list)
  for _, row in ipairs(self.rows) do
    local state = self.snapshot.tasks[row.name] -- a frame has none
    list[#list + 1] = { is_first = state == "RUNNING" or state == "FAILED", line = function(now, width)
      return (row.frame and frame_line or task_line)(self, row, now, width, lead)
    end }
    local below = lead .. row.prefix:gsub("├─ $", "│  "):gsub("└─ $", "   ")
    local children = row.name and self.children[row.name] or {}
    for i, child in ipairs(children) do
      local is_last = i == #children
      list[#list + 1] = { is_first = child.snapshot.status ~= "COMPLETED", line = function(now, width)
        return child_line(child, now, width, below .. "┆  " .. (is_last and "└─ " or "├─ "))
      end }
      if is_open(child) then entries_of(child, below .. "┆  " .. (is_last and "   " or "│  "), list) end
    end
  end
  return list
end

--- The lines of this moment, at most `height` of them: what runs or failed comes first when not all fit.
---@param now number unix seconds
---@param width integer cells
---@param height integer|nil lines
---@return string[]
function Tree:lines(now, width, height)
  local lines, entries = { header(self, now) }, entries_of(self, "", {})
  local room = (height or math.huge) - 2
  local is_cut, chosen = #entries > room, {}
  if is_cut then
    local left = room
    for _, first in ipairs { true, false } do
      for _, entry in ipairs(entries) do
        if left > 0 and entry.is_first == first then chosen[entry], left = true, left - 1 end
      end
    end
  end
  for _, entry in ipairs(entries) do
    if not is_cut or chosen[entry] then lines[#lines + 1] = entry.line(now, width) end
  end
  if is_cut then
    lines[#lines + 1] = self.paint("dim", ("… and %d more tasks"):format(#entries - math.max(0, room)))
  end
  return lines
end

local function append_lines(lines, block, indent)
  for line in (block .. "\n"):gmatch("(.-)\n") do
    if line ~= "" then lines[#lines + 1] = indent .. text.clean(line) end
  end
end

--- The outputs, one for each task that has one.
local function add_outputs(self, lines, width)
  local records, outputs, widest = self.snapshot.task_records or {}, {}, 0
  for _, row in ipairs(self.rows) do
    local value = row.name and (records[row.name] or {}).output
    if value ~= nil and value ~= json.null then
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
end

--- Where in the code a task failed.
local function add_traceback(self, lines, name)
  local trace = given(((self.snapshot.task_records or {})[name] or {}).traceback)
  if not trace or not trace:find("\n", 1, true) then return end -- none of the user's code
  lines[#lines + 1] = self.paint("dim", "  in task " .. text.clean(name))
  append_lines(lines, trace, "    ")
end

--- Failures that did not end the run.
local function add_isolated(self, lines)
  local records = self.snapshot.task_records or {}
  for _, row in ipairs(self.rows) do
    local message = row.name and self.isolated[row.name] and given((records[row.name] or {}).error)
    if message then
      lines[#lines + 1] = self.paint("yellow", "isolated failure")
      append_lines(lines, row.name .. ": " .. message, "  ")
      add_traceback(self, lines, row.name)
    end
  end
end

--- Why the run failed.
local function add_error(self, lines)
  if not given(self.snapshot.error) then return end
  lines[#lines + 1] = self.paint("red", "error")
  append_lines(lines, tostring(self.snapshot.error), "  ")
  for _, row in ipairs(self.rows) do
    if row.name and not self.isolated[row.name] then add_traceback(self, lines, row.name) end
  end
end

--- Why child runs failed.
local function add_children(self, lines)
  for _, row in ipairs(self.rows) do
    for _, child in ipairs(row.name and self.children[row.name] or {}) do
      if child.snapshot.status == "FAILED" then
        lines[#lines + 1] = self.paint("bold", ("child run %s of %s"):format(text.clean(child.label),
          text.clean(tostring(child.snapshot.flow_name))))
        add_error(child, lines)
      end
    end
  end
end

--- What is said once a run has ended: outputs, errors, what to do next.
---@param width integer
---@return string[]
function Tree:ending(width)
  local snapshot, lines = self.snapshot, {}
  add_outputs(self, lines, width)
  if snapshot.task_records_truncated then
    lines[#lines + 1] = self.paint("dim", "outputs are left out: the run's record is over PYOCO_MAX_RUN_SNAPSHOT_BYTES")
  end
  add_isolated(self, lines)
  add_error(self, lines)
  add_children(self, lines)
  return lines
end

---@param paint fun(name: string, text: string): string
---@param graph table|nil the compiled graph, once known
---@return table
function M.new(paint, graph)
  return setmetatable({ paint = paint, graph = graph, rows = {}, placed = {}, isolated = {}, name_width = 0,
    children = {}, planted = {} }, Tree)
end

return M
