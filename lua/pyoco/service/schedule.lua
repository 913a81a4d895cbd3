--- Schedules as callers see them (CONTRACT 7.11, 9): made, listed, removed, and the runs they have made.
--- service/scheduler dispatches them.
local crypto = require "host.crypto"
local json = require "host.json"
local access = require "pyoco.service.access"
local fault = require "pyoco.service.fault"
local list = require "pyoco.service.list"
local submit = require "pyoco.service.submit"
local times = require "pyoco.service.schedule_time"

local M = {}

local null = json.null

--- What a record keeps to itself.
local PRIVATE = { "workflow_yaml", "params", "lease_until" }

--- A record as it is served.
local function public(record)
  local shown = {}
  for key, value in pairs(record) do shown[key] = value end
  for _, key in ipairs(PRIVATE) do shown[key] = nil end
  return shown
end

--- A text of a form; a blank one is as if absent.
local function given(text) return text and text:find "%S" and text or nil end

local function text_or_null(value)
  if value == nil then return null end
  return value
end

--- A time of a form: unix seconds, or the contract's words for what is wrong with it.
local function time_of(form, field)
  local at, wrong = times.parse(form[field])
  if at then return at end
  return nil, field .. (wrong == "no_offset" and " must include timezone offset" or " must be ISO 8601 datetime"),
    "invalid"
end

--- The fields of a schedule that runs once.
local function once(form, now)
  if form.start_at then return nil, "start_at is only valid with interval_seconds", "invalid" end
  local at, message, code = time_of(form, "run_at")
  if not at then return nil, message, code end
  if at <= now then return nil, "run_at must be in the future", "invalid" end
  return { schedule_type = "once", run_at = at, next_run_at = at, interval_seconds = null, start_at = null }
end

--- The fields of one that repeats.
local function interval(form, now)
  local seconds = form.interval_seconds + 0.0
  if seconds <= 0 then return nil, "interval_seconds must be positive", "invalid" end
  local start = now + seconds
  if form.start_at then
    local message, code
    start, message, code = time_of(form, "start_at")
    if not start then return nil, message, code end
  end
  return { schedule_type = "interval", run_at = null, next_run_at = times.next(start, seconds, now),
    interval_seconds = seconds, start_at = start }
end

--- When it is to run.
local function timing(request, now)
  local form = { run_at = given(request.run_at), interval_seconds = request.interval_seconds,
    start_at = given(request.start_at) }
  if (form.run_at == nil) == (form.interval_seconds == nil) then
    return nil, "specify either run_at or interval_seconds", "invalid"
  end
  return (form.run_at and once or interval)(form, now)
end

--- POST /schedules/yaml. The order of the checks is the contract's.
---@param app table { store, config }
---@param caller table { tenant_id, api_key_id } or empty
---@param form table { workflow (string), flow_name, tag, params (table or nil), run_at (text), interval_seconds,
---  start_at (text) }
---@return table|nil schedule as it is served
---@return string|nil message
---@return string|nil code
---@return table|nil errors of a document that is wrong
function M.create(app, caller, form)
  local request, message, code, errors = submit.read_yaml(app, form)
  if not request then return nil, message, code, errors end
  local now = app.store:now()
  local record
  record, message, code = timing(form, now)
  if not record then return nil, message, code end
  record.schedule_id, record.status = crypto.uuid4(), "ACTIVE"
  record.flow_name, record.tag, record.params = request.flow_name, request.tag, request.params
  record.workflow_yaml, record.workflow_yaml_sha256 = form.workflow, request.known.sha256
  record.workflow_yaml_bytes = #form.workflow
  record.tenant_id, record.api_key_id = text_or_null(caller.tenant_id), text_or_null(caller.api_key_id)
  record.created_at, record.updated_at, record.dispatch_count = now, now, 0
  record.last_submitted_at, record.last_run_id, record.last_error, record.lease_until = null, null, null, null
  local revision
  revision, message, code = app.store.schedules:create(record)
  if not revision then return fault.of_store(message, code) end
  return public(record)
end

--- What a record is sorted by: those that will run come first.
local function rank(record)
  local at = record.next_run_at
  if type(at) ~= "number" then at = type(record.created_at) == "number" and record.created_at or 0 end
  return record.status == "ACTIVE" and 0 or 1, at, tostring(record.schedule_id)
end

local function comes_before(a, b)
  local a_group, a_at, a_id = rank(a)
  local b_group, b_at, b_id = rank(b)
  if a_group ~= b_group then return a_group < b_group end
  if a_at ~= b_at then return a_at < b_at end
  return a_id < b_id
end

--- GET /schedules.
---@param app table { store }
---@param caller table { tenant_id }
---@return table[]|nil schedules
---@return string|nil message
---@return string|nil code
function M.list(app, caller)
  local records, message, code = app.store.schedules:list()
  if not records then return fault.of_store(message, code) end
  local found = json.array {}
  for _, record in ipairs(records) do
    if access.may_see(caller, record) then found[#found + 1] = public(record) end
  end
  table.sort(found, comes_before)
  return found
end

--- The record, if the caller may know of it.
local function find(app, caller, schedule_id)
  local record, message, code = app.store.schedules:get(schedule_id)
  if record and access.may_see(caller, record) then return record end
  if record or code == "not_found" or code == "invalid" then return nil, "schedule not found", "not_found" end
  return fault.of_store(message, code)
end

--- DELETE /schedules/{id}. Its runs remain.
---@param app table { store }
---@param caller table { tenant_id }
---@param schedule_id string
---@return table|nil { schedule_id, deleted }
---@return string|nil message
---@return string|nil code
function M.delete(app, caller, schedule_id)
  local record, message, code = find(app, caller, schedule_id)
  if not record then return nil, message, code end
  local marker
  marker, message, code = app.store.schedules:delete(schedule_id)
  if not marker then return fault.of_store(message, code) end
  return { schedule_id = schedule_id, deleted = true }
end

--- GET /schedules/{id}/runs: the runs that it has made, newest first.
---@param app table { store with model }
---@param caller table { tenant_id }
---@param schedule_id string
---@param request table { limit, full (boolean) }
---@return string|nil body JSON list
---@return string|nil message
---@return string|nil code
function M.runs(app, caller, schedule_id, request)
  local record, message, code = find(app, caller, schedule_id)
  if not record then return nil, message, code end
  return list.runs(app, caller, { schedule_id = schedule_id, limit = request.limit, full = request.full })
end

return M
