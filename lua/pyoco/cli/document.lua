--- A document on its way to the gateway: the file, its flow's name, tag and parameters, as one form.
local json = require "host.json"
local called = require "pyoco.cli.called"
local params = require "pyoco.cli.params"

local M = {}

--- A failure of the command line or of a file.
---@param message string
---@param code string
---@return nil
---@return string message
---@return string code
---@return table failure for output.fail
function M.bad_input(message, code)
  local shape = code == "not_found" and "file" or "arguments"
  local hint = shape == "file" and "check the path; it is taken from the current folder"
    or ("see `%s --help`"):format(called.program "client")
  return nil, message, code, { shape = shape, reason = message, hints = { hint } }
end

--- Sends it.
---@param api table
---@param path string
---@param values table workflow_file, flow_name, tag, and the options of parameters
---@param more table[]|nil further fields { name, value }; those without a value are left out
---@param opts table|nil what api:post_form takes beside the form
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.post(api, path, values, more, opts)
  local text, message, code = params.read_file(values.workflow_file)
  if not text then return M.bad_input(message, code) end
  local fields = { { "flow_name", values.flow_name }, { "tag", values.tag } }
  if values.params_file or values.params or #(values.param or {}) > 0 then
    local collected
    collected, message, code = params.collect(values)
    if not collected then return M.bad_input(message, code) end
    fields[#fields + 1] = { "params", assert(json.encode(collected)) }
  end
  for _, field in ipairs(more or {}) do
    if field[2] ~= nil then fields[#fields + 1] = { field[1], tostring(field[2]) } end
  end
  local request = { file = values.workflow_file }
  for name, value in pairs(opts or {}) do request[name] = value end
  return api:post_form(path, fields,
    { { name = "workflow", filename = "flow.yaml", content_type = "application/x-yaml", data = text } }, request)
end

return M
