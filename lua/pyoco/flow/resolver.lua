--- The operator's own way from a flow's name to a flow: `worker.lua --flow-resolver FILE.lua[:NAME]`. The file returns
--- a function(flow_name), or a table that has one under NAME; what it does not know is looked for in the task roots.
local sandbox = require "pyoco.flow.sandbox"

local M = {}

--- Path and name of a resolver's text.
---@param text string "FILE.lua" or "FILE.lua:NAME"
---@return string|nil path
---@return string|nil name_or_message name within the table that the file returns
---@return string|nil code "invalid"
function M.parse(text)
  local path, name = text:match("^(.+%.lua):([%a_][%w_]*)$")
  if path then return path, name end
  if text:find("%.lua$") then return text end
  local expected = "flow resolver '%s': expected FILE.lua or FILE.lua:NAME, a Lua file that returns a function"
  return nil, expected:format(text), "invalid"
end

--- Whether a resolver can be used at all: its file is there and is Lua. Runs nothing of it.
---@param text string|nil see M.parse
---@return boolean|nil
---@return string|nil message
---@return string|nil code "invalid"
function M.check(text)
  if text == nil then return true end
  local path, message, code = M.parse(text)
  if not path then return nil, message, code end
  local source, why = sandbox.read_file(path)
  if not source then return nil, ("flow resolver %s: %s"):format(path, why or "cannot be read"), "invalid" end
  local chunk, fault = load(source:gsub("^#[^\n]*", ""), "@" .. path, "t", {})
  if not chunk then return nil, "flow resolver " .. fault, "invalid" end
  return true
end

--- What a resolver's function gives for a name.
---@param resolve function
---@param flow_name string
---@param path string|nil its file, for messages and as the flow's source
---@param source string|nil
---@return table|nil flow
---@return string|nil message
---@return string|nil code "not_found": it gave nil, so it does not know the flow; "invalid"
function M.ask(resolve, flow_name, path, source)
  local flow = resolve(flow_name)
  if flow == nil then return nil, "the resolver does not know it", "not_found" end
  if not require("pyoco").is_flow(flow) then
    return nil, ("flow resolver %s: for '%s' it gave a %s, not a flow"):format(path or "of the script", flow_name,
      type(flow)), "invalid"
  end
  flow.file, flow.source = flow.file or path, flow.source or source
  return flow
end

--- Loads a resolver. Runs user code.
---@param text string see M.parse
---@param roots string[] task roots, for what the file requires
---@param globals table|nil more globals for it
---@return function|nil resolve
---@return string|nil path, or what is wrong
---@return string|nil source, or "invalid"
function M.load(text, roots, globals)
  local path, name, code = M.parse(text)
  if not path then return nil, name, code end
  local source, message = sandbox.read_file(path)
  if not source then return nil, ("flow resolver %s: %s"):format(path, message or "cannot be read"), "invalid" end
  local ok, value = sandbox.new(roots, globals):run(path, source)
  if not ok then return nil, value, "invalid" end
  local resolve = value
  if name then resolve = type(value) == "table" and rawget(value, name) or nil end
  if type(resolve) ~= "function" then
    return nil, ("flow resolver %s: expected a function%s, got a %s"):format(path,
      name and " under " .. name .. " of the table that it returns" or "", type(resolve)), "invalid"
  end
  return resolve, path, source
end

--- Asks the resolver for a flow. Runs user code.
---@param text string|function see M.parse; or the function itself
---@param flow_name string
---@param roots string[] task roots, for what the file requires
---@param globals table|nil more globals for it
---@return table|nil flow
---@return string|nil message
---@return string|nil code "not_found": it gave nil, so it does not know the flow; "invalid"
function M.flow(text, flow_name, roots, globals)
  if type(text) == "function" then return M.ask(text, flow_name) end
  local resolve, path, source = M.load(text, roots, globals)
  if not resolve then return nil, path, source end
  return M.ask(resolve, flow_name, path, source)
end

return M
