--- The job of a run, made again out of its snapshot and the stored document (CONTRACT 4): what a submit would have
--- published.
local json = require "host.json"
local run_bundle = require "pyoco.run.bundle"
local fault = require "pyoco.service.fault"
local filled = require("pyoco.null").filled
local or_null = require("pyoco.null").or_null

local M = {}

local function text_of(app, sha256, what)
  local text, message, code = app.store.documents:get(sha256)
  if text then return text end
  if code == "not_found" or code == "invalid" then
    return nil, ("its %s %s is not stored here"):format(what, sha256), "not_found"
  end
  return fault.of_store(message, code)
end

--- The job of a flow known by name, or of a document.
local function plain(stored, now)
  local tag = filled(stored.tag) and stored.tag or "default"
  return { run_id = stored.run_id, flow_name = stored.flow_name, tag = tag,
    tags = type(stored.tags) == "table" and stored.tags or json.array { tag }, tenant_id = or_null(stored.tenant_id),
    api_key_id = or_null(stored.api_key_id), params = type(stored.params) == "table" and stored.params or {},
    submitted_at = now }
end

--- Makes the job.
---@param app table { store }
---@param stored table the snapshot
---@return table|nil job
---@return string|nil message
---@return string|nil code "not_found": the document is not there (a reference gateway stores none)
function M.job(app, stored)
  local now = app.store:now()
  if filled(stored.bundle_hash) then
    local text, message, code = text_of(app, stored.bundle_hash, "bundle")
    return text and run_bundle.job(stored, text, now), message, code
  end
  if filled(stored.parent_run_id) then return run_bundle.job(stored, nil, now) end -- a Lua flow's child
  local job = plain(stored, now)
  if not filled(stored.workflow_yaml_sha256) then return job end
  local text, message, code = text_of(app, stored.workflow_yaml_sha256, "document")
  if not text then return nil, message, code end
  job.workflow_yaml, job.workflow_yaml_sha256, job.workflow_yaml_bytes = text, stored.workflow_yaml_sha256, #text
  job.schedule_id = or_null(stored.schedule_id)
  return job
end

return M
