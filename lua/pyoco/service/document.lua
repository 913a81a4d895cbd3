--- Documents as submits take them: checked, remembered for a while, stored under their hash. What a form says beside
--- them is read here too, since all submits of documents share it.
local json = require "host.json"
local crypto = require "host.crypto"
local canonical = require "pyoco.flow.canonical"
local fault = require "pyoco.service.fault"

local M = {}

local TAG = "^[%w_-]+$"
local GRAPH_MAX_BYTES = 1048576
local CHECKED_MAX = 64 -- documents whose check is remembered, per VM

--- Stores bytes under their hash, once a minute at most.
---@param app table { store }
---@param bytes string
---@param sha256 string hex
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function M.keep(app, bytes, sha256)
  local ok, message, code = app.store.documents:keep(bytes, sha256)
  if not ok then return fault.of_store(message, code) end
  return true
end

--- The canonical JSON of a graph, if it is small enough to be stored.
local function packed(graph, path)
  local bytes = canonical.encode(graph)
  if #bytes <= GRAPH_MAX_BYTES then return { json = bytes, sha256 = crypto.sha256(bytes) } end
  return nil, "graph_too_large", "invalid", json.array { { line = 1, column = 1, path = path,
    code = "graph_too_large", message = ("the compiled graph has %d bytes, the limit is %d"):format(#bytes,
    GRAPH_MAX_BYTES), hint = "split the flow into several" } }
end

--- Makes a check that remembers what it found good a moment ago. The results are shared: read only.
local function remembering(check)
  local known, count = {}, 0
  return function(text)
    local sha256 = crypto.sha256(text)
    if known[sha256] then return known[sha256] end
    local found, message, code, errors = check(text)
    if not found then return nil, message, code, errors end
    if count >= CHECKED_MAX then known, count = {}, 0 end
    found.sha256 = sha256
    known[sha256], count = found, count + 1
    return found
  end
end

--- Checks a flow document.
---@type fun(text: string): table|nil, string|nil, string|nil, table|nil
---@return table|nil { doc (flow/document.lua), sha256, graph = { json, sha256 } }; or nil, message, code, errors
M.check = remembering(function(text)
  local doc, message, code, errors = require("pyoco.flow.document").read(text)
  if not doc then return nil, message, code, errors end
  local graph
  graph, message, code, errors = packed(doc.graph, "flow.graph")
  if not graph then return nil, message, code, errors end
  return { doc = doc, graph = graph }
end)

--- Checks a bundle of workflows.
---@type fun(text: string): table|nil, string|nil, string|nil, table|nil
---@return table|nil { bundle (flow/bundle.lua), sha256, graphs = { name = { json, sha256 } } }; or nil, message, code,
---  errors
M.check_bundle = remembering(function(text)
  local bundle, message, code, errors = require("pyoco.flow.bundle").read(text)
  if not bundle then return nil, message, code, errors end
  local graphs = {}
  for _, name in ipairs(bundle.names) do
    graphs[name], message, code, errors = packed(bundle.workflows[name].graph, ("workflows.%s.flow.graph"):format(name))
    if not graphs[name] then return nil, message, code, errors end
  end
  return { bundle = bundle, graphs = graphs }
end)

--- The tag of a form: blank means the default one.
---@param app table { config }
---@param tag string|nil
---@return string|nil
---@return string|nil message "invalid tag"
---@return string|nil code
function M.tag(app, tag)
  tag = (tag or ""):match("^%s*(.-)%s*$")
  if tag == "" then return app.config.default_tag end
  if not tag:find(TAG) then return nil, "invalid tag", "invalid" end
  return tag
end

--- Params of a run: what the document says, with the request's own on top.
---@param defaults table|nil
---@param params table|nil
---@return table
function M.params(defaults, params)
  local merged = {}
  for _, source in ipairs { defaults or {}, params or {} } do
    for name, value in pairs(source) do merged[name] = value end
  end
  return merged
end

return M
