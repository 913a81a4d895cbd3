--- Runs: submit, read, watch, cancel (CONTRACT 7.2 to 7.10).
local include = require "pyoco.http.include"
local response = require "pyoco.http.response"
local validate = require "pyoco.http.validate"
local waiting = require "pyoco.http.waiting"
local filters = require "pyoco.routes.filters"
local forms = require "pyoco.routes.forms"
local batch = require "pyoco.service.batch"
local cancel = require "pyoco.service.cancel"
local list = require "pyoco.service.list"
local run = require "pyoco.service.run"
local submit = require "pyoco.service.submit"

local TAG_PATTERN = "^[A-Za-z0-9_-]+$"
local NAME_PATTERN = "^[^\0-\31\127]*$" -- no control characters: they would end in logs, terminals, subjects
local NAME_SHOWN = "^[^\\x00-\\x1f\\x7f]*$"

local FULL = { all = true, full = true }

local function list_runs(app, req)
  local query, is_full = req.query, false
  for _, value in ipairs(query.include or {}) do is_full = is_full or FULL[value] == true end
  local request = { full = is_full, oldest_first = query.sort == "updated_at" }
  for key, value in pairs(query) do request[key] = value end
  local body, message, code = list.runs(app, req.caller, request)
  if not body then return nil, message, code end
  return response.json_text(body)
end

--- What the header Idempotency-Key asks for.
local function with_key(req) return { idempotency_key = req.headers["idempotency-key"] } end

local function submit_flow(app, req)
  return waiting.submitted(req, submit.flow(app, req.caller, req.body, with_key(req)))
end

local FLOW_RUN = {
  { "flow_name", "string", required = true, min_length = 1, pattern = NAME_PATTERN, shown = NAME_SHOWN,
    doc = "Name of a flow that a worker knows." },
  { "params", "object", default = {}, doc = "Parameters of the run." },
  { "tag", "string", nullable = true, pattern = TAG_PATTERN, doc = "Which workers may take it." },
  { "tags", "array", items = "string", default = {}, doc = "Tags shown with the run; default: its tag." },
}

local BATCH_RUN = { { "idempotency_key", "string", nullable = true, doc = "As the header Idempotency-Key." },
  table.unpack(FLOW_RUN) }

local function submit_batch(app, req)
  return batch.submit(app, req.caller, validate.each(BATCH_RUN, req.body.runs, "runs"))
end

local function submit_yaml(app, req)
  local params, message, code = forms.params(req.body.params or req.query.params)
  if not params then return nil, message, code end
  return waiting.submitted(req, submit.yaml(app, req.caller, { workflow = req.body.workflow.data,
    flow_name = req.body.flow_name, tag = req.body.tag, params = params }, with_key(req)))
end

--- The host itself answers 404 for a run that is not there.
local function watch(_, req)
  local query = req.query
  return response.watch { run_id = req.params.id, tenant_id = req.caller.tenant_id,
    brief = not include.with_records(query.include), since = query.since,
    timeout_sec = query.timeout_sec, until_terminal = query["until"] == "terminal",
    last_event_id = tonumber(req.headers["last-event-id"]) }
end

--- Bytes of a stored document, or the failure.
local function stored(content_type, read)
  return function(app, req)
    local bytes, message, code = read(app, req.caller, req.params.id, req.params.task)
    if not bytes then return nil, message, code end
    local headers = { ["content-type"] = content_type }
    if type(bytes) == "table" then return response.object { object = bytes, headers = headers } end
    return response.new(200, headers, bytes)
  end
end

return {
  { "POST", "/runs", name = "runs.submit", doc = "Queue a run of a flow by name. With an Idempotency-Key header, once: "
      .. "sent again it answers the first run, with Idempotent-Replayed: true.",
    body = FLOW_RUN,
    query = { waiting.QUERY, include.QUERY },
    run = submit_flow },

  { "POST", "/runs/batch", name = "runs.submit_batch", doc = "Queue up to 1,000 runs of flows by name. Answers "
      .. "results, in order: run_id, status, bundle_hash (and replayed: true where its key had that run), or error "
      .. "{code, detail}; a run that is refused keeps no other from being queued. And accepted, refused: how many.",
    body = { { "runs", "array", required = true, max_items = 1000,
      doc = "Objects: flow_name, params, tag and tags as for POST /runs, and idempotency_key." } },
    run = submit_batch },

  { "POST", "/runs/yaml", name = "runs.submit_yaml", doc = "Queue a run of a workflow document; Idempotency-Key as for "
      .. "POST /runs.",
    form = {
      { "workflow", "file", required = true, doc = "The document." },
      { "flow_name", "string", required = true, pattern = NAME_PATTERN, shown = NAME_SHOWN,
        doc = "Name of the run's flow." },
      { "tag", "string", doc = "Which workers may take it." },
      { "params", "string", doc = "JSON object laid over the document's defaults." },
    },
    raw = { part = "workflow", types = forms.YAML },
    query = { waiting.QUERY, include.QUERY, forms.PARAMS_QUERY },
    run = submit_yaml },

  { "POST", "/check", name = "check",
    doc = "Check a workflow document or a bundle: its graphs, or all its errors. Nothing is stored.",
    form = { { "workflow", "file", required = true, doc = "The document, or the bundle." } },
    raw = { part = "workflow", types = forms.YAML },
    run = function(app, req) return submit.check(app, req.body.workflow.data) end },

  { "GET", "/runs", name = "runs.list", doc = "Runs, newest first: a list; with updated_after, cursor or "
      .. "workflow_yaml_sha256 an object with items and next_cursor.",
    query = {
      filters.STATUS, filters.FLOW, filters.TAG, filters.SHA256, filters.SCHEDULE, filters.TEXT,
      { "updated_after", "number", doc = "Only runs updated after this (unix seconds)." },
      { "sort", "string", choices = { "-updated_at", "updated_at" }, doc = "`updated_at`: oldest first." },
      { "include", "string", list = true, doc = "`full` (or all) gives whole snapshots." },
      { "limit", "integer", default = 50, ge = 1, le = 200, doc = "At most this many." },
      { "cursor", "string", doc = "next_cursor of the page before." },
    },
    run = list_runs },

  { "GET", "/runs/counts", name = "runs.counts", doc = "How many runs there are by status: counts, total.",
    query = {
      filters.FLOW, filters.TAG,
    },
    run = function(app, req) return list.counts(app, req.caller, req.query) end },

  { "GET", "/runs/:id", name = "runs.get", doc = "The latest snapshot of a run.", query = { include.QUERY },
    run = function(app, req)
      return run.get(app, req.caller, req.params.id, include.with_records(req.query.include))
    end },

  { "GET", "/runs/:id/tasks", name = "runs.tasks", doc = "The tasks of a run, with their records.",
    run = function(app, req) return run.tasks(app, req.caller, req.params.id) end },

  { "GET", "/runs/:id/tasks/:task/output", name = "runs.output", doc = "The output of a task, whatever its size.",
    run = stored("application/json", run.output) },

  { "GET", "/runs/:id/tasks/:task/log", name = "runs.log",
    doc = "All that a task has said; its last 4 KB while it runs.",
    run = stored("text/plain; charset=utf-8", run.log) },

  { "GET", "/runs/:id/graph", name = "runs.graph", doc = "The compiled graph of a run, once it is known.",
    run = stored("application/json", run.graph) },

  { "GET", "/runs/:id/source", name = "runs.source", doc = "The document or Lua file of a run, once it is known.",
    run = stored("text/plain; charset=utf-8", run.source) },

  { "GET", "/runs/:id/watch", name = "runs.watch", doc = "Changes of a run as server-sent events.",
    query = {
      include.QUERY,
      { "since", "number", doc = "Skip snapshots older than this (unix seconds)." },
      { "timeout_sec", "integer", default = 60, ge = 1, le = 600, doc = "How long the stream lasts." },
      { "until", "string", choices = { "terminal" }, doc = "`terminal` ends the stream when the run has ended." },
    },
    run = watch },

  { "POST", "/runs/:id/cancel", name = "runs.cancel", doc = "Cancel a run.",
    run = function(app, req) return cancel.run(app, req.caller, req.params.id) end },
}
