--- What an object store keeps beside the bytes: names, subjects, the metadata's JSON, the stream's configuration.
--- The layout is the public one (CONTRACT 8.7); header values are plain strings when we write and may be lists when
--- another client did. Pure data: nothing is asked of the server here.
local json = require "host.json"
local crypto = require "host.crypto"

local M = {}

M.CHUNK_BYTES = 131072
local DIGEST = "SHA-256="
local PADDED = { padding = true }
local ORDER = { order = { "name", "description", "bucket", "nuid", "size", "mtime", "chunks", "digest", "deleted",
  "headers", "metadata", "options" } }
local LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
local ID_LETTERS = 22

--- Whether a text may name an object: any UTF-8 without control characters, up to 512 bytes.
---@param name any
---@return boolean|nil ok
---@return string|nil message
---@return string|nil code "invalid"
function M.check_name(name)
  if type(name) == "string" and name ~= "" and #name <= 512 and utf8.len(name) and not name:find("%c") then
    return true
  end
  return nil, ("object name '%s' is empty, over 512 bytes, no UTF-8, or holds a control character")
    :format(tostring(name):gsub("%c", "?"):sub(1, 80)), "invalid"
end

--- Whether header values are what the metadata can carry: a table of name = "text".
---@param headers table|nil
---@return boolean|nil ok
---@return string|nil message
---@return string|nil code "invalid"
function M.check_headers(headers)
  for name, value in pairs(headers or {}) do
    if type(name) ~= "string" or type(value) ~= "string" then
      return nil, ("object header '%s': name and value are texts, not a %s"):format(tostring(name), type(value)),
        "invalid"
    end
  end
  return true
end

--- The subject of an object's metadata.
---@param bucket string
---@param name string
---@return string subject
function M.subject(bucket, name) return ("$O.%s.M.%s"):format(bucket, crypto.base64url_encode(name, PADDED)) end

--- The name in a metadata subject; nil when it is none.
---@param bucket string
---@param subject string
---@return string|nil name
function M.name_of(bucket, subject)
  local prefix = ("$O.%s.M."):format(bucket)
  if subject:sub(1, #prefix) ~= prefix then return nil end
  return crypto.base64url_decode((subject:sub(#prefix + 1):gsub("=+$", "")))
end

--- The subject of an object's chunks.
---@param bucket string
---@param nuid string
---@return string subject
function M.chunk_subject(bucket, nuid) return ("$O.%s.C.%s"):format(bucket, nuid) end

--- A new id for the chunks of one put: 22 random letters and digits.
---@return string|nil nuid
---@return string|nil message
---@return string|nil code
function M.nuid()
  local id = {}
  while #id < ID_LETTERS do
    local bytes, message, code = crypto.random(2 * ID_LETTERS)
    if not bytes then return nil, message, code end
    for i = 1, #bytes do
      local byte = bytes:byte(i)
      -- 248 = 4 * 62: without those above, every letter is as likely as any other
      if byte < 248 and #id < ID_LETTERS then id[#id + 1] = LETTERS:sub(byte % 62 + 1, byte % 62 + 1) end
    end
  end
  return table.concat(id)
end

--- The digest's text for the SHA-256 of an object.
---@param bytes string 32 bytes
---@return string
function M.digest(bytes) return DIGEST .. crypto.base64url_encode(bytes, PADDED) end

--- Whether a stored digest is that of these 32 bytes; one that was written without padding is the same.
---@param stored string
---@param bytes string
---@return boolean
function M.is_digest(stored, bytes)
  return stored:gsub("=+$", "") == M.digest(bytes):gsub("=+$", "")
end

--- A digest in hex; nil when it is not SHA-256's.
---@param digest string|nil
---@return string|nil
function M.hex(digest)
  local text = type(digest) == "string" and digest:match("^SHA%-256=(.*)$")
  local bytes = text and crypto.base64url_decode(text)
  return bytes and #bytes == 32 and crypto.hex_encode(bytes) or nil
end

--- A time as the metadata has it.
---@param now number unix seconds
---@return string "2026-11-22T06:04:10.416463+00:00"
function M.mtime(now)
  local seconds = now // 1
  return ("%s.%06d+00:00"):format(os.date("!%Y-%m-%dT%H:%M:%S", math.tointeger(seconds)), (now - seconds) * 1e6 // 1)
end

--- The metadata's JSON.
---@param meta table name, bucket, nuid, size, mtime, chunks, digest, deleted, headers, options, and more
---@return string|nil bytes
---@return string|nil message
---@return string|nil code
function M.encode(meta) return json.encode(meta, ORDER) end

--- One text for each header; the values of a list are joined as HTTP joins repeated headers.
local function plain_headers(headers)
  local plain = {}
  for name, value in pairs(type(headers) == "table" and headers or {}) do
    if type(value) == "string" then
      plain[name] = value
    elseif json.is_array(value) then
      local texts = {}
      for i, text in ipairs(value) do texts[i] = tostring(text) end
      plain[name] = table.concat(texts, ",")
    end
  end
  return plain
end

local function text_of(value) return type(value) == "string" and value or nil end

local function count_of(value)
  local count = type(value) == "number" and math.tointeger(value)
  return count and count >= 0 and count or nil
end

--- The target of a link, when the options have one.
local function link_of(options)
  local link = options.link
  if type(link) ~= "table" or type(link.bucket) ~= "string" then return nil end
  return { bucket = link.bucket, name = text_of(link.name) }
end

--- What a stored metadata message says.
---@param msg table {data, seq, time} as pyoco.nats.jetstream gives stored messages
---@return table|nil info { name, bucket, nuid, size, mtime, chunks, digest, deleted, headers (name = text),
---  sha256 (hex), link {bucket, name|nil}, description, chunk_size, modified (unix seconds, the server's), seq (of
---  the metadata message), stored (the JSON as it was decoded) }
---@return string|nil message
---@return string|nil code "invalid"
function M.decode(msg)
  local meta, why = json.decode(msg.data)
  if type(meta) ~= "table" then return nil, why or "no JSON object", "invalid" end
  local options = type(meta.options) == "table" and meta.options or {}
  local info = {
    name = text_of(meta.name), bucket = text_of(meta.bucket), nuid = text_of(meta.nuid),
    size = count_of(meta.size or 0), chunks = count_of(meta.chunks or 0), mtime = text_of(meta.mtime),
    digest = text_of(meta.digest),
    deleted = meta.deleted == true, description = text_of(meta.description), headers = plain_headers(meta.headers),
    sha256 = M.hex(meta.digest), link = link_of(options), chunk_size = count_of(options.max_chunk_size),
    modified = msg.time, seq = msg.seq, stored = meta,
  }
  -- the id becomes part of a subject
  local is_id = info.nuid and info.nuid:find("^[%w_-]+$") or info.deleted or info.link
  if not (info.name and info.size and info.chunks and is_id) then
    return nil, "a name, a size, a number of chunks or an id is missing", "invalid"
  end
  return info
end

--- The stream's configuration for a bucket (fixtures: resources.json).
---@param bucket string
---@param opts table|nil max_bytes (default: no limit), max_age_sec, replicas, storage ("file")
---@return table config
function M.stream_config(bucket, opts)
  opts = opts or {}
  local max_age = math.floor((opts.max_age_sec or 0) * 1e9)
  local window = 120 * 1000000000
  return {
    name = "OBJ_" .. bucket, subjects = { ("$O.%s.C.>"):format(bucket), ("$O.%s.M.>"):format(bucket) },
    retention = "limits", discard = "new", max_consumers = -1, max_msgs = -1,
    max_bytes = (opts.max_bytes or 0) > 0 and opts.max_bytes or -1, max_msg_size = -1, max_msgs_per_subject = -1,
    max_age = max_age, storage = opts.storage or "file", num_replicas = opts.replicas or 1,
    duplicate_window = max_age > 0 and math.min(max_age, window) or window, allow_rollup_hdrs = true,
    allow_direct = true,
  }
end

return M
