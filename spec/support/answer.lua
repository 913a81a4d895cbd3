--- What must hold for whatever is given to the reader of documents: a graph, or errors that can be shown.
local host = require "host"
local json = require "host.json"
local canonical = require "pyoco.flow.canonical"
local bundle = require "pyoco.flow.bundle"
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

local function check_doc(doc)
  assert(canonical.encode(doc.graph))
  local flow, problem = load.document(doc, { host.home .. "/flows" })
  assert(flow or #problem > 0)
end

--- Reads a document, or a bundle of them, and checks that the answer is one. Gives what a run of it would start.
local function answer(text)
  local read = bundle.is_bundle(text) and bundle.read or document.read
  local doc, message, code, errors = read(text, { name = "x" })
  if doc then
    for _, one in pairs(doc.workflows or { doc }) do check_doc(one) end
    assert(json.encode(doc.warnings or {}))
    return "good", doc.workflows and doc.workflows[doc.entry_workflow] or doc
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
