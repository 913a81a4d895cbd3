--- Finds the row for a method and a path. A literal segment beats a variable one, a variable beats a rest.
---
--- A pattern is "/runs/:id/tasks": `:name` takes one non-empty segment, `*name` at the end takes all that is left.
--- Paths are matched as they came, segment by segment, and unescaped afterwards: an escaped slash is part of a name.
local sorted = require "pyoco.sorted"

local M = {}

local Router = {}
Router.__index = Router

--- @return table an empty router
function M.new()
  return setmetatable({ root = { literal = {} }, rows = {} }, Router)
end

--- Replaces %XX by its byte; an invalid escape stays.
---@param text string
---@return string
function M.unescape(text)
  if not text:find("%", 1, true) then return text end
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- Walks to the node of a pattern, making what is missing.
local function node_of(root, pattern)
  local node, names = root, {}
  for segment in pattern:gmatch("[^/]+") do
    local kind, name = segment:match("^([:*])([%a_][%w_]*)$")
    if kind == ":" then
      names[#names + 1] = name
      node.variable = node.variable or { literal = {} }
      node = node.variable
    elseif kind == "*" then
      names[#names + 1] = name
      node.rest = node.rest or { literal = {} }
      return node.rest, names
    else
      node.literal[segment] = node.literal[segment] or { literal = {} }
      node = node.literal[segment]
    end
  end
  return node, names
end

--- Adds a row. Raises when the pattern is bad or another row has the same method and pattern.
---@param method string
---@param pattern string
---@param row table kept as it is and given back by find
function Router:add(method, pattern, row)
  if pattern:sub(1, 1) ~= "/" then error(("route %s %s: the path must begin with /"):format(method, pattern), 3) end
  local rest = pattern:find("*", 1, true)
  if rest and not pattern:find("^%*[%a_][%w_]*$", rest) then
    error(("route %s %s: *name must be the last segment"):format(method, pattern), 3)
  end
  local node, names = node_of(self.root, pattern)
  node.methods = node.methods or {}
  local other = node.methods[method]
  if other then
    error(("route %s %s is there already, as %s"):format(method, pattern, other.pattern), 3)
  end
  node.methods[method] = { row = row, names = names, pattern = pattern }
  self.rows[#self.rows + 1] = row
end

--- The node for segments i.. of path, depth first; values collects what variables took.
local function walk(node, segments, i, values)
  if i > #segments then return node.methods and node end
  local segment = segments[i]
  local literal = node.literal[segment]
  local found = literal and walk(literal, segments, i + 1, values)
  if found then return found end
  if node.variable and segment ~= "" then
    values[#values + 1] = segment
    found = walk(node.variable, segments, i + 1, values)
    if found then return found end
    values[#values] = nil
  end
  if node.rest then
    values[#values + 1] = table.concat(segments, "/", i)
    return node.rest
  end
end

--- Finds a row.
---@param method string
---@param raw_path string as it came, without the query
---@return table|nil row nil when there is none
---@return table|string what the row's variables (name = unescaped text), or "not_found", or "method"
---@return string|nil allow with "method": the methods that there are, for the allow header
function Router:find(method, raw_path)
  local segments, values, n = {}, {}, 0
  for segment in (raw_path:sub(2) .. "/"):gmatch("([^/]*)/") do
    n = n + 1
    segments[n] = segment
  end
  if n == 1 and segments[1] == "" then segments[1] = nil end
  local node = walk(self.root, segments, 1, values)
  if not node then return nil, "not_found" end
  local entry = node.methods[method]
  if not entry then
    return nil, "method", table.concat(sorted.keys(node.methods), ", ")
  end
  local params = {}
  for i, name in ipairs(entry.names) do params[name] = M.unescape(values[i]) end
  return entry.row, params
end

return M
