--- The NATS resources that every process creates when they are missing (CONTRACT section 3).
--- An existing stream or bucket is never altered: a fleet may be mixed, and the first one decides.
local M = {}

local NS_PER_SEC = 1000000000

--- Streams, as JetStream's own configuration objects.
---@param cfg table configuration (pyoco.config)
---@return table[] stream configurations
function M.streams(cfg)
  return {
    { name = cfg.work_stream, subjects = { cfg.work_subject_prefix .. ".>" }, retention = "workqueue",
      storage = "file", num_replicas = cfg.nats_replicas },
    { name = cfg.dlq_stream, subjects = { cfg.dlq_subject_prefix .. ".>" }, retention = "limits",
      storage = "file", discard = "old", num_replicas = cfg.nats_replicas,
      max_age = math.tointeger(cfg.dlq_max_age_sec * NS_PER_SEC // 1),
      max_msgs = cfg.dlq_max_msgs, max_bytes = cfg.dlq_max_bytes },
  }
end

--- Key-value buckets. The workers' bucket has no age limit (CONTRACT Part A, registry).
---@param cfg table configuration
---@return table[] rows { bucket, history, max_age_sec|nil }
function M.buckets(cfg)
  return {
    { bucket = cfg.runs_bucket, history = 1 },
    { bucket = cfg.workers_bucket, history = 1 },
    { bucket = cfg.workflow_bundles_bucket, history = 1 },
    { bucket = cfg.run_relations_bucket, history = 1 },
    { bucket = cfg.auth_bucket, history = 1 },
    { bucket = cfg.wheel_history_bucket, history = 1, max_age_sec = cfg.wheel_history_ttl_sec },
    { bucket = cfg.leases_bucket, history = 1 },
    { bucket = cfg.yaml_schedules_bucket, history = 5 },
    { bucket = cfg.idempotency_bucket, history = 1, max_age_sec = cfg.idempotency_ttl_sec },
  }
end

--- Object stores. None has a byte limit unless the configuration says so (CONTRACT Part A, D15).
---@param cfg table configuration
---@return table[] rows { bucket, max_bytes }
function M.object_stores(cfg)
  return {
    { bucket = cfg.run_data_bucket, max_bytes = cfg.run_data_max_bytes },
    { bucket = cfg.wheels_bucket, max_bytes = cfg.wheel_store_max_bytes },
  }
end

return M
