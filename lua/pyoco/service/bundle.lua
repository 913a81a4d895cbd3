--- Submitting a bundle of workflows (CONTRACT 7.4). Its text is read, never executed; whoever may spawn runs waits for
--- an approval first (service/approval.lua).
local json = require "host.json"
local bundles = require "pyoco.flow.bundle"
local run_bundle = require "pyoco.run.bundle"
local document = require "pyoco.service.document"
local fault = require "pyoco.service.fault"
local idempotency = require "pyoco.service.idempotency"
local start = require "pyoco.service.start"

local M = {}

--- Whether a run of a bundle needs somebody's approval: when any task that will run spawns. Every task that the entry
--- workflow defines runs, named in its graph or not.
local function requires_approval(app, bundle)
  return app.config.spawn_requires_approval and bundle.workflows[bundle.entry_workflow].spawns
end

--- Whether a text that is to be checked is a bundle.
---@param app table { config }
---@param text string
---@return boolean
function M.is_bundle(app, text)
  return #text <= math.max(app.config.workflow_bundle_max_bytes, app.config.workflow_yaml_max_bytes)
    and bundles.is_bundle(text)
end

--- Reads a bundle without any effect: POST /check.
---@param app table { config }
---@param text string
---@return table|nil { graph, graph_sha256 of the entry workflow, workflows = name -> { graph, graph_sha256 },
---  entry_workflow, defaults = inputs, requires_approval, warnings, sha256 }
---@return string|nil message
---@return string|nil code "invalid" | "too_large"
---@return table|nil errors
function M.check(app, text)
  if #text > app.config.workflow_bundle_max_bytes then return nil, "workflow bundle too large", "too_large" end
  local known, message, code, errors = document.check_bundle(text)
  if not known then return nil, message, code, errors end
  local bundle, workflows = known.bundle, {}
  for name, graph in pairs(known.graphs) do
    workflows[name] = { graph = json.decode(graph.json), graph_sha256 = graph.sha256 }
  end
  local entry = workflows[bundle.entry_workflow]
  return { graph = entry.graph, graph_sha256 = entry.graph_sha256, workflows = workflows, defaults = bundle.inputs,
    entry_workflow = bundle.entry_workflow, requires_approval = requires_approval(app, bundle),
    warnings = json.array(bundle.warnings), sha256 = known.sha256 }
end

--- Stores the bundle and the graph that its first run will show.
local function keep(app, text, known, entry)
  local ok, message, code = document.keep(app, text, known.sha256)
  if not ok then return nil, message, code end
  return document.keep(app, known.graphs[entry].json, known.graphs[entry].sha256)
end

--- What a bundle's run has beside key and job: its relation record.
local function hooks_of(app, submitted_at)
  return {
    stored = function(first)
      local revision, message, code = app.store.relations:put(first, submitted_at)
      if revision then return true end
      return fault.of_store(message, code)
    end,
    withdrawn = function(first) app.store.relations:delete(first.run_id) end,
  }
end

--- First snapshot, job and hooks of a run of a bundle that was checked and stored.
local function make(app, caller, source, opts, run_id)
  local known, entry = source.known, source.known.bundle.entry_workflow
  local first = run_bundle.root(start.identity(app, caller, { run_id = run_id, flow_name = entry, tag = source.tag,
    params = source.params, bundle_hash = known.sha256, workflow_bundle_bytes = #source.text,
    graph_sha256 = known.graphs[entry].sha256, requires_approval = requires_approval(app, known.bundle) }))
  for name, value in pairs(opts.extra or {}) do first[name] = value end
  local submitted_at = first.updated_at
  local job = first.status == "PENDING" and run_bundle.job(first, source.text, submitted_at) or nil
  return first, job, hooks_of(app, submitted_at)
end

--- POST /runs/bundle: a run of a bundle's entry workflow. The order of the checks is the contract's.
---@param app table { store, config }
---@param caller table
---@param form table { bundle (string), tag, params (table or nil) }
---@param opts table|nil run_id (a derived one: the run is resumed when it exists), idempotency_key, extra (more fields
---  of the snapshot)
---@return table|nil { run_id, status, bundle_hash, entry_workflow, replayed }
---@return string|nil message
---@return string|nil code
---@return table|nil errors of a bundle that is wrong
function M.submit(app, caller, form, opts)
  opts = opts or {}
  local tag, message, code = document.tag(app, form.tag)
  if not tag then return nil, message, code end
  if #form.bundle > app.config.workflow_bundle_max_bytes then return nil, "workflow bundle too large", "too_large" end
  local known, errors
  known, message, code, errors = document.check_bundle(form.bundle)
  if not known then return nil, message, code, errors end
  local entry, params = known.bundle.entry_workflow, document.params(known.bundle.inputs, form.params)
  local source = { text = form.bundle, known = known, tag = tag, params = params }
  local wanted = { flow_name = entry, request = { "bundle", entry, tag, known.sha256, params } }
  return idempotency.launch(app, caller, opts, wanted, function(run_id)
    local ok, why, failed = keep(app, form.bundle, known, entry)
    if not ok then return nil, why, failed end
    return make(app, caller, source, opts, run_id)
  end)
end

return M
