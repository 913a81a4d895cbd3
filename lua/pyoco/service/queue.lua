--- The queues as people see them: what waits, who would take it, and how the last hour went.
local clock = require "host.clock"
local json = require "host.json"
local metrics = require "host.metrics"
local shared = require "host.shared"
local fault = require "pyoco.service.fault"
local worker = require "pyoco.service.worker"

local M = {}

--- How often the duty `sample` is to run.
M.STEP_SEC = 10

local HOUR_POINTS = 3600 // M.STEP_SEC
local KEY = "queue.history" -- in host.shared: JSON of the points, so that every VM answers with the same

local SORTED = { sort = true } -- the same answer always reads the same

local points, last -- of the service VM: it alone samples. After a reload of the script the points are taken over

local function known_points()
  return json.decode(shared.get(KEY) or "[]") or {}
end

--- The JSON of the points with one more, as it stands: an hour of them takes 2 ms to decode and encode.
local function points_and(one)
  local text, more = shared.get(KEY) or "[]", assert(json.encode(one, SORTED))
  return text == "[]" and "[" .. more .. "]" or text:sub(1, -2) .. "," .. more .. "]"
end

--- Runs ended so far by status, and how long runs waited and ran, as sums that only grow.
local function totals(app)
  local rows, message = app.store.model:status_counts {}
  if not rows then return nil, message end
  local now = { at = clock.monotonic(), completed = 0, failed = 0 }
  for _, row in ipairs(rows) do
    if row[1] == "COMPLETED" then now.completed = row[2] elseif row[1] == "FAILED" then now.failed = row[2] end
  end
  now.dispatched, now.dispatch_sec = metrics.total "pyoco_run_dispatch_seconds"
  now.ended, now.duration_sec = metrics.total "pyoco_run_duration_seconds"
  return now
end

--- The mean over what came since; nil when nothing did.
local function mean(count, sum)
  return count > 0 and sum / count or nil
end

--- What all queues hold at a moment.
local function depth(at, queues)
  local one = { at = at, waiting = 0, in_hand = 0 }
  for _, queue in ipairs(queues) do
    one.in_hand = one.in_hand + (queue.in_hand or 0)
    one.waiting = one.waiting + math.max(0, queue.jobs - (queue.in_hand or 0))
    one.oldest_age_sec = math.max(one.oldest_age_sec or 0, queue.oldest and at - queue.oldest or 0)
  end
  return one
end

local function point(app, now, queues)
  local one = depth(app.store:now(), queues)
  if not last then return one end
  -- runs that were removed meanwhile make the counts smaller
  one.completed, one.failed = math.max(0, now.completed - last.completed), math.max(0, now.failed - last.failed)
  one.dispatch_sec = mean(now.dispatched - last.dispatched, now.dispatch_sec - last.dispatch_sec)
  one.duration_sec = mean(now.ended - last.ended, now.duration_sec - last.duration_sec)
  return one
end

--- Duty: a point of the last hour. While NATS is away, or the read model warms, there is none.
---@param app table
function M.sample(app)
  local queues, now = app.store.queues:list(), totals(app)
  if not queues or not now then return end
  points = points or known_points()
  points[#points + 1] = point(app, now, queues)
  if #points > HOUR_POINTS then table.remove(points, 1) end
  last = now
  shared.set(KEY, (assert(json.encode(json.array(points), SORTED))))
end

--- How many workers, and slots of theirs, would take a tag's jobs.
local function takers(workers, tag)
  local count, slots = 0, 0
  for _, record in ipairs(workers) do
    for _, other in ipairs(record.tags) do
      if other == tag then
        count = count + 1
        slots = slots + (worker.slots(record, tag) or 0)
      end
    end
  end
  return count, slots
end

--- GET /queues.
---@param app table { store, config }
---@return string|nil JSON { queues = list by tag { tag, jobs, in_hand, redelivered, oldest_age_sec, workers, slots },
---  history = { step_sec, points = list, oldest first, of { at, waiting, in_hand, oldest_age_sec, completed, failed,
---  dispatch_sec, duration_sec } } }; what is not known is not there. The last point is this very moment's: what waits
---  shows at once, not with the next sample
---@return string|nil message
---@return string|nil code "unavailable"
function M.list(app)
  local queues, message, code = app.store.queues:list()
  if not queues then return fault.of_store(message, code) end
  local workers
  workers, message, code = worker.list(app, { scope = "active", include_hidden = true, limit = math.huge })
  if not workers then return nil, message, code end
  local now = app.store:now()
  local hour = points_and(depth(now, queues))
  for _, queue in ipairs(queues) do
    queue.oldest_age_sec = queue.oldest and math.max(0, now - queue.oldest)
    queue.oldest = nil
    queue.workers, queue.slots = takers(workers, queue.tag)
  end
  return ('{"history":{"points":%s,"step_sec":%d},"queues":%s}'):format(hour, M.STEP_SEC,
    assert(json.encode(json.array(queues), SORTED)))
end

return M
