--- What /metrics says (CONTRACT 15, and what an operator needs): one table of families, each with its samples out of
--- what was gathered once: counts of the read model, the registry, the queues, the histograms of this process.
local clock = require "host.clock"
local host = require "host"
local json = require "host.json"
local metrics = require "host.metrics"
local shared = require "host.shared"
local uv = require "luv"
local fault = require "pyoco.service.fault"
local lease = require "pyoco.service.lease"
local worker = require "pyoco.service.worker"

local M = {}

local LABELS_MAX = 200 -- samples of one family: a label whose values users choose must not grow without end

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

--- A label's text: name="value", escaped.
local function label(name, value) return ('%s="%s"'):format(name, (tostring(value):gsub('[\\"\n]', ESCAPES))) end

--- One sample for each row that has a value, at most LABELS_MAX.
local function of_each(add, rows, label_of, value_of)
  for i = 1, math.min(#rows, LABELS_MAX) do
    local value = value_of(rows[i])
    if value and value ~= json.null then add(label_of(rows[i]), value) end
  end
end

local function by_status(column)
  return function(data, add)
    for _, row in ipairs(data.counts) do
      if row[column] > 0 then add(label("status", row[1]), row[column]) end
    end
  end
end

local function by_tag(value_of)
  return function(data, add)
    of_each(add, data.queues, function(queue) return label("tag", queue.tag) end,
      function(queue) return value_of(queue, data) end)
  end
end

local function by_worker(value_of)
  return function(data, add)
    of_each(add, data.workers, function(record) return label("worker", record.worker_id) end, value_of)
  end
end

local function busy_slots(record)
  return type(record.current_run_ids) == "table" and #record.current_run_ids or nil
end

local function one(value_of)
  return function(data, add)
    local value = value_of(data)
    if value then add(nil, value) end
  end
end

--- Counters that duties keep in host.shared, as <prefix><value of the label>.
local function by_counter(prefix, name)
  return function(_, add)
    for _, key in ipairs(shared.keys(prefix)) do add(label(name, key:sub(#prefix + 1)), shared.get(key)) end
  end
end

--- CPU time of this process in seconds.
local function cpu_seconds()
  local usage = uv.getrusage()
  local sum = 0
  for _, time in ipairs { usage.utime, usage.stime } do sum = sum + time.sec + time.usec / 1e6 end
  return sum
end

--- The families in their order: { name, type, help, samples(data, add) }; a histogram's samples are those of
--- host.metrics under its name.
M.FAMILIES = {
  { "pyoco_runs_total", "gauge", "Runs that are stored, by status.", by_status(2) },
  { "pyoco_runs_today_total", "gauge", "Runs last updated today (the server's local date), by status.", by_status(3) },
  { "pyoco_workers_alive_total", "gauge", "Workers that are RUNNING or IDLE.",
    one(function(data) return #data.workers end) },
  { "pyoco_dlq_messages_total", "gauge", "Messages in the stream of dead letters.",
    one(function(data) return data.dead end) },
  { "pyoco_queue_jobs", "gauge", "Jobs that are queued or in hand, by tag.", by_tag(function(q) return q.jobs end) },
  { "pyoco_queue_jobs_in_hand", "gauge", "Jobs that a worker has taken and not yet ended, by tag.",
    by_tag(function(q) return q.in_hand end) },
  { "pyoco_queue_jobs_redelivered", "gauge", "Jobs in hand that were delivered more than once, by tag.",
    by_tag(function(q) return q.redelivered end) },
  { "pyoco_queue_oldest_job_age_seconds", "gauge", "Age of the oldest job that is queued or in hand, by tag.",
    by_tag(function(q, data) return q.oldest and math.max(0, data.now - q.oldest) end) },
  { "pyoco_worker_slots", "gauge", "Runs that a worker can run at once.", by_worker(worker.slots) },
  { "pyoco_worker_slots_busy", "gauge", "Runs that a worker has in hand.", by_worker(busy_slots) },
  { "pyoco_worker_memory_bytes", "gauge", "Resident memory of a worker with all its processes.",
    by_worker(function(record) return record.memory_bytes end) },
  { "pyoco_run_dispatch_seconds", "histogram", "From PENDING to a worker's start, of runs seen by this gateway." },
  { "pyoco_run_duration_seconds", "histogram", "From start to end of runs, of those seen by this gateway." },
  { "pyoco_http_request_duration_seconds", "histogram",
    "Time in which requests were handled, by route and status; of a stream until its start." },
  { "pyoco_leader", "gauge", "Whether this gateway does the periodic duties.",
    one(function() return lease.held() and 1 or 0 end) },
  { "pyoco_schedule_dispatches_total", "counter", "Runs that this gateway was to start for schedules, by result.",
    by_counter("count.schedule_dispatches.", "result") },
  { "pyoco_mended_total", "counter", "What this gateway has put right that was left behind, by what was done.",
    by_counter("count.mended.", "what") },
  { "pyoco_nats_reconnects_total", "counter", "Times that this gateway's connection to NATS was made anew.",
    one(function(data) return data.nats.reconnects end) },
  { "pyoco_nats_connected", "gauge", "Whether this gateway is connected to NATS.", one(function() return 1 end) },
  { "pyoco_build_info", "gauge", "The version of this gateway, always 1.",
    function(_, add) add(label("version", host.version), 1) end },
  { "process_cpu_seconds_total", "counter", "CPU time of this process.",
    one(cpu_seconds) },
  { "process_resident_memory_bytes", "gauge", "Resident memory of this process.",
    one(function() return math.tointeger(uv.resident_set_memory()) end) },
}

--- Counts by status, those of runs without one as UNKNOWN, sorted.
local function counts(app)
  local rows, message, code = app.store.model:counts(math.tointeger(tonumber(os.date("%Y%m%d"))))
  if not rows then return nil, message, code end
  for _, row in ipairs(rows) do
    if row[1] == "" then row[1] = "UNKNOWN" end
  end
  table.sort(rows, function(a, b) return a[1] < b[1] end)
  return rows
end

--- All that the families need, asked once.
local function gather(app)
  local data = { now = app.store:now(), flow_labels = app.config.metrics_flow_labels }
  local message, code
  data.counts, message, code = counts(app)
  if not data.counts then return nil, message, code end
  data.workers, message, code = worker.list(app, { scope = "active", include_hidden = true, limit = math.huge })
  if not data.workers then return nil, message, code end
  -- a stream that cannot be read gives no sample
  data.dead, data.queues = app.store.dlq:count(), app.store.queues:list() or {}
  data.nats = app.store:connection()
  return data
end

local function number(value)
  return math.type(value) == "integer" and ("%d"):format(value) or ("%.9g"):format(value)
end

local function render(family, data, out)
  local name, kind, help, samples = table.unpack(family)
  out[#out + 1] = ("# HELP %s %s\n# TYPE %s %s\n"):format(name, help, name, kind)
  if kind == "histogram" then
    out[#out + 1] = metrics.text(name, not data.flow_labels and name:find("^pyoco_run_") ~= nil)
    return
  end
  samples(data, function(labels, value)
    out[#out + 1] = ("%s%s %s\n"):format(name, labels and "{" .. labels .. "}" or "", number(value))
  end)
end

--- GET /metrics, in Prometheus's text format.
---@param app table { store with model, config }
---@return string|nil text
---@return string|nil message
---@return string|nil code "unavailable"
function M.text(app)
  local status = app.store:status()
  if status ~= "connected" then return fault.of_store("NATS is " .. status, "unavailable") end
  local data, message, code = gather(app)
  if not data then return nil, message, code end
  local out = {}
  for _, family in ipairs(M.FAMILIES) do render(family, data, out) end
  return table.concat(out)
end

--- Counts a request that was handled. Called for each: label texts are made once for a route and status.
---@param route string the row's name
---@param status integer
---@param started_at number monotonic seconds
function M.request(route, status, started_at)
  metrics.observe("pyoco_http_request_duration_seconds", M.request_labels[route][status], 'route="other"',
    clock.monotonic() - started_at)
end

--- route -> status -> label text.
M.request_labels = setmetatable({}, { __index = function(routes, route)
  local statuses = setmetatable({}, { __index = function(known, status)
    known[status] = ('%s,code="%d"'):format(label("route", route), status)
    return known[status]
  end })
  routes[route] = statuses
  return statuses
end })

return M
