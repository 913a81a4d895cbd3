--- This worker's record in the registry (CONTRACT 12). Written behind: a change is stored within a moment, however
--- many runs start and end in it; the heartbeat comes by itself.
local json = require "host.json"
local reports = require "pyoco.worker.wheel_report"

local M = {}

local null = json.null

local DELAY_SEC = 0.2 -- between a change and its write

local registry = {}
registry.__index = registry

--- The record as it would be stored now.
---@return table
function registry:snapshot()
  local now = self.now()
  local record = self.record
  record.last_seen_at, record.last_heartbeat_at, record.heartbeat_at, record.updated_at = now, now, now, now
  return record
end

--- Stores the record now. `hidden` is a user's: it is taken over from whoever changed the record meanwhile.
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function registry:write()
  self.dirty = false
  for _ = 1, 5 do
    local stored, revision, code, message
    if self.revision then
      revision, message, code = self.workers:update(self:snapshot(), self.revision)
      if revision then
        self.revision = revision
        return true
      end
      if code ~= "conflict" then return nil, message, code end
    end
    stored, revision, code = self.workers:get(self.record.worker_id)
    if stored then
      self.record.hidden = stored.hidden == true
      if self.on_found then self.on_found(stored) end
      self.on_found = nil
      self.revision = revision
    elseif code == "not_found" or code == "invalid" then
      self.on_found = nil
      revision, message, code = self.workers:put(self:snapshot())
      self.revision = revision
      return revision and true or nil, message, code
    else
      return nil, revision, code
    end
  end
  return nil, "the record changes faster than it can be written", "conflict"
end

--- The heartbeat: stores the record with what can only be measured. A burst of runs writes the record often; the
--- processes are not walked for each of these writes.
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function registry:beat()
  self.record.memory_bytes = self.memory()
  return self:write()
end

--- The server's clock against ours, measured on this record's own timestamp.
---@return number|nil seconds to add to our clock
function registry:clock_offset()
  local before = self.wall()
  if not self:write() then return nil end
  local after = self.wall()
  local _, _, entry = self.workers:get(self.record.worker_id)
  return type(entry) == "table" and entry.created - (before + after) / 2 or nil
end

local function touch(self)
  if self.dirty then return end
  self.dirty = true
  self.after(DELAY_SEC, function()
    if self.dirty and not self.stopped then self.go(function() self:write() end) end
  end)
end

--- Which runs are in hand now: state and current ids follow from it.
---@param run_ids string[]
function registry:runs(run_ids)
  local record = self.record
  record.state = #run_ids > 0 and "RUNNING" or "IDLE"
  record.current_run_ids = json.array(run_ids)
  record.current_run_id = run_ids[1] or null
  touch(self)
end

--- A run has started.
---@param at number unix seconds
function registry:started(at)
  self.record.last_run_started_at = at
end

--- A run has ended.
---@param run_id string
---@param status string
---@param at number unix seconds
function registry:ended(run_id, status, at)
  local record = self.record
  record.last_run_id, record.last_run_status, record.last_run_finished_at = run_id, status, at
end

--- What this worker can run, for the dashboard and for `flow not found`.
---@param list table { flows, errors } of pyoco.flow.load.list
function registry:flows(list)
  self.record.flows, self.record.flow_errors = json.array(list.flows), json.array(list.errors)
  touch(self)
end

--- How the synchronisation of wheels stands.
---@param block table wheel_sync
function registry:wheels(block)
  self.record.wheel_sync = block
  touch(self)
end

--- The last write: this worker has ended.
function registry:stop()
  local record = self.record
  self.stopped = true
  record.state, record.stop_reason, record.stopped_at = "STOPPED_GRACEFUL", "graceful_shutdown", self.now()
  record.current_run_id, record.current_run_ids = null, json.array {}
  return self:write()
end

--- A registry record.
---@param deps table workers (store.workers), now (function: server's unix seconds), wall (function: this machine's),
---  after (function(sec, fn)), go (function(fn)), memory (function: resident bytes), on_found (function(record): gets
---  what an earlier life has left, if there is something; or nil), record (worker_id, instance_id, tags, slots,
---  version, host, pid)
---@return table
function M.new(deps)
  local record = { state = "IDLE", hidden = false, current_run_id = null, current_run_ids = json.array {},
    last_run_id = null, last_run_status = null, last_run_started_at = null, last_run_finished_at = null,
    stopped_at = null, stop_reason = null, flows = json.array {}, flow_errors = json.array {},
    wheel_sync = reports.empty(false), memory_bytes = deps.memory() }
  for key, value in pairs(deps.record) do record[key] = value end
  return setmetatable({ workers = deps.workers, now = deps.now, wall = deps.wall, after = deps.after, go = deps.go,
    memory = deps.memory, on_found = deps.on_found, record = record, stopped = false }, registry)
end

return M
