--- Runs that have a family, those of bundles and the children of Lua flows: their first snapshots, and their job
--- (CONTRACT 4, 5, 7.4, 10.4). Pure data.
local crypto = require "host.crypto"
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local present = require("pyoco.null").present

local M = {}

local null = json.null

--- The first snapshot of a bundle that is submitted.
---@param run table run_id, tenant_id, api_key_id, now, flow_name (the entry workflow), tag, params, bundle_hash,
---  workflow_bundle_bytes, graph_sha256, requires_approval
---@return table snapshot
function M.root(run)
  local waits = run.requires_approval
  return snapshot.initial {
    run_id = run.run_id, flow_name = run.flow_name, tag = run.tag, tags = json.array { run.tag },
    tenant_id = run.tenant_id, api_key_id = run.api_key_id, bundle_hash = run.bundle_hash,
    workflow_bundle_bytes = run.workflow_bundle_bytes, root_run_id = run.run_id, spawn_depth = 0,
    entry_workflow = run.flow_name, approval_required = waits, approval_status = waits and "pending" or "not_required",
    approval_requested_at = waits and run.now or null, status = waits and "PENDING_APPROVAL" or "PENDING",
    params = run.params, graph_sha256 = run.graph_sha256, now = run.now,
  }
end

--- The first snapshot of a run that a task of another one spawns.
---@param parent table the parent's snapshot
---@param child table run_id, workflow, task, tag, params, now
---@return table snapshot
function M.child(parent, child)
  local root = present(parent.root_run_id) and parent.root_run_id or parent.run_id
  return snapshot.initial {
    run_id = child.run_id, flow_name = child.workflow, tag = child.tag, tags = json.array { child.tag },
    tenant_id = parent.tenant_id, api_key_id = parent.api_key_id, bundle_hash = parent.bundle_hash,
    workflow_bundle_bytes = parent.workflow_bundle_bytes, root_run_id = root, parent_run_id = parent.run_id,
    spawned_from_task = child.task, spawn_depth = parent.spawn_depth + 1, entry_workflow = parent.entry_workflow,
    approval_required = false, approval_status = "not_required", params = child.params, now = child.now,
  }
end

--- The job of a bundle's run, out of its snapshot: fields that are empty are left out.
---@param first table snapshot
---@param text string|nil the bundle; nil for a Lua flow's child, which is known by its name
---@param submitted_at number unix seconds
---@return table job
function M.job(first, text, submitted_at)
  local job = { run_id = first.run_id, flow_name = first.flow_name, tag = first.tag, tags = first.tags,
    params = first.params, submitted_at = submitted_at, workflow_bundle = text,
    spawn_depth = first.spawn_depth }
  if text then job.workflow_bundle_sha256, job.bundle_hash = first.bundle_hash, first.bundle_hash end
  for _, name in ipairs { "tenant_id", "api_key_id", "workflow_bundle_bytes", "root_run_id", "parent_run_id",
      "spawned_from_task", "entry_workflow" } do
    if present(first[name]) then job[name] = first[name] end
  end
  return job
end

--- The id of the run that a task spawns: the same each time the task gets there, so that a parent that is run again
--- finds its children. It looks like every other run id (a UUID, version 4).
---@param parent_run_id string
---@param task string
---@param iteration integer[] indexes of the loops around the task, outermost first
---@param attempt integer at the task
---@return string run_id
function M.child_id(parent_run_id, task, iteration, attempt)
  local hash = crypto.sha256(table.concat({ "pyoco child", parent_run_id, task, table.concat(iteration, ","), attempt },
    "\0"))
  local variant = ("89ab"):sub(tonumber(hash:sub(17, 17), 16) % 4 + 1)
  return ("%s-%s-4%s-%s%s-%s"):format(hash:sub(1, 8), hash:sub(9, 12), hash:sub(14, 16), variant:sub(1, 1),
    hash:sub(18, 20), hash:sub(21, 32))
end

return M
