--- `client.lua submit-bundle`, `approve`, `reject` and `relations`.
local json = require "host.json"
local api_module = require "pyoco.cli.api"
local called = require "pyoco.cli.called"
local document = require "pyoco.cli.document"
local output = require "pyoco.cli.output"
local params = require "pyoco.cli.params"
local text = require "pyoco.cli.text"

local M = {}

local function path_of(run_id, rest) return "/runs/" .. api_module.segment(run_id) .. rest end

--- What a person reads of a run that was submitted.
local function print_submitted(run, context)
  io.stdout:write(("%s is %s as run %s\n"):format(text.clean(run.entry_workflow), run.status, run.run_id))
  local command = run.status == "PENDING_APPROVAL"
    and "it spawns runs, so somebody must:  %s approve %s"
    or "see it run:  %s watch %s"
  io.stdout:write(context.paint("dim", command:format(called.program "client", run.run_id)), "\n")
end

--- submit-bundle: a bundle of workflows that is sent along.
---@param api table
---@param values table bundle_file, tag, idempotency_key, and the options of parameters
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.submit(api, values, context)
  local bundle, message, code = params.read_file(values.bundle_file)
  if not bundle then return document.bad_input(message, code) end
  local fields = {}
  if values.tag then fields[1] = { "tag", values.tag } end
  if values.params_file or values.params or #(values.param or {}) > 0 then
    local collected
    collected, message, code = params.collect(values)
    if not collected then return document.bad_input(message, code) end
    fields[#fields + 1] = { "params", assert(json.encode(collected)) }
  end
  return output.show(context, function(run) print_submitted(run, context) end, api:post_form("/runs/bundle", fields,
    { { name = "bundle", filename = "bundle.yaml", content_type = "application/x-yaml", data = bundle } },
    { file = values.bundle_file, headers = { ["idempotency-key"] = values.idempotency_key } }))
end

--- Sends a decision, and prints the run as it is then.
local function decide(api, values, context, what, field, given)
  local body, message, code = json.encode({ [field] = given })
  if not body then return document.bad_input(message, code) end
  return output.show(context, function(run)
    io.stdout:write(("%s: %s (%s)\n"):format(run.run_id, run.status, run.approval_status))
  end, api:request("POST", path_of(values.run_id, "/" .. what),
    { body = body }))
end

--- approve: a run that waits for it is queued.
---@param api table
---@param values table run_id, comment
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.approve(api, values, context) return decide(api, values, context, "approve", "comment", values.comment) end

--- reject: a run that waits for approval is cancelled.
---@param api table
---@param values table run_id, reason
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.reject(api, values, context) return decide(api, values, context, "reject", "reason", values.reason) end

local function row_of(place, run)
  local task = type(run.spawned_from_task) == "string" and text.clean(run.spawned_from_task) or "-"
  return { place, run.run_id, run.status, text.clean(run.flow_name), task }
end

--- The family as a table: parent and root of a child, then the run's own children.
local function print_family(family)
  local rows = {}
  if family.root ~= json.null and family.root.run_id ~= family.run_id then rows[1] = row_of("root", family.root) end
  if family.parent ~= json.null and (not rows[1] or family.parent.run_id ~= family.root.run_id) then
    rows[#rows + 1] = row_of("parent", family.parent)
  end
  for _, child in ipairs(family.children) do rows[#rows + 1] = row_of("child", child) end
  io.stdout:write(output.table({ "", "run_id", "status", "flow_name", "task" }, rows))
end

--- relations: the runs of a bundle around a run.
---@param api table
---@param values table run_id
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.relations(api, values, context)
  return output.show(context, print_family, api:request("GET", path_of(values.run_id, "/relations")))
end

return M
