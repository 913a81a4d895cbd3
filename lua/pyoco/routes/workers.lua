--- Workers (CONTRACT 7.12, 7.13).
local filters = require "pyoco.routes.filters"
local worker = require "pyoco.service.worker"

local word = filters.word

return {
  { "GET", "/workers", name = "workers.list", doc = "Workers, last seen first.",
    query = {
      { "scope", "string", default = "active", doc = "`active` or `all`." },
      { "state", "string", doc = "Only workers of this state." },
      { "include_hidden", "boolean", default = false, doc = "Also the hidden ones." },
      { "limit", "integer", default = 100, ge = 1, le = 500, doc = "At most this many." },
    },
    run = function(app, req)
      local scope = (word(req.query.scope) or "active"):lower()
      local state = word(req.query.state)
      state = state and state:upper()
      if (scope ~= "active" and scope ~= "all") or (state and worker.STATES[state] == nil) then
        return nil, "invalid workers request", "invalid"
      end
      return worker.list(app, { scope = scope, state = state, include_hidden = req.query.include_hidden,
        limit = req.query.limit })
    end },

  { "PATCH", "/workers/:id", name = "workers.hide", doc = "Hide a worker from lists, or show it again.",
    body = { { "hidden", "boolean", required = true, doc = "Whether lists leave it out." } },
    run = function(app, req) return worker.set_hidden(app, req.params.id, req.body.hidden) end },
}
