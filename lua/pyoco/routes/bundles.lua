--- Bundles of workflows: submit, approve, reject, and the runs that belong together (CONTRACT 7.4, 7.5).
local include = require "pyoco.http.include"
local waiting = require "pyoco.http.waiting"
local approval = require "pyoco.service.approval"
local bundle = require "pyoco.service.bundle"
local forms = require "pyoco.routes.forms"
local relations = require "pyoco.service.relations"

local function submit(app, req)
  local params, message, code = forms.params(req.body.params or req.query.params)
  if not params then return nil, message, code end
  return waiting.submitted(req, bundle.submit(app, req.caller, { bundle = req.body.bundle.data, tag = req.body.tag,
    params = params }, { idempotency_key = req.headers["idempotency-key"] }))
end

local DECISION = {
  { "comment", "string", nullable = true, doc = "Why it is approved; kept in the snapshot." },
  { "reason", "string", nullable = true, doc = "Why it is rejected; kept in the snapshot." },
}

return {
  { "POST", "/runs/bundle", name = "runs.submit_bundle", doc = "Queue a run of a bundle's entry workflow, or have it "
      .. "wait for an approval (PENDING_APPROVAL) when a task of it spawns runs.",
    form = {
      { "bundle", "file", required = true, doc = "The bundle." },
      { "tag", "string", doc = "Which workers may take it." },
      { "params", "string", doc = "JSON object laid over the bundle's submit.inputs." },
    },
    raw = { part = "bundle", types = forms.YAML },
    query = { waiting.QUERY, include.QUERY, forms.PARAMS_QUERY },
    run = submit },

  { "POST", "/runs/:id/approve", name = "runs.approve",
    doc = "Approve a run that waits for it: it is queued. Answers the snapshot.", body = DECISION,
    run = function(app, req) return approval.approve(app, req.caller, req.params.id, req.body.comment) end },

  { "POST", "/runs/:id/reject", name = "runs.reject",
    doc = "Reject a run that waits for approval: it is CANCELLED. Answers the snapshot.", body = DECISION,
    run = function(app, req) return approval.reject(app, req.caller, req.params.id, req.body.reason) end },

  { "GET", "/runs/:id/relations", name = "runs.relations",
    doc = "The runs of a bundle around a run: its parent, the root of both, and its children in order.",
    run = function(app, req) return relations.of(app, req.caller, req.params.id) end },
}
