--- What the process says of itself. /health is answered by C, so that it works when no VM does.
local host = require "host"
local shared = require "host.shared"

return {
  { "GET", "/ready", name = "ready", public = true, head = true,
    doc = "200 when runs can be submitted, else 503 with the reason.",
    run = function(app)
      local problem = shared.get("nats.problem")
      local status = app.store:status()
      if not problem and status ~= "connected" then problem = "NATS is " .. status end
      if problem then return nil, problem, "unavailable" end
      return { status = "ready" }
    end },
  { "GET", "/version", name = "version", public = true, doc = "Name and version of the program.",
    run = function() return { name = "pyoco-host", version = host.version } end },
}
