--- From a job to the flow object that the engine runs: a document that came with it, or a Lua flow of the task roots.
--- Loading runs user code (the files' top level), so it happens under the engine's guard: it can be cancelled.
local engine = require "pyoco.engine"
local load = require "pyoco.flow.load"
local packed = require "pyoco.flow.packed"
local filled = require("pyoco.null").filled

local M = {}

local function not_found(job, why) return ("flow_not_found: '%s' (%s)"):format(job.flow_name, why) end

--- Whether all that is wrong with a bundle is that it has no workflow of the wanted name.
local function lacks_workflow(errors)
  return #errors == 1 and errors[1].code == "missing_entry_workflow" and errors[1].path == "workflows"
end

--- Reads the job's document, if it has one. Runs no user code, so it may be done before the snapshot is known.
---@param job table
---@return table|nil document { doc } or { message, code = "not_found" or nil }; nil for a flow known by name
function M.read(job)
  local doc, message, _, errors
  if filled(job.workflow_bundle) then
    doc, message, _, errors = packed.workflow(job.workflow_bundle, job.flow_name, { duplicate = "last" })
    if doc and doc.spawns and (job.spawn_depth or 0) >= 1 then return { message = "child_respawn_not_allowed" } end
  elseif filled(job.workflow_yaml) then
    doc, message, _, errors = packed.read(job.workflow_yaml, { duplicate = "last" })
  else
    return nil
  end
  if doc then return { doc = doc } end
  local first = errors and errors[1]
  if first and lacks_workflow(errors) then return { message = not_found(job, first.message), code = "not_found" } end
  if first then message = ("%s: line %d:%d: %s"):format(message, first.line, first.column, first.message) end
  return { message = message }
end

--- A Lua flow by its name.
local function named_flow(name, roots, globals, resolver)
  if resolver then
    local flow, message, code = require("pyoco.flow.resolver").flow(resolver, name, roots, globals)
    if flow or code ~= "not_found" or #roots == 0 then return flow, message, code end
  end
  return load.flow(name, roots, { globals = globals })
end

--- Whether tasks of a flow spawn runs.
---@param flow table
---@return boolean
function M.spawns(flow)
  for _, node in ipairs(flow.graph.nodes) do
    if node.spawn then return true end
  end
  return false
end

--- Builds the flow.
---@param job table
---@param document table|nil what `read` returned
---@param roots string[] task roots
---@param globals table|nil more globals for flow files
---@param resolver string|function|nil the operator's own resolver, asked first (pyoco.flow.resolver)
---@return table|nil flow object
---@return string|nil message the run's error
---@return string|nil code "not_found" (no such flow) | "invalid" (it cannot be built)
function M.build(job, document, roots, globals, resolver)
  if document and document.message then return nil, document.message, document.code or "invalid" end
  local opts, code = { globals = globals }, nil
  local ok, flow, message = engine.guard(function()
    local found, text
    if document then
      found, text, code = load.document(document.doc, roots, opts)
    else
      found, text, code = named_flow(job.flow_name, roots, globals, resolver)
    end
    return found, text
  end)
  if not ok then return nil, flow, "invalid" end
  if flow and (job.spawn_depth or 0) >= 1 and M.spawns(flow) then return nil, "child_respawn_not_allowed", "invalid" end
  if flow then return flow end
  if code == "not_found" then
    return nil, not_found(job, message), "not_found"
  end
  return nil, message, "invalid"
end

return M
