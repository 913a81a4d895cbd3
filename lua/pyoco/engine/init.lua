--- The engine: runs one flow's graph, its tasks as coroutines of this VM. It never blocks and owns no loop:
---
---     local eng = engine.new(flow, { params = job.params })
---     while not eng:pump() do uv.run("once") end
---
--- Callbacks of the loop only put answers into a queue; all states change inside pump, which runs outside of the
--- loop's callbacks. While a task computes, the loop gets its turns from interrupts (src/interrupt.h), so callbacks
--- may run, and may cancel, at any point of user code.
--- What a task may do or go wrong with is in attempt.lua, what a failure means in verdict.lua, loops and switches in
--- frames.lua.
local task = require "host.task"
local clock = require "host.clock"
local uv = require "luv"
local attempt = require "pyoco.engine.attempt"
local failure = require "pyoco.engine.failure"
local output = require "pyoco.engine.output"
local planner = require "pyoco.engine.plan"
local queue = require "pyoco.engine.queue"
local record_of = require "pyoco.engine.record"
local sandbox = require "pyoco.flow.sandbox"
local timer = require "pyoco.engine.timer"
local value = require "pyoco.engine.value"
local wiring = require "pyoco.engine.wiring"

local start, stop, is_cancelled = task.start, task.stop, task.cancelled
local push, pop, add, take = queue.push, queue.pop, queue.add, queue.take
local pcall, xpcall, format = pcall, xpcall, string.format
local pairs, ipairs, setmetatable, error = pairs, ipairs, setmetatable, error

local M = {}

local MAX_PARALLEL = 256
local MAX_ITERATIONS = 10000
local TURN_EVERY = 256
local NO_PARAMS <const> = {}

local Engine = {}
Engine.__index = Engine

--- What planner.done calls: a task gets in line, a loop or switch opens before the next task starts.
local function on_ready(eng)
  return function(member)
    if member.kind then add(eng.control, member) else push(eng.ready, member) end
  end
end

--- Output of a node's task: what print and ctx:log tell, see output.lua.
function Engine:log(node, text)
  if node.series then self.framework.log(node, text) end
  local on_event = self.on_event
  if on_event then on_event({ type = "log", task = node.name, text = text, at = self.now() }) end
end

--- Registers what must end with the attempt of a node that goes on now (a child process, an open file): called once
--- when the attempt ends in any way, success too, as library code; the last one registered first.
---@param node table
---@param fn fun() must not wait; what it raises is dropped
---@return fun() release forgets fn; harmless after it was called
function Engine:own(node, fn) -- luacheck: ignore 212/self
  if not node.started then -- a ctx that outlived its task
    pcall(fn)
    return function() end
  end
  local owned = node.owned
  if not owned then
    owned = { last = 0 }
    node.owned = owned
  end
  local place = owned.last + 1
  owned.last, owned[place] = place, fn
  return function() owned[place] = false end
end

--- Registers what must be done once when the run ends, before its end is told; the last one registered first.
---@param fn fun() must not wait; what it raises is dropped
function Engine:at_end(fn)
  self.on_close[#self.on_close + 1] = fn
end

--- Ends a node as failed; for retry.lua.
function Engine:fail(node, message, traceback) attempt.finish(self, node, "FAILED", message, traceback) end

--- Ends a member that has not started as failed; for verdict.lua.
function Engine:fail_unstarted(member, message)
  local how = member.kind and self.framework or attempt
  how.fail_unstarted(self, member, message)
end

--- Does the next thing that is due for a loop or switch; false when there is none. Loops whose iterations start no
--- task meet no tick, so the event loop gets its turns here.
local function work_off(eng)
  local due = eng.control and take(eng.control)
  if not due then return false end
  eng.framework.work(eng, due)
  eng.worked_off = eng.worked_off + 1
  if eng.worked_off % TURN_EVERY == 0 then uv.run("nowait") end
  return true
end

--- The nodes of the run as it stands, those inside of loops and switches that go on too.
local function live_nodes(eng)
  return eng.framework and eng.framework.live_nodes(eng) or eng.plan.nodes
end

--- Ends what waits and what has not started; what runs is ended by its interrupt.
local function apply_cancel(eng)
  eng.is_cancelling = true
  while work_off(eng) do end -- a loop whose last iteration has ended is done
  eng.answers, eng.ready = queue.fifo(), queue.ready()
  for _, node in ipairs(live_nodes(eng)) do
    if node.state == "PENDING" then
      attempt.finish(eng, node, "CANCELLED")
    elseif node.co then
      attempt.stop(eng, node, "cancel")
    elseif node.retry then
      attempt.finish(eng, node, "CANCELLED", "run cancelled")
    end
  end
end

--- A member of the top scope that never started though no failure counted; nil when there is none.
local function unreached(eng)
  for _, members in ipairs { eng.plan.nodes, eng.plan.frames } do
    for _, member in ipairs(members) do
      if member.state == "PENDING" and not member.within then return member end
    end
  end
end

--- How the run ended: status and error. A cancel that came when all was done changes nothing.
local function outcome(eng)
  if eng.was_cancelled then return "CANCELLED" end
  if eng.failed then return "FAILED", eng.failed.record.error end
  local member = unreached(eng)
  if not member then return "COMPLETED" end
  return "FAILED", format("%s could not start: a task before it failed",
    member.kind and (member.spec.title or member.id) or format("task '%s'", member.name))
end

--- Keeps the run from its end while something of it is still there: a process that is being killed, say.
---@return fun() release the next pump may then end the run
function Engine:hold()
  self.held = self.held + 1
  local is_released
  return function()
    if is_released then return end
    is_released = true
    self.held = self.held - 1
  end
end

--- Closes the run.
local function close(eng)
  if eng.framework then eng.framework.close(eng) end
  eng.status, eng.error = outcome(eng)
  eng.ended_at = eng.now()
  if not eng.is_child then task.reset() end
  for i = #eng.on_close, 1, -1 do pcall(eng.on_close[i]) end
  if eng.on_event then eng.on_event({ type = "run", state = eng.status, error = eng.error, at = eng.ended_at }) end
end

--- Works off what a callback of the loop has brought: an answer, a timeout, the end of a wait for a retry.
local function receive(eng, arrived)
  local node = arrived.node
  if arrived.values then
    if node.turn == arrived.turn then attempt.answer(eng, node, arrived.values) end
  elseif arrived.deadline then
    if node.deadline == arrived.deadline and node.co then attempt.stop(eng, node, "timeout") end
  elseif node.retry == arrived.retry then
    push(eng.ready, node)
  end
end

--- Starts the next task that is ready; false when none may start.
local function launch_next(eng)
  local ready = eng.ready
  while not eng.failed and eng.running < eng.max_parallel do
    local node = pop(ready)
    if not node then return false end
    local is_due = node.state == "PENDING" or node.retry -- a retry may have been given up meanwhile
    if is_due and not (eng.framework and eng.framework.is_blocked(eng, node)) then
      attempt.launch(eng, node)
      return true
    end
  end
  return false
end

--- Does the next thing: what has arrived, then loops and switches, then a task that is ready. False when there is
--- nothing.
local function advance(eng)
  if (eng.cancel_asked or is_cancelled()) and not eng.is_cancelling then apply_cancel(eng) end
  local arrived = take(eng.answers)
  if arrived then
    receive(eng, arrived)
    return true
  end
  return work_off(eng) or launch_next(eng)
end

--- Does all that can be done without waiting. Whether the run has ended, and whether there was anything to do.
local function work(eng)
  local has_moved = false
  while advance(eng) do has_moved = true end
  if eng.running > 0 or eng.retry_count > 0 or eng.held > 0 then return false, has_moved end
  close(eng)
  return true, true
end

--- Ends a run that the engine cannot go on with: there is no memory for what its tasks have made, or a bug of ours.
--- It fails as a run does, with a text, rather than take its slot down and be tried again.
local function break_down(eng, trace)
  task.memory_limit(0) -- only the report is left to do
  local message = format("the engine cannot go on: %s", output.clean(trace))
  local found, nodes = pcall(live_nodes, eng)
  for _, node in ipairs(found and nodes or eng.plan.nodes) do
    if node.started then
      pcall(attempt.abandon, eng, node)
      node.state, node.record.error, node.record.ended_at = "FAILED", message, eng.now()
      node.record.state, eng.tasks[node.name] = "FAILED", "FAILED"
    end
  end
  eng.failed, eng.running, eng.retry_count, eng.held = { record = { error = message } }, 0, 0, 0
  if not pcall(close, eng) then eng.status, eng.error, eng.ended_at = "FAILED", message, eng.now() end
end

--- Does all that can be done without waiting. Does not raise.
---@return boolean ended true when the run has its status
---@return boolean has_moved whether there was anything to do: then code of tasks may have run, and callbacks with it
function Engine:pump()
  if self.status then return true, false end
  local ok, ended, has_moved = xpcall(work, debug.traceback, self)
  if not ok then
    break_down(self, ended)
    return true, true
  end
  return ended, has_moved
end

--- Cancels the run: tasks that wait or compute are ended, nothing new starts. For callbacks of the loop and for
--- code between two pumps; the next pump completes it. A run that has ended is left as it is. A child is cancelled
--- alone, any other run with all that this VM does.
function Engine:cancel()
  if self.status then return end
  if self.is_child then
    self.cancel_asked = true
    local running = output.running()
    if running and running.eng == self then task.cut("cancel") end
  else
    task.cancel()
  end
  uv.stop() -- uv.run("once") calls due timers first; after a cancel in one of them it must not wait for more
end

--- The run's params over the flow's defaults, copied.
local function merge_params(flow, params)
  local merged = {}
  for _, source in ipairs { flow.defaults or {}, params or {} } do
    local copied, message = value.copy(source, "params")
    if message then error(message, 3) end
    for name, given in pairs(copied) do merged[name] = given end
  end
  return merged
end

--- The function of a task and the names of its parameters. A task without one runs a command, if that is allowed.
local function callable_of(eng, spec, opts)
  local flow, name = eng.flow, spec.name
  local fake = opts.fakes and opts.fakes[name]
  if fake then return fake, sandbox.parameters(fake) end
  local fn = flow.functions[name]
  if fn then return fn, flow.params[name] or NO_PARAMS end
  if spec.spawn then return require("pyoco.engine.spawn").task(spec), NO_PARAMS end
  if not spec.command then error(format("flow %s: no function for task %s", flow.name, name), 0) end
  local command = require "pyoco.engine.command"
  if not opts.allow_commands then error(command.refusal(name), 0) end
  return command.task(spec), NO_PARAMS
end

--- Gives the tasks of the graph what they need to run.
local function prepare(eng, opts)
  local function equip(node)
    node.fn, node.params = callable_of(eng, node.spec, opts)
    if opts.fakes and opts.fakes[node.name] then node.is_fake = true end
    node.inputs = wiring.inputs(node.spec)
    local options = node.spec.options
    if options and options.timeout_sec and not eng.timeouts then -- now: later, user code may have spoiled `require`
      eng.timeouts, eng.deadlines = require "pyoco.engine.deadline", {}
    end
  end
  for _, node in ipairs(eng.plan.nodes) do
    local name = node.name
    equip(node)
    node.record = record_of.new()
    eng.tasks[name], eng.records[name] = "PENDING", node.record
    if node.left == 0 then push(eng.ready, node) end
  end
  if eng.plan.bodies then
    eng.framework, eng.control, eng.worked_off = require "pyoco.engine.frames", queue.fifo(), 0
    eng.framework.prepare(eng, equip)
  end
end

--- Makes an engine for one run.
---@param flow table flow object: { name, graph, functions = { task = fn }, params = { task = { names } }, defaults }
---@param opts table? { params, run = fields of ctx.run, on_event = fn(event), now = fn() -> unix seconds, monotonic =
---  fn() -> seconds, after = fn(seconds, fn) -> stop, env = { NAME = text }, max_parallel = 256 tasks at once,
---  max_iterations = 10000 of one loop, allow_commands = false: command tasks are refused (raises), artifacts_dir =
---  "artifacts", spawn = fn(request, resume) -> give_up that starts child runs (engine/spawn.lua; without it tasks that
---  spawn fail), max_commands = 8 at once, command_grace_sec = 5; for tests fakes = { task = fn }, http and exec =
---  fn(spec, ctx) in place of the real ones, random = fn() -> 0 to 1 for the waits before retries; is_child = true for
---  a run beside its parent's in one VM }
---  Events: { type = "task", task, state, attempt from 2 on, at }, { type = "log", task, text, at }, { type = "run",
---  state, error, at }, { type = "retry", task, attempt, error, delay_sec, at }, { type = "iteration", task, state,
---  iteration = indexes from 0, outermost first, at }, { type = "frame", frame, state, iterations, label, error, at };
---  on_event must not raise.
---@return table engine { status (nil until the end), error, tasks = { name = state }, records = { name = record },
---  frames = { id = { state, iterations, label, error, skipped } } if the graph has any, failed_tasks = names of tasks
---  whose failure was isolated | nil, params, running = number of attempts that go on, ended_at }. Fields to be set
---  before the first pump: on_deadline = fn(monotonic seconds | nil, task, timeout_sec), told when the earliest
---  deadline of running attempts changes; before_callout = fn(), called by what leaves the process
function M.new(flow, opts)
  opts = opts or {}
  local eng = setmetatable({
    flow = flow, run = opts.run or {}, params = merge_params(flow, opts.params), tasks = {}, records = {},
    running = 0, ready = queue.ready(), answers = queue.fifo(), retrying = {}, retry_count = 0,
    on_close = {}, on_event = opts.on_event, now = opts.now or clock.wall, after = opts.after or timer.after,
    monotonic = opts.monotonic or clock.monotonic, max_parallel = opts.max_parallel or MAX_PARALLEL,
    max_iterations = opts.max_iterations or MAX_ITERATIONS, artifacts_dir = opts.artifacts_dir,
    max_commands = opts.max_commands, command_grace_sec = opts.command_grace_sec, held = 0, env = opts.env or {},
    http = opts.http, exec = opts.exec, spawn = opts.spawn, random = opts.random, is_child = opts.is_child,
    started_at = opts.run and opts.run.started_at or clock.wall(),
  }, Engine)
  eng.plan = planner.new(flow.graph, { attempt = 1, eng = eng })
  eng.results = eng.plan.results
  eng.on_ready = on_ready(eng)
  prepare(eng, opts)
  output.install()
  return eng
end

--- Waits inside a task: the one way for library code that a task calls to wait for something.
---@param begin fun(resume: fun(...)): fun()? registers what will call resume once, from the loop; runs outside of
---  the task. It may return a function that gives the wait up when the task is cut.
---@return any ... what resume was given. Raises when the task is cut, or cannot wait where it is.
function M.await(begin) return task.wait(begin) end

--- Runs user code outside of any task (a flow file that is loaded) with the same protection: interrupts, memory
--- limit, no os.exit. It cannot wait.
---@param fn function
---@return boolean ok
---@return any result the first value that fn returned; or the message
---@return any second the second value; or the traceback
function M.guard(fn, ...)
  local co, state, a, b = start(fn, ...)
  if state == "waits" then
    state, a, b = stop(co, "cancel")
    if state == "failed" then a = "cannot wait here: only a running task can" end
  end
  if state == "ended" then return true, a, b end
  return false, failure.text(a), output.clean(b)
end

return M
