--- Loops and switches while a run goes on. A frame is a member of the scope that it stands in, like a task; it opens
--- when what it needs is done, begins scopes (an iteration, a branch) out of its body, and ends after the last one.
---
--- Nothing here calls itself through the end of another member: what is to be done next goes into eng.control, which
--- the engine works off before it starts tasks. So 10,000 iterations, or frames one after the other, need no stack.
---
--- A frame: { id, spec, kind, body, scope = where it stands, state, record, count = iterations in all (nil if nobody
--- knows), goal = iterations to begin as far as is known now, next = the next one's index, live = those that go on,
--- scopes = their scopes, active = tasks inside that have begun and not ended, lists = { task = outputs so far },
--- is_doomed = a failure inside ended it: nothing new starts, has_failed = an isolated one did: no iteration begins,
--- culprit = the member that failed }.
local json = require "host.json"
local expression = require "pyoco.engine.expression"
local planner = require "pyoco.engine.plan"
local queue = require "pyoco.engine.queue"
local record_of = require "pyoco.engine.record"
local series_of = require "pyoco.engine.series"
local tell = require "pyoco.engine.frame_record"
local verdict = require "pyoco.engine.verdict"

local null, mark_array, add = json.null, json.array, queue.add
local ipairs, next, min, remove, format = ipairs, next, math.min, table.remove, string.format

--- What the engine calls for tasks in loops is here too, so that it needs no other module.
local M = { fail_unstarted = tell.fail_unstarted, enter = series_of.enter, inputs = series_of.inputs,
  log = series_of.log }

local NONE <const> = {}
local DEFAULT_MAX <const> = 100

--- Whether nothing new may start in a scope.
local function is_blocked(eng, scope)
  if eng.failed or eng.is_cancelling then return true end
  local frame = scope.frame
  while frame do
    if frame.is_doomed then return true end
    frame = frame.scope.frame
  end
  return false
end

--- Whether a task that is ready must not start any more.
---@param eng table
---@param node table
---@return boolean
function M.is_blocked(eng, node) return is_blocked(eng, node.scope) end

--- A member of a scope has ended.
local function over(eng, scope)
  if not scope.frame then return end
  scope.pending = scope.pending - 1
  if scope.pending == 0 then add(eng.control, scope) end
end

--- A task inside of frames begins.
---@param node table
function M.entered(node)
  local frame = node.scope.frame
  while frame do
    frame.active = frame.active + 1
    frame = frame.scope.frame
  end
end

--- A task inside of frames has ended, begun or not.
---@param eng table
---@param node table
function M.left(eng, node)
  if node.turn then
    local frame = node.scope.frame
    while frame do
      frame.active = frame.active - 1
      if frame.is_doomed and frame.active == 0 then add(eng.control, frame) end
      frame = frame.scope.frame
    end
  end
  if node.state == "CANCELLED" then node.scope.is_cut = true end -- M.close ends it
  over(eng, node.scope)
end

--- Keeps the results of a scope that is over where the frame has them for those around it.
local function collect(frame, scope)
  local results, lists = scope.results, frame.lists
  for _, inner in ipairs(lists and scope.frames or NONE) do -- what an inner loop had before it failed
    for name, list in next, inner.lists or NONE do results[name] = list end
  end
  for _, name in ipairs(tell.names(scope.body)) do
    local found = results[name]
    if lists then
      if found == nil then found = null end
      lists[name][scope.index + 1] = found
    else
      frame.scope.results[name] = found
    end
  end
end

--- Gives a frame its end.
local function finish(eng, frame, state, message)
  frame.state = state
  local at, outer = eng.now(), frame.scope
  if frame.lists and state == "SUCCEEDED" then
    for name, list in next, frame.lists do outer.results[name] = list end
  end
  if frame.body.is_outermost then
    local how = state == "CANCELLED" and not eng.is_cancelling and "FAILED" or state
    for _, name in ipairs(tell.names(frame.body)) do series_of.close(eng, eng.series[name], how, at) end
  end
  if frame.case then tell.report(eng, frame.case, state, message) end
  tell.report(eng, frame.id, state, message)
  if state == "SUCCEEDED" then planner.done(frame, eng.on_ready) end
  over(eng, outer)
end

local abort

--- Ends a scope early: what has not run in it never will.
local function shut(eng, scope)
  scope.is_over = true
  for _, frame in ipairs(scope.frames or NONE) do
    if frame.state == "RUNNING" then abort(eng, frame, "CANCELLED") end
    if frame.state == "PENDING" then
      for _, name in ipairs(tell.names(frame.body)) do
        if eng.series[name] then eng.series[name].is_short = true end
      end
    end
  end
  for _, node in ipairs(scope.nodes) do
    if node.state == "PENDING" and node.series then node.series.is_short = true end
  end
  collect(scope.frame, scope)
end

--- Ends a frame early; no task runs in it.
function abort(eng, frame, state, message)
  local scopes = frame.scopes
  frame.scopes = {}
  for _, scope in ipairs(scopes) do shut(eng, scope) end
  finish(eng, frame, state, message)
end

--- A frame failed by itself: no list to go over, the limit reached, a condition that cannot be evaluated.
local function fail(eng, frame, message)
  message = expression.place(frame.body) .. message
  frame.is_doomed, frame.culprit = true, frame
  frame.record.error = frame.record.error or message
  frame.error = message
  verdict.failed(eng, frame, "stop", frame)
  if frame.active == 0 then abort(eng, frame, "FAILED", message) end
end

--- Begins a scope of a frame, made of a body: an iteration with an index and perhaps an item, or a branch.
local function begin(eng, frame, body, index, item)
  local scope = { parent = frame.scope, frame = frame, body = body, index = index, item = item,
    as = index and frame.spec.as, results = {}, nodes = nil, by_name = nil, pending = 0, frames = nil, by_id = nil,
    sources = nil, is_over = false } -- named for their room
  planner.fill(scope, body)
  frame.live = frame.live + 1
  frame.scopes[#frame.scopes + 1] = scope
  for _, node in ipairs(scope.nodes) do
    if node.series then node.record = record_of.new() else node.record = eng.records[node.name] end
    if node.left == 0 then eng.on_ready(node) end
  end
  for _, inner in ipairs(scope.frames or NONE) do
    inner.record = eng.frames[inner.id]
    if inner.left == 0 then eng.on_ready(inner) end
  end
end

--- Begins the next iteration of a loop.
local function begin_iteration(eng, frame)
  local index = frame.next
  frame.next = index + 1
  frame.record.iterations = frame.record.iterations + 1
  local item
  if frame.items then item = frame.items[index + 1] end
  for _, list in next, frame.lists do list[index + 1] = null end
  begin(eng, frame, frame.body, index, item)
end

--- After an iteration of `x % cond`: the condition is looked at where the iteration's results are.
local function check_condition(eng, frame, scope)
  local holds, message = expression.condition(eng, frame.body, scope)
  if holds == nil then return fail(eng, frame, message) end
  if holds then return finish(eng, frame, "SUCCEEDED") end
  if frame.next == frame.most then
    return fail(eng, frame, format("the condition did not hold after %d iterations%s", frame.most,
      frame.most < (frame.spec.max or DEFAULT_MAX) and " (PYOCO_FLOW_MAX_ITERATIONS)" or ""))
  end
  if not is_blocked(eng, frame.scope) then begin_iteration(eng, frame) end
end

--- Goes on with a loop or switch after one of its scopes ended, or when it opens.
local function go_on(eng, frame, scope)
  if frame.has_failed then
    if frame.live > 0 then return end
    local culprit = frame.culprit
    frame.error = culprit.record.error
    verdict.failed(eng, frame, "isolate", culprit)
    return finish(eng, frame, "FAILED", frame.error)
  elseif frame.kind == "until" and scope then
    return check_condition(eng, frame, scope)
  end
  local at_once = frame.spec.parallel or 1
  while frame.live < at_once and frame.next < frame.goal and not is_blocked(eng, frame.scope) do
    begin_iteration(eng, frame)
  end
  if frame.live == 0 and frame.next == frame.goal then finish(eng, frame, "SUCCEEDED") end
end

--- A scope has no member left that may end.
local function complete(eng, scope)
  local frame = scope.frame
  if scope.is_over or scope.is_cut or frame.is_doomed or frame.state ~= "RUNNING" then return end
  scope.is_over = true
  frame.live = frame.live - 1
  for i, other in ipairs(frame.scopes) do
    if other == scope then
      remove(frame.scopes, i)
      break
    end
  end
  collect(frame, scope)
  if scope.culprit then frame.has_failed, frame.culprit = true, frame.culprit or scope.culprit end
  if scope.unreached then
    return fail(eng, frame, format("%s could not start: a task before it failed",
      scope.unreached.kind and scope.unreached.spec.title or format("task '%s'", scope.unreached.name)))
  end
  go_on(eng, frame, scope)
end

--- Opens a switch: takes one branch.
local function open_switch(eng, frame)
  local label, message = expression.label(eng, frame.body, frame.scope)
  if not label then return fail(eng, frame, message) end
  local taken, default
  for _, case in ipairs(frame.body.cases or NONE) do
    if case.spec.label == label then taken = case end
    if case.spec.label == "*" then default = case end
  end
  taken = taken or default
  for _, case in ipairs(frame.body.cases or NONE) do
    if case ~= taken and frame.body.depth == 0 then tell.skip(eng, case) end
  end
  frame.goal, frame.next = 0, 0
  if not taken then return finish(eng, frame, "SUCCEEDED") end
  frame.case, frame.record.label = taken.id, taken.spec.label
  eng.frames[taken.id].skipped = nil
  tell.report(eng, taken.id, "RUNNING")
  begin(eng, frame, taken)
end

--- Finds out how many iterations a loop has that opens, and its items; returns a message if that cannot be told.
local function measure(eng, frame)
  local message
  if frame.kind == "until" then
    frame.most = min(frame.spec.max or DEFAULT_MAX, eng.max_iterations)
    frame.goal = 1 -- more when the condition does not hold
    return nil
  elseif frame.kind == "times" then
    frame.count, message = expression.count(eng, frame.body, frame.scope)
  else
    frame.items, message = expression.items(eng, frame.body, frame.scope)
    frame.count = frame.items and #frame.items
  end
  frame.goal = frame.count
  return message
end

--- Opens a frame.
local function open(eng, frame)
  frame.state, frame.active, frame.live, frame.scopes = "RUNNING", 0, 0, {}
  tell.report(eng, frame.id, "RUNNING")
  if frame.kind == "switch" then return open_switch(eng, frame) end
  frame.next, frame.lists = 0, {}
  for _, name in ipairs(tell.names(frame.body)) do
    frame.lists[name] = mark_array {}
    if frame.body.is_outermost then eng.records[name].output = frame.lists[name] end
  end
  local message = measure(eng, frame)
  if message then return fail(eng, frame, message) end
  go_on(eng, frame)
end

--- Works off one item of eng.control.
---@param eng table
---@param item table a frame that is ready, or whose last task ended after its failure; or a scope that is complete
function M.work(eng, item)
  if not item.kind then return complete(eng, item) end
  if item.state == "PENDING" and not is_blocked(eng, item.scope) then
    open(eng, item)
  elseif item.state == "RUNNING" and item.is_doomed and item.active == 0 then
    item.error = item.culprit.record.error
    abort(eng, item, "FAILED", item.error)
  end
end

--- All nodes of scopes that go on, in order.
---@param eng table
---@return table[] nodes
function M.live_nodes(eng)
  local nodes = {}
  local function visit(scope)
    for _, node in ipairs(scope.nodes) do nodes[#nodes + 1] = node end
    for _, frame in ipairs(scope.frames or NONE) do
      for _, inner in ipairs(frame.scopes or NONE) do visit(inner) end
    end
  end
  visit(eng.plan)
  return nodes
end

--- Ends what is left when the run ends before its frames: it was cancelled, or a task outside of them failed.
---@param eng table
function M.close(eng)
  for _, frame in ipairs(eng.plan.frames or NONE) do
    if frame.state == "RUNNING" then
      if eng.is_cancelling then eng.was_cancelled = true end
      for _, name in ipairs(tell.names(frame.body)) do
        local series = eng.series[name]
        if series then series.is_short = true end
      end
      abort(eng, frame, "CANCELLED")
    elseif frame.state == "PENDING" and eng.is_cancelling then
      tell.cancel(eng, frame)
    end
  end
end

--- Makes an engine ready for the frames of its graph.
---@param eng table
---@param prepare fun(task: table) gives a body's task what the engine gives to nodes
function M.prepare(eng, prepare)
  eng.frames, eng.series = {}, {}
  for _, spec in ipairs(eng.flow.graph.frames) do
    local body = eng.plan.bodies[spec.id]
    local is_loop = spec.kind ~= "switch" and spec.kind ~= "case"
    body.is_outermost = is_loop and body.depth == 1
    eng.frames[spec.id] = { state = "PENDING", iterations = is_loop and 0 or nil }
    expression.prepare(body)
    for _, task in ipairs(body.tasks) do
      prepare(task)
      eng.tasks[task.name], eng.records[task.name] = "PENDING", record_of.new()
      if task.depth > 0 then
        local series = { name = task.name, record = eng.records[task.name], begun = 0 }
        task.series, eng.series[task.name] = series, series
      end
    end
  end
  for _, frame in ipairs(eng.plan.frames) do
    frame.record = eng.frames[frame.id]
    if frame.left == 0 then eng.on_ready(frame) end
  end
end

return M
