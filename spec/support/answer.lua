--- What must hold for whatever is given to the reader of documents: a graph, or errors that can be shown.
local host = require "host"
local json = require "host.json"
local canonical = require "pyoco.flow.canonical"
local document = require "pyoco.flow.document"
local load = require "pyoco.flow.load"

local M = {}

--- Whether one error can be shown: at a line of the document, in words.
local function check_error(found, text)
  local _, lines = text:gsub("\n", "")
  assert(math.type(found.line) == "integer" and math.type(found.column) == "integer", "a place")
  assert(found.line >= 1 and found.line <= lines + 2 and found.column >= 1 and found.column <= #text + 2, "in the text")
  assert(type(found.code) == "string" and type(found.message) == "string" and #found.message > 0, "words")
end

--- Reads a document and checks that the answer is one.
local function answer(text)
  local doc, message, code, errors = document.read(text, { name = "x" })
  if doc then
    assert(canonical.encode(doc.graph))
    assert(json.encode(doc.warnings or {}))
    local flow, problem = load.document(doc, { host.home .. "/flows" })
    assert(flow or #problem > 0)
    return "good", doc
  end
  assert(type(message) == "string" and (code == "invalid" or code == "too_large"))
  assert(#errors > 0)
  for _, found in ipairs(errors) do check_error(found, text) end
  assert(json.encode(errors))
  return "bad"
end

--- Reads a document. Raises, with the text, when the answer is none.
---@param text string
---@param what string what is said with the text
---@return string "good" or "bad"
---@return table|nil doc when it is good
function M.must(text, what)
  local ok, found, doc = pcall(answer, text)
  if not ok then error(("%s: %s\n%q"):format(what, tostring(found), text:sub(1, 2000)), 0) end
  return found, doc
end

return M
