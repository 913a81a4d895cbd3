--- Flows that spawn others in a spec: the workflows of bundles as flows, and the child runs.
local config = require "pyoco.config"
local job_flow = require "pyoco.engine.job_flow"
local load = require "pyoco.flow.load"

local M = {}

--- The options of the configuration as they are without any environment: a spec says the same on every machine.
local function defaults(opts)
  local own = { spawn_max_child_runs = opts.max_child_runs, spawn_timeout_sec = opts.child_timeout_sec,
    spawn_max_parallel_child_runs = opts.max_parallel_child_runs }
  return setmetatable(own, { __index = function(_, name) return config.row(name)[3] end })
end

--- Reads a bundle.
---@param text string
---@param folders string[] of the modules
---@return table|nil entry the flow of the entry workflow
---@return table|string flows name -> flow of every workflow; or message
---@return table|nil problem the first one, with line and column, of a bundle that is wrong
function M.load(text, folders)
  local bundle, message, _, errors = require("pyoco.flow.bundle").read(text)
  if not bundle then return nil, message, errors and errors[1] end
  local flows = {}
  for name, workflow in pairs(bundle.workflows) do
    local flow
    flow, message = load.document({ graph = workflow.graph, expose_env = workflow.expose_env,
      defaults = name == bundle.entry_workflow and bundle.inputs or {} }, folders)
    if not flow then return nil, ("workflow '%s': %s"):format(name, message) end
    flow.bundle, flow.folders = text, folders
    flows[name] = flow
  end
  return flows[bundle.entry_workflow], flows
end

--- Which of the fakes are for tasks of a child: those called "workflow.task".
---@param fakes table|nil
---@param flow table of the parent
---@return table own the parent's fakes
---@return table by_workflow workflow -> fakes of its tasks
function M.split_fakes(fakes, flow)
  local own, by_workflow, is_spawned, is_task = {}, {}, {}, {}
  for _, node in ipairs(flow.graph.nodes) do
    is_task[node.name] = true
    if node.spawn then is_spawned[node.spawn.workflow] = true end
  end
  for name, given in pairs(fakes or {}) do
    local workflow, task = name:match("^(.-)%.(.+)$")
    if is_task[name] or not is_spawned[workflow] then
      own[name] = given
    else
      by_workflow[workflow] = by_workflow[workflow] or {}
      by_workflow[workflow][task] = given
    end
  end
  return own, by_workflow
end

--- The children of a run in a spec; nil for a flow that spawns none.
---@param flow table with what testing.load has put there: bundle = text of its bundle, folders of modules and flows
---@param params table of the parent, over the flow's defaults
---@param opts table the spec's: max_child_runs, max_parallel_child_runs, child_timeout_sec
---@param deps table run, now, after, adapt = fn(child, flow) -> flow, options, on_end: see local/children.lua
---@return table|nil children
function M.children(flow, params, opts, deps)
  if not job_flow.spawns(flow) then return nil end
  local merged = {}
  for _, from in ipairs { flow.defaults, params or {} } do
    for name, value in pairs(from) do merged[name] = value end
  end
  deps.run.flow_name = flow.name
  deps.cfg, deps.params, deps.text, deps.roots = defaults(opts), merged, flow.bundle, flow.folders or {}
  deps.on_born = function() end
  return require("pyoco.local.children").new(deps)
end

return M
