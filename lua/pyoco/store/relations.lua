--- Relations of runs: who started whom, a record for each run of a bundle (CONTRACT 10.4).
local json = require "host.json"
local wire = require "pyoco.run.wire"

local M = {}
local Relations = {}
Relations.__index = Relations

local FROM_SNAPSHOT = { "run_id", "root_run_id", "parent_run_id", "bundle_hash", "spawned_from_task", "entry_workflow" }

--- The verbs over a backend.
---@param cfg table configuration: run_relations_bucket
---@param backend table as pyoco.store.verbs gets it
---@return table relations
function M.new(cfg, backend)
  return setmetatable({ kv = backend.kv(cfg.run_relations_bucket) }, Relations)
end

--- Stores the record of a run, as its first snapshot has it.
---@param snapshot table of a bundle's run
---@param submitted_at number unix seconds
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function Relations:put(snapshot, submitted_at)
  local record = { workflow_name = snapshot.flow_name, depth = snapshot.spawn_depth, submitted_at = submitted_at }
  for _, name in ipairs(FROM_SNAPSHOT) do record[name] = snapshot[name] end
  local bytes, message, code = wire.relation(record)
  if not bytes then return nil, message, code end
  return self.kv:put(snapshot.run_id, bytes)
end

--- The record of a run.
---@param run_id string
---@return table|nil record
---@return string|nil message
---@return string|nil code "not_found" for a run that is no bundle's
function Relations:get(run_id)
  local bytes, message, code = self.kv:get(run_id)
  if not bytes then return nil, message, code end
  local record = json.decode(bytes)
  if type(record) == "table" then return record end
  return nil, "the relation of run " .. run_id .. " is not a JSON object", "invalid"
end

--- Removes the record of a run whose submit could not be finished.
---@param run_id string
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function Relations:delete(run_id)
  return self.kv:delete(run_id)
end

return M
