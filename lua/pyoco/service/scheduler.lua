--- Dispatching schedules (CONTRACT 9, DESIGN D9): a duty of the gateway that holds the lease.
---
--- It follows the bucket and knows when the next one is due, so a run starts within milliseconds of its time and
--- nothing is scanned. A dispatch is claimed by compare-and-set of `lease_until`, which a reference gateway on the same
--- bucket respects too; the run's id is derived from schedule and due time, so a crash between the submit and the
--- record's update, or two gateways at once, give one run.
local clock = require "host.clock"
local json = require "host.json"
local shared = require "host.shared"
local ids = require "pyoco.run.id"
local lease = require "pyoco.service.lease"
local submit = require "pyoco.service.submit"
local times = require "pyoco.service.schedule_time"

local M = {}

local null = json.null

--- How often the duty runs at least (a change of the bucket wakes it), and how long it may take before it lets others
--- run.
M.EVERY_SEC = 1
local TURN_SEC = 0.25
local CONFLICT_SEC = 0.05
local RETRY_FIRST_SEC, RETRY_MAX_SEC = 1, 60

local function number_or(value, default) return type(value) == "number" and value or default end

--- The id of the run of a schedule at a time: always the same.
---@param schedule_id string
---@param due number unix seconds
---@return string
function M.run_id(schedule_id, due)
  return ids.derived(("pyoco schedule %s %.6f"):format(schedule_id, due))
end

-- what is due -------------------------------------------------------------------------------------------------

local Agenda = {}
Agenda.__index = Agenda

--- Puts an item at its place in the heap: the earliest first.
local function push(heap, item)
  local at = #heap + 1
  while at > 1 and heap[at // 2].at > item.at do
    heap[at] = heap[at // 2]
    at = at // 2
  end
  heap[at] = item
end

local function pop(heap)
  local first, last = heap[1], table.remove(heap)
  local size, at = #heap, 1
  if size == 0 then return first end
  while true do
    local child = 2 * at
    if child < size and heap[child + 1].at < heap[child].at then child = child + 1 end
    if child > size or heap[child].at >= last.at then break end
    heap[at] = heap[child]
    at = child
  end
  heap[at] = last
  return first
end

--- Notes when a schedule is to be looked at next; nil = not at all.
function Agenda:set(id, at)
  local item = at and { id = id, at = at } or nil
  self.items[id] = item -- an older one in the heap is known by not being here
  if item then push(self.heap, item) end
end

--- The earliest one.
function Agenda:first()
  while self.heap[1] and self.items[self.heap[1].id] ~= self.heap[1] do pop(self.heap) end
  return self.heap[1]
end

--- Forgets all.
function Agenda:clear() self.items, self.heap = {}, {} end

local function new_agenda()
  local agenda = setmetatable({}, Agenda)
  agenda:clear()
  return agenda
end

--- When a record is to be looked at; nil = never.
local function due_of(record)
  if record.status ~= "ACTIVE" or type(record.next_run_at) ~= "number" then return nil end
  return math.max(record.next_run_at, number_or(record.lease_until, 0))
end

--- What this VM knows of the schedules while its process holds the lease. not_before: when we may look at one again,
--- after a failure or because it has just run.
---@return table state
function M.new() return { agenda = new_agenda(), failures = {}, not_before = {} } end

--- Puts a schedule where its record says that it belongs.
local function plan(state, id, record)
  local at = due_of(record)
  state.agenda:set(id, at and math.max(at, state.not_before[id] or 0))
end

local function forget(state, id)
  state.agenda:set(id, nil)
  state.failures[id], state.not_before[id] = nil, nil
end

--- Takes in what has changed.
local function follow(app, state)
  if not state.tail then
    state.tail = assert(app.store.schedules:follow())
    state.agenda:clear()
  end
  while true do
    local kind, entry = state.tail:next(0)
    if not kind then return end
    if kind == "reset" then state.agenda:clear() end
    local record = kind == "entry" and not entry.deleted and app.store.schedules:read(entry)
    if record then
      plan(state, entry.key, record)
    elseif kind == "entry" then
      forget(state, entry.key)
    end
  end
end

--- Stops following: another gateway does it.
local function rest(state)
  if state.tail then state.tail:stop() end
  state.tail = nil
  state.agenda:clear()
  state.failures, state.not_before = {}, {}
end

-- a dispatch --------------------------------------------------------------------------------------------------

--- Claims a due schedule. Returns the record's new revision, or nil, message, code.
local function claim(app, record, revision)
  local now = app.store:now()
  record.lease_until = now + math.max(3, 3 * app.config.schedule_poll_interval_sec)
  record.updated_at = now
  return app.store.schedules:update(record, revision)
end

--- The record after a dispatch: when it was, and when the next one is.
local function finalise(record, run_id, now)
  record.last_submitted_at, record.updated_at, record.last_run_id = now, now, run_id
  record.dispatch_count = number_or(record.dispatch_count, 0) + 1
  record.last_error, record.lease_until = null, null
  if record.schedule_type == "once" then
    record.status, record.next_run_at = "COMPLETED", null
    return
  end
  local start = number_or(record.start_at, record.next_run_at)
  record.next_run_at = times.next(start, number_or(record.interval_seconds, 60), now)
end

--- Writes what became of a claim, also when somebody has changed the record meanwhile, unless it is not about the
--- same due time any more.
---@param claim_of table { id, due, record, revision }
local function conclude(app, claim_of, change)
  local record, revision = claim_of.record, claim_of.revision
  for _ = 1, 5 do
    change(record)
    local written, message, code = app.store.schedules:update(record, revision)
    if written then return record end
    if code ~= "conflict" then return nil, message, code end
    record, revision, code = app.store.schedules:get(claim_of.id)
    if not record then return nil, revision, code end
    if record.next_run_at ~= claim_of.due then return record end
  end
  return nil, "the record changes faster than it can be written", "conflict"
end

--- "invalid: invalid workflow yaml (line 3:5: ...)", as the record keeps it.
local function error_text(message, code, errors)
  local first = type(errors) == "table" and errors[1]
  if first then message = ("%s (line %s:%s: %s)"):format(message, first.line, first.column, first.message) end
  return code .. ": " .. message
end

local function text(value) return type(value) == "string" and value or "" end

local function submit_run(app, record, due)
  local params = type(record.params) == "table" and record.params or nil
  local function given(value) return value ~= null and value or nil end
  return submit.yaml(app, { tenant_id = given(record.tenant_id), api_key_id = given(record.api_key_id) },
    { workflow = text(record.workflow_yaml), flow_name = text(record.flow_name), tag = text(record.tag),
      params = params }, { run_id = M.run_id(record.schedule_id, due), schedule_id = record.schedule_id })
end

--- Puts a schedule off after a failure: for longer each time.
local function put_off(app, state, id)
  local n = (state.failures[id] or 0) + 1
  state.failures[id] = n
  state.not_before[id] = app.store:now() + math.min(RETRY_FIRST_SEC * 2 ^ (n - 1), RETRY_MAX_SEC)
  state.agenda:set(id, state.not_before[id])
end

--- A failed dispatch: the schedule says why and stays due; we try again later. A reference gateway may be sooner.
local function failed(app, state, claim_of, text_of_error)
  app.log:error("schedule dispatch failed", { schedule_id = claim_of.id }, { message = text_of_error })
  shared.incr "count.schedule_dispatches.failed"
  put_off(app, state, claim_of.id)
  conclude(app, claim_of, function(current)
    current.lease_until, current.updated_at, current.last_error = null, app.store:now(), text_of_error
  end)
end

--- Starts the run of a claimed schedule, and writes down that it has.
local function run_claimed(app, state, claim_of, now)
  local id = claim_of.id
  local run, message, code, errors = submit_run(app, claim_of.record, claim_of.due)
  if not run then return failed(app, state, claim_of, error_text(message, code, errors)) end
  shared.incr "count.schedule_dispatches.ok"
  state.failures[id], state.not_before[id] = nil, now + app.config.schedule_poll_interval_sec
  local final
  final, message, code = conclude(app, claim_of, function(current) finalise(current, run.run_id, app.store:now()) end)
  if final then return plan(state, id, final) end
  if code == "not_found" then return end -- deleted meanwhile; its run remains
  app.log:error("schedule dispatch failed", { schedule_id = id, run_id = run.run_id }, { message = message })
  put_off(app, state, id)
end

--- Dispatches a schedule if it is due, and puts it where it is to be looked at next.
local function dispatch(app, state, id)
  state.agenda:set(id, nil)
  local record, revision, code = app.store.schedules:get(id)
  if not record then
    if code == "not_found" then return end
    app.log:error("schedule fetch failed", { schedule_id = id }, { type = code, message = revision })
    return put_off(app, state, id)
  end
  plan(state, id, record)
  local first, now = state.agenda.items[id], app.store:now()
  if not first or first.at > now then return end
  state.agenda:set(id, nil)
  local due = record.next_run_at
  record.schedule_id = id -- the key is what it is called, whatever the record says
  local claimed, message
  claimed, message, code = claim(app, record, revision)
  if claimed then
    return run_claimed(app, state, { id = id, due = due, record = record, revision = claimed }, now)
  end
  if code == "conflict" then return state.agenda:set(id, now + CONFLICT_SEC) end
  app.log:warning("schedule cannot be claimed", { schedule_id = id, reason = message })
  put_off(app, state, id)
end

--- One turn: takes in changes, dispatches what is due. Only for the holder of the lease.
---@param app table { store, config, log }
---@param state table made by M.new
---@return number seconds until it wants to run again
function M.turn(app, state)
  follow(app, state)
  if not app.store:knows_time() then return CONFLICT_SEC end
  local stop_at = clock.monotonic() + TURN_SEC
  while true do
    local first = state.agenda:first()
    local left = first and first.at - app.store:now() or math.huge
    if left > 0 then return math.min(left, M.EVERY_SEC) end
    if clock.monotonic() > stop_at then return 0 end
    if not lease.keep(app) then
      rest(state)
      return M.EVERY_SEC
    end
    dispatch(app, state, first.id)
  end
end

--- The duty, for app:every(M.EVERY_SEC, "schedules", ...). It also notices that the lease is gone.
---@return function(app)
function M.duty()
  local state = M.new()
  return function(app)
    if lease.held() then return M.turn(app, state) end
    rest(state)
    return 0.5
  end
end

return M
