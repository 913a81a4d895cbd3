--- What a run tells of its tasks: eng.tasks, eng.records, and an event for each change. A task in a loop has one
--- record for all of its iterations: see series.lua.
local M = {}

local NO_ARTIFACTS <const> = {}

--- A record of a task that has not started.
---@return table record
function M.new()
  return { state = "PENDING", artifacts = NO_ARTIFACTS, started_at = nil, ended_at = nil, duration_ms = nil,
    inputs = nil, output = nil, error = nil } -- named for their room in the table: fields are set later
end

--- Moves a node to a state, and says so.
---@param eng table
---@param node table
---@param state string
---@param at number unix seconds
function M.enter(eng, node, state, at)
  node.state = state
  node.record.state = state
  if node.series then return eng.framework.enter(eng, node, state, at) end
  eng.tasks[node.name] = state
  local on_event = eng.on_event
  if on_event then
    local attempt = node.attempt
    on_event({ type = "task", task = node.name, state = state, at = at, attempt = attempt > 1 and attempt or nil })
  end
end

return M
