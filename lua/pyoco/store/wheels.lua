--- The wheels: an object store of packages, each under its file name (CONTRACT 8.7). What a wheel is for is in its
--- object's headers, plain texts; lists of texts, as other NATS clients write them, are read as well.
local json = require "host.json"

local M = {}
local Wheels = {}
Wheels.__index = Wheels

local TAGS = "x-pyoco-wheel-tags"

--- The verbs over a backend; nothing is asked of the server yet.
---@param cfg table configuration: wheels_bucket
---@param backend table as pyoco.store.verbs gets it
---@return table wheels
function M.new(cfg, backend)
  return setmetatable({ backend = backend, bucket = cfg.wheels_bucket }, Wheels)
end

local function objects_of(self)
  local message, code
  if not self.objects then self.objects, message, code = self.backend.objects(self.bucket) end
  return self.objects, message, code
end

--- "cpu, gpu,,cpu" as a list: trimmed, without blanks, each once.
local function tags_of(text)
  local tags, seen = {}, {}
  for tag in (text or ""):gmatch("[^,]+") do
    tag = tag:match("^%s*(.-)%s*$")
    if tag ~= "" and not seen[tag] then
      seen[tag] = true
      tags[#tags + 1] = tag
    end
  end
  return json.array(tags)
end

--- An object's metadata as a wheel's; header names count in any case.
local function wheel_of(info)
  if not info then return nil end
  local headers = {}
  for name, value in pairs(info.headers or {}) do headers[name:lower()] = value end
  return { name = info.name, bucket = info.bucket, size = info.size, mtime = info.mtime, modified = info.modified,
    nuid = info.nuid, digest = info.digest, sha256 = info.sha256 or headers.sha256, tags = tags_of(headers[TAGS]),
    chunks = info.chunks, seq = info.seq }
end

--- All wheels, sorted by name.
---@return table[]|nil wheels { name, bucket, size (bytes), mtime (text), modified (unix seconds, the server's), nuid
---  (new with each upload), digest, sha256 (hex), tags (list), chunks, seq (of the metadata: grows with each upload) }
---@return string|nil message
---@return string|nil code
function Wheels:list()
  local objects, message, code = objects_of(self)
  if not objects then return nil, message, code end
  local infos
  infos, message, code = objects:list()
  if not infos then return nil, message, code end
  local wheels = {}
  for i, info in ipairs(infos) do wheels[i] = wheel_of(info) end
  return wheels
end

--- One wheel.
---@param name string
---@return table|nil wheel as list gives them
---@return string|nil message
---@return string|nil code "not_found"
function Wheels:info(name)
  local objects, message, code = objects_of(self)
  if not objects then return nil, message, code end
  local info
  info, message, code = objects:info(name)
  return wheel_of(info), message, code
end

--- Where a wheel's bytes are, for an answer that C sends (pyoco.http.response, object).
---@param name string
---@return table|nil source as pyoco.nats.objects gives it
---@return string|nil message
---@return string|nil code "not_found"
function Wheels:source(name)
  local objects, message, code = objects_of(self)
  if not objects then return nil, message, code end
  return objects:source(name)
end

--- Reads a wheel into a file, which appears (or is replaced) when it is complete and verified.
---@param name string
---@param path string
---@param opts table|nil max_bytes: a larger one is "too_large", and nothing of it is read
---@return table|nil wheel
---@return string|nil message
---@return string|nil code
function Wheels:get_file(name, path, opts)
  local objects, message, code = objects_of(self)
  if not objects then return nil, message, code end
  local info
  info, message, code = objects:get_file(name, path, opts)
  return wheel_of(info), message, code
end

--- Stores a wheel under a name that is not taken: whoever comes second at the same time gets "conflict".
---@param name string
---@param source string|function bytes, or a reader as pyoco.nats.objects' put takes one
---@param opts table tags (list), sha256 (hex), content_type (of the upload's part) or nil
---@return table|nil wheel
---@return string|nil message
---@return string|nil code "conflict"
function Wheels:create(name, source, opts)
  local objects, message, code = objects_of(self)
  if not objects then return nil, message, code end
  local headers = { ["content-type"] = opts.content_type or "application/octet-stream", sha256 = opts.sha256 }
  if #opts.tags > 0 then headers[TAGS] = table.concat(opts.tags, ",") end
  local info
  info, message, code = objects:put(name, source, { headers = headers, create = true })
  return wheel_of(info), message, code
end

--- Deletes a wheel.
---@param name string
---@param nuid string|nil only if it is still that one
---@return boolean|nil done
---@return string|nil message
---@return string|nil code "not_found"; "conflict" when it is another one than nuid says
function Wheels:delete(name, nuid)
  local objects, message, code = objects_of(self)
  if not objects then return nil, message, code end
  return objects:delete(name, { nuid = nuid })
end

return M
