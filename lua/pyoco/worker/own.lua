--- A worker that a script drives: connect, run_once, close. It is the supervisor of worker.lua with one slot, which
--- takes one job at a time, so every rule of attempts, acks and cancels is the same code. Between two calls of run_once
--- nothing is asked for and nothing is in hand, so the script may do what it likes for as long as it likes; only the
--- heartbeat in the registry rests meanwhile.
local clock = require "host.clock"
local host = require "host"
local uv = require "luv"
local config = require "pyoco.config"
local logs = require "pyoco.log"
local nearest = require "pyoco.nearest"
local async = require "pyoco.worker.async"
local program = require "pyoco.worker.program"

local M = {}

local CONNECT_TIMEOUT_SEC = 10
local END_OF_PULL_SEC = 0.5 -- how much later than its time the end of a pull may come
local MIN_PULL_SEC = 0.01

local Worker = {}
Worker.__index = Worker

--- Turns the loop until a condition holds or a time has come.
local function turn_until(condition, deadline)
  local left = deadline - clock.monotonic()
  local timer = left < math.huge and uv.new_timer()
  if timer then timer:start(math.max(0, math.ceil(left * 1000)), 0, function() end) end
  while not condition() and clock.monotonic() < deadline do uv.run("once") end
  if timer then
    timer:close()
    uv.run("nowait")
  end
  return condition()
end

--- Looks for other wheels before a job is asked for, once the interval has passed. What goes wrong stands in the
--- worker's record; it keeps no job waiting for good.
local function sync_wheels(self)
  local wheels = self.supervisor.wheels
  if not wheels or clock.monotonic() < self.sync_at then return end
  self.sync_at = clock.monotonic() + self.supervisor.cfg.wheel_sync_interval_sec
  local function is_over() return not wheels.is_busy end
  turn_until(is_over, math.huge) -- a round that rested since the last call: what it has read is old
  async.go(function() wheels:sync() end)
  turn_until(is_over, math.huge)
end

--- Waits for one job of any of the tags and runs it to its end. A run that waits for nothing is not cut off by the
--- timeout: that is only for the job to come.
---@param timeout_sec number|nil default 1.0
---@return string|nil run_id of the job that was settled ("" if it had none)
---@return string|nil outcome as in pyoco.worker.outcome: "completed", "failed", "cancelled", ...; or message
---@return string|nil code "timeout": no job came; "unavailable": NATS does not answer
function Worker:run_once(timeout_sec)
  local supervisor = self.supervisor
  if not supervisor then error("run_once: the worker is closed", 2) end
  sync_wheels(self)
  self.settled = nil
  local deadline = clock.monotonic() + (timeout_sec or 1.0)
  supervisor.quota = 1
  supervisor.intake:keep_pulls(math.max(MIN_PULL_SEC, timeout_sec or 1.0))
  supervisor.intake:listen()
  supervisor.intake:ask()
  turn_until(function()
    supervisor.intake:keep_pulls(math.max(MIN_PULL_SEC, deadline - clock.monotonic()))
    return self.settled or supervisor.quota <= 0
  end, deadline)
  if supervisor.quota > 0 then -- the last moment: what the server has sent already is taken
    turn_until(function() return supervisor.quota <= 0 or not supervisor.intake:ask_no_more() end,
      clock.monotonic() + END_OF_PULL_SEC)
  end
  if supervisor.quota <= 0 then turn_until(function() return self.settled end, math.huge) end
  supervisor.intake:rest()
  supervisor.quota = 0
  local settled = self.settled
  if settled then return settled.run_id or "", settled.outcome end
  if supervisor.conn:status() ~= "connected" then return nil, "NATS does not answer", "unavailable" end
  return nil, "no job came in time", "timeout"
end

--- Says good-bye in the registry and ends slot and connection.
function Worker:close()
  local supervisor = self.supervisor
  if not supervisor then return end
  self.supervisor = nil
  supervisor:stop(0)
  turn_until(function() return self.ended end, clock.monotonic() + CONNECT_TIMEOUT_SEC)
  self.store:close()
  uv.run("nowait")
end

Worker.__close = Worker.close

local OPTIONS = { "tags", "worker_id", "flow_resolver", "task_path", "globals", "config", "log", "connect_timeout_sec" }

--- A misspelled option must not be silently none.
local function unknown_option(opts)
  local known = {}
  for _, name in ipairs(OPTIONS) do known[name] = true end
  for name in pairs(opts) do
    if not known[name] then
      local is_configuration = type(name) == "string" and pcall(config.row, name)
      return ("worker.connect: %s is not an option; %s"):format(tostring(name), is_configuration
        and ("write config = { %s = ... }"):format(name) or nearest.hint(name, OPTIONS, "known: "))
    end
  end
end

--- Options as configuration, and what the slots load.
local function settings(opts)
  local fault = unknown_option(opts)
  if fault then return nil, fault, "invalid" end
  local values, options = {}, { is_eager = false, slot_script = host.home .. "/lua/pyoco/worker/user_script.lua" }
  for name, value in pairs(opts.config or {}) do values[name] = value end
  values.worker_id, values.worker_tags = opts.worker_id or values.worker_id, opts.tags or values.worker_tags
  values.task_path = opts.task_path or values.task_path
  values.worker_slots = 1
  if type(opts.flow_resolver) == "function" then
    values.task_path = values.task_path or {}
  else
    values.worker_flow_resolver = opts.flow_resolver or values.worker_flow_resolver
  end
  if type(opts.flow_resolver) == "function" or opts.globals then
    if not host.script then
      return nil, "worker.connect: a flow_resolver or globals need a script that the slots can load too", "invalid"
    end
    options.user_script = host.script
  end
  local cfg, message, code = config.load { values = values }
  if not cfg then return nil, message, code end
  return cfg, options
end

local function default_log(cfg)
  local quiet = setmetatable({ log_level = "WARNING" }, { __index = cfg })
  return logs.new { service = "pyoco-server:worker", logger = "pyoco_server.worker", config = quiet,
    sink = function(line) io.stderr:write(line) end }:with { worker_id = cfg.worker_id }
end

--- Starts the supervisor, and waits until its slot can work.
local function start(self, cfg, options, log, deadline)
  local started, message, code
  async.go(function()
    started, message, code = program.start(cfg, options, log, self.store, function() self.ended = true end)
  end)
  turn_until(function() return started or message end, deadline)
  if not started then return nil, message or "NATS does not answer in time", code or "timeout" end
  self.supervisor = started
  started.quota, self.sync_at = 0, clock.monotonic() + cfg.wheel_sync_interval_sec
  if turn_until(function() return started.board:idle_slot() end, deadline) then
    turn_until(function() return started.is_ready end, deadline) -- its wheels may take longer; then it goes without
    return true
  end
  return nil, "the slot does not start in time; standard error says why", "timeout"
end

--- See pyoco.worker's connect.
---@param opts table
---@return table|nil worker
---@return string|nil message
---@return string|nil code
function M.connect(opts)
  local cfg, options, code = settings(opts)
  if not cfg then return nil, options, code end
  local log, self = opts.log or default_log(cfg), setmetatable({}, Worker)
  async.on_error = function(text) log:error("unexpected error", nil, { message = text }) end
  options.on_settled = function(job, outcome, fields)
    self.settled = { run_id = fields.run_id or job.run_id, outcome = outcome }
  end
  options.on_spent = function() end
  local deadline = clock.monotonic() + (opts.connect_timeout_sec or CONNECT_TIMEOUT_SEC)
  local store, message
  store, message, code = program.connect(cfg, log, function() return clock.monotonic() >= deadline end)
  if not store then
    if code ~= "cancelled" then return nil, message, code end
    return nil, "NATS cannot be reached at " .. config.public(cfg.nats_url), "unavailable"
  end
  self.store = store
  local ok
  ok, message, code = start(self, cfg, options, log, deadline)
  if ok then return self end
  if self.supervisor then self:close() else store:close() end
  return nil, message, code
end

return M
