--- Wheels for specs: right ones, and such as nobody should take.
local archive = require "host.archive"
local crypto = require "host.crypto"
local headers = require "pyoco.wheel.headers"
local tmp = require "spec.support.tmp"

local M = {}

local function sorted(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function record_row(path, bytes)
  return ("%s,sha256=%s,%d\n"):format(headers.quote(path), crypto.base64url_encode(crypto.sha256_bytes(bytes)), #bytes)
end

--- Writes a wheel.
---@param dir string
---@param opts table name, version, tag ("lua54-none-any"), files = { path = text }; what makes it wrong: info = { file
---  of dist-info = text, or false: not there }, folder (of dist-info), extra = { { name, bytes, mode }, ... } entries
---  that are not in RECORD, recorded = the same, but in RECORD, record = function(its text) -> text, raw =
---  function(bytes of the archive) -> bytes, file_name
---@return string path
---@return string file_name
function M.write(dir, opts)
  local tag = opts.tag or "lua54-none-any"
  local stem = ("%s-%s"):format(opts.name, opts.version)
  local file_name = opts.file_name or ("%s-%s.whl"):format(stem, tag)
  local folder = (opts.folder or stem .. ".dist-info") .. "/"
  local info = { METADATA = ("Metadata-Version: 2.1\nName: %s\nVersion: %s\n"):format(opts.name, opts.version),
    WHEEL = ("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: %s\n"):format(tag) }
  for name, text in pairs(opts.info or {}) do info[name] = text or nil end
  local rewrite = opts.record or function(text) return text end
  local path, record = dir .. "/" .. file_name, {}
  local writer = assert(archive.create(path))
  local function add(name, bytes, mode)
    assert(writer:add(name, bytes, mode))
    record[#record + 1] = record_row(name, bytes)
  end
  for _, name in ipairs(sorted(opts.files or {})) do add(name, opts.files[name]) end
  for _, entry in ipairs(opts.recorded or {}) do add(table.unpack(entry)) end
  for _, name in ipairs(sorted(info)) do
    if name ~= "RECORD" then add(folder .. name, info[name]) end
  end
  if (opts.info or {}).RECORD ~= false then
    assert(writer:add(folder .. "RECORD", rewrite(table.concat(record) .. folder .. "RECORD,,\n")))
  end
  for _, entry in ipairs(opts.extra or {}) do assert(writer:add(table.unpack(entry))) end
  assert(writer:close())
  if opts.raw then tmp.write(path, opts.raw(tmp.read(path))) end
  return path, file_name
end

--- The text of a flow of one task that returns a text.
---@param name string
---@param answer string
---@return string
function M.flow(name, answer)
  return ([[local pyoco = require "pyoco"
return pyoco.flow(%q, pyoco.task("say", function() return %q end))
]]):format(name, answer)
end

return M
