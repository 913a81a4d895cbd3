--- Parameters of a run from the command line: file < --params < --param.
local json = require "host.json"

local M = {}

local function is_object(value) return type(value) == "table" and value ~= json.null and not json.is_array(value) end

---@param path string
---@return string|nil text
---@return string|nil message
---@return string|nil code "not_found"
function M.read_file(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, message, "not_found" end
  local text, why = file:read("a") -- a folder opens, but does not read
  file:close()
  if not text then return nil, ("%s: %s"):format(path, why), "not_found" end
  return text
end

--- A file of parameters: JSON, else YAML.
local function from_file(path)
  local text, message, code = M.read_file(path)
  if not text then return nil, message, code end
  local value, json_message = json.decode(text)
  if value == nil then
    local yaml_message
    value, yaml_message = require("host.yaml").decode(text)
    if value == nil then
      local says = path:match("%.json$") and json_message or yaml_message
      return nil, ("--params-file %s is neither JSON nor YAML: %s"):format(path, says), "invalid"
    end
  end
  if not is_object(value) then
    return nil, ("--params-file %s must hold an object, as {\"name\": \"value\"}"):format(path), "invalid"
  end
  return value
end

--- One `--param key=value`: the value is JSON if it parses, else text.
local function pair(text)
  if not utf8.len(text) then return nil, ("--param %q is not UTF-8 text"):format(text), "invalid" end
  local key, value = text:match("^([^=]*)=(.*)$")
  if not key or key == "" then
    return nil, ("--param %s has no %s; write --param name=value"):format(text, key and "name" or "="), "invalid"
  end
  local decoded = value ~= "" and json.decode(value) or nil
  if decoded == nil then decoded = value end
  return key, decoded
end

--- Puts the three sources together; later ones win, key by key.
---@param values table params_file, params (text) and param (list of text), all optional
---@return table|nil params
---@return string|nil message
---@return string|nil code "invalid", or "not_found" for a file that cannot be read
function M.collect(values)
  local merged = {}
  if values.params_file then
    local object, message, code = from_file(values.params_file)
    if not object then return nil, message, code end
    for key, value in pairs(object) do merged[key] = value end
  end
  if values.params then
    local object, message = json.decode(values.params)
    if object == nil then return nil, "--params is not JSON: " .. message, "invalid" end
    if not is_object(object) then return nil, "--params must be a JSON object, as {\"name\": \"value\"}", "invalid" end
    for key, value in pairs(object) do merged[key] = value end
  end
  for _, text in ipairs(values.param or {}) do
    local key, value, code = pair(text)
    if not key then return nil, value, code end
    merged[key] = value
  end
  return merged
end

return M
