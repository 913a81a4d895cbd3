--- Who belongs together among the runs of a bundle: GET /runs/{id}/relations.
local json = require "host.json"
local access = require "pyoco.service.access"
local fault = require "pyoco.service.fault"
local present = require("pyoco.null").present

local M = {}

local SHOWN = { "run_id", "flow_name", "tag", "status", "spawned_from_task", "spawn_depth", "start_time", "end_time",
  "updated_at", "error" }

--- A run as it is listed here; null for one that is gone or another tenant's.
local function item(caller, snapshot)
  if not access.may_see(caller, snapshot) then return json.null end
  local shown = {}
  for _, name in ipairs(SHOWN) do shown[name] = snapshot[name] == nil and json.null or snapshot[name] end
  return shown
end

--- The ids of a run's family, parent and root first.
local function family_of(current)
  local ids = {}
  for _, name in ipairs { "parent_run_id", "root_run_id" } do
    ids[#ids + 1] = present(current[name]) and current[name] or current.run_id
  end
  local children = type(current.child_run_ids) == "table" and current.child_run_ids or {}
  return table.move(children, 1, #children, #ids + 1, ids)
end

--- The runs around a run: who spawned it, the root of both, and whom it has spawned, in that order.
---@param app table { store }
---@param caller table
---@param run_id string
---@return table|nil { run_id, workflow_name, entry_workflow, bundle_hash, depth, parent, root, children }; parent and
---  root are null for a run that has none
---@return string|nil message
---@return string|nil code "not_found" | "unavailable"
function M.of(app, caller, run_id)
  local current, message, code = app.store.runs:get(run_id)
  if not current and code ~= "not_found" and code ~= "invalid" then return fault.of_store(message, code) end
  if not access.may_see(caller, current) then return nil, "run not found", "not_found" end
  local ids = family_of(current)
  local runs
  runs, message, code = app.store.runs:get_many(ids)
  if not runs then return fault.of_store(message, code) end
  local children = json.array {}
  for i = 3, #ids do
    local child = item(caller, runs[i])
    if child ~= json.null then children[#children + 1] = child end
  end
  local function field(name) return current[name] == nil and json.null or current[name] end
  return { run_id = run_id, workflow_name = field "flow_name", entry_workflow = field "entry_workflow",
    bundle_hash = field "bundle_hash", depth = current.spawn_depth or 0, children = children,
    parent = present(current.parent_run_id) and item(caller, runs[1]) or json.null,
    root = present(current.root_run_id) and item(caller, runs[2]) or json.null }
end

return M
