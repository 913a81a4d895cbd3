--- The job message (CONTRACT 4): what a worker finds in the queue, read and filled in as the contract has it.
local json = require "host.json"
local present = require("pyoco.null").present

local M = {}

--- Fields whose type must fit, with what stands in for one that is missing or null: the text that a fault names.
local FIELDS = {
  { "run_id", "string" }, { "flow_name", "string" }, { "tag", "string" }, { "tags", "array" },
  { "params", "object" }, { "submitted_at", "number" }, { "workflow_yaml", "string" },
  { "workflow_bundle", "string" }, { "spawn_depth", "number" },
}

local IS = {
  string = function(value) return type(value) == "string" end,
  number = function(value) return type(value) == "number" end,
  array = function(value) return type(value) == "table" and json.is_array(value) end,
  object = function(value) return type(value) == "table" and not json.is_array(value) end,
}

--- What a falsy value means to the reference: 0, "", {} and false all count as missing.
local function is_falsy(value)
  return not present(value) or value == "" or value == false or value == 0
    or (type(value) == "table" and next(value) == nil)
end

--- Numbers may be texts, as the reference converts them.
local function convert(job)
  for _, field in ipairs(FIELDS) do
    local value = job[field[1]]
    if field[2] == "number" and type(value) == "string" then job[field[1]] = tonumber(value) or value end
  end
end

--- The first field of a wrong type, as a text, or nil.
local function misfit(job)
  for _, field in ipairs(FIELDS) do
    local name, kind = field[1], field[2]
    local is_missing = is_falsy(job[name]) and name ~= "run_id" and name ~= "flow_name"
    if not is_missing and not IS[kind](job[name]) then return ("%s: expected %s"):format(name, kind) end
  end
end

--- Whether the run of a job may spawn others: a bundle's root, and any Lua flow where those may. Told from its text,
--- for whoever does not read jobs.
---@param bytes string the message's body, compact JSON as all writers make it
---@param has_lua_spawns boolean|nil whether Lua flows may
---@return boolean
function M.may_spawn(bytes, has_lua_spawns)
  local is_candidate = bytes:find('"workflow_bundle":"', 1, true)
    or has_lua_spawns and not bytes:find('"workflow_yaml":"', 1, true)
  return is_candidate and not bytes:find('"spawn_depth":%s*[1-9]') or false
end

local function text_of(value) return type(value) == "string" and value ~= "" and value or nil end

local function said_by(job) return { flow_name = text_of(job.flow_name), tag = text_of(job.tag) } end

--- Reads a job.
---@param bytes string the message's body
---@return table|nil job with run_id, flow_name, tag, tags, params, submitted_at and whatever else it carries
---@return string|nil reason "invalid_json" | "invalid_schema" | "missing_fields" | what field does not fit
---@return string|nil run_id of a job that is not valid, where it has one
---@return table|nil said with it: { flow_name, tag }, where they can be read
function M.read(bytes)
  local job = json.decode(bytes)
  if job == nil then return nil, "invalid_json" end
  if not IS.object(job) then return nil, "invalid_schema" end
  local run_id = type(job.run_id) == "string" and job.run_id ~= "" and job.run_id or nil
  if job.run_id == nil or job.flow_name == nil then return nil, "missing_fields", run_id, said_by(job) end
  if not run_id then return nil, "run_id: expected string" end
  convert(job)
  local fault = misfit(job)
  if fault then return nil, fault, run_id, said_by(job) end
  if is_falsy(job.tag) then job.tag = "default" end
  if is_falsy(job.tags) then job.tags = json.array {} end
  if is_falsy(job.params) then job.params = {} end
  if is_falsy(job.submitted_at) then job.submitted_at = 0.0 end
  if job.spawn_depth ~= nil and is_falsy(job.spawn_depth) then job.spawn_depth = 0 end
  return job
end

return M
