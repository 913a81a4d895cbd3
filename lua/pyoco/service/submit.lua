--- Submitting a run: the first snapshot, then the job (CONTRACT 7.2, 7.3).
--- The order matters: a worker that finds a job without a snapshot takes the run for deleted or foreign.
local json = require "host.json"
local clock = require "host.clock"
local crypto = require "host.crypto"
local shared = require "host.shared"
local canonical = require "pyoco.flow.canonical"
local document = require "pyoco.flow.document"
local snapshot = require "pyoco.run.snapshot"
local fault = require "pyoco.service.fault"

local M = {}

local TAG = "^[%w_-]+$"
local PUBLISH_DEADLINE_SEC = 2
local GRAPH_MAX_BYTES = 1048576
local KNOWN_DOCUMENT_SEC = 60 -- how long a stored document is not stored again
local CHECKED_MAX = 64        -- documents whose check is remembered, per VM

local function null_if_nil(value)
  if value == nil then return json.null end
  return value
end

--- Publishes the job; a publish whose fate is unknown is repeated (the message id makes that safe) for two
--- seconds. After that the run is withdrawn: a job without its key is acked unrun.
local function publish(app, job, revision)
  local deadline = clock.monotonic() + PUBLISH_DEADLINE_SEC
  local seq, message, code
  repeat
    seq, message, code = app.store.jobs:publish(job)
  until seq or code ~= "timeout" or clock.monotonic() >= deadline
  if seq then return seq end
  app.store.runs:delete(job.run_id, revision)
  return fault.of_store(message, code)
end

--- Stores the snapshot and queues the job.
local function start(app, first, job)
  local revision, message, code = app.store.runs:create(first)
  if not revision then return fault.of_store(message, code) end
  local seq
  seq, message, code = publish(app, job, revision)
  if not seq then return nil, message, code end
  return { run_id = first.run_id, status = first.status, bundle_hash = json.null }
end

--- What snapshot and job have in common.
local function identity(app, caller, fields)
  fields.run_id = crypto.uuid4()
  fields.tenant_id = null_if_nil(caller.tenant_id)
  fields.api_key_id = null_if_nil(caller.api_key_id)
  fields.now = app.store:now()
  return fields
end

local function with(target, fields)
  for key, value in pairs(fields) do target[key] = value end
  return target
end

--- POST /runs: a run of a flow that a worker knows by name.
---@param app table { store, config }
---@param caller table { tenant_id, api_key_id } or empty
---@param request table { flow_name, params, tag, tags } already validated
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
function M.flow(app, caller, request)
  local tag = request.tag
  if tag == nil or tag == json.null then tag = app.config.default_tag end
  local tags = request.tags and #request.tags > 0 and request.tags or { tag }
  local run = identity(app, caller, { flow_name = request.flow_name, tag = tag, tags = json.array(tags),
    params = request.params or {} })
  return start(app, snapshot.initial(run), {
    run_id = run.run_id, flow_name = run.flow_name, tag = tag, tags = run.tags, tenant_id = run.tenant_id,
    api_key_id = run.api_key_id, params = run.params, submitted_at = run.now,
  })
end

--- Stores bytes under their hash once a minute at most.
local function keep(app, bytes, sha256)
  if shared.get("document." .. sha256) then return true end
  local ok, message, code = app.store.documents:put(bytes, sha256)
  if not ok then return fault.of_store(message, code) end
  shared.set("document." .. sha256, true, KNOWN_DOCUMENT_SEC)
  return true
end

local checked, checked_count = {}, 0

--- Reads and checks a document; what was checked a moment ago is not checked again. The result is shared: read only.
local function check(text)
  local sha256 = crypto.sha256(text)
  local known = checked[sha256]
  if known then return known end
  local doc, message, code, errors = document.read(text)
  if not doc then return nil, message, code, errors end
  local graph = canonical.encode(doc.graph)
  if #graph > GRAPH_MAX_BYTES then
    return nil, "graph_too_large", "invalid", json.array { { line = 1, column = 1, path = "flow.graph",
      code = "graph_too_large", message = ("the compiled graph has %d bytes, the limit is %d"):format(#graph,
      GRAPH_MAX_BYTES), hint = "split the flow into several" } }
  end
  if checked_count >= CHECKED_MAX then checked, checked_count = {}, 0 end
  known = { doc = doc, sha256 = sha256, graph = graph, graph_sha256 = crypto.sha256(graph) }
  checked[sha256], checked_count = known, checked_count + 1
  return known
end

--- Reads a document without any effect: POST /check.
---@param app table { config }
---@param text string the YAML document
---@return table|nil { graph, defaults, warnings, sha256, graph_sha256 }
---@return string|nil message
---@return string|nil code "invalid" | "too_large"
---@return table|nil errors list of {line, column, path, code, message, hint}
function M.check(app, text)
  if #text > app.config.workflow_yaml_max_bytes then return nil, "workflow too large", "too_large" end
  local known, message, code, errors = check(text)
  if not known then return nil, message, code, errors end
  return { graph = json.decode(known.graph), defaults = known.doc.defaults,
    warnings = json.array(known.doc.warnings or {}),
    sha256 = known.sha256, graph_sha256 = known.graph_sha256 }
end

--- The tag of a form: blank means the default one.
local function form_tag(app, tag)
  tag = (tag or ""):match("^%s*(.-)%s*$")
  if tag == "" then return app.config.default_tag end
  if not tag:find(TAG) then return nil, "invalid tag", "invalid" end
  return tag
end

--- Params of a YAML run: the document's defaults with the request's own on top.
local function overlay(defaults, params)
  return with(with({}, defaults or {}), params or {})
end

--- POST /runs/yaml: a run of a document. The order of the checks is the contract's.
---@param app table { store, config }
---@param caller table
---@param form table { workflow (string), flow_name, tag, params (table or nil) }
---@return table|nil { run_id, status, bundle_hash }
---@return string|nil message
---@return string|nil code
---@return table|nil errors of a document that is wrong
function M.yaml(app, caller, form)
  local tag, message, code = form_tag(app, form.tag)
  if not tag then return nil, message, code end
  if #form.workflow > app.config.workflow_yaml_max_bytes then return nil, "workflow too large", "too_large" end
  local known, errors
  known, message, code, errors = check(form.workflow)
  if not known then return nil, message, code, errors end
  local flow_name = form.flow_name:match("^%s*(.-)%s*$")
  if flow_name == "" then return nil, "missing flow_name", "invalid" end

  local ok
  ok, message, code = keep(app, form.workflow, known.sha256)
  if ok then ok, message, code = keep(app, known.graph, known.graph_sha256) end
  if not ok then return nil, message, code end

  local run = identity(app, caller, { flow_name = flow_name, tag = tag, tags = json.array { tag },
    params = overlay(known.doc.defaults, form.params), workflow_yaml_sha256 = known.sha256,
    workflow_yaml_bytes = #form.workflow, graph_sha256 = known.graph_sha256, schedule_id = json.null })
  return start(app, snapshot.initial(run), {
    run_id = run.run_id, flow_name = flow_name, tag = tag, tags = run.tags, tenant_id = run.tenant_id,
    api_key_id = run.api_key_id, params = run.params, workflow_yaml = form.workflow,
    workflow_yaml_sha256 = known.sha256, workflow_yaml_bytes = #form.workflow, schedule_id = json.null,
    submitted_at = run.now,
  })
end

return M
