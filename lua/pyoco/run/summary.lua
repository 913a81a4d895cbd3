--- The result of a bundle's run (CONTRACT 10.5): what its parent's task gets, and what its snapshot tells.
local json = require "host.json"
local or_null = require("pyoco.null").or_null
local sorted = require "pyoco.sorted"

local M = {}

local function is_number(value) return type(value) == "number" end

--- The numbers of an output: its own, or those of its fields.
local function add_metrics(metrics, task, output)
  if is_number(output) then
    metrics[task] = output + 0.0
  elseif type(output) == "table" and not json.is_array(output) then
    for key, value in pairs(output) do
      if is_number(value) then metrics[task .. "." .. tostring(key)] = value + 0.0 end
    end
  end
end

--- Makes the summary.
---@param run table run_id, status, error
---@param records table task -> record, with whole outputs
---@return table { run_id, status, outputs, summary_metrics, artifacts, error_summary }
function M.make(run, records)
  local outputs, metrics, artifacts = {}, {}, json.array {}
  -- in order: two runs of one bundle tell their results alike
  for _, task in ipairs(sorted.keys(records)) do
    local record = records[task]
    outputs[task] = or_null(record.output)
    add_metrics(metrics, task, record.output)
    for _, name in ipairs(sorted.keys(type(record.artifacts) == "table" and record.artifacts or {})) do
      artifacts[#artifacts + 1] = { task = task, name = name, value = or_null(record.artifacts[name]) }
    end
  end
  return { run_id = run.run_id, status = run.status, outputs = outputs, summary_metrics = metrics,
    artifacts = artifacts, error_summary = or_null(run.error) }
end

--- The summary of a run that has ended, from its snapshot: the stored one, else one made of what the records hold.
---@param snapshot table
---@return table
function M.of(snapshot)
  local stored = snapshot.result_summary
  if type(stored) == "table" and stored.run_id == snapshot.run_id then return stored end
  return M.make(snapshot, type(snapshot.task_records) == "table" and snapshot.task_records or {})
end

--- What a summary keeps when its outputs are too much for a snapshot.
---@param summary table
---@param ref table where the whole one is: { name, size, sha256 }
---@return table
function M.brief(summary, ref)
  return { run_id = summary.run_id, status = summary.status, outputs = {}, summary_metrics = {},
    artifacts = json.array {}, error_summary = summary.error_summary, summary_ref = ref }
end

return M
