--- What the gateway's app has beside its routes: who may call, what is counted, and the duties of the service VM.
local json = require "host.json"
local shared = require "host.shared"
local authenticate = require "pyoco.gateway.authenticate"
local metrics = require "pyoco.service.metrics"
local lease = require "pyoco.service.lease"
local reassert = require "pyoco.service.reassert"
local scheduler = require "pyoco.service.scheduler"
local queue = require "pyoco.service.queue"
local sweeper = require "pyoco.service.sweeper"
local retention = require "pyoco.service.retention"
local vanished = require "pyoco.service.vanished"
local workers = require "pyoco.service.worker"

local M = {}

local FLOW_ERRORS_SEC = 3
local WORKERS_RETENTION_SEC = 60

--- Duty: shows on /health what the workers cannot load. While NATS is away the last answer stands.
local function show_flow_errors(app)
  local list = workers.flow_errors(app)
  if list then shared.set("health.flow_errors", assert(json.encode(list))) end
end

--- Mounts all of it.
---@param app table (pyoco.http.app)
function M.mount(app)
  authenticate.mount(app)
  app.on_handled = app.on_handled or metrics.request
  app:every(lease.TICK_SEC, "lease", lease.tick)
  app:every(queue.STEP_SEC, "queue_history", queue.sample)
  app:every(scheduler.EVERY_SEC, "schedules", scheduler.duty(), { wakes = true })
  app:every(reassert.EVERY_SEC, "reassert", reassert.duty(), { wakes = true })
  app:every(sweeper.EVERY_SEC, "sweeper", sweeper.duty())
  app:every(retention.EVERY_SEC, "retention", lease.duty("retention", retention.duty))
  app:every(vanished.EVERY_SEC, "vanished", lease.duty("vanished", vanished.duty))
  app:every(FLOW_ERRORS_SEC, "flow_errors", show_flow_errors)
  app:every(WORKERS_RETENTION_SEC, "workers_retention", lease.duty("workers_retention", workers.remove_forgotten))
end

return M
