--- What a run tells of its loops and switches (eng.frames), and of the tasks inside of those that will not run.
local series_of = require "pyoco.engine.series"

local ipairs = ipairs

local M = {}

local NONE <const> = {}

--- Names of all tasks inside of a body, those of loops and switches in it too.
---@param body table of the plan
---@return string[] names
function M.names(body)
  if body.names then return body.names end
  local names = {}
  for _, task in ipairs(body.tasks) do names[#names + 1] = task.name end
  for _, list in ipairs { body.frames or NONE, body.cases or NONE } do
    for _, inner in ipairs(list) do
      for _, name in ipairs(M.names(inner)) do names[#names + 1] = name end
    end
  end
  body.names = names
  return names
end

--- Calls fn for each frame of a body, at any depth.
local function each_inner(body, fn)
  for _, list in ipairs { body.frames or NONE, body.cases or NONE } do
    for _, inner in ipairs(list) do
      fn(inner)
      each_inner(inner, fn)
    end
  end
end

--- Moves what the run tells of a frame to a state.
---@param eng table
---@param id string the frame's
---@param state string
---@param message string? why it failed
function M.report(eng, id, state, message)
  local record = eng.frames[id]
  if record.state ~= "FAILED" then record.state = state end
  record.error = record.error or message
  if eng.on_event then
    eng.on_event({ type = "frame", frame = id, state = state, iterations = record.iterations, label = record.label,
      error = message, at = eng.now() })
  end
end

--- The tasks of a branch that was not taken.
---@param eng table
---@param body table of the branch
function M.skip(eng, body)
  for _, name in ipairs(M.names(body)) do
    local series, record = eng.series[name], eng.records[name]
    record.skipped = true
    if series then
      series.has_ended = true
      record.iterations = 0
    end
  end
  if body.spec.kind == "case" then eng.frames[body.id].skipped = true end
  each_inner(body, function(inner) eng.frames[inner.id].skipped = true end)
end

--- Ends a frame that has not opened, because of another member.
---@param eng table
---@param frame table
---@param message string
function M.fail_unstarted(eng, frame, message)
  frame.state = "FAILED"
  local at = eng.now()
  for _, name in ipairs(M.names(frame.body)) do
    local record, series = eng.records[name], eng.series[name]
    if not (series and series.has_ended) then
      record.error, record.ended_at, record.state = message, at, "FAILED"
      if series then series.has_ended = true end
      eng.tasks[name] = "FAILED"
      if eng.on_event then eng.on_event({ type = "task", task = name, state = "FAILED", at = at }) end
    end
  end
  M.report(eng, frame.id, "FAILED", message)
end

--- Ends a frame that was never opened, in a run that was cancelled.
---@param eng table
---@param frame table
function M.cancel(eng, frame)
  local at = eng.now()
  frame.state, eng.was_cancelled = "CANCELLED", true
  for _, name in ipairs(M.names(frame.body)) do
    local record, series = eng.records[name], eng.series[name]
    if series then
      series_of.close(eng, series, "CANCELLED", at)
    else
      record.state, record.ended_at, eng.tasks[name] = "CANCELLED", at, "CANCELLED"
      if eng.on_event then eng.on_event({ type = "task", task = name, state = "CANCELLED", at = at }) end
    end
  end
  M.report(eng, frame.id, "CANCELLED")
end

return M
