--- One attempt of a task: its coroutine is started, waits, is answered, and ends in some way.
local task = require "host.task"
local failure = require "pyoco.engine.failure"
local output = require "pyoco.engine.output"
local planner = require "pyoco.engine.plan"
local queue = require "pyoco.engine.queue"
local record_of = require "pyoco.engine.record"
local retry = require "pyoco.engine.retry"
local value = require "pyoco.engine.value"
local verdict = require "pyoco.engine.verdict"
local wiring = require "pyoco.engine.wiring"

local start, answer, stop, is_cancelled = task.start, task.answer, task.stop, task.cancelled
local add, enter, copy = queue.add, record_of.enter, value.copy
local pcall, type, unpack, pack = pcall, type, table.unpack, table.pack

local M = {}

--- Calls what was registered by Engine:own, the last one first.
local function let_go(node)
  local owned = node.owned
  node.owned = nil
  for i = owned.last, 1, -1 do
    local fn = owned[i]
    if fn then pcall(fn) end
  end
end

--- An attempt holds its place in the run no more.
local function leave(eng, node, record)
  record.duration_ms = (eng.monotonic() - node.started) * 1000
  node.started, node.co = nil, nil
  eng.running = eng.running - 1
  if node.deadline then eng.timeouts.clear(eng, node) end
  if node.owned then let_go(node) end
end

--- Gives a node its end: state, times, and what follows from it.
---@param eng table
---@param node table
---@param state string
---@param message string?
---@param traceback string?
function M.finish(eng, node, state, message, traceback)
  local record, at = node.record, eng.now()
  record.ended_at = at
  if node.started then leave(eng, node, record) end
  if node.retry then retry.leave(eng, node) end
  record.error, record.traceback = message, traceback
  enter(eng, node, state, at)
  if state == "SUCCEEDED" then
    planner.done(node, eng.on_ready)
  elseif state == "FAILED" then
    verdict.failed(eng, node, verdict.policy(node), node)
  else
    eng.was_cancelled = true
  end
  if eng.framework then eng.framework.left(eng, node) end
end
local finish = M.finish

--- An attempt failed: the node waits for its next one, or fails.
local function fail(eng, node, message, traceback)
  if not retry.is_due(eng, node) then return finish(eng, node, "FAILED", message, traceback) end
  leave(eng, node, node.record)
  local entry = { node = node }
  local seconds = retry.wait(eng, node, message, traceback, function() add(eng.answers, entry) end)
  entry.retry = node.retry
  if eng.on_event then
    eng.on_event({ type = "retry", task = node.name, attempt = node.attempt, error = message, delay_sec = seconds,
      at = eng.now() })
  end
end

--- A task's function returned.
local function succeed(eng, node, result, message)
  if result == nil and type(message) == "string" then -- Lua's way to fail: nil, message
    return fail(eng, node, output.clean(message))
  end
  local copied, problem = copy(result, "output")
  if problem then return fail(eng, node, problem) end
  local outputs = node.spec.outputs
  node.record.output = copied
  node.scope.results[node.name] = copied
  if outputs and outputs[1] then
    problem = require("pyoco.engine.save").apply(eng, node, copied)
    if problem then
      node.record.output, node.scope.results[node.name] = nil, nil
      return fail(eng, node, problem)
    end
  end
  finish(eng, node, "SUCCEEDED")
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
    add(eng.answers, { node = node, turn = turn + 1, values = pack(...) })
  end
  local ok, give_up = pcall(begin, resume)
  if not ok then
    resume(nil, failure.text(give_up), "internal")
  elseif node.turn == turn then
    node.give_up = give_up
  end
end

--- What came out of running a node's coroutine.
local function settle(eng, node, state, a, b)
  local limit, message = node.deadline, nil
  if state == "failed" then message = failure.text(a) end -- may run user code, and be cut
  if state == "waits" then
    wait(eng, node, a)
    if eng.cancel_asked or is_cancelled() then M.stop(eng, node, "cancel") end
  elseif state == "failed" and (eng.cancel_asked or is_cancelled()) then
    finish(eng, node, "CANCELLED", "run cancelled", output.clean(b))
  elseif limit and limit.is_over then
    fail(eng, node, eng.timeouts.message(node), state == "failed" and output.clean(b) or nil)
  elseif state == "ended" then
    succeed(eng, node, a, b)
  else
    fail(eng, node, message, output.clean(b))
  end
  eng.current = nil
  output.select(nil)
end

--- Starts a node that is ready: its first attempt, or the next one.
---@param eng table
---@param node table
function M.launch(eng, node)
  local record, at, turn = node.record, eng.now(), node.turn
  if node.retry then
    retry.leave(eng, node)
    node.attempt = node.attempt + 1
    record.attempt = node.attempt
  elseif eng.framework then
    eng.framework.entered(node)
  end
  record.started_at, node.started = at, eng.monotonic()
  eng.running = eng.running + 1
  node.turn = turn and turn + 1 or 0 -- an answer to an earlier attempt must not fit this one
  local arguments, inputs, count = wiring.arguments(eng, node)
  enter(eng, node, "RUNNING", at)
  if not arguments then return finish(eng, node, "FAILED", inputs) end
  record.inputs = inputs
  if node.series then eng.framework.inputs(node, inputs) end
  local options = node.spec.options
  eng.current = node
  if options and options.timeout_sec then eng.timeouts.start(eng, node, options.timeout_sec) end
  output.select(node)
  local co, state, a, b = start(node.fn, unpack(arguments, 1, count))
  node.co = co
  settle(eng, node, state, a, b)
end

--- Lets a node that waits go on.
---@param eng table
---@param node table
---@param values table packed
function M.answer(eng, node, values)
  eng.current = node
  output.select(node)
  settle(eng, node, answer(node.co, unpack(values, 1, values.n)))
end

--- Gives up what a node waits for and ends it.
---@param eng table
---@param node table
---@param reason string "cancel" (only in a cancelled run) | "timeout"
function M.stop(eng, node, reason)
  local give_up = node.give_up
  node.turn, node.give_up = node.turn + 1, nil
  if type(give_up) == "function" then pcall(give_up) end
  eng.current = node
  output.select(node)
  settle(eng, node, stop(node.co, reason))
end

--- Gives up what a node waits for and all that its attempt holds, without running it: the engine breaks down.
---@param eng table
---@param node table
function M.abandon(eng, node)
  local give_up = node.give_up
  node.turn, node.give_up = node.turn + 1, nil
  if type(give_up) == "function" then pcall(give_up) end
  leave(eng, node, node.record)
end

--- Ends a node that has not started, because of another one.
---@param eng table
---@param node table
---@param message string
function M.fail_unstarted(eng, node, message)
  local at = eng.now()
  node.record.ended_at, node.record.error = at, message
  enter(eng, node, "FAILED", at)
end

return M
