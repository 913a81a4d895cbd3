--- The stream of all runs' changes.
local response = require "pyoco.http.response"
local filters = require "pyoco.routes.filters"

local function events(_, req)
  local query = req.query
  return response.events { tenant_id = req.caller.tenant_id, status = query.status, flow = query.flow,
    tag = query.tag, schedule_id = query.schedule_id, workflow_yaml_sha256 = query.workflow_yaml_sha256, q = query.q,
    timeout_sec = query.timeout_sec, counts = query.counts,
    last_event_id = req.headers["last-event-id"] or query.last_event_id }
end

return {
  { "GET", "/events", name = "events",
    doc = "Changes of all runs as server-sent events, each with an id: `run` (an item of GET /runs: new or changed), "
      .. "`left` {run_id} (fits the filter no more), `deleted` {run_id}, `reset` {reason, revision, ts} (read the list "
      .. "again: at the start, and when what Last-Event-ID names cannot be gone on from), `counts` {by_status, total, "
      .. "ts}, `heartbeat` {ts} after 2 quiet seconds.",
    query = {
      filters.STATUS, filters.FLOW, filters.TAG, filters.SHA256, filters.SCHEDULE, filters.TEXT,
      { "counts", "boolean", doc = "With the number of runs by status, whatever the filters: at the start, then once a "
        .. "second at most." },
      { "timeout_sec", "integer", default = 60, ge = 1, le = 3600, doc = "How long the stream lasts." },
      { "last_event_id", "string", max_length = 60,
        doc = "As the header Last-Event-ID, for clients that cannot send it." },
    },
    run = events },
}
