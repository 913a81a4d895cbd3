--- Reading the worker registry (CONTRACT 12). Whether a worker is there is judged by the server's own timestamp of
--- its record, so that a wrong clock on either side changes nothing.
local json = require "host.json"
local fault = require "pyoco.service.fault"
local present = require("pyoco.null").present

local M = {}

--- The states, and which of them count as active.
M.STATES = { IDLE = true, RUNNING = true, STOPPED_GRACEFUL = false, DISCONNECTED = false }

--- Fields that every served record has, with what stands in when they are missing.
local DEFAULTS = {
  hidden = false, last_seen_at = 0.0, last_heartbeat_at = 0.0, current_run_id = json.null,
  last_run_id = json.null, last_run_status = json.null, last_run_started_at = json.null,
  last_run_finished_at = json.null, stopped_at = json.null, stop_reason = json.null, updated_at = 0.0,
  wheel_sync = json.null,
}

local function clean_tags(tags)
  local list = {}
  if type(tags) == "table" then
    for _, tag in ipairs(tags) do
      local text = type(tag) == "number" and tostring(tag) or tag
      if type(text) == "string" and text:find("%S") then list[#list + 1] = text end
    end
  end
  return json.array(list)
end

--- When a worker has last been heard of, by the server's clock. A gateway that changes its record keeps that in
--- seen_at: a dead worker must not look alive for it.
local function seen_at(record, created)
  return tonumber(record.seen_at) or created
end

--- The first of a record's fields that has a value, as its field `name`.
local function fill(record, name, ...)
  for _, other in ipairs { name, ... } do
    if present(record[other]) then
      record[name] = record[other]
      return
    end
  end
end

--- Fills in what is missing and derives DISCONNECTED.
local function normalise(app, key, record, created)
  if not present(record.worker_id) then record.worker_id = key end
  fill(record, "instance_id", "worker_id")
  fill(record, "last_seen_at", "heartbeat_at")
  fill(record, "last_heartbeat_at", "heartbeat_at", "last_seen_at")
  for field, default in pairs(DEFAULTS) do
    if not present(record[field]) then record[field] = default end
  end
  record.heartbeat_at = record.last_heartbeat_at -- another name of it
  record.tags = clean_tags(record.tags)
  record.state = type(record.state) == "string" and record.state:upper() or record.state
  if M.STATES[record.state] == nil then record.state = "IDLE" end
  local timeout = app.config.worker_disconnect_timeout_sec
  if M.STATES[record.state] and timeout > 0 and app.store:now() - seen_at(record, created) > timeout then
    record.state = "DISCONNECTED"
  end
  return record
end

--- How many runs a worker runs at once.
---@param record table
---@param tag string|nil those of this tag only
---@return integer|nil nil when the worker does not tell
function M.slots(record, tag)
  if type(record.slots) ~= "table" then return math.tointeger(tonumber(record.slots)) end
  if tag then return math.tointeger(tonumber(record.slots[tag])) end
  local sum = 0
  for _, count in pairs(record.slots) do sum = sum + (math.tointeger(tonumber(count)) or 0) end
  return sum
end

--- One worker's record with its effective state.
---@param app table { store, config }
---@param worker_id string
---@return table|nil record
---@return string|nil message
---@return string|nil code "not_found" | "unavailable"
function M.get(app, worker_id)
  local record, message, code = app.store.workers:get(worker_id)
  if not record then return fault.of_store(message, code) end
  return normalise(app, worker_id, record, code.created)
end

--- GET /workers.
---@param app table { store, config }
---@param query table { scope "active"|"all", state (upper case) or nil, include_hidden, limit }
---@return table[]|nil records, last seen first
---@return string|nil message
---@return string|nil code
function M.list(app, query)
  local entries, message, code = app.store.workers:list()
  if not entries then return fault.of_store(message, code) end
  local list = {}
  for _, entry in ipairs(entries) do
    local record = normalise(app, entry.key, entry.record, entry.created)
    if (query.include_hidden or record.hidden ~= true)
      and (query.scope == "all" or M.STATES[record.state])
      and (not query.state or record.state == query.state) then
      list[#list + 1] = record
    end
  end
  table.sort(list, function(a, b)
    if a.last_seen_at ~= b.last_seen_at then return a.last_seen_at > b.last_seen_at end
    return a.worker_id < b.worker_id
  end)
  return json.array(table.move(list, 1, math.min(#list, query.limit), 1, {}))
end

local CONFLICTS_MAX = 20 -- a worker writes its record some times a second at most

--- Hides a worker from lists, or shows it again: PATCH /workers/{id}.
---@param app table { store }
---@param worker_id string
---@param hidden boolean
---@return table|nil { worker_id, hidden, updated_at }
---@return string|nil message
---@return string|nil code "not_found" | "unavailable"
function M.set_hidden(app, worker_id, hidden)
  for _ = 1, CONFLICTS_MAX do
    local record, revision, entry = app.store.workers:get(worker_id)
    if not record and (entry == "not_found" or entry == "invalid") then return nil, "worker not found", "not_found" end
    if not record then return fault.of_store(revision, entry) end
    record.seen_at = seen_at(record, entry.created)
    record.worker_id, record.hidden, record.updated_at = worker_id, hidden, app.store:now()
    local written, message, code = app.store.workers:update(record, revision)
    if written then return { worker_id = worker_id, hidden = hidden, updated_at = record.updated_at } end
    if code ~= "conflict" then return fault.of_store(message, code) end
  end
  return nil, "the worker's record changes faster than it can be written; try again", "unavailable"
end

--- Duty: removes the records of workers that nobody has heard of for PYOCO_WORKERS_RETENTION_SEC.
---@param app table { store, config }
function M.remove_forgotten(app)
  local entries, message = app.store.workers:list()
  if not entries then return app.log:warning("old worker records were not looked for: " .. message) end
  for _, entry in ipairs(entries) do
    local silent_sec = app.store:now() - seen_at(entry.record, entry.created)
    if silent_sec > app.config.workers_retention_sec then
      -- by revision: a worker that comes back this moment keeps its record
      local gone = app.store.workers:delete(entry.key, entry.revision)
      if gone then app.log:info("old worker record removed", { worker_id = entry.key }) end
    end
  end
end

local FLOW_ERRORS_MAX = 20

--- What the active workers cannot load, for /health.
---@param app table { store, config }
---@return table[]|nil list of { worker_id, file, line, message }, at most FLOW_ERRORS_MAX
---@return string|nil message
---@return string|nil code
function M.flow_errors(app)
  local records, message, code = M.list(app, { scope = "active", include_hidden = true, limit = math.huge })
  if not records then return nil, message, code end
  local list = {}
  for _, record in ipairs(records) do
    for _, found in ipairs(type(record.flow_errors) == "table" and record.flow_errors or {}) do
      if type(found) == "table" and #list < FLOW_ERRORS_MAX then
        list[#list + 1] = { worker_id = record.worker_id, file = found.file, line = found.line,
          message = found.message }
      end
    end
  end
  return json.array(list)
end

return M
