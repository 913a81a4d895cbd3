--- A flow document (flow.yaml): text to a checked, compiled document. Runs nothing; gateway and worker both read it.
---
---   version: 1
---   flow:    { graph: TEXT, defaults: { param: value } }
---   tasks:   { name: { callable: "module:function", inputs: { parameter: value }, retries: 3 } }
---   runtime: { expose_env: [NAME] }
---
--- The keys and what may stand behind each are the rows of flow/options.lua.
local crypto = require "host.crypto"
local options = require "pyoco.flow.options"
local section = require "pyoco.flow.section"

local M = {}

local MESSAGE = "invalid workflow yaml"

local TOP = section.keys_of(options.TOP)
local UNSUPPORTED = { flows = "write one flow: per document", discovery = "name callables in tasks:" }

--- Reports unknown keys of the top level; those of other formats that people try have errors of their own.
local function check_top(d)
  for key, hint in pairs(UNSUPPORTED) do
    if d.root[key] ~= nil then
      section.fail(d, { map = d.root, key = key, is_key = true }, key, "unsupported_key_" .. key,
        ("'%s' is not supported"):format(key), { hint = hint })
    end
  end
  section.check_keys(d, d.root, "", TOP, "unknown_top_level_keys", UNSUPPORTED)
end

--- Reads a document.
---@param text string YAML
---@param opts table|nil { name = the flow's name, duplicate = "last" lets the last of equal keys win, max_bytes,
---  max_iterations = what a loop may ask for }
---@return table|nil doc { graph, defaults, tasks = rows in order, expose_env, warnings, sha256, text }
---@return string|nil message "invalid workflow yaml", string|nil code "invalid"|"too_large"
---@return table|nil errors all of them, by place: { line, column, path, code, message, hint, caret }
function M.read(text, opts)
  opts = opts or {}
  local resting <close> = section.rest_collector(text) -- luacheck: ignore
  local d, code, errors = section.open(text, "document", { duplicate = opts.duplicate, max_bytes = opts.max_bytes,
    what = "a flow document", hint = "start with version: 1, flow: and tasks:" })
  if not d then return nil, MESSAGE, code, errors end
  check_top(d)
  section.check_version(d, d.root, TOP.rows.version)
  local doc = section.read(d, { name = opts.name, max_iterations = opts.max_iterations })
  if #d.errors > 0 then return nil, MESSAGE, "invalid", section.finish(d.errors, text) end
  doc.text, doc.sha256, doc.warnings = text, crypto.sha256(text), section.finish(doc.warnings, text)
  if opts.places then doc.place_of = function(name, key) return section.place_of(d, name, key) end end
  return doc
end

return M
