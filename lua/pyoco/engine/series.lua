--- The record of a task in a loop: one for all of its iterations. It starts with the first and ends with the outermost
--- loop; its output is a list with one item per iteration (null where the task did not run), lists of lists for loops
--- in loops; `iterations` says how often it ran. What went wrong first stays in it.
local output = require "pyoco.engine.output"
local retry = require "pyoco.engine.retry"

local insert, ipairs, next = table.insert, ipairs, next

local M = {}

local NONE <const> = {}

--- Moves the record to a state, and says so.
local function move(eng, series, state, at)
  if series.record.state == state then return end
  series.record.state = state
  eng.tasks[series.name] = state
  if eng.on_event then eng.on_event({ type = "task", task = series.name, state = state, at = at }) end
end

--- The iterations that a scope stands in, outermost first, from 0.
---@param scope table
---@return integer[]
function M.path(scope)
  local path = {}
  while scope do
    if scope.index then insert(path, 1, scope.index) end
    scope = scope.parent
  end
  return path
end

--- An iteration of the task begins, or another attempt of it.
local function begin(eng, node, at)
  local series, record = node.series, node.series.record
  if node.attempt == 1 then
    series.begun = series.begun + 1
    record.iterations = series.begun
    record.started_at = record.started_at or at
  elseif node.attempt > (record.attempt or 1) then
    record.attempt = node.attempt
  end
  if record.state == "PENDING" then move(eng, series, "RUNNING", at) end
end

--- An iteration of the task ends.
local function finish(eng, node, state, at)
  local series, own = node.series, node.record
  local record = series.record
  record.ended_at = at
  if record.started_at then record.duration_ms = (at - record.started_at) * 1000 end
  for _, attempt in ipairs(own.attempts or NONE) do
    attempt.iteration = M.path(node.scope)
    retry.keep(record, attempt)
  end
  if next(own.artifacts) ~= nil then
    if next(record.artifacts) == nil then record.artifacts = {} end
    for name, artifact in next, own.artifacts do record.artifacts[name] = artifact end
  end
  if state == "SUCCEEDED" or series.has_ended then return end
  record.error, record.traceback = own.error, own.traceback
  if state == "FAILED" then record.failed_iteration = M.path(node.scope) end
  series.has_ended = true
  move(eng, series, state, at)
end

--- A node of the series moved to a state.
---@param eng table
---@param node table
---@param state string
---@param at number
function M.enter(eng, node, state, at)
  if state == "RUNNING" then begin(eng, node, at) else finish(eng, node, state, at) end
  local on_event = eng.on_event
  if on_event then
    local attempt = node.attempt
    on_event({ type = "iteration", task = node.name, state = state, at = at, iteration = M.path(node.scope),
      attempt = attempt > 1 and attempt or nil })
  end
end

--- The inputs of the iteration that started last.
---@param node table
---@param inputs table
function M.inputs(node, inputs) node.series.record.inputs = inputs end

--- What the task tells, whichever iteration it is.
---@param node table
---@param text string
function M.log(node, text)
  local record = node.series.record
  record.log_tail = output.tail((record.log_tail or "") .. text)
end

--- Ends the record when no iteration comes any more.
---@param eng table
---@param series table
---@param how string how the outermost loop ended: "SUCCEEDED"|"FAILED"|"CANCELLED"
---@param at number
function M.close(eng, series, how, at)
  local record = series.record
  if series.has_ended then return end
  series.has_ended = true
  record.iterations = series.begun
  if how == "CANCELLED" then
    record.ended_at = at
    return move(eng, series, how, at)
  elseif series.begun == 0 then
    record.skipped = how == "SUCCEEDED" or nil
  elseif series.is_short then
    record.error = "its loop was ended by the failure of another task"
    move(eng, series, "CANCELLED", at)
  else
    move(eng, series, "SUCCEEDED", at)
  end
end

return M
