--- The bytes of an object: published as chunks on one subject and read back, several in flight, in bounded memory.
--- Chunks are read by sequence (next message of the subject), not by a consumer: it is request and reply, so it serves
--- blocking and loop mode alike and leaves nothing behind on the server.
local json = require "host.json"
local crypto = require "host.crypto"
local jetstream = require "pyoco.nats.jetstream"

local M = {}

local IN_FLIGHT = 16
local NO_MESSAGE = 10037

--- Pieces of exactly `size` bytes, the last one shorter, from a reader that gives any lengths.
---@param read fun(size:integer):string|nil, string|nil, string|nil next bytes; nil or "" at the end; nil, message,
---  code on failure
---@param size integer bytes
---@return fun():string|nil, string|nil, string|nil next nil at the end; nil, message, code on failure
function M.pieces(read, size)
  local parts, have, is_over = {}, 0, false
  return function()
    while have < size and not is_over do
      local bytes, message, code = read(size - have)
      if not bytes and message then return nil, message, code or "internal" end
      is_over = not bytes or bytes == ""
      if not is_over then
        parts[#parts + 1], have = bytes, have + #bytes
      end
    end
    if have == 0 then return nil end
    local text = parts[2] and table.concat(parts) or parts[1]
    local piece = have > size and text:sub(1, size) or text
    parts, have = { have > size and text:sub(size + 1) or nil }, math.max(0, have - size)
    return piece
  end
end

--- Reads up to IN_FLIGHT pieces.
local function next_batch(next_piece, subject, sum)
  local batch = {}
  while #batch < IN_FLIGHT do
    local piece, message, code = next_piece()
    if message then return nil, message, code end
    if not piece then break end
    sum.hasher:update(piece)
    sum.size, sum.chunks = sum.size + #piece, sum.chunks + 1
    batch[#batch + 1] = { subject, piece }
  end
  return batch
end

--- Publishes everything that a reader gives.
---@param js table jetstream context
---@param subject string
---@param next_piece function as M.pieces makes it
---@param timeout_ms integer for each batch in flight
---@return table|nil sum { size, chunks, digest (32 bytes) }
---@return string|nil message
---@return string|nil code
function M.publish(js, subject, next_piece, timeout_ms)
  local sum = { size = 0, chunks = 0, hasher = crypto.hasher() }
  repeat
    local batch, message, code = next_batch(next_piece, subject, sum)
    if not batch then return nil, message, code end
    if #batch > 0 then
      local results, failed = js:publish_many(batch, timeout_ms)
      if failed > 0 then
        for i = 1, #batch do
          if not results[i].seq then return nil, results[i].message, results[i].code end
        end
      end
    end
  until #batch < IN_FLIGHT
  return { size = sum.size, chunks = sum.chunks, digest = sum.hasher:bytes() }
end

--- Requests for the first message of the subject at or after each of `count` sequences.
local function requests_for(reading, count)
  local subject = ("$JS.API.%s.%s"):format(reading.is_direct and "DIRECT.GET" or "STREAM.MSG.GET", reading.stream)
  local list = {}
  for i = 1, count do
    list[i] = { subject, json.encode { seq = reading.at + i - 1, next_by_subj = reading.subject } }
  end
  return list
end

--- Takes the replies in order: each message once, though several sequences may lead to the same.
local function take(reading, replies, write)
  local fresh = 0
  for _, reply in ipairs(replies) do
    if reply.code then return nil, reply.message, reply.code end
    local msg, message, code, err_code =
      jetstream.stored_reply(reply, reading.stream, reading.subject, reading.is_direct)
    if not msg then
      if err_code ~= NO_MESSAGE then return nil, message, code end
    elseif msg.seq >= reading.at and reading.size < reading.expected then
      fresh, reading.at, reading.size = fresh + 1, msg.seq + 1, reading.size + #msg.data
      reading.chunks = reading.chunks + 1
      reading.hasher:update(msg.data)
      local ok, why, its_code = write(msg.data)
      if not ok and why then return nil, why, its_code or "internal" end
    end
  end
  return fresh
end

--- Reads an object's chunks in order until its size is reached.
---@param js table jetstream context
---@param opts table stream, subject, size (bytes) and chunks (as the metadata promises), is_direct, timeout_ms
---@param write fun(bytes:string):any, string|nil, string|nil; nil, message, code stops
---@return table|nil sum { size, chunks, digest (32 bytes) }; size differs from opts.size when the chunks do not add up
---@return string|nil message
---@return string|nil code
---@return boolean|nil is_missing there is no further chunk though the size is not reached
function M.read(js, opts, write)
  local reading = { stream = opts.stream, subject = opts.subject, expected = opts.size, is_direct = opts.is_direct,
    at = 1, size = 0, chunks = 0, hasher = crypto.hasher() }
  local window = 1 -- the first sequence is not known; the others mostly follow it
  while reading.size < opts.size do
    if opts.chunks > reading.chunks then window = math.min(window, opts.chunks - reading.chunks) end
    local replies, message, code = js:request_many(requests_for(reading, window), opts.timeout_ms)
    if not replies then return nil, message, code end
    local fresh
    fresh, message, code = take(reading, replies, write)
    if not fresh then return nil, message, code end
    if fresh == 0 then
      return nil, ("chunk %d is missing: %d of %d bytes are there"):format(reading.chunks + 1, reading.size, opts.size),
        "internal", true
    end
    -- other objects' messages lie between ours: ask for no more than what was found, or the same comes many times
    window = fresh == window and math.min(IN_FLIGHT, 4 * window) or fresh
  end
  return { size = reading.size, chunks = reading.chunks, digest = reading.hasher:bytes() }
end

return M
