--- The verbs that services and workers use: runs, jobs, dead letters, workers, documents, hints.
--- Written once above the primitives that a backend supplies (jetstream.lua, memory.lua).
--- Every verb answers a value, or nil, message, code (pyoco.err). Revisions are KV revisions.
local json = require "host.json"
local crypto = require "host.crypto"
local shared = require "host.shared"
local wire = require "pyoco.run.wire"

local M = {}

local REQUEST_TIMEOUT_MS = 2000
local DOCUMENT_KNOWN_SEC = 60

--- How long many requests in flight may take: a slow server needs longer for a thousand than for one.
local function many_timeout_ms(count) return REQUEST_TIMEOUT_MS + 3 * count end

--- Decodes a stored JSON object.
local function decode(bytes, what)
  local value, message = json.decode(bytes)
  if type(value) == "table" and not json.is_array(value) then return value end
  return nil, ("%s is not a JSON object: %s"):format(what, message or type(value)), "invalid"
end

--- on_write, where it is set, is told of each write of this process: on_write(revision), of an update
--- on_write(revision, run_id, bytes).
local runs = {}
runs.__index = runs

--- The snapshot's bytes as they are stored.
---@param run_id string
---@return string|nil bytes
---@return integer|string revision or message
---@return table|string entry {created (server's unix seconds)} or code
---@return integer|nil err_code
---@return table|nil marker of a run that was deleted
function runs:get_raw(run_id)
  return self.kv:get(run_id)
end

--- The latest snapshot of a run.
---@param run_id string
---@return table|nil snapshot
---@return integer|string revision or message
---@return table|string entry or code ("not_found", "invalid", "unavailable", "timeout")
function runs:get(run_id)
  local bytes, revision, entry = self.kv:get(run_id)
  if not bytes then return nil, revision, entry end
  local snapshot, message, code = decode(bytes, "snapshot of run " .. run_id)
  if not snapshot then return nil, message, code end
  return snapshot, revision, entry
end

--- Stores the first snapshot of a run.
---@param run_id string
---@param bytes string encoded snapshot
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict" if the run exists
function runs:create_raw(run_id, bytes)
  local revision, message, code, err_code = self.kv:create(run_id, bytes)
  if revision and self.on_write then self.on_write(revision) end
  return revision, message, code, err_code
end

--- Compare-and-set of the snapshot.
---@param run_id string
---@param bytes string
---@param revision integer the one that the caller has read
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict" if another write came first
function runs:update_raw(run_id, bytes, revision)
  local written, message, code, err_code = self.kv:update(run_id, bytes, revision)
  if written and self.on_write then self.on_write(written, run_id, bytes) end
  return written, message, code, err_code
end

--- create_raw of a table.
---@param snapshot table with run_id
function runs:create(snapshot)
  local bytes, message, code = wire.snapshot(snapshot)
  if not bytes then return nil, message, code end
  return self:create_raw(snapshot.run_id, bytes)
end

--- update_raw of a table.
---@param snapshot table with run_id
---@param revision integer
function runs:update(snapshot, revision)
  local bytes, message, code = wire.snapshot(snapshot)
  if not bytes then return nil, message, code end
  return self:update_raw(snapshot.run_id, bytes, revision)
end

--- Stores the first snapshots of runs that never were, not even as a marker, all in flight together.
---@param snapshots table[] each with run_id
---@return table[] results in order: { revision }, or { message, code }
function runs:create_many(snapshots)
  local entries, places, results = {}, {}, {}
  for i, snapshot in ipairs(snapshots) do
    local bytes, message, code = wire.snapshot(snapshot)
    if bytes then
      places[#places + 1] = i
      entries[#entries + 1] = { snapshot.run_id, bytes, 0 }
    else
      results[i] = { message = message, code = code }
    end
  end
  for n, result in ipairs(self.kv:update_many(entries, many_timeout_ms(#entries))) do
    local i = places[n]
    results[i] = result
    if result.revision and self.on_write then self.on_write(result.revision) end
  end
  return results
end

--- Removes a run's key (a submit that could not be finished).
---@param run_id string
---@param revision integer|nil only if it is still this one
function runs:delete(run_id, revision)
  local marker, message, code, err_code = self.kv:delete(run_id, revision)
  if marker and self.on_write then self.on_write(marker) end
  return marker, message, code, err_code
end

--- The latest snapshots of some runs.
---@param run_ids string[]
---@return table|nil place in run_ids -> snapshot; nil for what is gone or cannot be read
---@return string|nil message
---@return string|nil code "unavailable" | "timeout"
function runs:get_many(run_ids)
  local values, message, code = self.kv:get_many(run_ids)
  if not values then return nil, message, code end
  local snapshots = {}
  for i = 1, #run_ids do
    snapshots[i] = values[i] and decode(values[i], run_ids[i])
  end
  return snapshots
end

local jobs = {}
jobs.__index = jobs

--- Queues a job under its tag. The message id is the run's, so that a repeated publish within two minutes
--- is stored once.
---@param job table with run_id and tag (CONTRACT 4)
---@return integer|nil stream sequence
---@return string|nil message
---@return string|nil code "timeout": unknown fate, publish again; "too_large"; "unavailable"
function jobs:publish(job)
  local bytes, message, code = wire.job(job)
  if not bytes then return nil, message, code end
  return self:publish_raw(job.run_id, job.tag, bytes)
end

--- publish of bytes that are encoded already.
---@param run_id string|nil message id; nil for none (a republish whose first message may still be remembered)
---@param tag string
---@param bytes string
---@return integer|nil stream sequence
---@return string|nil message
---@return string|nil code
---@return boolean|nil is_known the stream has a message of this id, or had one within two minutes
function jobs:publish_raw(run_id, tag, bytes)
  local ack, message, code = self.backend.publish(self.prefix .. "." .. tag, bytes,
    { msg_id = run_id, expect_stream = self.stream, timeout_ms = REQUEST_TIMEOUT_MS })
  if not ack then return nil, message, code end
  return ack.seq, nil, nil, ack.duplicate
end

--- Queues jobs, all in flight together; what fails is told one by one.
---@param list table[] jobs
---@return table[] results in order: { seq }, or { message, code } as publish has them
function jobs:publish_many(list)
  local entries, places, results = {}, {}, {}
  for i, job in ipairs(list) do
    local bytes, message, code = wire.job(job)
    if bytes then
      places[#places + 1] = i
      entries[#entries + 1] = { self.prefix .. "." .. job.tag, bytes,
        { msg_id = job.run_id, expect_stream = self.stream } }
    else
      results[i] = { message = message, code = code }
    end
  end
  if #entries == 0 then return results end
  for n, result in ipairs(self.backend.publish_many(entries, many_timeout_ms(#entries))) do
    results[places[n]] = result
  end
  return results
end

local workers = {}
workers.__index = workers

--- One registry record.
---@param worker_id string
---@return table|nil record
---@return integer|string revision or message
---@return table|string entry {created} or code
function workers:get(worker_id)
  local bytes, revision, entry = self.kv:get(worker_id)
  if not bytes then return nil, revision, entry end
  local record, message, code = decode(bytes, "record of worker " .. worker_id)
  if not record then return nil, message, code end
  return record, revision, entry
end

--- Writes a registry record whole.
---@param record table with worker_id
---@return integer|nil revision
function workers:put(record)
  local bytes, message, code = wire.worker(record)
  if not bytes then return nil, message, code end
  return self.kv:put(record.worker_id, bytes)
end

--- Compare-and-set of a record.
---@param record table with worker_id
---@param revision integer
function workers:update(record, revision)
  local bytes, message, code = wire.worker(record)
  if not bytes then return nil, message, code end
  return self.kv:update(record.worker_id, bytes, revision)
end

--- Removes a record.
---@param worker_id string
---@param revision integer only if it is still this one
function workers:delete(worker_id, revision)
  return self.kv:delete(worker_id, revision)
end

--- All records; one that cannot be read is left out.
---@return table[]|nil list of { key, record, revision, created (server's unix seconds) }
function workers:list()
  local entries, message, code = self.kv:entries()
  if not entries then return nil, message, code end
  local list = {}
  for _, entry in ipairs(entries) do
    local record = decode(entry.value, entry.key)
    if record then
      list[#list + 1] = { key = entry.key, record = record, revision = entry.revision, created = entry.created }
    end
  end
  return list
end

local documents = {}
documents.__index = documents

--- Stores bytes under their own sha256. Storing them again makes them young again, so that pruning, which takes old
--- documents that no run refers to, leaves them to the run that is about to (decision 0019).
---@param bytes string
---@param sha256 string|nil hex, if known
---@return string|nil sha256
function documents:put(bytes, sha256)
  sha256 = sha256 or crypto.sha256(bytes)
  local revision, message, code = self.kv:put(sha256, bytes)
  if not revision then return nil, message, code end
  return sha256
end

--- Stores bytes as put does, though once a minute at most in one process: many runs have the same.
---@param bytes string
---@param sha256 string hex
---@return string|nil sha256
---@return string|nil message
---@return string|nil code
function documents:keep(bytes, sha256)
  local known = ("document.%s.%s"):format(self.kv.stream or "memory", sha256)
  if shared.get(known) then return sha256 end
  local ok, message, code = self:put(bytes, sha256)
  if not ok then return nil, message, code end
  shared.set(known, true, DOCUMENT_KNOWN_SEC)
  return sha256
end

--- Bytes by their sha256.
---@param sha256 string hex
---@return string|nil bytes
function documents:get(sha256)
  return self.kv:get(sha256)
end

local data = {}
data.__index = data

--- The object store itself; opened when it is first needed.
function data:objects()
  local message, code
  if not self.opened then self.opened, message, code = self.open() end
  return self.opened, message, code
end

--- Keeps what is too big for a run's snapshot (DESIGN D15).
---@param run_id string
---@param task string
---@param kind string "output" | "log"
---@param bytes string|function text, or a reader as pyoco.nats.objects' put takes one
---@return table|nil ref { name, size (bytes), sha256 (hex) }
---@return string|nil message
---@return string|nil code
function data:put(run_id, task, kind, bytes)
  local objects, message, code = self:objects()
  if not objects then return nil, message, code end
  local info
  info, message, code = objects:put(("%s/%s/%s"):format(run_id, task, kind), bytes)
  if not info then return nil, message, code end
  return { name = info.name, size = info.size, sha256 = info.sha256 }
end

--- Reads it back.
---@param run_id string
---@param task string
---@param kind string
---@param max_bytes integer|nil a larger one is "too_large"
---@return string|nil bytes
---@return table|string info {size, sha256, ...}, or message
---@return string|nil code "not_found"
function data:get(run_id, task, kind, max_bytes)
  local objects, message, code = self:objects()
  if not objects then return nil, message, code end
  return objects:get(("%s/%s/%s"):format(run_id, task, kind), { max_bytes = max_bytes })
end

--- Where its bytes are, for an answer that C sends (pyoco.http.response, object).
---@param run_id string
---@param task string
---@param kind string
---@return table|nil source as pyoco.nats.objects gives it: { size, sha256, ... }
---@return string|nil message
---@return string|nil code "not_found"
function data:source(run_id, task, kind)
  local objects, message, code = self:objects()
  if not objects then return nil, message, code end
  return objects:source(("%s/%s/%s"):format(run_id, task, kind))
end

local hints = {}
hints.__index = hints

--- Tells workers of a cancel at once. Only a hint: they find the same in KV at their next heartbeat.
---@param run_id string
function hints:cancel(run_id)
  return self.backend.hint("pyoco.hint.cancel." .. run_id, run_id)
end

--- Tells the parent of a child run that the child has ended. Only a hint: the parent looks at the child's snapshot.
---@param run_id string of the child
function hints:done(run_id)
  return self.backend.hint("pyoco.hint.done." .. run_id, run_id)
end

--- Verbs of subjects that few VMs need: name -> module with new(cfg, backend, store). A store loads one when it is
--- first used.
local PARTS = {
  dlq = "pyoco.store.dead_letters",
  relations = "pyoco.store.relations",
  keys = "pyoco.store.keys",
  wheels = "pyoco.store.wheels",
  wheel_history = "pyoco.store.wheel_history",
  queues = "pyoco.store.queues",
  lease = "pyoco.store.lease",
  garbage = "pyoco.store.garbage",
  schedules = "pyoco.store.schedules",
  work = "pyoco.store.work",
  idempotency = "pyoco.store.idempotency",
}

--- The verbs of one subject, for a store's __index.
---@param store table made by M.new
---@param name string
---@return table|nil verbs kept in the store; nil when there is no such subject
function M.part(store, name)
  local module = PARTS[name]
  if not module then return nil end
  local backend = rawget(store, "backend")
  local verbs = require(module).new(backend.cfg, backend, store)
  rawset(store, name, verbs)
  return verbs
end

--- The verbs over one backend.
---@param cfg table configuration: bucket and stream names
---@param backend table { kv(bucket) -> kv object (pyoco.nats.kv's verbs), objects(bucket) -> object store
---  (pyoco.nats.objects' verbs), sweep(bucket) -> pyoco.nats.object_sweep's, publish(subject, bytes, opts) -> {seq},
---  publish_many(list of {subject, bytes, opts}), hint(subject, data), count(stream) -> messages in it,
---  follow(bucket) -> a tail of the bucket (host.tail's),
---  work(stream) -> its messages by sequence (pyoco.nats.work_stream's verbs);
---  mirrored(bucket, key) -> value | nil, is_fresh, where this process keeps copies }
---@return table { runs, jobs, workers, documents, data, hints, backend }
function M.new(cfg, backend)
  local function object(class, fields) return setmetatable(fields, class) end
  backend.cfg = cfg
  return {
    backend = backend,
    runs = object(runs, { kv = backend.kv(cfg.runs_bucket) }),
    jobs = object(jobs, { backend = backend, prefix = cfg.work_subject_prefix, stream = cfg.work_stream }),
    workers = object(workers, { kv = backend.kv(cfg.workers_bucket) }),
    documents = object(documents, { kv = backend.kv(cfg.workflow_bundles_bucket) }),
    data = object(data, { open = function() return backend.objects(cfg.run_data_bucket) end }),
    hints = object(hints, { backend = backend }),
  }
end

return M
