--- `?wait=SECONDS` of the routes that submit a run: the answer is held back until the run has ended (response.wait).
local include = require "pyoco.http.include"
local response = require "pyoco.http.response"

local M = {}

local REPLAYED = { ["idempotent-replayed"] = "true" }
local ACCEPTED <const> = 202 -- the run is queued or runs; its end did not come in time

--- The query parameter, for a route's `query`.
M.QUERY = { "wait", "number", ge = 0, le = 600, doc = "Answer when the run has ended, with its snapshot; after so many "
  .. "seconds as without it, but with status 202." }

--- What the handler of a submit returns: its result as it is, or held back as the request asks. That the run is an
--- earlier submit's (Idempotency-Key) is told by a header.
---@param req table with query.wait and caller
---@param result table|nil what the service has answered: { run_id, ..., replayed }
---@param ... any message, code and details when it failed
---@return any
function M.submitted(req, result, ...)
  local seconds = req.query.wait
  if not result then return result, ... end
  local headers = result.replayed and REPLAYED or nil
  result.replayed = nil
  if not seconds or seconds == 0 then return headers and response.json(result, 200, headers) or result end
  return response.wait { run_id = result.run_id, tenant_id = req.caller.tenant_id, timeout_sec = seconds,
    brief = not include.with_records(req.query.include), answer = response.json(result, ACCEPTED, headers) }
end

return M
