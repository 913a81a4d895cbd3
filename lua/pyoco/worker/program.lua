--- The worker's process: connects, makes what is missing, runs the supervisor on the loop, ends in order.
local host = require "host"
local json = require "host.json"
local clock = require "host.clock"
local crypto = require "host.crypto"
local uv = require "luv"
local logs = require "pyoco.log"
local rpc = require "pyoco.nats.rpc"
local stores = require "pyoco.store.jetstream"
local async = require "pyoco.worker.async"
local consumer = require "pyoco.worker.consumer"
local memory = require "pyoco.worker.memory"
local registries = require "pyoco.worker.registry"
local supervisors = require "pyoco.worker.supervisor"

local M = {}

local ONCE_CONNECT_SEC = 2 -- a worker that is to take one job does not wait for ever for NATS
local RETRY_SEC = 1.0
local EXIT_INTERRUPTED = 130

--- Fields of the configuration that a slot needs, nothing secret among them but what the connection needs.
local SLOT_CFG = { "work_stream", "work_subject_prefix", "dlq_stream", "dlq_subject_prefix", "runs_bucket",
  "workers_bucket", "run_relations_bucket", "spawn_max_child_runs", "spawn_max_parallel_child_runs", "spawn_child_tag",
  "spawn_timeout_sec", "spawn_poll_interval_sec", "workflow_bundles_bucket", "run_data_bucket",
  "max_run_snapshot_bytes", "run_heartbeat_interval_sec", "run_max_parallel", "run_max_commands", "command_grace_sec",
  "flow_max_iterations", "artifacts_dir", "worker_allow_commands", "worker_allow_spawn",
  "worker_flow_resolver", "task_path", "workflow_yaml_max_bytes",
  "task_log_max_bytes" }

--- The boot text of the slots.
---@param cfg table configuration
---@param is_direct boolean whether the runs' bucket may be asked directly
---@param user_script string|nil of a worker of the user's own
---@return string
function M.boot_text(cfg, is_direct, user_script)
  local few = {}
  for _, name in ipairs(SLOT_CFG) do few[name] = cfg[name] end
  return assert(json.encode {
    cfg = few, worker_id = cfg.worker_id, memory_limit_bytes = cfg.run_memory_max_bytes, is_direct = is_direct,
    user_script = user_script,
    nats = { url = cfg.nats_url, name = "pyoco-nats-worker-slot:" .. cfg.worker_id, user = cfg.nats_user,
      password = cfg.nats_password, token = cfg.nats_token, creds = cfg.nats_creds, tls_ca = cfg.nats_tls_ca,
      tls_cert = cfg.nats_tls_cert, tls_key = cfg.nats_tls_key },
  })
end

--- Connects, for as long as it takes or until the user stops it.
---@param cfg table
---@param log table
---@param is_stopped fun(): boolean
---@return table|nil store over a loop-mode connection
---@return string|nil message
---@return string|nil code "cancelled": it was stopped
function M.connect(cfg, log, is_stopped)
  local call, told
  while not is_stopped() do
    local store, message, code = stores.connect(cfg, { name = "pyoco-nats-worker:" .. cfg.worker_id, loop = true,
      rpc = function(...) return call(...) end })
    if store then
      call = rpc.loop(store.conn, async.wait)
      return store
    end
    if message ~= told then log:event("nats", "NATS cannot be reached; trying again", { reason = message }) end
    told = message
    if code ~= "unavailable" and code ~= "timeout" then return nil, message, code end
    local again
    async.after(RETRY_SEC, function() again = true end)
    while not again and not is_stopped() do uv.run("once") end
  end
  return nil, "stopped", "cancelled"
end

--- Streams, buckets and consumers. Fails for what waiting cannot mend.
local function make_resources(cfg, store, log)
  while true do
    local ok, message, code = store:ensure()
    local limits = {}
    for _, tag in ipairs(ok and cfg.worker_tags or {}) do
      limits[tag], message, code = consumer.ensure(store.js, cfg, tag)
      ok = ok and limits[tag]
    end
    if ok then return limits end
    if code ~= "timeout" and store.conn:status() == "connected" then return nil, message, code end
    log:event("nats", "streams and consumers cannot be made yet; trying again", { reason = message })
    async.sleep(RETRY_SEC)
  end
end

--- The flags of the runs' bucket: whether its values may be asked for directly.
local function is_direct(cfg, store)
  local info = store.js:stream_info("KV_" .. cfg.runs_bucket)
  return info ~= nil and info.config.allow_direct == true
end

local function new_registry(cfg, store, clock_offset, on_found)
  return registries.new {
    on_found = on_found,
    workers = store.workers, wall = clock.wall, after = async.after, go = async.go,
    now = function() return clock.wall(clock_offset()) end,
    memory = function() return memory.tree(math.tointeger(uv.os_getpid())) end,
    record = { worker_id = cfg.worker_id, instance_id = (crypto.uuid4():gsub("-", "")),
      tags = json.array { table.unpack(cfg.worker_tags) }, slots = cfg.worker_slots, version = host.version,
      host = uv.os_gethostname(), pid = math.tointeger(uv.os_getpid()) },
  }
end

--- The wheels of a worker that synchronises them.
local function new_wheels(cfg, store, log, supervisor, report)
  local registry = supervisor.registry
  registry:wheels(report.block)
  return require("pyoco.worker.wheels").new { cfg = cfg, store = store, log = log, report = report,
    now = supervisor.now, publish = function(block) registry:wheels(block) end,
    used = function() return supervisor:used_sites() end, on_change = function() supervisor.flow_list:changed() end }
end

--- Ends a supervisor of one job when none has come in time.
local function poll_once(supervisor, seconds)
  async.after(seconds, function()
    if supervisor.board:count() == 0 then supervisor:stop(0) else supervisor.quota = 0 end
  end)
end

--- Builds and starts the supervisor. Runs in a coroutine.
---@param cfg table
---@param options table { run_once, poll_timeout, on_settled, on_spent, is_eager (pyoco.worker.supervisor), slot_script,
---  user_script }
---@param log table
---@param store table
---@param on_end fun()
---@return table|nil supervisor
---@return string|nil message
---@return string|nil code
function M.start(cfg, options, log, store, on_end)
  local limits, message, code = make_resources(cfg, store, log)
  if not limits then return nil, message, code end
  local supervisor
  local report = cfg.wheel_sync_enabled and require("pyoco.worker.wheel_report").new() or nil
  local registry = new_registry(cfg, store, function() return supervisor and supervisor.clock_offset or 0 end,
    report and function(found) report:carry_over(found.wheel_sync) end)
  local boot = M.boot_text(cfg, is_direct(cfg, store), options.user_script)
  local offset = registry:clock_offset()
  supervisor = supervisors.new {
    cfg = cfg, store = store, registry = registry, log = log, script = options.slot_script or host.script,
    tags = cfg.worker_tags, limits = limits, slots = cfg.worker_slots, boot = function() return boot end,
    clock_offset = offset, quota = options.run_once and 1 or nil, on_end = on_end,
    on_settled = options.on_settled, on_spent = options.on_spent, is_eager = options.is_eager,
  }
  if report then supervisor.wheels = new_wheels(cfg, store, log, supervisor, report) end
  supervisor:start(function()
    log:info("worker ready", { worker_id = cfg.worker_id, tags = cfg.worker_tags, slots = cfg.worker_slots })
    if options.run_once then poll_once(supervisor, tonumber(options.poll_timeout) or 1.0) end
  end)
  return supervisor
end

--- Calls fn(name) for SIGINT and SIGTERM. Returns what ends that.
local function on_signals(fn)
  local handles = {}
  for _, name in ipairs { "sigint", "sigterm" } do
    local handle = uv.new_signal()
    handle:start(name, fn)
    handles[#handles + 1] = handle
  end
  return function()
    for _, handle in ipairs(handles) do handle:close() end
  end
end

--- Runs a worker until it is stopped.
---@param cfg table configuration
---@param options table { run_once, poll_timeout }
---@param warnings string[] of the configuration
---@return integer exit code
function M.run(cfg, options, warnings)
  local log = logs.new { service = "pyoco-server:worker", logger = "pyoco_server.worker", config = cfg }
    :with { worker_id = cfg.worker_id }
  for _, warning in ipairs(warnings or {}) do log:warning(warning) end
  async.on_error = function(text) log:error("unexpected error", nil, { message = text }) end

  local supervisor, stopped, ended, exit_code
  local close_signals = on_signals(function(name)
    if not stopped then exit_code = name == "sigint" and EXIT_INTERRUPTED or 0 end
    stopped = true
    if supervisor then supervisor:stop(cfg.worker_drain_sec) end
  end)
  local patience_sec = options.run_once and math.max(ONCE_CONNECT_SEC, tonumber(options.poll_timeout) or 0) or math.huge
  local give_up_at = clock.monotonic() + patience_sec
  local store, message, code = M.connect(cfg, log, function() return stopped or clock.monotonic() >= give_up_at end)
  if code == "cancelled" and not stopped then
    message = ("NATS did not answer within %g s; --poll-timeout SEC waits longer"):format(patience_sec)
  end
  if store then
    async.go(function()
      local fine, started, why = xpcall(M.start, debug.traceback, cfg, options, log, store, function() ended = true end)
      if not fine then started, why = nil, started end
      if not started then
        io.stderr:write("worker.lua: ", why, "\n")
        exit_code, ended = 1, true
        return
      end
      supervisor = started
      if stopped then return supervisor:stop(0) end
    end)
    while not ended do uv.run("once") end
    store:close()
  elseif not stopped then
    io.stderr:write("worker.lua: ", message, "\n")
    exit_code = 1
  end
  close_signals()
  uv.run("nowait")
  return exit_code or 0
end

return M
