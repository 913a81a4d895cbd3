--- Object stores as NATS has them: stream OBJ_<bucket>, an object's bytes in chunks on $O.<bucket>.C.<id>, its
--- metadata as the one message of $O.<bucket>.M.<name in base64url> (CONTRACT 8.7). Whatever its size, an object
--- passes through in pieces: a few megabytes are in memory at once. Serves blocking and loop mode alike.
--- Failures are nil, message, code: "not_found" (the object), "unavailable" (NATS, or the bucket is missing),
--- "conflict" (replaced while it was read), "internal" (damaged), "invalid", "too_large", "timeout".
local clock = require "host.clock"
local chunks = require "pyoco.nats.object_chunks"
local lasts = require "pyoco.nats.last"
local metas = require "pyoco.nats.object_meta"

local M = {}
local Store = {}
Store.__index = Store

local TIMEOUT_MS = 10000 -- for a batch of chunks: a slow disk is no failure
local ATTEMPTS = 5
local MAX_LINKS = 8
local NO_MESSAGE <const>, WRONG_LAST_SEQUENCE <const> = 10037, 10071
local ROLLUP = { ["Nats-Rollup"] = "sub" }

--- An object store of that name; nothing is asked of the server yet.
---@param js table jetstream context
---@param bucket string A-Z a-z 0-9 _ -
---@return table|nil store
---@return string|nil message
---@return string|nil code "invalid"
function M.new(js, bucket)
  if type(bucket) ~= "string" or not bucket:find("^[%w_-]+$") then
    return nil, ("object store name '%s' is not of letters, digits, _ and -"):format(tostring(bucket)), "invalid"
  end
  local stream = "OBJ_" .. bucket
  return setmetatable({ js = js, bucket = bucket, stream = stream, last = lasts.new(js, stream) }, Store)
end

--- Creates the store unless it exists; an existing one is never altered.
---@param opts table|nil max_bytes (default: no limit), max_age_sec, replicas, storage ("file")
---@return table|nil info of the stream
---@return string|nil message
---@return string|nil code
function Store:ensure(opts)
  local info, message, code, err_code = self.js:stream_ensure(metas.stream_config(self.bucket, opts))
  if info then self.last:remember(info.config) end
  return info, message, code, err_code
end

--- nil, message, code of a failure, saying what object it is about.
local function failed(store, name, message, code, ...)
  return nil, ("object '%s' of bucket %s: %s"):format(name, store.bucket, message), code, ...
end

local function no_object(store, name)
  return nil, ("no object '%s' in bucket %s"):format(name, store.bucket), "not_found"
end

--- An answer about the stream: that there is no such bucket is no "not_found" of an object.
local function no_bucket(store, message, code)
  if code ~= "not_found" then return nil, message, code end
  return nil, ("there is no object store bucket %s on this NATS"):format(store.bucket), "unavailable"
end

--- The metadata of a name, that of a deleted object too; false when there is none.
local function find(store, name)
  local ok, message, code = metas.check_name(name)
  if not ok then return nil, message, code end
  local msg, err_code
  msg, message, code, err_code = store.last:get(metas.subject(store.bucket, name))
  if not msg then
    if err_code == NO_MESSAGE then return false end
    return no_bucket(store, message, code)
  end
  local info
  info, message, code = metas.decode(msg)
  if not info then return failed(store, name, "its metadata is damaged: " .. message, code) end
  return info
end

--- What is known of an object. A link is told as a link.
---@param name string
---@return table|nil info { name, bucket, nuid, size (bytes), mtime, chunks, digest, sha256 (hex), headers (name =
---  text), description, chunk_size, link {bucket, name|nil} or nil, modified (unix seconds, the server's), seq,
---  deleted = false }
---@return string|nil message
---@return string|nil code "not_found" for one that is deleted, too
function Store:info(name)
  local info, message, code = find(self, name)
  if info == nil then return nil, message, code end
  if not info or info.deleted then return no_object(self, name) end
  return info
end

--- All objects, sorted by name; deleted ones are left out, and so is metadata that cannot be read.
---@return table[]|nil infos as info gives them
---@return string|nil message
---@return string|nil code
function Store:list()
  local infos = {}
  local ok, message, code = self.last:each(("$O.%s.M.>"):format(self.bucket), function(msg)
    local info = metas.decode(msg)
    if info and not info.deleted then infos[#infos + 1] = info end
  end)
  if not ok then return no_bucket(self, message, code) end
  table.sort(infos, function(a, b) return a.name < b.name end)
  return infos
end

--- Removes the chunks of an id, as far as NATS can be reached.
local function purge_chunks(store, nuid)
  if not nuid then return true end
  return store.js:purge(store.stream, { subject = metas.chunk_subject(store.bucket, nuid) })
end

--- Replaces an object's metadata unless somebody else does meanwhile: then theirs is read and replaced in turn, so that
--- no put leaves chunks behind that nobody owns.
---@param make function(old|nil) the new metadata; nil, message, code ends it
---@return table|nil|false old what was replaced; false when there was nothing
local function replace_meta(store, name, make)
  local message, code
  for _ = 1, ATTEMPTS do
    local old, bytes
    old, message, code = find(store, name)
    if old == nil then return nil, message, code end
    bytes, message, code = make(old or nil)
    if not bytes then return nil, message, code end
    local ack, err_code
    ack, message, code, err_code = store.js:publish(metas.subject(store.bucket, name), bytes,
      { headers = ROLLUP, expect_last_subject_seq = old and old.seq or 0 })
    if ack then return old end
    if err_code ~= WRONG_LAST_SEQUENCE then return nil, message, code end
  end
  return nil, "it is being replaced by others again and again", "conflict"
end

--- Whether the metadata was stored after all, when its acknowledgement got lost. Its chunks must stay unless it is
--- sure that it was not: chunks that nobody owns are waste, metadata without chunks is a damaged object.
local function fate_of_meta(store, name, meta, message, code)
  if code ~= "timeout" and code ~= "unavailable" then
    purge_chunks(store, meta.nuid)
    return failed(store, name, message, code)
  end
  local now = find(store, name)
  if now and now.nuid == meta.nuid then return now end
  return failed(store, name, message .. " (whether it was stored is not known)", code)
end

local function new_meta(store, name, nuid, opts)
  local headers = next(opts.headers or {}) and opts.headers or nil
  return { name = name, description = opts.description, bucket = store.bucket, nuid = nuid,
    deleted = false, headers = headers, options = { max_chunk_size = opts.chunk_size or metas.CHUNK_BYTES } }
end

--- The bytes of a source as a reader function.
local function reader_of(source)
  if type(source) == "function" then return source end
  if type(source) ~= "string" then error("an object comes from a text or a function, not a " .. type(source), 3) end
  local at = 1
  return function(size)
    local piece = source:sub(at, at + size - 1)
    at = at + size
    return piece
  end
end

--- Whether a new object may take the place of what is there.
local function may_replace(store, name, old, opts)
  if not opts.create or not old or old.deleted then return true end
  return nil, ("object '%s' exists in bucket %s"):format(name, store.bucket), "conflict"
end

local function check_put(name, opts)
  local ok, message, code = metas.check_name(name)
  if ok then ok, message, code = metas.check_headers(opts.headers) end
  return ok, message, code
end

--- Stores an object under a name. One that is there is replaced when the new one is complete: a failed put leaves it.
---@param name string UTF-8, 1 to 512 bytes
---@param source string|fun(size:integer):string|nil, string|nil, string|nil a text, or a function that is asked for at
---  most `size` more bytes: gives some, nil or "" at the end, or nil, message, code
---@param opts table|nil headers (name = text), description, chunk_size (bytes, default 131072), timeout_ms, create
---  (true: only if there is no such object; of two who create it at once, one gets "conflict")
---@return table|nil info as Store:info
---@return string|nil message
---@return string|nil code "too_large" when a chunk is over the NATS server's max_payload; what the source failed with
function Store:put(name, source, opts)
  opts = opts or {}
  local read = reader_of(source)
  local ok, message, code = check_put(name, opts)
  if not ok then return nil, message, code end
  local old, nuid
  old, message, code = find(self, name) -- before any chunk: a missing bucket is told at once
  if old == nil then return nil, message, code end
  ok, message, code = may_replace(self, name, old, opts)
  if not ok then return nil, message, code end
  nuid, message, code = metas.nuid()
  if not nuid then return nil, message, code end
  local meta = new_meta(self, name, nuid, opts)
  local sum
  sum, message, code = chunks.publish(self.js, metas.chunk_subject(self.bucket, nuid),
    chunks.pieces(read, meta.options.max_chunk_size), opts.timeout_ms or TIMEOUT_MS)
  if not sum then
    purge_chunks(self, nuid)
    if code == "too_large" then message = message .. "; a smaller chunk_size than " .. meta.options.max_chunk_size end
    return failed(self, name, message, code)
  end
  return self:finish_put(meta, sum, opts)
end

--- Writes the metadata of chunks that are stored, then removes those of the object before.
---@param meta table
---@param sum table size, chunks, digest
---@param opts table as put
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:finish_put(meta, sum, opts)
  meta.size, meta.chunks, meta.digest = sum.size, sum.chunks, metas.digest(sum.digest)
  local old, message, code = replace_meta(self, meta.name, function(now)
    local ok, why, its_code = may_replace(self, meta.name, now, opts)
    if not ok then return nil, why, its_code end
    meta.mtime = metas.mtime(clock.wall())
    return metas.encode(meta)
  end)
  if old == nil then return fate_of_meta(self, meta.name, meta, message, code) end
  if old and not old.deleted and not old.link then purge_chunks(self, old.nuid) end
  return self:info(meta.name)
end

--- Stores a file, read piece by piece.
---@param name string
---@param path string
---@param opts table|nil as put
---@return table|nil info
---@return string|nil message
---@return string|nil code "not_found" when the file cannot be opened
function Store:put_file(name, path, opts)
  local file <close>, why = io.open(path, "rb")
  if not file then return failed(self, name, why, "not_found") end
  return self:put(name, function(size)
    local bytes, message = file:read(size)
    return bytes, message, message and "internal"
  end, opts)
end

--- Deletes an object: a marker takes the place of its metadata, the chunks go.
---@param name string
---@param opts table|nil nuid: only if it is still that one
---@return boolean|nil done
---@return string|nil message
---@return string|nil code "not_found"; "conflict" when it is another one than nuid says
function Store:delete(name, opts)
  local old, message, code = replace_meta(self, name, function(old)
    if not old or old.deleted then return no_object(self, name) end
    if opts and opts.nuid and opts.nuid ~= old.nuid then
      return failed(self, name, "it was replaced by another one", "conflict")
    end
    local marker = {}
    for key, value in pairs(old.stored) do marker[key] = value end
    marker.deleted, marker.size, marker.chunks, marker.digest, marker.mtime = true, 0, 0, "", ""
    return metas.encode(marker)
  end)
  if not old then return nil, message, code end
  if not old.link then purge_chunks(self, old.nuid) end
  return true
end

--- The store and the metadata of what a link leads to.
local function follow(store, info)
  for _ = 1, MAX_LINKS do
    local link = info.link
    if not link then return store, info end
    if not link.name then
      return failed(store, info.name, ("it is a link to the whole bucket %s"):format(link.bucket), "invalid")
    end
    local target, message, code = M.new(store.js, link.bucket)
    if not target then return failed(store, info.name, message, code) end
    local found
    found, message, code = target:info(link.name)
    if not found then return failed(store, info.name, "its link leads nowhere: " .. message, code) end
    store, info = target, found
  end
  return failed(store, info.name, "links lead to links, again and again", "invalid")
end

--- A chunk is missing: because the object was replaced or deleted meanwhile, or because it is damaged.
local function missing_chunk(store, info, message, code)
  local now = find(store, info.name)
  if now == nil or (now and now.nuid == info.nuid and not now.deleted) then
    return failed(store, info.name, message, code)
  end
  return failed(store, info.name, "it was replaced or deleted while it was read", "conflict")
end

--- The metadata of what is to be read, links followed, and its store.
local function resolve(store, object)
  local info, message, code = object, nil, nil
  if type(object) ~= "table" then info, message, code = store:info(object) end
  if not info then return nil, message, code end
  return follow(store, info)
end

--- Where the bytes of an object are, links followed, for a reader in C (pyoco.http.response, object).
---@param object string|table a name, or the metadata that info gave
---@return table|nil source { bucket, nuid, size, chunks, sha256 (hex)|nil, is_direct }
---@return string|nil message
---@return string|nil code "not_found"
function Store:source(object)
  local store, info, code = resolve(self, object)
  if not store then return nil, info, code end
  local is_direct, message
  is_direct, message, code = store.last:direct()
  if is_direct == nil then return no_bucket(store, message, code) end
  return { bucket = store.bucket, nuid = info.nuid, size = info.size, chunks = info.chunks, sha256 = info.sha256,
    is_direct = is_direct }
end

--- Reads an object piece by piece; what was written is right only once this has returned the metadata.
---@param object string|table a name, or the metadata that info gave: then exactly that object, or a "conflict"
---@param write fun(bytes:string):any, string|nil, string|nil called for each chunk in order; nil, message, code stops
---@param opts table|nil max_bytes: a larger object is "too_large", and nothing of it is read
---@return table|nil info of what was read, size and digest verified
---@return string|nil message
---@return string|nil code
function Store:read(object, write, opts)
  local store, info, code = resolve(self, object)
  if not store then return nil, info, code end
  local max = opts and opts.max_bytes
  if max and info.size > max then
    return failed(store, info.name, ("its %d bytes are more than %d"):format(info.size, max), "too_large")
  end
  local is_direct, message
  is_direct, message, code = store.last:direct()
  if is_direct == nil then return no_bucket(store, message, code) end
  local sum, is_missing
  sum, message, code, is_missing = chunks.read(store.js, { stream = store.stream, is_direct = is_direct,
    subject = metas.chunk_subject(store.bucket, info.nuid or ""), size = info.size, chunks = info.chunks,
    timeout_ms = TIMEOUT_MS }, write)
  if is_missing then return missing_chunk(store, info, message, code) end
  if not sum then return failed(store, info.name, message, code) end
  if sum.size ~= info.size then
    return failed(store, info.name, ("it is damaged: %d bytes, not %d"):format(sum.size, info.size), "internal")
  end
  if info.digest and not metas.is_digest(info.digest, sum.digest) then
    return failed(store, info.name, "it is damaged: its bytes do not have the digest " .. info.digest, "internal")
  end
  return info
end

--- Reads into what `open` makes, from the start again when the object is replaced meanwhile.
local function read_again(store, name, open, opts)
  local info, message, code
  for _ = 1, ATTEMPTS do
    local write, why, its_code = open()
    if not write then return failed(store, name, why, its_code) end
    info, message, code = store:read(name, write, opts)
    if info or code ~= "conflict" then break end
  end
  return info, message, code
end

--- The bytes of an object as a text.
---@param name string
---@param opts table|nil max_bytes: a larger one is "too_large", and nothing of it is read
---@return string|nil bytes
---@return table|string info, or the message
---@return string|nil code
function Store:get(name, opts)
  local parts
  local info, message, code = read_again(self, name, function()
    parts = {}
    return function(bytes)
      parts[#parts + 1] = bytes
      return true
    end
  end, opts)
  if not info then return nil, message, code end
  return table.concat(parts), info
end

--- Puts a file that was read whole in its place; one that was not is removed.
local function keep_file(file, part, path, is_whole)
  local ok, why = true, nil
  if file then ok, why = file:close() end
  if ok and is_whole then ok, why = os.rename(part, path) end
  if not (ok and is_whole) then os.remove(part) end
  return ok, why
end

--- Reads an object into a file, which appears (or is replaced) when it is complete and verified.
---@param name string
---@param path string
---@param opts table|nil max_bytes as get
---@return table|nil info
---@return string|nil message
---@return string|nil code
function Store:get_file(name, path, opts)
  local part = ("%s.%s.part"):format(path, assert(metas.nuid()))
  local file, why
  local info, message, code = read_again(self, name, function()
    if file then file:close() end
    file, why = io.open(part, "wb")
    if not file then return nil, why, "internal" end
    return function(bytes) return file:write(bytes) end
  end, opts)
  local is_kept
  is_kept, why = keep_file(file, part, path, info ~= nil)
  if info and not is_kept then return failed(self, name, why, "internal") end
  return info, message, code
end

return M
