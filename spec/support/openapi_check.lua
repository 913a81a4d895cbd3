--- Checks answers of gateways against our own OpenAPI document: every answer that the specs get passes here.
local json = require "host.json"
local jsonschema = require "spec.support.jsonschema"
local router = require "pyoco.http.router"

local M = {}

local document, paths

--- The document, and a router whose rows are its operations.
local function load()
  if document then return end
  document = assert(json.decode(require("pyoco.gateway").openapi()))
  paths = router.new()
  for path, operations in pairs(document.paths) do
    for method, operation in pairs(operations) do
      paths:add(method:upper(), (path:gsub("{([%w_]+)}", ":%1")), operation)
    end
  end
end

local function check_body(given, answer, name)
  if not given.content then return answer.body ~= "" and name .. ": has a body" or nil end
  local media = (answer.headers["content-type"] or ""):match("^[^;]*")
  local content = given.content[media]
  if not content then
    return ("%s: content type %s is not in the document"):format(name, media == "" and "(none)" or media)
  end
  if not media:find("json$") then return nil end
  local value, message = json.decode(answer.body or "")
  if value == nil and message then return ("%s: no JSON: %s"):format(name, message) end
  jsonschema.root = document
  local faults = jsonschema.validate(content.schema, value)
  if #faults == 0 then return nil end
  return ("%s: %s: %s (%s)"):format(name, faults[1][1], faults[1][2], answer.body:sub(1, 300))
end

local function says_what_it_gives(operation)
  for status in pairs(operation.responses) do
    if status:find("^[23]") then return true end
  end
  return false
end

--- What is wrong with an answer, or nil.
---@param method string
---@param raw_path string without query
---@param answer table { status, headers, body }
---@return string|nil
function M.fault(method, raw_path, answer)
  load()
  local operation = paths:find(method, raw_path)
  if not operation then return nil end -- none of ours, or another method: the router's own answer
  if not says_what_it_gives(operation) then return nil end
  local given = operation.responses[tostring(answer.status)]
  local name = ("%s %s %d"):format(method, raw_path, answer.status)
  if not given and answer.status < 400 then return name .. ": is not in the document" end
  return check_body(given or operation.responses.default, answer, name)
end

--- Raises when an answer does not fit.
---@param method string
---@param raw_path string
---@param answer table
function M.check(method, raw_path, answer)
  local fault = M.fault(method, raw_path, answer)
  if fault then error("the answer does not fit /openapi.json: " .. fault, 3) end
end

return M
