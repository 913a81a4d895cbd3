--- The engine: runs one flow's graph, its tasks as coroutines of this VM. It never blocks and owns no loop:
---
---     local eng = engine.new(flow, { params = job.params })
---     while not eng:pump() do uv.run("once") end
---
--- Callbacks of the loop only put answers into a queue; all states change inside pump, which runs outside of the
--- loop's callbacks. While a task computes, the loop gets its turns from interrupts (src/interrupt.h), so callbacks
--- may run, and may cancel, at any point of user code.
local task = require "host.task"
local clock = require "host.clock"
local failure = require "pyoco.engine.failure"
local output = require "pyoco.engine.output"
local planner = require "pyoco.engine.plan"
local queue = require "pyoco.engine.queue"
local timer = require "pyoco.engine.timer"
local value = require "pyoco.engine.value"
local wiring = require "pyoco.engine.wiring"

local start, answer, stop, is_cancelled = task.start, task.answer, task.stop, task.cancelled
local monotonic = clock.monotonic
local push, pop = queue.push, queue.pop
local pcall, type, pairs, ipairs = pcall, type, pairs, ipairs
local unpack, pack, format = table.unpack, table.pack, string.format

local M = {}

local MAX_PARALLEL = 256
local NO_ARTIFACTS <const> = {}

local Engine = {}
Engine.__index = Engine

--- Adds a node to the ready ones: what planner.done calls.
local function on_ready(eng)
  return function(node) push(eng.ready, node) end
end

--- Moves a node to a state, and says so.
local function enter(eng, node, state, at)
  node.state = state
  node.record.state = state
  eng.tasks[node.name] = state
  local on_event = eng.on_event
  if on_event then on_event({ type = "task", task = node.name, state = state, at = at }) end
end

--- Output of a node's task: what print and ctx:log tell, see output.lua.
function Engine:log(node, text)
  local on_event = self.on_event
  if on_event then on_event({ type = "log", task = node.name, text = text, at = self.now() }) end
end

--- Gives a node its end: state, times, and what follows from it.
local function finish(eng, node, state, message, traceback)
  local record, at = node.record, eng.now()
  record.ended_at = at
  if node.started then
    record.duration_ms = (monotonic() - node.started) * 1000
    eng.running = eng.running - 1
  end
  record.error, record.traceback = message, traceback
  node.co = nil
  enter(eng, node, state, at)
  if state == "SUCCEEDED" then
    planner.done(node, eng.on_ready)
  elseif state == "FAILED" and planner.failed(node) and not eng.failed then
    eng.failed = node -- running tasks go on, nothing new starts
  end
end

--- A task's function returned.
local function succeed(eng, node, result, message)
  if result == nil and type(message) == "string" then -- Lua's way to fail: nil, message
    return finish(eng, node, "FAILED", output.clean(message))
  end
  local copied, problem = value.copy(result, "output")
  if problem then return finish(eng, node, "FAILED", problem) end
  node.record.output = copied
  eng.results[node.name] = copied
  if node.spec.outputs[1] then
    problem = require("pyoco.engine.save").apply(eng, node, copied)
    if problem then return finish(eng, node, "FAILED", problem) end
  end
  finish(eng, node, "SUCCEEDED")
end

local settle

--- Runs a node's coroutine by start, answer or stop.
local function step(eng, node, how, ...)
  output.select(node)
  settle(eng, node, how(...))
end

--- Lets the scheduler know what the wait of a node waits for. `begin` is library code; it gets the function that
--- ends the wait and may return one that gives it up.
local function wait(eng, node, begin)
  local turn = node.turn + 1
  node.turn = turn
  local function resume(...)
    if node.turn ~= turn then return end -- answered already, or given up
    node.turn = turn + 1
    node.give_up = nil
    eng.answers[#eng.answers + 1] = { node = node, values = pack(...) }
  end
  local ok, give_up = pcall(begin, resume)
  if not ok then
    resume(nil, failure.text(give_up), "internal")
  elseif node.turn == turn then
    node.give_up = give_up
  end
end

--- What came out of running a node's coroutine.
function settle(eng, node, state, a, b)
  if state == "waits" then
    wait(eng, node, a)
    if is_cancelled() then eng:stop_wait(node) end
  elseif state == "ended" then
    succeed(eng, node, a, b)
  elseif is_cancelled() then
    finish(eng, node, "CANCELLED", "run cancelled", output.clean(b))
  else
    finish(eng, node, "FAILED", failure.text(a), output.clean(b))
  end
  output.select(nil)
end

--- Starts a node that is ready.
local function launch(eng, node)
  local record, at = node.record, eng.now()
  record.started_at, node.started = at, monotonic()
  eng.running = eng.running + 1
  local arguments, inputs, count = wiring.arguments(eng, node)
  enter(eng, node, "RUNNING", at)
  if not arguments then return finish(eng, node, "FAILED", inputs) end
  record.inputs = inputs
  node.turn = 0
  output.select(node)
  local co, state, a, b = start(node.fn, unpack(arguments, 1, count))
  node.co = co
  settle(eng, node, state, a, b)
end

--- Gives up what a node waits for and ends it; only in a cancelled run.
function Engine:stop_wait(node)
  local give_up = node.give_up
  node.turn, node.give_up = node.turn + 1, nil
  if type(give_up) == "function" then pcall(give_up) end
  step(self, node, stop, node.co, "cancel")
end

--- Ends what waits and what has not started; what runs is ended by its interrupt.
local function apply_cancel(eng)
  eng.is_cancelling = true
  eng.answers, eng.ready = {}, {}
  for _, node in ipairs(eng.plan.nodes) do
    if node.state == "PENDING" then
      finish(eng, node, "CANCELLED")
    elseif node.co then
      eng:stop_wait(node)
    end
  end
end

--- How the run ended: status and error. A cancel that came when all was done changes nothing.
local function outcome(eng)
  local unreached
  for _, node in ipairs(eng.plan.nodes) do
    if node.state == "CANCELLED" then return "CANCELLED" end
    if node.state == "PENDING" and not node.within then unreached = unreached or node end
  end
  if eng.failed then return "FAILED", eng.failed.record.error end
  if not unreached then return "COMPLETED" end
  return "FAILED", format("task '%s' could not start: a task before it failed", unreached.name)
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
  for _, fn in ipairs(eng.on_close) do fn() end
  eng.status, eng.error = outcome(eng)
  eng.ended_at = eng.now()
  task.reset()
  if eng.on_event then eng.on_event({ type = "run", state = eng.status, error = eng.error, at = eng.ended_at }) end
end

--- The next thing to do: an answer that arrived, then a task that is ready. False when there is nothing.
local function advance(eng)
  if is_cancelled() and not eng.is_cancelling then apply_cancel(eng) end
  local first, answers = eng.first_answer, eng.answers
  local arrived = answers[first]
  if arrived then
    answers[first] = nil
    eng.first_answer = first + 1
    step(eng, arrived.node, answer, arrived.node.co, unpack(arrived.values, 1, arrived.values.n))
    return true
  end
  if first > 1 then eng.answers, eng.first_answer = {}, 1 end
  if eng.failed or eng.running >= eng.max_parallel or not eng.ready[1] then return false end
  launch(eng, pop(eng.ready))
  return true
end

--- Does all that can be done without waiting.
---@return boolean ended true when the run has its status
function Engine:pump()
  if self.status then return true end
  while advance(self) do end
  if self.running > 0 or self.held > 0 then return false end
  close(self)
  return true
end

--- Cancels the run: tasks that wait or compute are ended, nothing new starts. For callbacks of the loop and for
--- code between two pumps; the next pump completes it.
function Engine:cancel() -- luacheck: ignore 212/self
  task.cancel()
end

--- A record of a task that has not started.
local function new_record()
  return { state = "PENDING", artifacts = NO_ARTIFACTS, started_at = nil, ended_at = nil, duration_ms = nil,
    inputs = nil, output = nil, error = nil } -- named for their room in the table: fields are set later
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

--- Makes an engine for one run.
---@param flow table flow object: { name, graph, functions = { task = fn }, params = { task = { names } }, defaults }
---@param opts table? { params, run = table, on_event = fn(event), now = fn() -> unix seconds, after = fn(seconds, fn)
---  -> stop, env = { NAME = text }, max_parallel = 256, artifacts_dir = "artifacts", http and exec = fn(spec, ctx) in
---  place of the real ones }. Events: { type = "task", task, state, at }, { type = "log", task, text, at },
---  { type = "run", state, error, at }; on_event must not raise.
---@return table engine { status (nil until the end), error, tasks = { name = state }, records = { name = record },
---  params, running = number of started tasks that have not ended, ended_at }
function M.new(flow, opts)
  opts = opts or {}
  local eng = setmetatable({
    flow = flow, run = opts.run or {}, plan = planner.new(flow.graph), params = merge_params(flow, opts.params),
    tasks = {}, records = {}, results = {}, running = 0, ready = {}, answers = {}, first_answer = 1,
    on_event = opts.on_event, now = opts.now or clock.wall, after = opts.after or timer.after,
    max_parallel = opts.max_parallel or MAX_PARALLEL, env = opts.env or {}, artifacts_dir = opts.artifacts_dir,
    http = opts.http, exec = opts.exec, held = 0,
    on_close = {}, -- functions without arguments, for the end of the run: library code puts them here
  }, Engine)
  eng.on_ready = on_ready(eng)
  for _, node in ipairs(eng.plan.nodes) do
    local name = node.name
    node.fn = flow.functions[name] or error(("flow %s: no function for task %s"):format(flow.name, name), 2)
    node.eng, node.params, node.inputs = eng, flow.params[name] or {}, wiring.inputs(node.spec)
    node.record = new_record()
    eng.tasks[name], eng.records[name] = "PENDING", node.record
    if node.left == 0 then push(eng.ready, node) end
  end
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
