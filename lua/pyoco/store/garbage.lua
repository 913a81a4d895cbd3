--- What pruning needs of the store: runs with their revisions, and the removal of what is no longer wanted, with and
--- without a trace. What may go is decided by service/prune and service/garbage.
local json = require "host.json"

local M = {}
local Garbage = {}
Garbage.__index = Garbage

local CLOCK = "clock" -- a key beside the lease: writing it tells what time it is on the server

local function decoded(bytes)
  local value = json.decode(bytes)
  return type(value) == "table" and not json.is_array(value) and value or nil
end

--- The server's time: by it entries and objects have their age, whatever our clock says.
---@return number|nil unix seconds
---@return string|nil message
---@return string|nil code
function Garbage:time()
  local revision, message, code = self.leases:put(CLOCK, "{}")
  if not revision then return nil, message, code end
  local value, why, entry = self.leases:get(CLOCK)
  if not value then return nil, why, entry end
  return entry.created
end

--- Calls a function with every run, deleted ones too.
---@param visit fun(run: table) run = { run_id, snapshot (nil: it cannot be read, or is_deleted), is_deleted, revision,
---  created (unix seconds, the server's: of its last write) }
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
function Garbage:each_run(visit)
  return self.runs:each(function(entry)
    local is_deleted = entry.operation ~= "PUT"
    visit { run_id = entry.key, snapshot = not is_deleted and decoded(entry.value) or nil, is_deleted = is_deleted,
      revision = entry.revision, created = entry.created }
  end)
end

--- Some runs as they are now.
---@param run_ids string[]
---@return table|nil run_id -> run as each_run gives it; nil for one that is not there
---@return string|nil message
---@return string|nil code
function Garbage:read_runs(run_ids)
  local entries, message, code = self.runs:entries_of(run_ids)
  if not entries then return nil, message, code end
  local found = {}
  for run_id, entry in pairs(entries) do
    if entry.operation == "PUT" then
      found[run_id] = { run_id = run_id, snapshot = decoded(entry.value), revision = entry.revision,
        created = entry.created }
    end
  end
  return found
end

--- Deletes runs, each if it is as it was read. Markers are left, by which everybody's lists learn of it.
---@param runs table[] { run_id, revision }
---@return table[] results in order: { revision } or { message, code }
function Garbage:delete_runs(runs)
  local entries = {}
  for i, run in ipairs(runs) do entries[i] = { run.run_id, run.revision } end
  local results = self.runs:delete_many(entries)
  local told = self.store.runs.on_write
  for _, result in ipairs(results) do
    if result.revision and told then told(result.revision) end
  end
  return results
end

--- The first revision of runs that is stored still.
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function Garbage:first_revision() return self.runs:first_revision() end

--- Tells those who follow the runs that markers are about to be removed. nats-server 2.9 moves every consumer of a
--- stream on when a subject of it is purged; a tail that knows looks at each gap (PH_TAIL_PURGE_KEY of src/tail.h).
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function Garbage:announce_purge() return self.runs:delete "_purge" end

--- Removes the marker of a deleted run. Within 10 s of announce_purge only.
---@param run table as each_run gives it
---@return integer|nil removed
---@return string|nil message
---@return string|nil code
function Garbage:erase_marker(run) return self.runs:erase(run.run_id, run.revision) end

--- Keys of a bucket: "documents" (their hashes) or "relations" (run ids).
---@param bucket string
---@return string[]|nil
---@return string|nil message
---@return string|nil code
function Garbage:keys(bucket) return self[bucket]:all_keys() end

--- Removes a key of a bucket unless it was written since, as documents are by every submit.
---@param bucket string "documents" | "relations"
---@param key string
---@param before number|nil unix seconds, the server's; nil: whatever its age
---@return boolean|nil is_gone
---@return string|nil message
---@return string|nil code
function Garbage:erase(bucket, key, before)
  local kv = self[bucket]
  local found, message, code = kv:entries_of { key }
  if not found then return nil, message, code end
  local entry = found[key]
  if not entry then return true end
  if before and entry.created >= before then return false end
  local removed
  removed, message, code = kv:erase(key, entry.revision)
  if not removed then return nil, message, code end
  return removed > 0
end

--- The verbs over a backend.
---@param cfg table configuration: names of buckets
---@param backend table (store/verbs.lua)
---@param store table its runs.on_write is told
---@return table garbage with data and wheels: sweepers of the object stores (pyoco.nats.object_sweep)
function M.new(cfg, backend, store)
  return setmetatable({
    runs = backend.kv(cfg.runs_bucket), leases = backend.kv(cfg.leases_bucket), store = store,
    documents = backend.kv(cfg.workflow_bundles_bucket), relations = backend.kv(cfg.run_relations_bucket),
    data = backend.sweep(cfg.run_data_bucket), wheels = backend.sweep(cfg.wheels_bucket),
  }, Garbage)
end

return M
