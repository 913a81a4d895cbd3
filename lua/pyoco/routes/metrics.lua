--- Metrics (CONTRACT 15).
local metrics = require "pyoco.service.metrics"
local response = require "pyoco.http.response"

return {
  { "GET", "/metrics", name = "metrics",
    doc = "Counts for Prometheus. With PYOCO_METRICS_PUBLIC=1 no key is needed.",
    public = function(app) return app.config.metrics_public end,
    run = function(app)
      local text, message, code = metrics.text(app)
      if not text then return nil, message, code end
      return response.text(text, 200, "text/plain; version=0.0.4; charset=utf-8")
    end },
}
