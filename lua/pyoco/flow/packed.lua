--- document.read with a memory: what this process read a moment ago comes back as JSON from host.shared, and parser
--- and compiler are not even loaded. For slots, whose every run has a fresh VM. Only good documents are kept.
local crypto = require "host.crypto"
local json = require "host.json"
local shared = require "host.shared"

local M = {}

local PREFIX = "flow.document."
local KEPT = 32            -- documents; the oldest makes room
local KEPT_BYTES = 65536   -- of one document; larger ones are read anew
local KEPT_SEC = 3600

--- Keeps a packed document in the next place of the ring, in place of what was there.
local function keep(key, packed)
  local place = PREFIX .. "place." .. (shared.incr(PREFIX .. "next") or 0) % KEPT
  local old = shared.get(place)
  if old then shared.delete(old) end
  shared.set(place, key, KEPT_SEC)
  shared.set(key, packed, KEPT_SEC)
end

--- Makes one table again of all references to one frame, as the compiler makes them (JSON has copies).
local function restore_refs(graph)
  local refs = {}
  local function restore(value)
    local id = type(value) == "table" and value.frame
    if id then
      refs[id] = refs[id] or value
      return refs[id]
    elseif type(value) == "table" then
      for key, item in pairs(value) do value[key] = restore(item) end
    end
    return value
  end
  for _, list in ipairs { graph.nodes, graph.frames } do
    for _, member in ipairs(list) do member.needs = restore(member.needs) end
  end
  restore(graph.edges)
  restore(graph.any_of)
end

--- What is remembered of a text (of its part `kind`), else what `read` makes of it, which is remembered then.
local function remembered(text, kind, opts, read)
  local sha256 = crypto.sha256(text)
  local key = PREFIX .. sha256 .. (opts.duplicate or "") .. (kind ~= "" and crypto.sha256(kind) or "")
  local packed = #text <= (opts.max_bytes or #text) and shared.get(key)
  if packed then
    local doc = json.decode(packed, { max_depth = 900 })
    doc.graph.name, doc.sha256, doc.text = opts.name, sha256, text
    if #doc.graph.frames > 0 then restore_refs(doc.graph) end
    return doc
  end
  local doc, message, code, errors = read()
  if not doc then return nil, message, code, errors end
  packed = json.encode { graph = doc.graph, defaults = doc.defaults, expose_env = doc.expose_env, spawns = doc.spawns }
  if packed and #packed <= KEPT_BYTES then keep(key, packed) end
  return doc
end

--- Reads a document, or remembers it.
---@param text string YAML
---@param opts table|nil { name, duplicate, max_bytes } as for document.read
---@return table|nil doc { graph, defaults, expose_env, sha256, text }: what a run needs
---@return string|nil message, string|nil code, table|nil errors as document.read
function M.read(text, opts)
  opts = opts or {}
  return remembered(text, "", opts, function() return require("pyoco.flow.document").read(text, opts) end)
end

--- Reads one workflow of a bundle, or remembers it.
---@param text string YAML
---@param name string of the workflow
---@param opts table|nil { duplicate, max_bytes } as for bundle.read
---@return table|nil doc { graph, defaults = {}, expose_env, spawns = whether a task of it spawns, sha256, text }
---@return string|nil message, string|nil code, table|nil errors as bundle.read
function M.workflow(text, name, opts)
  opts = { name = name, only = name, duplicate = opts and opts.duplicate, max_bytes = opts and opts.max_bytes }
  return remembered(text, name, opts, function()
    local bundle, message, code, errors = require("pyoco.flow.bundle").read(text, opts)
    if not bundle then return nil, message, code, errors end
    local workflow = bundle.workflows[name]
    return { graph = workflow.graph, defaults = {}, expose_env = workflow.expose_env, spawns = workflow.spawns,
      sha256 = bundle.sha256, text = text }
  end)
end

return M
