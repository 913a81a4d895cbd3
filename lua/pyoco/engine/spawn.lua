--- Tasks that spawn: `spawn: trial` runs another workflow of the bundle as a child run and waits for its end; the
--- output is the child's result summary. How a child run is made, and its end found, is up to whoever runs the engine
--- (eng.spawn): a worker's slot, or local/children.lua for a run without server.
local task = require "host.task"
local context = require "pyoco.engine.context"

local error, format, ipairs, insert = error, string.format, ipairs, table.insert

local M = {}

--- The indexes of the loops around a scope, outermost first.
local function iteration_of(scope)
  local indexes = {}
  while scope.parent do
    insert(indexes, 1, scope.index or 0)
    scope = scope.parent
  end
  return indexes
end

--- Fails the task when its child has ended in a way that it was told to fail on.
local function check_end(spawn, summary)
  for _, status in ipairs(spawn.fail_on or {}) do
    if summary.status == status then
      local why = type(summary.error_summary) == "string" and ": " .. summary.error_summary or ""
      error(format("child run %s is %s%s", summary.run_id, status, why), 0)
    end
  end
end

--- The function of a task that spawns.
---@param node table graph node with spawn = { workflow, fail_on, tag }
---@return fun(ctx: table, inputs: table): table fn returns the child's result summary; raises when there is none, or
---  when it is one to fail on
function M.task(node)
  local spawn = node.spawn
  return function(ctx, inputs)
    local eng, member = context.of(ctx)
    if not eng.spawn then error("spawn_task_requires_run_context", 0) end
    local request = { task = member.name, workflow = spawn.workflow, tag = spawn.tag, inputs = inputs,
      iteration = iteration_of(member.scope), attempt = member.attempt or 1,
      timeout_sec = node.options and node.options.timeout_sec }
    local summary, message = task.wait(function(resume) return eng.spawn(request, resume) end)
    if not summary then error(message, 0) end
    check_end(spawn, summary)
    return summary
  end
end

return M
