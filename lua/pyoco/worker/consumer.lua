--- The durable consumers of a worker's tags (CONTRACT 3): made when they are missing, never altered. What they really
--- say, ack_wait and max_deliver, is read from the server and re-read, since a reference worker may change it.
local M = {}

local NS_PER_SEC = 1000000000

--- Name of a tag's consumer.
---@param cfg table
---@param tag string
---@return string
function M.name(cfg, tag)
  return cfg.durable_prefix .. "_" .. tag
end

--- The consumer's configuration, as we create it.
---@param cfg table
---@param tag string
---@return table
function M.config(cfg, tag)
  return { durable_name = M.name(cfg, tag), filter_subject = cfg.work_subject_prefix .. "." .. tag,
    ack_policy = "explicit", deliver_policy = "all", replay_policy = "instant",
    ack_wait = math.tointeger(cfg.consumer_ack_wait_sec * NS_PER_SEC // 1), max_deliver = cfg.consumer_max_deliver,
    max_ack_pending = cfg.consumer_max_ack_pending, max_waiting = 512 }
end

--- Sees to it that a tag's consumer exists, and reads its limits.
---@param js table pyoco.nats.jetstream context
---@param cfg table
---@param tag string
---@return table|nil limits { ack_wait_sec, max_deliver }
---@return string|nil message
---@return string|nil code
function M.ensure(js, cfg, tag)
  local info, message, code = js:consumer_info(cfg.work_stream, M.name(cfg, tag))
  if not info and code == "not_found" then
    info, message, code = js:consumer_create(cfg.work_stream, M.config(cfg, tag))
  end
  if not info then return nil, message, code end
  local config = info.config
  return { ack_wait_sec = (config.ack_wait or 30 * NS_PER_SEC) / NS_PER_SEC, max_deliver = config.max_deliver or -1 }
end

--- How often a job in hand is renewed.
---@param cfg table
---@param ack_wait_sec number the consumer's real one
---@return number seconds
function M.progress_interval(cfg, ack_wait_sec)
  local third = ack_wait_sec / 3
  local wanted = cfg.ack_progress_interval_sec
  return wanted > 0 and math.min(wanted, third) or third
end

return M
