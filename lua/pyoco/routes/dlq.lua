--- Dead letters: what could not be run, and running it again (part of no contract: the reference only writes them).
local dlq = require "pyoco.service.dlq"

local function seq_of(req) return req.params.seq:find "^%d+$" and math.tointeger(tonumber(req.params.seq)) end

return {
  { "GET", "/dlq", name = "dlq.list", doc = "Dead letters, newest first: items, and next_before for the next page, "
      .. "null at the end. With a filter a page may be shorter than asked for though more follow.",
    query = {
      { "limit", "integer", default = 50, ge = 1, le = 200, doc = "At most this many." },
      { "before", "integer", ge = 1, doc = "next_before of the page before: only letters with a lower seq." },
      { "reason", "string", doc = "Only letters with this reason, as execution_error." },
      { "flow", "string", doc = "Only letters of runs of this flow." },
      { "tag", "string", doc = "Only letters of jobs with this tag." },
    },
    run = function(app, req) return dlq.list(app, req.caller, req.query) end },

  { "GET", "/dlq/:seq", name = "dlq.get",
    doc = "A dead letter whole, with requeued_to: the run that it was requeued as, or null.",
    run = function(app, req) return dlq.get(app, req.caller, seq_of(req)) end },

  { "POST", "/dlq/:seq/requeue", name = "dlq.requeue", doc = "Make the run of a dead letter anew, once. Answers "
      .. "run_id, status, bundle_hash and requeued_from; 409 with the reason where it cannot be made.",
    run = function(app, req) return dlq.requeue(app, req.caller, seq_of(req)) end },
}
