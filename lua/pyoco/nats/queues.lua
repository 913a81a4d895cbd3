--- How a work queue stands, subject by subject: for metrics and for people who wonder why nothing happens.
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local wire = require "pyoco.nats.wire"

local M = {}

local SUBJECTS_MAX = 200 -- asked about one by one, two requests each

--- The requests about one subject: its consumer, its oldest message.
local function requests_of(stream, subject, consumer)
  return { "$JS.API.CONSUMER.INFO." .. stream .. "." .. consumer },
    { "$JS.API.STREAM.MSG.GET." .. stream, json.encode { seq = 1, next_by_subj = subject } }
end

--- A reply, or nil: what cannot be told is left out.
local function value_of(reply, read)
  if reply == nil or reply[1] == nil and reply.data == nil then return nil end
  return (read(reply))
end

--- Sorted tokens of subjects below a prefix that have messages, or that a consumer is there for.
local function tokens(js, stream, prefix)
  local info, message, code = js:stream_info(stream, { subjects_filter = prefix .. ".>" })
  if not info then return nil, message, code end
  local list, counts = {}, {}
  for subject, count in pairs(info.state.subjects or {}) do
    local token = subject:sub(#prefix + 2)
    list[#list + 1], counts[token] = token, count
  end
  table.sort(list)
  return list, counts
end

--- The queues of a stream.
---@param js table pyoco.nats.jetstream
---@param stream string
---@param prefix string of the subjects: `<prefix>.<tag>`
---@param durable_prefix string of the consumers: `<durable_prefix>_<tag>`
---@return table[]|nil queues by tag: { tag, jobs = messages stored, in_hand = delivered and not yet acked (nil without
---  a consumer), redelivered = of those (nil), oldest = unix seconds, the server's (nil) }
---@return string|nil message
---@return string|nil code
function M.list(js, stream, prefix, durable_prefix)
  local tags, counts, code = tokens(js, stream, prefix)
  if not tags then return nil, counts, code end
  local requests, queues = {}, {}
  for i = 1, math.min(#tags, SUBJECTS_MAX) do
    local tag = tags[i]
    queues[i] = { tag = tag, jobs = counts[tag] }
    requests[2 * i - 1], requests[2 * i] = requests_of(stream, prefix .. "." .. tag, durable_prefix .. "_" .. tag)
  end
  if #queues == 0 then return queues end
  local replies, message, failed = js.many(requests, js.timeout_ms)
  if not replies then return nil, message, failed end
  for i, queue in ipairs(queues) do
    local consumer = value_of(replies[2 * i - 1], function(reply) return wire.answer(reply, "consumer") end)
    local oldest = value_of(replies[2 * i], function(reply)
      return jetstream.stored_reply(reply, stream, prefix .. "." .. queue.tag, false)
    end)
    if consumer then queue.in_hand, queue.redelivered = consumer.num_ack_pending, consumer.num_redelivered end
    queue.oldest = oldest and oldest.time
  end
  return queues
end

return M
