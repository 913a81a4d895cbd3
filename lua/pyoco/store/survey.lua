--- What is there of our streams, buckets and consumers, and how it differs from what we would make. Nothing is changed:
--- `admin.lua doctor` shows it to people.
local json = require "host.json"
local kv = require "pyoco.nats.kv"
local metas = require "pyoco.nats.object_meta"
local wire = require "pyoco.nats.wire"
local resource = require "pyoco.store.resource"

local M = {}

local NS_PER_SEC = 1000000000

--- Settings that matter, and what the server takes when none is given.
local STREAM_DEFAULTS = { retention = "limits", storage = "file", discard = "old", max_age = 0, max_msgs = -1,
  max_bytes = -1, max_msgs_per_subject = -1, num_replicas = 1 }
local FIELDS = { "subjects", "retention", "storage", "discard", "max_age", "max_msgs", "max_bytes",
  "max_msgs_per_subject", "num_replicas" }
local CONSUMER_FIELDS = { "ack_wait", "max_deliver", "max_ack_pending" }

--- A setting; a limit that is 0 or not given is the server's "none".
local function value_of(config, field)
  local value = config[field]
  if type(value) == "table" then
    value = table.move(value, 1, #value, 1, {})
    table.sort(value)
    return table.concat(value, ",")
  end
  if value == nil or value == 0 and field:find "^max_[mb]" then return STREAM_DEFAULTS[field] end
  return value
end

--- Fields that differ: { field, wanted, found }.
local function differences(wanted, found, fields, read)
  local list = {}
  for _, field in ipairs(fields) do
    local ours, theirs = read(wanted, field), read(found, field)
    if ours ~= theirs then list[#list + 1] = { field = field, wanted = ours, found = theirs } end
  end
  return list
end

--- Everything that we would create: { kind, name, config }.
local function wanted_of(cfg)
  local list = {}
  for _, config in ipairs(resource.streams(cfg)) do
    list[#list + 1] = { kind = "stream", name = config.name, config = config }
  end
  for _, row in ipairs(resource.buckets(cfg)) do
    list[#list + 1] = { kind = "bucket", name = row.bucket, config = kv.stream_config(row.bucket,
      { history = row.history, max_age_sec = row.max_age_sec, replicas = cfg.nats_replicas }) }
  end
  for _, row in ipairs(resource.object_stores(cfg)) do
    list[#list + 1] = { kind = "object store", name = row.bucket, config = metas.stream_config(row.bucket,
      { max_bytes = row.max_bytes, replicas = cfg.nats_replicas }) }
  end
  return list
end

--- Fills in what the server says of one of them.
local function fill(it, reply)
  local info, message, code = wire.answer(reply, it.kind .. " " .. it.name)
  if not info then
    it.is_missing, it.problem = code == "not_found", message
    return
  end
  it.found, it.state = info.config, info.state
  it.differences = differences(it.config, info.config, FIELDS, value_of)
end

--- The durables of the work stream.
local function consumers_of(cfg, reply)
  local answer, list = wire.answer(reply, "consumers"), {}
  local prefix = cfg.durable_prefix .. "_"
  local wanted = { ack_wait = math.tointeger(cfg.consumer_ack_wait_sec * NS_PER_SEC // 1),
    max_deliver = cfg.consumer_max_deliver, max_ack_pending = cfg.consumer_max_ack_pending }
  for _, info in ipairs(answer and answer.consumers or {}) do
    if info.name:sub(1, #prefix) == prefix then
      list[#list + 1] = { name = info.name, tag = info.name:sub(#prefix + 1), in_hand = info.num_ack_pending,
        waiting = info.num_pending, max_ack_pending = info.config.max_ack_pending,
        differences = differences(wanted, info.config, CONSUMER_FIELDS, function(config,
          field) return config[field] end) }
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- Asks for everything at once.
---@param js table pyoco.nats.jetstream
---@param cfg table configuration
---@param timeout_ms integer for all together
---@return table|nil survey { account = JetStream's account info, resources = { { kind "stream" | "bucket" | "object
---  store", name, config = ours, found = the server's (nil), state, differences = { { field, wanted, found } },
---  is_missing,
---  problem } }, consumers = { { name, tag, in_hand, waiting, max_ack_pending, differences } } }; times are nanoseconds
---@return string|nil message
---@return string|nil code
function M.take(js, cfg, timeout_ms)
  local account, message, code = js:account_info()
  if not account then return nil, message, code end
  local list, requests = wanted_of(cfg), {}
  for i, it in ipairs(list) do requests[i] = { "$JS.API.STREAM.INFO." .. it.config.name } end
  requests[#requests + 1] = { "$JS.API.CONSUMER.LIST." .. cfg.work_stream, json.encode { offset = 0 } }
  local replies, text, failed = js:request_many(requests, timeout_ms)
  if not replies then return nil, text, failed end
  for i, it in ipairs(list) do
    if replies[i].data then fill(it, replies[i]) else it.problem = replies[i].message end
  end
  local last = replies[#requests]
  return { account = account, resources = list, consumers = last.data and consumers_of(cfg, last) or {} }
end

return M
