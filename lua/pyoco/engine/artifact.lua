--- ctx:save_artifact: what a task keeps of its work beside its output. Small JSON values stand in the task's record;
--- what is larger, bytes and files go to DIR/RUN/TASK/NAME, and the record says where, how long and which sha256.
--- A name that is saved again (by a retry, by another iteration) is replaced.
local crypto = require "host.crypto"
local json = require "host.json"
local task = require "host.task"
local uv = require "luv"
local value = require "pyoco.engine.value"

local next, type, format, find, gsub, byte = next, type, string.format, string.find, string.gsub, string.byte
local gmatch, sub, utf8_len, open, rename, remove = string.gmatch, string.sub, utf8.len, io.open, os.rename, os.remove

local M = {}

local INLINE_BYTES <const> = 64 << 10
local CHUNK_BYTES <const> = 256 << 10
local NAME_BYTES <const> = 128
local FOLDER_MODE <const>, FILE_MODE <const> = 493, 420 -- rwxr-xr-x, rw-r--r--

--- A text as one part of a path: what could lead elsewhere is written as %XX; one that is too long is told by its hash.
local function path_part(text)
  local part = gsub(text, "[^%w_.\x80-\xff-]", function(c) return format("%%%02X", byte(c)) end)
  if find(part, "^%.") then part = "%2E" .. sub(part, 2) end
  if #part > NAME_BYTES then part = sub(crypto.sha256(text), 1, 32) end
  return part
end

--- Makes a folder and those that it is in.
---@return string? message
local function make_folder(path)
  local made = ""
  for part in gmatch(path, "[^/]+") do
    made = made .. "/" .. part
    local ok, message, code = uv.fs_mkdir(made, FOLDER_MODE)
    if not ok and code ~= "EEXIST" and not uv.fs_stat(made) then return message end
  end
end

--- The folder of a node's artifacts, which exists afterwards.
local function folder_of(node)
  local eng = node.eng
  local dir = eng.artifacts_dir or "artifacts"
  if byte(dir) ~= 47 then dir = uv.cwd() .. "/" .. dir end
  local folder = format("%s/%s/%s", dir, path_part(eng.run.run_id or "local"), path_part(node.name))
  local message = make_folder(folder)
  if message then return nil, format("cannot make the folder %s: %s", folder, message) end
  return folder
end

--- Writes a text to a new file.
---@return string? sha256, string|integer size or message
local function write_text(path, text)
  local file, message = open(path, "wb")
  if not file then return nil, message end
  local ok
  ok, message = file:write(text)
  local closed, close_message = file:close()
  if not ok or not closed then return nil, message or close_message end
  return crypto.sha256(text), #text
end

--- Copies an open file to another, piece by piece, and tells `done(sha256, size)` or `done(nil, message)`.
---@return fun() give_up the copy is removed as soon as nothing reads or writes any more
local function transfer(from, to, path, done)
  local hasher, offset, given_up = crypto.hasher(), 0, false
  local step

  local function finish(...)
    uv.fs_close(from)
    uv.fs_close(to)
    if not given_up then return done(...) end
    remove(path)
  end

  local function written(message, count)
    if message then return finish(nil, message) end
    offset = offset + count
    step()
  end

  function step()
    if given_up then return finish() end
    uv.fs_read(from, CHUNK_BYTES, offset, function(message, chunk)
      if message then return finish(nil, message) end
      if chunk == "" then return finish(hasher:hex(), offset) end
      hasher:update(chunk)
      uv.fs_write(to, chunk, offset, written)
    end)
  end

  step()
  return function() given_up = true end
end

--- Copies a file to a new one; other tasks go on meanwhile.
---@return string? sha256, string|integer size or message
local function copy_file(path, source)
  local info, message = uv.fs_stat(source)
  if not info then return nil, message end
  if info.type ~= "file" then return nil, format("%s is a %s, not a file", source, info.type) end
  local from, to
  from, message = uv.fs_open(source, "r", 0)
  if not from then return nil, message end
  to, message = uv.fs_open(path, "wx", FILE_MODE)
  if not to then
    uv.fs_close(from)
    return nil, message
  end
  return task.wait(function(resume) return transfer(from, to, path, resume) end)
end

--- Stores an artifact as a file, which is there whole or not at all.
local function store(node, name, write, given)
  local folder, message = folder_of(node)
  if not folder then return nil, message end
  local path = folder .. "/" .. name
  local part = format("%s/.part-%s", folder, crypto.uuid4())
  local sha256, size = write(part, given)
  if sha256 then
    local ok
    ok, message = rename(part, path)
    if ok then return { path = path, size = size, sha256 = sha256 } end
  end
  remove(part)
  return nil, format("'%s': %s", name, message or size)
end

--- The one field of a table that has only that.
local function only_field(given, key)
  if type(given) ~= "table" or next(given) ~= key or next(given, key) ~= nil then return nil end
  return given[key]
end

--- What the record of an artifact will be.
local function record_of(node, name, given)
  local file, bytes = only_field(given, "file"), only_field(given, "bytes")
  if file ~= nil then
    if type(file) ~= "string" then return nil, format("'%s': file must be a path, got a %s", name, type(file)) end
    return store(node, name, copy_file, file)
  elseif bytes ~= nil then
    if type(bytes) ~= "string" then return nil, format("'%s': bytes must be a text, got a %s", name, type(bytes)) end
    return store(node, name, write_text, bytes)
  end
  local copied, message = value.copy(given, name)
  if message then return nil, message end
  if copied == nil then return nil, format("'%s': there is no value", name) end
  local text = json.encode(copied)
  if #text <= INLINE_BYTES then return copied end
  return store(node, name, write_text, text)
end

--- Saves an artifact of the task that runs.
---@param node table its node
---@param name string
---@param given any a JSON value, { file = path } or { bytes = text }
---@return any recorded what the record has: the value, or { path, size, sha256 }
---@return string? message
function M.save(node, name, given)
  if type(name) ~= "string" or #name > NAME_BYTES or not utf8_len(name)
    or not find(name, "^[%w_\x80-\xff][%w_.\x80-\xff-]*$") then
    return nil, format("the name must be letters, digits, _ - and dots (not first), at most %d bytes, got %s",
      NAME_BYTES, type(name) == "string" and format("%q", name) or "a " .. type(name))
  end
  local recorded, message = record_of(node, name, given)
  if message then return nil, message end
  local record, eng = node.record, node.eng
  if next(record.artifacts) == nil then record.artifacts = {} end -- the empty one is shared by all records
  record.artifacts[name] = recorded
  eng.artifacts = eng.artifacts or {}
  eng.artifacts[name] = recorded
  eng.writes = (eng.writes or 0) + 1
  return recorded
end

return M
