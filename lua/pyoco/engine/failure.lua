--- The text of a failure: whatever a task raised becomes a message that a person can read.
local json = require "host.json"
local task = require "host.task"
local output = require "pyoco.engine.output"
local value = require "pyoco.engine.value"

local type, tostring, rawget, sub, match = type, tostring, rawget, string.sub, string.match
local require, pcall = require, pcall
local getmetatable = debug.getmetatable

local M = {}

local MAX_BYTES = 8192

--- What the error value's own __tostring says; it is user code and runs as such.
local function own_text(err)
  local meta = getmetatable(err)
  if type(meta) ~= "table" or rawget(meta, "__tostring") == nil then return nil end
  local _, state, text = task.start(tostring, err)
  return state == "ended" and type(text) == "string" and text or nil
end

--- The text of a table that was raised.
local function table_text(err)
  local message = rawget(err, "message") or rawget(err, "error")
  if type(message) == "string" then return message end
  local plain = value.copy(err, "error")
  local text = plain and json.encode(plain, { sort = true })
  return text and "raised a table: " .. text or "raised a table"
end

--- The text of any error value.
local function raw_text(err)
  local kind = type(err)
  if kind == "string" then return err end
  if kind == "nil" then return "raised nil: give error() a message" end
  if kind == "number" or kind == "boolean" then return "raised " .. tostring(err) end
  return own_text(err) or kind == "table" and table_text(err) or "raised a " .. kind
end

--- Adds what was meant, when a task failed because ctx has nothing of a name: a typo.
local function with_hint(text)
  local node = output.running()
  local missing = node and node.missing
  if not missing then return text end
  local kind, name = match(text, "attempt to %w+ a nil value %((%w+) '([^']*)'%)$")
  if name ~= missing or kind ~= "method" and kind ~= "field" then return text end
  local ok, near = pcall(require("pyoco.engine.context").near, missing)
  return ok and near and text .. "; ctx has no '" .. missing .. "': did you mean " .. near .. "?" or text
end

--- Turns any error value into a message. While the task that raised it is the one that runs (output.running), a
--- mistyped name of ctx is explained.
---@param err any
---@return string message UTF-8, at most 8 KB
function M.text(err)
  local text = with_hint(raw_text(err))
  if #text > MAX_BYTES then text = sub(text, 1, MAX_BYTES) end
  return output.clean(text)
end

return M
