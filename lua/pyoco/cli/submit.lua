--- `client.lua submit` and `submit-yaml`.
local json = require "host.json"
local called = require "pyoco.cli.called"
local document = require "pyoco.cli.document"
local output = require "pyoco.cli.output"
local params = require "pyoco.cli.params"

local M = {}

--- Prints the answer of a submit: the line of the contract, or sentences on a terminal.
local function submitted(answer, flow_name, context)
  if not context.terminal then
    io.stdout:write(output.json_line(answer.body), "\n")
    return 0
  end
  local run = json.decode(answer.body)
  local says = answer.headers["idempotent-replayed"] and "%s was submitted with this key before, %s then, as run %s\n"
    or "%s is %s as run %s\n"
  io.stdout:write(says:format(flow_name, run.status, run.run_id),
    context.paint("dim", ("see it run:  %s watch %s"):format(called.program "client", run.run_id)), "\n")
  return 0
end

local function key_header(values) return { ["idempotency-key"] = values.idempotency_key } end

local function csv(text)
  local list = json.array {}
  for piece in (text or ""):gmatch("[^,]+") do
    piece = piece:match("^%s*(.-)%s*$")
    if piece ~= "" then list[#list + 1] = piece end
  end
  return list
end

--- submit: a flow that workers know by its name.
---@param api table
---@param values table
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.submit(api, values, context)
  local collected, message, code = params.collect(values)
  if not collected then return document.bad_input(message, code) end
  local body = { flow_name = values.flow_name, params = collected, tag = values.tag }
  if values.tags then body.tags = csv(values.tags) end
  local text
  text, message, code = json.encode(body, { order = { "flow_name", "params", "tag", "tags" } })
  if not text then return document.bad_input(message, code) end
  local answer, why, failed, failure = api:request("POST", "/runs", { body = text, headers = key_header(values) })
  if not answer then return nil, why, failed, failure end
  return submitted(answer, values.flow_name, context)
end

--- submit-yaml: a document that is sent along.
---@param api table
---@param values table
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.submit_yaml(api, values, context)
  local answer, message, code, failure = document.post(api, "/runs/yaml", values, nil,
    { headers = key_header(values) })
  if not answer then return nil, message, code, failure end
  return submitted(answer, values.flow_name, context)
end

return M
