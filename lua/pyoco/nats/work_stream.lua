--- The messages of a work stream by sequence: read, deleted, and what their consumers say of them. It makes no
--- consumer: a work queue allows each subject one only, the workers'.
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local wire = require "pyoco.nats.wire"

local M = {}
local Work = {}
Work.__index = Work

local CHUNK = 128
local SPARSE_PART = 4 -- a chunk with fewer than one message in so many places: go on from message to message
local DENSE_GAP = 8
local NS_PER_SEC = 1000000000

--- The stream's extent.
---@return table|nil { messages, first_seq, last_seq, first_time (unix seconds, the server's; nil when it is empty) }
---@return string|nil message
---@return string|nil code
function Work:info()
  local info, message, code = self.js:stream_info(self.stream)
  if not info then return nil, message, code end
  local state = info.state
  return { messages = state.messages, first_seq = math.max(1, state.first_seq), last_seq = state.last_seq,
    first_time = state.messages > 0 and wire.unix_time(state.first_ts) or nil }
end

--- The next message behind a long gap.
local function read_one(work, from, last)
  local msg, message, code = work.js:next_msg(work.stream, from, ">")
  if not msg and code == "not_found" then return {} end
  if not msg then return nil, message, code end
  if msg.seq > last then return {} end
  work.is_sparse = msg.seq - from > DENSE_GAP
  return { msg }, msg.seq + 1
end

--- All messages of a stretch, asked for together.
local function read_chunk(work, from, last)
  local requests, list = {}, {}
  local to = math.min(from + CHUNK - 1, last)
  for seq = from, to do
    requests[#requests + 1] = { "$JS.API.STREAM.MSG.GET." .. work.stream, json.encode { seq = seq } }
  end
  local replies, text, why = work.js:request_many(requests)
  if not replies then return nil, text, why end
  for i, reply in ipairs(replies) do
    if reply.code then return nil, reply.message, reply.code end
    local msg, message, code = jetstream.stored_reply(reply, work.stream, from + i - 1, false)
    if msg then
      list[#list + 1] = msg
    elseif code ~= "not_found" then
      return nil, message, code
    end
  end
  work.is_sparse = #list * SPARSE_PART < #requests
  return list, to + 1
end

--- Some messages from a sequence on, in order. What is acked meanwhile is left out.
---@param from integer
---@param last integer no further than this
---@return table[]|nil messages { subject, data, headers, seq, time }
---@return integer|string|nil from where to go on, nil at the end; or the message
---@return string|nil code
function Work:read(from, last)
  if from > last then return {} end
  local list, next_from, code = (self.is_sparse and read_one or read_chunk)(self, from, last)
  if not list then return nil, next_from, code end
  if next_from and next_from > last then next_from = nil end
  return list, next_from
end

--- One message.
---@param seq integer
---@return table|nil message
---@return string|nil text
---@return string|nil code "not_found"
function Work:get(seq) return self.js:get_msg(self.stream, seq) end

--- Deletes a message, whoever has it.
---@param seq integer
---@return boolean|nil
---@return string|nil message
---@return string|nil code "not_found"
function Work:delete(seq) return self.js:delete_msg(self.stream, seq) end

--- What a consumer says.
---@param name string
---@return table|nil { in_hand = messages that it has delivered and waits for, delivered_seq = the highest sequence that
---  it has delivered, ack_wait_sec, max_deliver }
---@return string|nil message
---@return string|nil code "not_found"
function Work:consumer(name)
  local info, message, code = self.js:consumer_info(self.stream, name)
  if not info then return nil, message, code end
  return { in_hand = info.num_ack_pending, delivered_seq = info.delivered.stream_seq,
    ack_wait_sec = (info.config.ack_wait or 30 * NS_PER_SEC) / NS_PER_SEC, max_deliver = info.config.max_deliver or -1 }
end

--- Sequences of messages whose deliveries the server has since declared used up; listens from the first call on. The
--- server says it once and keeps no list: what it said while nobody listened is not here.
---@return integer[] list
function Work:exhausted()
  self.advisories = self.advisories
    or self.conn:subscribe(("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.%s.*"):format(self.stream))
  local list = {}
  while self.advisories do
    local msg = self.advisories:next(0)
    if not msg then break end
    local advisory = json.decode(msg.data)
    local seq = type(advisory) == "table" and math.tointeger(advisory.stream_seq)
    if seq then list[#list + 1] = seq end
  end
  return list
end

--- The messages of a stream; nothing is asked of the server yet.
---@param js table pyoco.nats.jetstream
---@param conn table host.nats blocking-mode connection
---@param stream string
---@return table
function M.new(js, conn, stream) return setmetatable({ js = js, conn = conn, stream = stream }, Work) end

return M
