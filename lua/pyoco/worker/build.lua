--- From a job to the flow object that the engine runs: a document that came with it, or a Lua flow of the task roots.
--- Loading runs user code (the files' top level), so it happens under the engine's guard: it can be cancelled.
local crypto = require "host.crypto"
local task = require "host.task"
local uv = require "luv"
local engine = require "pyoco.engine"
local canonical = require "pyoco.flow.canonical"
local load = require "pyoco.flow.load"
local packed = require "pyoco.flow.packed"
local async = require "pyoco.worker.async"
local filled = require("pyoco.null").filled

local M = {}

local LIST_MAX_SEC = 1

--- The task roots of a run: the configured ones, then the folders of wheels, whose C modules are found as well.
---@param task_path string[]
---@param wheels string[]|nil folders
---@return string[] roots
function M.roots(task_path, wheels)
  if not wheels or #wheels == 0 then return task_path end
  local places = {}
  for i, root in ipairs(wheels) do places[i] = root .. "/?.so;" end
  package.cpath = table.concat(places) .. package.cpath
  return table.move(wheels, 1, #wheels, #task_path + 1, { table.unpack(task_path) })
end

--- Reads the job's document, if it has one. Runs no user code, so it may be done before the snapshot is known.
---@param job table
---@return table|nil document { doc } or { message }; nil for a flow known by name
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

--- Builds the flow.
---@param job table
---@param document table|nil what `read` returned
---@param roots string[] task roots
---@param globals table|nil more globals for flow files
---@param resolver string|function|nil the operator's own resolver, asked first (pyoco.flow.resolver)
---@return table|nil flow object
---@return string|nil message the run's error
---@return string|nil code "not_found" (no such flow) | "invalid" (it cannot be built)
function M.flow(job, document, roots, globals, resolver)
  if document and document.message then return nil, document.message, "invalid" end
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
  if flow then return flow end
  if code == "not_found" then
    return nil, ("flow_not_found: '%s' (%s)"):format(job.flow_name, message), "not_found"
  end
  return nil, message, "invalid"
end

--- Leaves the default folder out when it is not there: a worker that has its flows from wheels needs none.
local function without_default(roots)
  local default, kept = require("pyoco.config").row("task_path")[3], {}
  for _, root in ipairs(roots) do
    if root ~= default[1] or uv.fs_stat(root) then kept[#kept + 1] = root end
  end
  return kept
end

--- The Lua flows of the task roots, for the registry. A file that does not come to an end is given up.
---@param roots string[]
---@param has_wheels boolean whether the worker installs wheels
---@return table { flows, errors }
function M.list(roots, has_wheels)
  if has_wheels then roots = without_default(roots) end
  local stop = async.after(LIST_MAX_SEC, task.cancel)
  local ok, list = engine.guard(load.list, roots)
  stop()
  if ok and not task.cancelled() then return list end
  return { flows = {}, errors = { { message = task.cancelled()
    and ("listing the flows took longer than %d s: a file's top level does not end"):format(LIST_MAX_SEC) or list } } }
end

--- Stores what a run was made of, once for each version (DESIGN D15): the compiled graph and the source of a Lua flow,
--- the graph of a bundle's workflow that no gateway has stored.
---@param store table
---@param flow table
---@param image table gets graph_sha256 and source_sha256
function M.publish(store, flow, image)
  local is_unknown = filled(image.bundle_hash) and not filled(image.graph_sha256)
  if not flow.source and not is_unknown then return end
  local graph = canonical.encode(flow.graph)
  image.graph_sha256 = crypto.sha256(graph)
  store.documents:keep(graph, image.graph_sha256)
  if not flow.source then return end
  image.source_sha256 = crypto.sha256(flow.source)
  store.documents:keep(flow.source, image.source_sha256)
end

return M
