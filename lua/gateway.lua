--- The gateway: HTTP API and dashboard. `pyoco-host gateway.lua --help`
--- Everything below is live: save this file and the next request uses it. A broken edit keeps the last good version
--- serving and shows on /health.
local gateway = require "pyoco.gateway"

local app = gateway.app()

-- Your own routes, for example:
--   app:get("/hello/:name", function(_, req) return { hello = req.params.name } end)
--   app:wrap("runs.submit", function(next, app, req) req.body.tag = "gpu" return next(app, req) end)

return gateway.main(app, ...)
