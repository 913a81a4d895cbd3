--- The gateway's process: command line, server, the connection that its VMs share, and an orderly end.
local host = require "host"
local json = require "host.json"
local shared = require "host.shared"
local uv = require "luv"
local args = require "pyoco.cli.args"
local config = require "pyoco.config"
local locale = require "pyoco.config_locale"
local gateway = require "pyoco.gateway"
local store = require "pyoco.store.jetstream"

local M = {}

local LINK_CHECK_MS = 250
local RETRY_SEC = 1
local DRAIN_SEC = 10

--- The command line (also what --help shows).
M.PROGRAM = {
  name = "pyoco-host gateway.lua",
  doc = "HTTP API and dashboard. Routes are Lua: edit gateway.lua while it runs.",
  config = { "http_host", "http_port", "nats_url", "dashboard_lang" },
}

--- Reads command line and configuration, or says what is wrong.
---@return table|nil cfg
---@return integer|nil exit code when there is none
local function read_config(argv)
  local values, message, _, usage = args.parse(M.PROGRAM, argv)
  if not values then
    io.stderr:write(("gateway.lua: %s\n%s\n"):format(message, usage))
    return nil, 1
  end
  if values.help then
    io.stdout:write(values.help)
    return nil, 0
  end
  local cfg, faults, warnings = config.load { flags = values.flags }
  if not cfg then
    io.stderr:write("gateway.lua: ", faults, "\n")
    return nil, 1
  end
  return cfg, nil, warnings
end

--- Keeps the connection to NATS: makes it, and the resources on it, as soon as they can be made, and again after
--- each reconnect (a NATS may come back empty). The pool's VMs borrow the connection; /ready tells how it stands.
---@param cfg table
---@param log table
---@return table link with check() and close()
local function new_link(cfg, log)
  local link = { retry_at = 0, problem = "connecting to NATS at " .. cfg.nats_url }

  local function report(problem)
    if problem == link.problem then return end
    link.problem = problem
    if problem then
      shared.set("nats.problem", problem)
      log:event("nats", problem, { nats_url = cfg.nats_url })
    else
      shared.delete("nats.problem")
      log:info("connected to NATS", { nats_url = link.store.conn:info().url })
    end
  end

  local function open()
    local message
    if not link.store then
      link.store, message = store.connect(cfg, { name = "pyoco-http-api", share = true })
      if not link.store then return message end
    end
    if link.store:status() ~= "connected" then return "NATS is not connected; trying again" end
    local reconnects = link.store.conn:info().reconnects
    if link.ensured == reconnects then return nil end
    local ok
    ok, message = link.store:ensure()
    if not ok then return message end
    link.ensured = reconnects
    return nil
  end

  --- Called a few times a second. Trying costs a connect, so a failure is tried again after a second.
  function link.check()
    if link.problem and uv.now() < link.retry_at then return end
    report(open())
    if link.problem then link.retry_at = uv.now() + RETRY_SEC * 1000 end
  end

  --- Ends the connection.
  function link.close()
    if link.store then link.store:close() end
  end

  shared.set("nats.problem", link.problem)
  return link
end

--- Starts the HTTP server with the script that is running now.
local function serve(cfg)
  return require("host.httpd").serve {
    script = host.script, boot = assert(json.encode(cfg)), host = cfg.http_host, port = cfg.http_port,
    threads = cfg.http_threads, vms = cfg.http_vms > 0 and cfg.http_vms or nil,
    max_body_bytes = cfg.http_max_body_bytes, static_dir = host.home .. "/www", runs_bucket = cfg.runs_bucket,
  }
end

--- Runs the loop until SIGINT or SIGTERM. A second signal ends the process at once.
---@return integer exit code
local function wait_for_signal(on_tick)
  local timer, signals, code = uv.new_timer(), {}, nil
  timer:start(0, LINK_CHECK_MS, on_tick)
  for name, exit_code in pairs { sigint = 130, sigterm = 0 } do
    local signal = uv.new_signal()
    signals[#signals + 1] = signal
    signal:start(name, function()
      code = exit_code
      uv.stop()
    end)
  end
  uv.run()
  timer:close()
  for _, signal in ipairs(signals) do signal:close() end -- the default action is back: a second signal kills
  uv.run("nowait")
  return code
end

--- The whole life of the process.
---@param argv string[]
---@return integer exit code: 0 after SIGTERM, 130 after Ctrl-C, 1 when it cannot start
function M.run(argv)
  local cfg, code, warnings = read_config(argv)
  if not cfg then return code end
  cfg.dashboard_lang = locale.language(cfg.dashboard_lang)
  local log = gateway.new_log(cfg)
  for _, warning in ipairs(warnings or {}) do log:warning(warning) end
  local link = new_link(cfg, log)
  link.check()
  local server, message = serve(cfg)
  if not server then
    link.close()
    io.stderr:write("gateway.lua: ", message, "\n")
    return 1
  end
  log:info("gateway is listening", { address = ("http://%s:%d"):format(cfg.http_host, server:port()) })
  code = wait_for_signal(link.check)
  log:info("gateway is stopping")
  server:stop(DRAIN_SEC)
  link.close()
  return code
end

return M
