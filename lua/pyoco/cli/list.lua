--- client.lua list, list-vnext, metrics (CONTRACT 16.1).
local json = require "host.json"
local output = require "pyoco.cli.output"
local text = require "pyoco.cli.text"

local M = {}

local COLUMNS = { "run_id", "status", "flow_name", "tag", "updated_at" }

--- A cell as the reference prints it: "-" for what is missing, "None" for null.
local function cell(value)
  if value == nil then return "-" end
  if value == json.null then return "None" end
  return type(value) == "string" and text.clean(value) or assert(json.encode(value))
end

local function query_of(values)
  return { { "status", values.status }, { "flow", values.flow }, { "tag", values.tag },
    { "include", values.full and "full" or nil }, { "limit", values.limit } }
end

--- A table: the reference's exactly when it was asked for, with the times of a clock on a terminal.
local function print_table(items, for_people)
  local rows = {}
  for i, item in ipairs(items) do
    rows[i] = {}
    for k, column in ipairs(COLUMNS) do rows[i][k] = cell(item[column]) end
    if for_people then rows[i][#COLUMNS] = text.when(item.updated_at) end
  end
  io.write(output.table(COLUMNS, rows))
end

--- Where the items are: an answer is a list, or an object around one.
local function is_envelope(value) return not json.is_array(value) and value.items ~= nil end

--- The text of the list in an envelope of the gateway, which has it first and next_cursor behind it.
local function bare(body, value)
  return body:match '^{"items":(%[.*%]),"next_cursor":[^%]]*}$' or assert(json.encode(value.items))
end

local function wants_table(values, context) return (values.output or (context.terminal and "table")) == "table" end

--- list: a bare list, whatever form the answer has.
---@param api table
---@param values table
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.list(api, values, context)
  local answer, message, code, failure = api:request("GET", "/runs", { query = query_of(values) })
  if not answer then return nil, message, code, failure end
  local value = assert(json.decode(answer.body))
  local within = is_envelope(value)
  if wants_table(values, context) then
    print_table(within and value.items or value, context.terminal)
  else
    io.write(output.json_line(within and bare(answer.body, value) or answer.body), "\n")
  end
  return 0
end

--- list-vnext: an object with items and next_cursor, whatever form the answer has.
---@param api table
---@param values table
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.list_vnext(api, values, context)
  local query = query_of(values)
  -- An empty cursor asks for the first page; without it, and without updated_after, there is a list with no next page.
  table.move({ { "updated_after", values.updated_after }, { "cursor", values.cursor or "" },
    { "workflow_yaml_sha256", values.workflow_yaml_sha256 } }, 1, 3, #query + 1, query)
  local answer, message, code, failure = api:request("GET", "/runs", { query = query })
  if not answer then return nil, message, code, failure end
  local value = assert(json.decode(answer.body))
  local within = is_envelope(value)
  if wants_table(values, context) then
    print_table(within and value.items or value, context.terminal)
    local cursor = within and value.next_cursor or json.null
    io.write("next_cursor: ", cell(cursor), "\n")
  else
    local body = within and answer.body or '{"items":' .. answer.body .. ',"next_cursor":null}'
    io.write(output.json_line(body), "\n")
  end
  return 0
end

--- metrics: the text as it came.
---@param api table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.metrics(api)
  local answer, message, code, failure = api:request("GET", "/metrics")
  if not answer then return nil, message, code, failure end
  io.write(answer.body)
  return 0
end

return M
