--- The queues of jobs.
local queue = require "pyoco.service.queue"

return {
  { "GET", "/queues", name = "queues.list",
    doc = "Queued jobs by tag, who would take them, and the last hour: queues, history.",
    run = function(app) return queue.list(app) end },
}
