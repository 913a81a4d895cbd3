--- What is done to a run that nobody has: its end is written, or its job is published again. Each is a compare-and-set
--- of the snapshot that was judged, so that whoever comes to life meanwhile wins.
local json = require "host.json"
local shared = require "host.shared"
local cancel = require "pyoco.run.cancel"
local snapshot = require "pyoco.run.snapshot"
local states = require "pyoco.run.states"
local wire = require "pyoco.run.wire"
local rebuild = require "pyoco.service.rebuild"
local present = require("pyoco.null").present

local M = {}

local null = json.null
local LETTER_FIELDS = { "run_id", "flow_name", "tag", "tags", "tenant_id", "api_key_id", "worker_id" }
local PAYLOAD_MAX_BYTES = 4096

--- How the error of a run begins whose deliveries are used up; a worker writes the same.
local EXHAUSTED = "max_attempts_exceeded"

--- A run as it is stored now.
---@param app table { store }
---@param run_id string
---@return table|nil found { snapshot, revision, age_sec = since it was written, by the server's clock }, or
---  { deleted = true } or { absent = true }
---@return string|nil message
---@return string|nil code
function M.read(app, run_id)
  local bytes, revision, entry, _, marker = app.store.runs:get_raw(run_id)
  if bytes then
    local stored = json.decode(bytes)
    if type(stored) ~= "table" then return { absent = true } end
    stored.run_id = run_id
    return { snapshot = stored, revision = revision, age_sec = app.store:now() - entry.created }
  end
  if entry == "not_found" then return { deleted = marker ~= nil, absent = marker == nil } end
  if entry == "invalid" then return { absent = true } end
  return nil, revision, entry
end

--- Stores an image over the snapshot that was judged.
---@return boolean|nil done; nil: somebody else has written, or NATS is away
local function store_image(app, found, image)
  local bytes = snapshot.encode(image, app.config.max_run_snapshot_bytes)
  return bytes and app.store.runs:update_raw(image.run_id, bytes, found.revision) ~= nil or nil
end

--- what: one of a few words, for metrics.
local function count(what) shared.incr("count.mended." .. what) end

local function say(app, image, what, reason)
  app.log:warning(what, { run_id = image.run_id, flow_name = image.flow_name, tag = image.tag, reason = reason })
end

--- Tells a parent that its child has ended.
local function tell_parent(app, image)
  if present(image.parent_run_id) then app.store.hints:done(image.run_id) end
end

--- Ends a run that is being cancelled and that nobody has.
---@param app table
---@param found table of M.read
---@return boolean|nil done
function M.cancelled(app, found)
  local image = found.snapshot
  local function now() return app.store:now() end
  snapshot.mark_cancelled(image, now())
  if not store_image(app, found, image) then return nil end
  say(app, image, "run cancelled by the sweeper", "nobody had it")
  count "cancelled"
  tell_parent(app, image)
  cancel.children(app.store, image, now)
  return true
end

--- Ends a run FAILED.
---@param app table
---@param found table
---@param text string its error
---@return boolean|nil done
function M.failed(app, found, text)
  local image, now = found.snapshot, app.store:now()
  image.status, image.error = "FAILED", text
  snapshot.close(image, now, "FAILED", text)
  if not store_image(app, found, image) then return nil end
  say(app, image, "run failed by the sweeper", text)
  count "failed"
  tell_parent(app, image)
  return true
end

local function token(tag) return type(tag) == "string" and tag:find("^[%w_-]+$") and tag or "default" end

--- The dead letter of a run whose deliveries are used up. Its message id makes a second one harmless for two minutes.
local function send_letter(app, stored)
  local body = { reason = "max_attempts", error = stored.error, timestamp = app.store:now() }
  for _, name in ipairs(LETTER_FIELDS) do
    body[name] = stored[name]
    if body[name] == nil then body[name] = null end
  end
  return app.store.dlq:publish(token(stored.tag), body, "max_attempts." .. stored.run_id)
end

--- Whether a run was ended because its deliveries were used up.
local function ended_exhausted(stored)
  return stored.status == "FAILED" and type(stored.error) == "string"
    and stored.error:sub(1, #EXHAUSTED) == EXHAUSTED
end

--- The letter of a message that is no job.
local function invalid_letter(app, message, limits)
  return app.store.dlq:publish(token(app.store.work:tag(message)), { reason = "invalid_job", error = "invalid_json",
    timestamp = app.store:now(), subject = message.subject, worker_id = null, num_delivered = limits.max_deliver,
    payload = json.clean(message.data:sub(1, PAYLOAD_MAX_BYTES)) }, "max_attempts.seq." .. message.seq)
end

--- Publishes the job of a PENDING run again, without message id: the first one may still be remembered. The snapshot is
--- touched first, so that two gateways do not both do it, and its time begins anew.
---@param app table
---@param found table
---@return boolean|nil done
function M.republish(app, found)
  local image = found.snapshot
  local job, message, code = rebuild.job(app, image)
  if not job and code == "not_found" then
    return M.failed(app, found, "job_lost: the run had no job in the queue, and " .. message)
  end
  if not job then return nil end
  image.updated_at = app.store:now()
  -- the message of an earlier attempt is gone: should the stream have been made anew, its number may be above the new
  -- one's, which would be taken for the older message then
  image.attempt = nil
  if not app.store.runs:update(image, found.revision) then return nil end
  local seq
  seq, message = app.store.jobs:publish_raw(nil, token(job.tag), assert(wire.job(job)))
  say(app, image, seq and "job published again by the sweeper" or "job cannot be published again",
    seq and "it had no message in the queue" or message)
  if seq then count "republished" end
  return seq ~= nil or nil
end

--- A message of a run that has ended, or was deleted, some time ago: it goes.
---@param app table
---@param message table
---@param found table of M.read
---@param after_sec number
---@return boolean|nil done
function M.settle(app, message, found, after_sec)
  local stored = found.snapshot
  local is_over = found.deleted or stored and states.is_terminal(stored.status) and found.age_sec >= after_sec
  if not is_over then return nil end
  -- the gateway that ended it may have died before the letter; it is remembered by its id
  if stored and ended_exhausted(stored) and not send_letter(app, stored) then return nil end
  local done = app.store.work:delete(message.seq)
  if done then count "job_deleted" end
  return done
end

--- The same bytes as a new message; the old one goes.
local function again(app, message)
  local tag = app.store.work:tag(message)
  if not app.store.jobs:publish_raw(nil, tag, message.data) then return nil end
  app.log:warning("job published again by the sweeper", { tag = tag, reason = "its deliveries were used up, yet nobody "
    .. "has tried it" })
  count "republished"
  return app.store.work:delete(message.seq)
end

--- What becomes of a run whose message will not be delivered again. Nothing, while something is heard of it.
---@param app table
---@param message table
---@param run_id string|nil nil: the message is no job
---@param limits table { max_deliver }
---@param after_sec number
---@return boolean|nil done
function M.exhausted(app, message, run_id, limits, after_sec)
  if not run_id then return invalid_letter(app, message, limits) and app.store.work:delete(message.seq) end
  local found = M.read(app, run_id)
  if not found then return nil end
  local stored = found.snapshot
  if not stored and found.absent then return again(app, message) end
  if not stored or states.is_terminal(stored.status) then return M.settle(app, message, found, 0) end
  if found.age_sec < after_sec then return nil end
  if stored.status == "PENDING" and not present(stored.attempt) and not present(stored.crash_count) then
    return again(app, message)
  end
  if snapshot.is_cancel_requested(stored) then
    return M.cancelled(app, found) and app.store.work:delete(message.seq)
  end
  local text = ("%s: %d deliveries, and nothing heard for %.0f s"):format(EXHAUSTED, limits.max_deliver, found.age_sec)
  if not M.failed(app, found, text) then return nil end
  return send_letter(app, stored) and app.store.work:delete(message.seq)
end

return M
