--- `client.lua run`: runs a flow file in this process, with no server.
local clock = require "host.clock"
local json = require "host.json"
local called = require "pyoco.cli.called"
local changes = require "pyoco.cli.changes"
local config = require "pyoco.config"
local crypto = require "host.crypto"
local engine_local = require "pyoco.engine.local"
local params = require "pyoco.cli.params"
local problems = require "pyoco.cli.problems"
local source = require "pyoco.cli.source"
local task = require "host.task"
local uv = require "luv"

local M = {}

local function bad_input(message, code, hint)
  local is_file = code == "not_found"
  if is_file and message:find("Is a directory", 1, true) then hint = "name one file of it; check takes folders" end
  return nil, message, code, { shape = is_file and "file" or "arguments", reason = message,
    hints = { hint or is_file and "check the path; it is taken from the current folder"
      or ("see `%s run --help`"):format(called.program "client") } }
end

--- The flow that is meant, out of those of the file.
local function choose(found, name)
  name = name or found.entry
  local names = {}
  for i, flow in ipairs(found.flows) do
    if flow.name == name or (not name and #found.flows == 1) then return flow end
    names[i] = flow.name
  end
  if #names == 0 then
    return bad_input(found.path .. " has no flow in it: it is a module of tasks", "invalid",
      "name the flow file that uses it")
  end
  local near = name and require("pyoco.nearest").name(name, names)
  local hint = near and ("did you mean --flow %s?"):format(near)
    or ("name one with --flow: %s"):format(table.concat(names, ", "))
  return bad_input(name and ("%s declares no flow '%s'"):format(found.path, name)
    or ("%s declares several flows"):format(found.path), "invalid", hint)
end

--- One mapping over another, as a new one.
local function merged(below, above)
  local all = {}
  for _, from in ipairs { below or {}, above } do
    for name, value in pairs(from) do all[name] = value end
  end
  return all
end

--- Writes why a file cannot run.
local function print_errors(found, context)
  local paint = context.paint_errors
  for _, problem in ipairs(found.errors) do
    io.stderr:write(table.concat(problems.lines(problem, "error", paint), "\n"), "\n")
  end
end

--- The run as the gateway would show it.
local function snapshot_of(eng, run, children)
  local snapshot = { run_id = run.run_id, flow_name = run.flow_name, tag = run.tag, tags = run.tags,
    status = eng.status or (task.cancelled() and "CANCELLING" or "RUNNING"), start_time = run.started_at,
    end_time = eng.ended_at or json.null, params = eng.params, tasks = eng.tasks, task_records = eng.records,
    frame_records = eng.frames, failed_tasks = eng.failed_tasks and json.array(eng.failed_tasks) or nil,
    error = eng.error or json.null }
  if children then children:apply(snapshot, eng.records) end
  return snapshot
end

--- What a run takes from the configuration, and who it is.
local function options_of(flow, run, cfg, on_event)
  local exposed = flow.expose_env or {}
  return {
    run = run, max_parallel = cfg.run_max_parallel, max_iterations = cfg.flow_max_iterations,
    max_commands = cfg.run_max_commands, command_grace_sec = cfg.command_grace_sec, artifacts_dir = cfg.artifacts_dir,
    env = #exposed > 0 and config.exposed(exposed) or nil, on_event = on_event,
  }
end

--- The child runs of a run; nil when no task of it spawns any.
local function children_of(chosen, read, run, given, cfg, view)
  if #chosen.spawns == 0 then return nil end
  return require("pyoco.local.children").new {
    cfg = cfg, run = run, params = merged(chosen.flow.defaults, given), text = read.bundle, roots = read.roots,
    now = clock.wall,
    after = require("pyoco.engine.timer").after, on_born = view.born, on_end = view.ended,
    options = function(child)
      local opts = options_of(child.flow, child.run, cfg, function(event) view.event(event, child) end)
      opts.allow_commands = true
      return opts
    end,
  }
end

--- Runs a flow to its end. Ctrl-C, and `is_over`, cancel it.
local function execute(chosen, read, given, cfg, context, started)
  local flow = chosen.flow
  local run = { run_id = crypto.uuid4(), flow_name = flow.name, tag = cfg.default_tag,
    tags = json.array { cfg.default_tag }, attempt = 1, started_at = clock.wall() }
  local eng, children
  local view = require("pyoco.cli.run_view")[context.view](function() return snapshot_of(eng, run, children) end,
    { graph = flow.graph, paint = context.paint, has_prefix = #flow.graph.nodes > 1 or #chosen.spawns > 0,
      children = function() return children and children.list or {} end })
  local _ <close> = setmetatable({}, { __close = view.close })
  children = children_of(chosen, read, run, given, cfg, view)
  local opts = options_of(flow, run, cfg, view.event)
  opts.params, opts.beside, opts.spawn = given, children, children and children:spawner()
  function opts.on_start(made)
    eng = made
    started(function()
      made:cancel()
      if children then children:cancel() end
    end)
  end
  eng = assert(engine_local.run(flow, opts))
  view.finish(snapshot_of(eng, run, children))
  return eng.status
end

--- Waits for a save; false when a signal came first.
local function wait_for_save(watch, context)
  while not watch.changed and not context.interrupt.seen do uv.run("once") end
  return not context.interrupt.seen
end

--- Reads the file and runs it once. Returns its status (nil when it could not run), and what was read.
local function once(values, given, cfg, context, on_read)
  local roots = source.roots(values.file, values.tasks, cfg.task_path)
  context.interrupt.on_signal = task.cancel
  local found, message, code = source.read(values.file, { roots = roots })
  if not found then return bad_input(message, code) end
  local watch = on_read(found, roots)
  if #found.errors > 0 then
    print_errors(found, context)
    return "INVALID", watch
  end
  local chosen, why, how, failure = choose(found, values.flow)
  if not chosen then return nil, why, how, failure end
  local read = { bundle = found.entry and found.text, roots = roots }
  local status = execute(chosen, read, given, cfg, context, function(cancel)
    context.interrupt.on_signal = cancel
    if watch then watch.on_change = cancel end
    if context.interrupt.seen or (watch and watch.changed) then cancel() end
  end)
  return status, watch
end

--- Runs again after every save, until Ctrl-C.
local function run_on_save(values, given, cfg, context)
  local is_terminal = context.view == "tree"
  while true do
    local status, watch, how, failure = once(values, given, cfg, context, function(found, roots)
      local watch
      watch = changes.watch(found.files, { any = #found.errors > 0, folders = roots,
        on_change = function() if watch.on_change then watch.on_change() end end })
      return watch
    end)
    if not status then return nil, watch, how, failure end
    watch.on_change = nil
    if is_terminal and not watch.changed then
      io.stdout:write(context.paint("dim", ("waiting for a save of %s and its modules; Ctrl-C ends"):format(
        values.file)), "\n")
    end
    local goes_on = wait_for_save(watch, context)
    watch.close()
    if not goes_on then return nil, "interrupted", "cancelled" end
    if is_terminal then io.stdout:write("\n") end
  end
end

--- run: a flow file, in this process.
---@param _ table the gateway, not needed
---@param values table { file, flow, tasks, watch, params, params_file, param, output }
---@param context table { terminal, paint, interrupt }
---@return integer|nil exit code 0 when it completed, else 1
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.run(_, values, context)
  local cfg, faults = config.load { only = { "store", "worker" } }
  if not cfg then return bad_input(faults, "invalid", "docs/reference/config.md has every option") end
  local given, message, code = params.collect(values)
  if not given then return bad_input(message, code) end
  context = { interrupt = context.interrupt, paint = context.paint, view = values.output
    or (context.terminal and "tree" or "json"), paint_errors = context.paint_errors }
  if values.watch then return run_on_save(values, given, cfg, context) end
  local status, why, how, failure = once(values, given, cfg, context, function() end)
  if not status then return nil, why, how, failure end
  return status == "COMPLETED" and 0 or 1
end

return M
