--- Object stores in this VM's memory, with the verbs and failures of pyoco.nats.objects (put, put_file, get, get_file,
--- read, info, list, delete), for specs and local runs.
local clock = require "host.clock"
local crypto = require "host.crypto"
local chunks = require "pyoco.nats.object_chunks"
local metas = require "pyoco.nats.object_meta"
local sorted = require "pyoco.sorted"

local M = {}

local Store = {}
Store.__index = Store

--- A new, empty store.
---@param bucket string
---@return table store
function M.new(bucket) return setmetatable({ bucket = bucket, objects = {}, seq = 0 }, Store) end

local function find(store, name)
  local ok, message, code = metas.check_name(name)
  if not ok then return nil, message, code end
  local found = store.objects[name]
  if not found then return nil, ("no object '%s' in bucket %s"):format(name, store.bucket), "not_found" end
  return found
end

--- As pyoco.nats.objects' put.
---@param name string
---@param source string|function
---@param opts table|nil headers, description, chunk_size, create
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:put(name, source, opts)
  opts = opts or {}
  local ok, message, code = metas.check_name(name)
  if ok then ok, message, code = metas.check_headers(opts.headers) end
  if not ok then return nil, message, code end
  if opts.create and self.objects[name] then
    return nil, ("object '%s' exists in bucket %s"):format(name, self.bucket), "conflict"
  end
  self.seq = self.seq + 1
  local size = opts.chunk_size or metas.CHUNK_BYTES
  local parts = {}
  local at = 1
  local next_piece = chunks.pieces(type(source) == "function" and source or function(want)
    at = at + want
    return source:sub(at - want, at - 1)
  end, size)
  repeat
    local piece
    piece, message, code = next_piece()
    if message then return nil, message, code end
    parts[#parts + 1] = piece
  until not piece
  local bytes = table.concat(parts)
  local now = clock.wall()
  local digest = crypto.sha256_bytes(bytes)
  self.objects[name] = { bytes = bytes, info = { name = name, bucket = self.bucket, nuid = assert(metas.nuid()),
    size = #bytes, mtime = metas.mtime(now), chunks = #parts, digest = metas.digest(digest), deleted = false,
    sha256 = crypto.hex_encode(digest), headers = opts.headers or {}, description = opts.description,
    chunk_size = size, modified = now, seq = self.seq } }
  return self.objects[name].info
end

--- As pyoco.nats.objects' get.
---@param name string
---@param opts table|nil max_bytes
---@return string|nil bytes
---@return table|string info, or message
---@return string|nil code
function Store:get(name, opts)
  local found, message, code = find(self, name)
  if not found then return nil, message, code end
  if opts and opts.max_bytes and found.info.size > opts.max_bytes then
    return nil, ("object '%s' of bucket %s: its %d bytes are more than %d"):format(name, self.bucket, found.info.size,
      opts.max_bytes), "too_large"
  end
  return found.bytes, found.info
end

--- As pyoco.nats.objects' info.
---@param name string
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:info(name)
  local found, message, code = find(self, name)
  if not found then return nil, message, code end
  return found.info
end

--- As pyoco.nats.objects' source.
---@param object string|table
---@return table|nil source
---@return string|nil message
---@return string|nil code
function Store:source(object)
  local info, message, code = self:info(type(object) == "table" and object.name or object)
  if not info then return nil, message, code end
  return { bucket = self.bucket, nuid = info.nuid, size = info.size, chunks = info.chunks, sha256 = info.sha256,
    is_direct = true }
end

--- As pyoco.nats.objects' list.
---@return table[] infos
function Store:list()
  local infos = {}
  for _, it in pairs(self.objects) do infos[#infos + 1] = it.info end
  table.sort(infos, function(a, b) return a.name < b.name end)
  return infos
end

--- As pyoco.nats.objects' put_file.
---@param name string
---@param path string
---@param opts table|nil as put
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:put_file(name, path, opts)
  local file <close>, why = io.open(path, "rb")
  if not file then return nil, ("object '%s' of bucket %s: %s"):format(name, self.bucket, why), "not_found" end
  return self:put(name, function(size) return file:read(size) end, opts)
end

--- As pyoco.nats.objects' read.
---@param object string|table name, or what info gave
---@param write fun(bytes:string):any, string|nil, string|nil
---@param opts table|nil max_bytes
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:read(object, write, opts)
  local bytes, info, code = self:get(type(object) == "table" and object.name or object, opts)
  if not bytes then return nil, info, code end
  for at = 1, #bytes, info.chunk_size do
    local ok, message, its_code = write(bytes:sub(at, at + info.chunk_size - 1))
    if not ok and message then return nil, message, its_code or "internal" end
  end
  return info
end

--- As pyoco.nats.objects' get_file.
---@param name string
---@param path string
---@param opts table|nil max_bytes
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:get_file(name, path, opts)
  local bytes, info, code = self:get(name, opts)
  if not bytes then return nil, info, code end
  local file <close>, why = io.open(path, "wb")
  local ok = file
  if file then ok, why = file:write(bytes) end
  if not ok then return nil, ("object '%s' of bucket %s: %s"):format(name, self.bucket, why), "internal" end
  return info
end

--- As pyoco.nats.object_sweep's names.
---@return string[]
function Store:names()
  return sorted.keys(self.objects)
end

--- As pyoco.nats.object_sweep's erase.
---@param name string
---@param before number|nil
---@return boolean is_gone
function Store:erase(name, before)
  local it = self.objects[name]
  if it and before and it.info.modified >= before then return false end
  self.objects[name] = nil
  return true
end

--- As pyoco.nats.object_sweep's erase_orphans: here an object is whole or not at all.
---@return integer removed
function Store:erase_orphans() return self and 0 end

--- As pyoco.nats.objects' delete.
---@param name string
---@param opts table|nil nuid: only if it is still that one
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
function Store:delete(name, opts)
  local found, message, code = find(self, name)
  if not found then return nil, message, code end
  if opts and opts.nuid and opts.nuid ~= found.info.nuid then
    return nil, ("object '%s' of bucket %s: it was replaced by another one"):format(name, self.bucket), "conflict"
  end
  self.objects[name] = nil
  return true
end

return M
