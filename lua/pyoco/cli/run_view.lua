--- What `client.lua run` shows: a live tree on a terminal, else lines of JSON or plain ones. A view has
---   event(event, child)  takes an event of the engine; of a child run's, with the child (local/children.lua)
---   born(child)          a task has spawned a child run
---   ended(child)         which has ended
---   finish(snapshot)     the run has ended
---   close()              gives the terminal back; may be called twice
local clock = require "host.clock"
local json = require "host.json"
local excerpt = require "pyoco.cli.excerpt"
local output = require "pyoco.cli.output"
local screen_module = require "pyoco.cli.screen"
local text = require "pyoco.cli.text"
local tree_module = require "pyoco.cli.tree"
local uv = require "luv"

local M = {}

local FRAME_MS = 80         -- between two drawings
local PLAIN_WIDTH = 120
local LONGEST_LINE = 16384  -- a longer one without line break is shown in pieces

--- Collects what tasks print until there are whole lines: add(task, text) -> list of lines, rest(task) -> the last one.
local function line_buffer()
  local rest = {}
  return {
    add = function(task, piece)
      local lines, held = {}, (rest[task] or "") .. piece
      local from = 1
      for line, after in held:gmatch("([^\n]*)\n()") do
        lines[#lines + 1], from = line, after
      end
      held = held:sub(from)
      if #held > LONGEST_LINE then lines[#lines + 1], held = held, "" end
      rest[task] = held ~= "" and held or nil
      return lines
    end,
    rest = function(task)
      local line = rest[task]
      rest[task] = nil
      return line and { line } or {}
    end,
  }
end

--- Whether an event ends a task, so that its output has come to an end too.
local function is_end(event) return (event.type == "task" or event.type == "iteration") and event.state ~= "RUNNING" end

--- The name of an event's task: one of a child run stands behind whom that belongs to.
local function name_of(event, child)
  return child and event.task and child.label .. "/" .. event.task or event.task
end

--- Lines of a task's output that an event brings.
local function lines_of(buffer, event, name)
  if event.type == "log" then return buffer.add(name, event.text) end
  return is_end(event) and buffer.rest(name) or {}
end

local function nothing() end

--- What is said once a run has ended, block by block.
local function endings(tree, snapshot, columns, opts)
  local blocks = { tree:ending(columns), excerpt.lines(snapshot, opts.paint) }
  for _, child in ipairs(opts.children()) do blocks[#blocks + 1] = excerpt.lines(child.image, opts.paint) end
  return blocks
end

--- The tree, drawn again as the run goes on; what tasks print scrolls above it.
---@param take fun(): table the run's snapshot of this moment
---@param opts table { graph, paint, has_prefix = the task's name before each line of output, children = fn() -> list
---  of child runs }
---@return table view
function M.tree(take, opts)
  local paint, buffer, above = opts.paint, line_buffer(), {}
  local screen, tree, timer = screen_module.open(), tree_module.new(opts.paint, opts.graph), uv.new_timer()
  local view = {}

  local function draw()
    tree:update(take(), opts.children())
    local columns, rows = screen:size()
    local lines = above
    above = {}
    screen:draw(tree:lines(clock.wall(), columns, rows - 1), lines)
  end

  view.born, view.ended = nothing, nothing

  function view.event(event, child)
    local name = name_of(event, child)
    for _, line in ipairs(lines_of(buffer, event, name)) do
      local prefix = opts.has_prefix and paint("dim", text.clean(name) .. " │ ") or ""
      above[#above + 1] = prefix .. text.clean(line)
    end
  end

  function view.finish(snapshot)
    draw()
    local columns = screen:size()
    for _, lines in ipairs(endings(tree, snapshot, columns, opts)) do
      for _, line in ipairs(lines) do io.stdout:write(line, "\n") end
    end
  end

  function view.close()
    if not timer:is_closing() then timer:close() end
    screen:close()
  end

  timer:start(FRAME_MS, FRAME_MS, draw)
  return view
end

--- A timer that does nothing: while a task computes, a loop without one would not look for Ctrl-C.
local function keep_alive()
  local timer = uv.new_timer()
  timer:start(1000, 1000, function() end)
  return function()
    if not timer:is_closing() then timer:close() end
  end
end

--- Plain lines, each with its task's name.
---@param opts table { graph, children }
---@return table view
function M.plain(_, opts)
  local buffer, paint = line_buffer(), output.painter(false)
  local started = {}

  local function write(line)
    io.stdout:write(line, "\n")
    io.stdout:flush()
  end

  local function event_line(event, name)
    if event.type == "retry" then
      return ("%s failed, attempt %d in %s: %s"):format(name, event.attempt + 1, output.duration(event.delay_sec),
        text.last_line(tostring(event.error)))
    elseif event.type == "task" and event.state == "RUNNING" then
      started[name] = started[name] or event.at
    elseif event.type == "task" then
      local from = started[name]
      return ("%s %s%s"):format(name, event.state, from and " " .. output.duration(event.at - from) or "")
    end
  end

  local function born(child)
    write(text.clean(("%s spawns %s, run %s"):format(child.label, child.job.flow_name, child.run_id)))
  end

  local function ended(child)
    local image = child.image
    local why = type(image.error) == "string" and ": " .. text.last_line(image.error) or ""
    write(text.clean(("%s %s %s%s"):format(child.label, image.flow_name, image.status, why)))
  end

  return {
    born = born,
    ended = ended,
    event = function(event, child)
      local name = name_of(event, child)
      for _, line in ipairs(lines_of(buffer, event, name)) do
        write(("%s: %s"):format(text.clean(name), text.clean(line)))
      end
      local line = event_line(event, name)
      if line then write(text.clean(line)) end
    end,
    finish = function(snapshot)
      local tree = tree_module.new(paint, opts.graph)
      tree:update(snapshot, opts.children())
      write(tree:lines(clock.wall(), PLAIN_WIDTH)[1])
      for _, lines in ipairs(endings(tree, snapshot, PLAIN_WIDTH, { paint = paint, children = opts.children })) do
        for _, line in ipairs(lines) do write(line) end
      end
    end,
    close = keep_alive(),
  }
end

--- An event as `watch` prints one: {"event": ..., "data": {...}}.
local function json_line(name, data)
  local encoded = json.encode(data, { sort = true, order = { "task", "frame", "state", "text" } })
  io.stdout:write(('{"event": "%s", "data": %s}\n'):format(name, output.json_line(assert(encoded))))
  io.stdout:flush()
end

--- Lines of JSON: each event of the engine, at last the run as `get --records` shows it. Events of a child run have its
--- run_id; it is announced by "child", and its end is a "run" of its own before its parent's.
---@return table view
function M.json()
  return {
    born = function(child)
      json_line("child", { task = child.task, run_id = child.run_id, flow_name = child.job.flow_name,
        iteration = #child.iteration > 0 and json.array(child.iteration) or nil, ts = child.image.updated_at })
    end,
    ended = function(child) json_line("run", child.image) end,
    event = function(event, child)
      if event.type == "run" then return end -- the snapshot follows
      local data = { run_id = child and child.run_id }
      for key, value in pairs(event) do
        if key == "at" then data.ts = value elseif key ~= "type" then data[key] = value end
      end
      if data.iteration then data.iteration = json.array(data.iteration) end
      json_line(event.type, data)
    end,
    finish = function(snapshot) json_line("run", snapshot) end,
    close = keep_alive(),
  }
end

return M
