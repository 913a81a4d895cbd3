--- The queues of jobs.
local response = require "pyoco.http.response"
local queue = require "pyoco.service.queue"

local function list(app)
  local body, message, code = queue.list(app)
  if not body then return nil, message, code end
  return response.json_text(body)
end

return {
  { "GET", "/queues", name = "queues.list",
    doc = "Queued jobs by tag, who would take them, and the last hour: queues, history.",
    run = list },
}
