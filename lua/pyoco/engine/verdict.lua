--- What a failure means for everything around it: whether it counts (any-of), whom it takes along (isolate), and what
--- it ends (the iteration, the loop, the run).
local planner = require "pyoco.engine.plan"
local queue = require "pyoco.engine.queue"
local retry = require "pyoco.engine.retry"

local add, ipairs = queue.add, ipairs

local M = {}

--- The policy of a member's own failures.
---@param member table node
---@return string "stop"|"isolate"
function M.policy(member)
  local options = member.spec.options
  return options and options.fail_policy or "stop"
end

--- A failure that is not to be isolated: the innermost loop or switch around it ends, then what is around that, as
--- long as it counts there. What runs goes on, nothing new starts.
local function stop(eng, member, culprit)
  local scope = member.scope
  while scope.frame do
    local frame = scope.frame
    if frame.is_doomed then return end
    frame.is_doomed, frame.culprit = true, culprit
    retry.give_up(eng)
    add(eng.control, frame)
    local lost = planner.lost(frame)
    scope = frame.scope
    for _, other in ipairs(lost) do M.drop(eng, other) end
    if not planner.failed(frame, "stop") then return end
  end
  eng.failed = eng.failed or culprit
  retry.give_up(eng)
end

--- A member that can never start has no part in the end of its scope any more.
---@param eng table
---@param member table
function M.drop(eng, member)
  local scope = member.scope
  if not scope.frame then return end
  scope.pending = scope.pending - 1
  if not member.within and member.state == "PENDING" then scope.unreached = scope.unreached or member end
  if scope.pending == 0 then add(eng.control, scope) end
end

--- Adds a task to the run's failed ones.
local function note(eng, name)
  local list, noted = eng.failed_tasks or {}, eng.noted or {}
  eng.failed_tasks, eng.noted = list, noted
  if noted[name] then return end -- in an earlier iteration
  noted[name] = true
  list[#list + 1] = name
end

--- Draws the consequences of a member's failure. Members that depend on one whose failure is isolated fail too.
---@param eng table the engine
---@param member table the node or frame that failed for good; its record has the error
---@param policy string "stop"|"isolate"
---@param culprit table the node or frame whose failure it is at root: itself, or one inside of it
function M.failed(eng, member, policy, culprit)
  local failed = { member }
  local is_isolated = policy == "isolate"
  if is_isolated and culprit == member then note(eng, member.name) end
  for i, other in ipairs(planner.lost(member)) do
    if is_isolated then
      eng:fail_unstarted(other, "upstream_failed: " .. culprit.name)
      failed[i + 1] = other
    end
    M.drop(eng, other)
  end
  for _, it in ipairs(failed) do
    local counts, effective = planner.failed(it, policy)
    if counts and effective == "stop" then
      stop(eng, it, culprit)
    elseif counts and it.scope.frame then
      it.scope.culprit, it.scope.frame.has_failed = culprit, true -- the iteration goes on, no other one begins
    end
  end
end

return M
