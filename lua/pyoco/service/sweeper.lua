--- The sweeper (DESIGN D9): a duty of the gateway with the lease that finds what was left behind.
---
--- | found                                             | becomes                                        |
--- |---------------------------------------------------|------------------------------------------------|
--- | PENDING, silent, no message of it in the queue    | its job is published again                     |
--- | CANCELLING, silent                                | CANCELLED                                      |
--- | RUNNING, silent, no message of it in the queue    | FAILED `worker_lost`                           |
--- | a message that will not be delivered again        | FAILED `max_attempts_exceeded`, dead letter    |
--- | a message of a run that has ended or was deleted  | deleted                                        |
---
--- Silent: not written for sweep_after_sec. Which runs may be is told by the read model's write numbers (no clock is
--- compared), the snapshot's own timestamp of the server decides; a run that a live worker says it has is left alone.
--- The runs that have ended cost nothing. A pass is a coroutine that lets other duties run every TURN_SEC.
local clock = require "host.clock"
local json = require "host.json"
local states = require "pyoco.run.states"
local lease = require "pyoco.service.lease"
local mend = require "pyoco.service.mend"

local M = {}

local TURN_SEC = 0.04
local PART_OF_TIME = 20      -- a pass is followed by a rest of so many times its length
local CANDIDATES_MAX = 20000 -- runs of one status that a pass looks for; the next pass goes on behind them
local EXHAUSTED_MAX = 10000
local SILENT = { "PENDING", "RUNNING", "CANCELLING" }

--- The failure of a store, through a pass. A pass that fails is begun anew later.
local function must(value, message, code)
  if value == nil then error({ message = message, code = code }, 0) end
  return value, message
end

--- The run's id of a message; nil when it is no job. Most have it in front.
local function run_of(message)
  local id = message.data:match('^{"run_id":%s*"([^"\\]+)"')
  if id then return id end
  local job = json.decode(message.data)
  return type(job) == "table" and type(job.run_id) == "string" and job.run_id ~= "" and job.run_id or nil
end

-- which runs may be silent -----------------------------------------------------------------------------------

--- Notes where the model stands now; gives where it stood sweep_after_sec ago, nil when that is not known.
local function position_then(app, state)
  local now, position = clock.monotonic(), must(app.store.model:position())
  local marks, old = state.marks, nil
  marks[#marks + 1] = { at = now, position = position }
  while marks[1] and marks[1].at <= now - app.config.sweep_after_sec do old = table.remove(marks, 1) end
  if old then table.insert(marks, 1, old) end
  return old and old.position.walk == position.walk and old.position or nil
end

--- Runs that have not been written since a position: id -> status. Second: whether these are all.
local function silent_runs(app, state, position)
  local found, is_all = {}, true
  for _, status in ipairs(SILENT) do
    local after = state.cursors[status]
    local list = must(app.store.model:unchanged(status, position, after, CANDIDATES_MAX))
    for _, row in ipairs(list) do found[row.run_id] = status end
    state.cursors[status] = #list == CANDIDATES_MAX and list[#list] or nil
    is_all = is_all and after == nil and #list < CANDIDATES_MAX
  end
  return found, is_all
end

--- Runs that a live worker says it has, whatever their snapshots say. Asked once in a pass.
local function runs_in_hand(app, pass)
  if pass.in_hand then return pass.in_hand end
  local ids, now = {}, app.store:now()
  pass.in_hand = ids
  for _, entry in ipairs(must(app.store.workers:list())) do
    local record, timeout = entry.record, app.config.worker_disconnect_timeout_sec
    local is_live = record.state ~= "STOPPED_GRACEFUL" and (timeout <= 0 or now - entry.created <= timeout)
    if is_live then
      if type(record.current_run_id) == "string" then ids[record.current_run_id] = true end
      for _, id in ipairs(type(record.current_run_ids) == "table" and record.current_run_ids or {}) do
        ids[id] = true
      end
    end
  end
  return ids
end

-- the queue ---------------------------------------------------------------------------------------------------

--- What a pass knows of a tag: its consumer as it was before the pass read the tag's first message, and the messages
--- that it has delivered.
local function tag_of(app, pass, message)
  local tag = app.store.work:tag(message)
  local known = pass.tags[tag]
  if not known then
    local consumer, text, code = app.store.work:consumer(tag)
    if not consumer and code ~= "not_found" then must(nil, text, code) end
    known = { consumer = consumer or { in_hand = 0, delivered_seq = 0, max_deliver = -1 }, delivered = {} }
    pass.tags[tag] = known
  end
  return known
end

--- Messages of runs that have ended.
local function settle_ended(app, pass, list)
  local ids = {}
  for i, it in ipairs(list) do ids[i] = it.run_id end
  local known = must(app.store.model:statuses(ids))
  for _, it in ipairs(list) do
    local status = known[it.run_id]
    if status == nil or states.is_terminal(status) then
      mend.settle(app, it.message, must(mend.read(app, it.run_id)), pass.settle_sec)
      pass.breathe()
    end
  end
end

--- Looks at some messages.
local function look_at(app, state, pass, messages)
  local others = {}
  for _, message in ipairs(messages) do
    local run_id, tag = run_of(message), tag_of(app, pass, message)
    local is_silent = run_id and pass.silent[run_id] ~= nil
    if is_silent then pass.has_message[run_id] = true end
    local it = { message = message, run_id = run_id, limits = tag.consumer }
    if state.exhausted[message.seq] then
      pass.exhausted[#pass.exhausted + 1] = it
    elseif message.seq <= tag.consumer.delivered_seq and run_id then
      tag.delivered[#tag.delivered + 1] = it
    end
    if run_id and not is_silent and app.store:now() - message.time >= pass.settle_sec then
      others[#others + 1] = it
    end
  end
  if #others > 0 then settle_ended(app, pass, others) end
end

--- Forgets what the server has said of messages that are gone.
local function forget_exhausted(state, pass)
  for seq in pairs(state.exhausted) do
    if seq <= pass.last_seq and not pass.seen_exhausted[seq] then
      state.exhausted[seq], state.exhausted_count = nil, state.exhausted_count - 1
    end
  end
end

--- Reads the queue from end to end.
local function read_queue(app, state, pass, info)
  local from = info.first_seq
  pass.last_seq, pass.seen_exhausted = info.last_seq, {}
  while from do
    local messages
    messages, from = must(app.store.work:read(from, info.last_seq))
    look_at(app, state, pass, messages)
    for _, message in ipairs(messages) do
      if state.exhausted[message.seq] then pass.seen_exhausted[message.seq] = true end
    end
    pass.breathe()
  end
  forget_exhausted(state, pass)
end

--- Messages that will not be delivered again, by counting, for those of which the server's word was missed: when live
--- workers have as many of a tag's runs as its consumer waits for, it has given up all others that it has delivered.
--- What a worker holds without saying so makes the consumer wait for more than that: then nothing can be told.
local function count_exhausted(app, pass)
  for _, tag in pairs(pass.tags) do
    local silent, in_hand = {}, 0
    for _, it in ipairs(tag.delivered) do
      if runs_in_hand(app, pass)[it.run_id] then
        in_hand = in_hand + 1
      elseif pass.silent[it.run_id] then
        silent[#silent + 1] = it
      end
    end
    if #silent > 0 and tag.consumer.in_hand <= in_hand then
      table.move(silent, 1, #silent, #pass.exhausted + 1, pass.exhausted)
    end
  end
end

-- a pass ------------------------------------------------------------------------------------------------------

local LOST = "worker_lost: its job is not in the queue any more, and nothing was heard of it for %.0f s"

--- What to do with a silent run by its status; has_message: its job is in the queue.
local ACTIONS = {
  PENDING = function(app, found, has_message)
    if not has_message then mend.republish(app, found) end
  end,
  CANCELLING = function(app, found) mend.cancelled(app, found) end,
  RUNNING = function(app, found, has_message)
    if not has_message then mend.failed(app, found, LOST:format(found.age_sec)) end
  end,
}

local function needs_look(status, has_message) return status == "CANCELLING" or not has_message end

--- The silent runs that need something.
local function mend_runs(app, pass)
  for run_id, status in pairs(pass.silent) do
    if needs_look(status, pass.has_message[run_id]) then
      local found = not runs_in_hand(app, pass)[run_id] and must(mend.read(app, run_id))
      local stored = found and found.snapshot
      if stored and stored.status == status and found.age_sec >= app.config.sweep_after_sec then
        ACTIONS[status](app, found, pass.has_message[run_id])
      end
      pass.breathe()
    end
  end
end

--- One pass over everything.
---@param app table { store with model, config, log }
---@param state table made by M.new
---@param breathe function called often; may yield
function M.pass(app, state, breathe)
  local after_sec = app.config.sweep_after_sec
  local position = position_then(app, state)
  local pass = { silent = {}, has_message = {}, tags = {}, exhausted = {}, breathe = breathe,
    settle_sec = math.min(after_sec, 10) }
  local is_all = true
  if position then pass.silent, is_all = silent_runs(app, state, position) end
  local info = must(app.store.work:info())
  local has_old = info.first_time and app.store:now() - info.first_time >= pass.settle_sec
  if info.messages > 0 and (has_old or next(pass.silent)) then read_queue(app, state, pass, info) end
  if is_all then count_exhausted(app, pass) end
  for _, it in ipairs(pass.exhausted) do
    if not (it.run_id and runs_in_hand(app, pass)[it.run_id]) then
      mend.exhausted(app, it.message, it.run_id, it.limits, after_sec)
    end
    breathe()
  end
  mend_runs(app, pass)
end

-- the duty ----------------------------------------------------------------------------------------------------

--- What this VM remembers between passes.
---@return table state
function M.new() return { marks = {}, cursors = {}, exhausted = {}, exhausted_count = 0, next_at = 0 } end

--- Takes in what the server says of messages that it gives up. Every gateway listens, so that the next holder knows.
local function listen(app, state)
  for _, seq in ipairs(app.store.work:exhausted()) do
    if state.exhausted_count >= EXHAUSTED_MAX then state.exhausted, state.exhausted_count = {}, 0 end
    if not state.exhausted[seq] then state.exhausted_count = state.exhausted_count + 1 end
    state.exhausted[seq] = true
  end
end

local function begin(app, state)
  state.spent_sec = 0
  state.running = coroutine.create(function()
    local turn_ends = clock.monotonic() + TURN_SEC
    M.pass(app, state, function()
      if clock.monotonic() < turn_ends then return end
      coroutine.yield()
      turn_ends = clock.monotonic() + TURN_SEC
    end)
  end)
end

--- Goes on with the pass that runs; begins one when it is time.
---@param app table
---@param state table
---@return number seconds until it wants to run again
function M.turn(app, state)
  if not state.running then
    local left = state.next_at - clock.monotonic()
    if left > 0 then return left end
    begin(app, state)
  end
  local co, resumed_at = state.running, clock.monotonic()
  local ok, failure = coroutine.resume(co)
  state.spent_sec = state.spent_sec + clock.monotonic() - resumed_at -- without what others did between
  if ok and coroutine.status(co) ~= "dead" then return 0.005 end
  state.running = nil
  local now = clock.monotonic()
  state.next_at = now + math.max(app.config.sweep_interval_sec, state.spent_sec * PART_OF_TIME)
  if not ok then state.marks = {} end -- what we could not see may have been written
  if not ok and type(failure) ~= "table" then error(debug.traceback(co, failure), 0) end
  if not ok and failure.code ~= "unavailable" and failure.code ~= "timeout" then
    app.log:warning("the sweeper could not look at everything", { reason = failure.message })
  end
  return state.next_at - now
end

--- The duty, for app:every.
---@return function(app)
function M.duty()
  local state = M.new()
  return function(app)
    if app.store:status() ~= "connected" or not app.store:knows_time() then
      state.running, state.marks = nil, {} -- nobody can write now: silence says nothing
      return 1
    end
    listen(app, state)
    if lease.keep(app) then return M.turn(app, state) end
    state.running, state.marks, state.cursors = nil, {}, {}
    return 1
  end
end

--- How often the duty runs at least.
M.EVERY_SEC = 60

return M
