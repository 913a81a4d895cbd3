--- Submitting a run: what a request becomes, as snapshot and job (CONTRACT 7.2, 7.3). service/start stores both.
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local document = require "pyoco.service.document"
local idempotency = require "pyoco.service.idempotency"
local start = require "pyoco.service.start"

local M = {}

local function with(target, fields)
  for key, value in pairs(fields) do target[key] = value end
  return target
end

--- The first snapshot of a run.
local function initial(run, opts) return with(snapshot.initial(run), opts.extra or {}) end

--- What a run of a flow by its name takes: what service/idempotency wants of it, and the maker of its snapshot and job.
---@param app table { store, config }
---@param caller table
---@param request table { flow_name, params, tag, tags } already validated
---@param opts table|nil extra
---@return table wanted { flow_name, request }
---@return fun(run_id:string|nil):table, table make first snapshot and job
function M.plan(app, caller, request, opts)
  local tag = request.tag
  if tag == nil or tag == json.null then tag = app.config.default_tag end
  local tags = json.array(request.tags and #request.tags > 0 and request.tags or { tag })
  local flow_name, params = request.flow_name, request.params or {}
  return { flow_name = flow_name, request = { "flow", flow_name, tag, tags, params } }, function(run_id)
    local run = start.identity(app, caller, { run_id = run_id, flow_name = flow_name, tag = tag, tags = tags,
      params = params })
    return initial(run, opts or {}), { run_id = run.run_id, flow_name = flow_name, tag = tag, tags = tags,
      tenant_id = run.tenant_id, api_key_id = run.api_key_id, params = params, submitted_at = run.now }
  end
end

--- POST /runs: a run of a flow that a worker knows by name.
---@param app table { store, config }
---@param caller table { tenant_id, api_key_id } or empty
---@param request table { flow_name, params, tag, tags } already validated
---@param opts table|nil run_id (a derived one: the run is resumed when it exists), idempotency_key, extra (more fields
---  of the snapshot)
---@return table|nil { run_id, status, bundle_hash, replayed = true for a key that had its run }
---@return string|nil message
---@return string|nil code
function M.flow(app, caller, request, opts)
  opts = opts or {}
  return idempotency.launch(app, caller, opts, M.plan(app, caller, request, opts))
end

--- Reads a document, or a bundle of workflows, without any effect: POST /check.
---@param app table { config }
---@param text string the YAML document
---@return table|nil { graph, defaults, warnings, sha256, graph_sha256 }; of a bundle see service/bundle.check
---@return string|nil message
---@return string|nil code "invalid" | "too_large"
---@return table|nil errors list of {line, column, path, code, message, hint}
function M.check(app, text)
  local bundle = require "pyoco.service.bundle"
  if bundle.is_bundle(app, text) then return bundle.check(app, text) end
  if #text > app.config.workflow_yaml_max_bytes then return nil, "workflow too large", "too_large" end
  local known, message, code, errors = document.check(text)
  if not known then return nil, message, code, errors end
  return { graph = json.decode(known.graph.json), defaults = known.doc.defaults,
    warnings = json.array(known.doc.warnings or {}),
    sha256 = known.sha256, graph_sha256 = known.graph.sha256 }
end

--- A run of a document that was checked.
---@param source table { text, known = what check gave, flow_name, tag, params }
local function run_document(app, caller, source, opts)
  local known, tag, params = source.known, source.tag, source.params
  local wanted = { flow_name = source.flow_name, request = { "yaml", source.flow_name, tag, known.sha256, params } }
  return idempotency.launch(app, caller, opts, wanted, function(run_id)
    local ok, message, code = document.keep(app, source.text, known.sha256)
    if ok then ok, message, code = document.keep(app, known.graph.json, known.graph.sha256) end
    if not ok then return nil, message, code end
    local schedule_id = opts.schedule_id or json.null
    local run = start.identity(app, caller, { run_id = run_id, flow_name = source.flow_name, tag = tag,
      tags = json.array { tag }, params = params, workflow_yaml_sha256 = known.sha256,
      workflow_yaml_bytes = #source.text, graph_sha256 = known.graph.sha256, schedule_id = schedule_id })
    return initial(run, opts), { run_id = run.run_id, flow_name = run.flow_name, tag = tag, tags = run.tags,
      tenant_id = run.tenant_id, api_key_id = run.api_key_id, params = params, workflow_yaml = source.text,
      workflow_yaml_sha256 = known.sha256, workflow_yaml_bytes = #source.text, schedule_id = schedule_id,
      submitted_at = run.now }
  end)
end

--- Checks what a document is submitted with, in the contract's order.
---@param app table { config }
---@param form table { workflow (string), flow_name, tag, params (table or nil) }
---@return table|nil source { text, known = { sha256, graph = { json, sha256 }, doc }, flow_name, tag, params (the
---  document's defaults with the form's on top) }
---@return string|nil message
---@return string|nil code
---@return table|nil errors of a document that is wrong
function M.read_yaml(app, form)
  local tag, message, code = document.tag(app, form.tag)
  if not tag then return nil, message, code end
  if #form.workflow > app.config.workflow_yaml_max_bytes then return nil, "workflow too large", "too_large" end
  local known, errors
  known, message, code, errors = document.check(form.workflow)
  if not known then return nil, message, code, errors end
  local flow_name = form.flow_name:match("^%s*(.-)%s*$")
  if flow_name == "" then return nil, "missing flow_name", "invalid" end
  return { text = form.workflow, known = known, flow_name = flow_name, tag = tag,
    params = document.params(known.doc.defaults, form.params) }
end

--- POST /runs/yaml: a run of a document.
---@param app table { store, config }
---@param caller table
---@param form table { workflow (string), flow_name, tag, params (table or nil) }
---@param opts table|nil as for flow, and schedule_id
---@return table|nil as for flow
---@return string|nil message
---@return string|nil code
---@return table|nil errors of a document that is wrong
function M.yaml(app, caller, form, opts)
  local source, message, code, errors = M.read_yaml(app, form)
  if not source then return nil, message, code, errors end
  return run_document(app, caller, source, opts or {})
end

return M
