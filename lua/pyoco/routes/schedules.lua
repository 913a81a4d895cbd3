--- Schedules (CONTRACT 7.11): runs of a document at a time, or again and again.
local response = require "pyoco.http.response"
local forms = require "pyoco.routes.forms"
local schedule = require "pyoco.service.schedule"

local NAME_PATTERN = "^[^\0-\31\127]*$"
local NAME_SHOWN = "^[^\\x00-\\x1f\\x7f]*$"
local FULL = { all = true, full = true }

local function create(app, req)
  local body = req.body
  local params, message, code = forms.params(body.params)
  if not params then return nil, message, code end
  return schedule.create(app, req.caller, { workflow = body.workflow.data, flow_name = body.flow_name, tag = body.tag,
    params = params, run_at = body.run_at, interval_seconds = body.interval_seconds, start_at = body.start_at })
end

local function runs(app, req)
  local is_full = false
  for _, value in ipairs(req.query.include or {}) do is_full = is_full or FULL[value] == true end
  local body, message, code = schedule.runs(app, req.caller, req.params.id, { limit = req.query.limit,
    full = is_full })
  if not body then return nil, message, code end
  return response.json_text(body)
end

return {
  { "POST", "/schedules/yaml", name = "schedules.create",
    doc = "Run a workflow document once at a time, or every so often. Answers the schedule.",
    form = {
      { "workflow", "file", required = true, doc = "The document." },
      { "flow_name", "string", required = true, pattern = NAME_PATTERN, shown = NAME_SHOWN,
        doc = "Name of the runs' flow." },
      { "tag", "string", doc = "Which workers may take them." },
      { "params", "string", doc = "JSON object laid over the document's defaults." },
      { "run_at", "string", doc = "When to run once: ISO 8601 with offset, in the future." },
      { "interval_seconds", "number", doc = "How often to run." },
      { "start_at", "string", doc = "With interval_seconds: the first time, ISO 8601 with offset; may be past." },
    },
    raw = { part = "workflow", types = forms.YAML },
    run = create },

  { "GET", "/schedules", name = "schedules.list", doc = "All schedules, those that will run first.",
    run = function(app, req) return schedule.list(app, req.caller) end },

  { "DELETE", "/schedules/:id", name = "schedules.delete", doc = "Remove a schedule; its runs remain.",
    run = function(app, req) return schedule.delete(app, req.caller, req.params.id) end },

  { "GET", "/schedules/:id/runs", name = "schedules.runs", doc = "The runs of a schedule, newest first: list items.",
    query = {
      { "limit", "integer", default = 50, ge = 1, le = 200, doc = "At most this many." },
      { "include", "string", list = true, doc = "`full` (or all) gives whole snapshots." },
    },
    run = runs },
}
