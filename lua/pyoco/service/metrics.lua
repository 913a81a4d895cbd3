--- What /metrics says (CONTRACT 15): counts out of the read model, the workers' registry, the stream of dead letters.
local fault = require "pyoco.service.fault"
local worker = require "pyoco.service.worker"

local M = {}

--- Families of the contract: name, help. All are gauges; their lines are there without samples too.
local RUNS = { "pyoco_runs_total", "Runs that are stored, by status." }
local TODAY = { "pyoco_runs_today_total", "Runs last updated today (the server's local date), by status." }
local WORKERS = { "pyoco_workers_alive_total", "Workers that are RUNNING or IDLE." }
local DLQ = { "pyoco_dlq_messages_total", "Messages in the stream of dead letters." }

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

local function begin(out, family)
  out[#out + 1] = ("# HELP %s %s\n# TYPE %s gauge"):format(family[1], family[2], family[1])
end

local function by_status(out, family, counts, column)
  begin(out, family)
  for _, row in ipairs(counts) do
    if row[column] > 0 then
      local status = row[1]:gsub('[\\"\n]', ESCAPES)
      out[#out + 1] = ('%s{status="%s"} %d'):format(family[1], status, row[column])
    end
  end
end

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

--- GET /metrics, in Prometheus's text format.
---@param app table { store with model, config }
---@return string|nil text
---@return string|nil message
---@return string|nil code "unavailable"
function M.text(app)
  local status = app.store:status()
  if status ~= "connected" then return fault.of_store("NATS is " .. status, "unavailable") end
  local rows, message, code = counts(app)
  if not rows then return nil, message, code end
  local workers
  workers, message, code = worker.list(app, { scope = "active", include_hidden = true, limit = math.huge })
  if not workers then return nil, message, code end
  local dead = app.store.dlq:count() -- a stream that cannot be read gives no sample

  local out = {}
  by_status(out, RUNS, rows, 2)
  by_status(out, TODAY, rows, 3)
  begin(out, WORKERS)
  out[#out + 1] = ("%s %d"):format(WORKERS[1], #workers)
  begin(out, DLQ)
  if dead then out[#out + 1] = ("%s %d"):format(DLQ[1], dead) end
  return table.concat(out, "\n") .. "\n"
end

return M
