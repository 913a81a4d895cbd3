--- What the supervisor does with a job whose slot is gone: it reads the snapshot and writes what the slot cannot
--- write any more (DESIGN D3, D6). Runs in a coroutine; waits for NATS for as long as it takes.
local json = require "host.json"
local cancel = require "pyoco.run.cancel"
local snapshot = require "pyoco.run.snapshot"
local states = require "pyoco.run.states"
local summary = require "pyoco.run.summary"
local attempt = require "pyoco.worker.attempt"

local M = {}

local RETRY_SEC = 0.5

--- A run that waits again: what was running has not started.
local function hand_back(image)
  image.status, image.start_time, image.frame_records = "PENDING", json.null, nil
  for name, state in pairs(type(image.tasks) == "table" and image.tasks or {}) do
    if state == "RUNNING" then
      image.tasks[name] = "PENDING"
      if type(image.task_records) == "table" then image.task_records[name] = nil end
    end
  end
end

local function fail(image, text, now)
  image.status, image.error = "FAILED", text
  snapshot.close(image, now, "FAILED", text)
end

--- Gives the task that has outlived its limit its end: nobody may have written that it runs.
local function fail_task(image, name, text, now)
  if type(image.tasks) ~= "table" then image.tasks = {} end
  if type(image.task_records) ~= "table" then image.task_records = {} end
  local record = image.task_records[name] or { started_at = json.null, duration_ms = json.null, inputs = {},
    output = json.null, artifacts = {}, traceback = json.null }
  image.tasks[name], image.task_records[name] = "FAILED", record
  record.state, record.error, record.ended_at = "FAILED", text, now
end

--- What the image becomes, by why the slot is gone. Returns the outcome.
local CAUSES = {
  cancel = function(image, _, now)
    snapshot.mark_cancelled(image, now)
    return "cancelled"
  end,
  drain = function(image)
    hand_back(image)
    return "handed_back"
  end,
  timeout = function(image, case, now)
    fail(image, case.text, now)
    fail_task(image, case.task, case.text, now)
    return "failed"
  end,
  crash = function(image, case, now)
    image.crash_count = (tonumber(image.crash_count) or 0) + 1
    if image.crash_count >= case.max_crashes then
      fail(image, ("worker_crashed: %s, %d times"):format(case.text, image.crash_count), now)
      return "worker_crashed"
    end
    hand_back(image)
    return "handed_back"
  end,
}

--- Lays the cause over a stored snapshot.
---@param stored table|nil nil: there is none
---@param deleted boolean
---@param case table { cause = "crash" | "drain" | "cancel", text, max_crashes, ours {seq, delivery}, job = decoded job,
---  worker_id }
---@param now number server's unix seconds
---@return string outcome
---@return table|nil image to be stored; nil when nothing is to be written
---@return string|nil error what the run's error says
function M.settle(stored, deleted, case, now)
  if deleted then return "skipped" end
  if stored then
    local holds = attempt.holds(stored, case.ours)
    if holds == "fenced" then return "fenced" end
    if holds == "ended" then return "discarded" end
    if stored.status == "PENDING_APPROVAL" then return "skipped" end
  end
  local image = snapshot.image(stored, case.job, now)
  image.attempt, image.worker_id = attempt.record(case.ours), case.worker_id
  local cause = snapshot.is_cancel_requested(image) and "cancel" or case.cause
  local outcome = CAUSES[cause](image, case, now)
  local has_family = image.bundle_hash ~= json.null or image.parent_run_id ~= json.null
  if has_family and states.is_terminal(image.status) then
    image.result_summary = nil -- of an earlier end
    image.result_summary = summary.of(image)
  end
  return outcome, image, image.error ~= json.null and image.error or nil
end

--- A run that is cancelled takes its children with it; before its own end is stored, after which nobody would.
local function cancel_children(deps, image)
  while not cancel.children(deps.store, image, deps.now) and not deps.is_stopped() do deps.sleep(RETRY_SEC) end
end

--- The run's end is stored: its parent may want to know.
local function tell_parent(deps, image)
  if image.parent_run_id ~= json.null and states.is_terminal(image.status) then deps.store.hints:done(image.run_id) end
end

--- Does it, by compare-and-set.
---@param deps table store (runs, hints), now (function), sleep (function(sec)), max_bytes (snapshot cap), is_stopped
---  (function: whether to give up)
---@param case table see settle
---@return string outcome; "unavailable" when it was given up
---@return string|nil error
---@return table|nil image as stored
function M.run(deps, case)
  local last
  local runs = deps.store.runs
  while not deps.is_stopped() do
    local bytes, revision, code, _, marker = runs:get_raw(case.job.run_id)
    if last and bytes == last.bytes then return last.outcome, last.text, last.image end -- it did arrive
    if bytes or code == "not_found" then
      local stored = bytes and json.decode(bytes)
      if type(stored) ~= "table" then stored = nil end
      local outcome, image, text = M.settle(stored, not bytes and marker ~= nil, case, deps.now())
      if not image then return outcome end
      if outcome == "cancelled" then cancel_children(deps, image) end
      local encoded = snapshot.encode(image, deps.max_bytes)
      local written, why
      if bytes then
        written, why, code = runs:update_raw(case.job.run_id, encoded, revision)
      else
        written, why, code = runs:create_raw(case.job.run_id, encoded)
      end
      if written then
        tell_parent(deps, image)
        return outcome, text, image
      end
      last = { bytes = encoded, outcome = outcome, text = text, image = image }
      if code == "invalid" then return "invalid_job", why end
    elseif code == "invalid" then
      return "invalid_job", revision
    end
    if code ~= "conflict" then deps.sleep(RETRY_SEC) end
  end
  return "unavailable"
end

return M
