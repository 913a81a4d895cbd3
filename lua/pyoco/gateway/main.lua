--- The gateway's process: command line, server, the connection and the read model that its VMs share, and an orderly
--- end.
local host = require "host"
local json = require "host.json"
local shared = require "host.shared"
local uv = require "luv"
local locale = require "pyoco.config_locale"
local program = require "pyoco.cli.program"
local gateway = require "pyoco.gateway"
local lease = require "pyoco.service.lease"
local store = require "pyoco.store.jetstream"

local M = {}

local LINK_CHECK_MS = 250
local DRAIN_SEC = 10
local NATS_READY_SEC, NATS_STOP_SEC = 30, 10

--- The command line (also what --help shows).
M.PROGRAM = {
  name = "gateway.lua",
  doc = "HTTP API and dashboard. Routes are Lua: edit gateway.lua while it runs.",
  config = { "http_host", "http_port", "nats_url", "data_dir", "dashboard_lang" },
  options = {
    { "--with-nats", flag = true,
      doc = "Start a nats-server with JetStream too, its store in --data-dir; it is stopped last." },
    { "--nats-port", type = "integer", min = 1, max = 65535, default = 4222, metavar = "<port>",
      doc = "Port of that NATS; the next free one when it is in use." },
  },
}

--- Tells /ready and /health what is wrong with NATS; nil = nothing.
local function show(problem)
  shared.set("nats.problem", problem)
  shared.set("health.nats_problem", problem and json.encode(problem) or "null")
end

--- Keeps the connection to NATS, and makes the resources on it as soon as they can be made, and again after each
--- reconnect (a NATS may come back empty). The pool's VMs borrow the connection; /ready tells how it stands.
---@param cfg table
---@param log table
---@return table|nil link with check() and close()
---@return string|nil message: the address or the credentials cannot be used
local function new_link(cfg, log)
  local opened, reason = store.connect(cfg, { name = "pyoco-http-api", share = true, retry = true })
  if not opened then return nil, reason end
  local link = { store = opened, problem = "connecting to NATS" }

  local function report(problem)
    if problem == link.problem then return end
    link.problem = problem
    if problem then
      show(problem)
      log:event("nats", problem, { nats_url = link.store.conn:info().url })
    else
      show(nil)
      log:info("connected to NATS", { nats_url = link.store.conn:info().url })
    end
  end

  --- Nil when all is well, else what is wrong.
  local function look()
    if link.store:status() ~= "connected" then return "NATS does not answer; trying again" end
    local reconnects = link.store.conn:info().reconnects
    if link.ensured == reconnects then return nil end
    local ok, message = link.store:ensure()
    if not ok then return message end
    link.ensured = reconnects
    return nil
  end

  --- Called a few times a second.
  function link.check() report(look()) end

  --- Ends the connection.
  function link.close()
    link.store:close()
  end

  show(link.problem)
  return link
end

--- Starts the HTTP server with the script that is running now.
local function serve(cfg)
  return require("host.httpd").serve {
    script = host.script, boot = assert(json.encode(cfg)), host = cfg.http_host, port = cfg.http_port,
    threads = cfg.http_threads, vms = cfg.http_vms > 0 and cfg.http_vms or nil,
    max_body_bytes = cfg.http_max_body_bytes, max_uploads = cfg.http_max_uploads, spool_dir = cfg.http_spool_dir,
    static_dir = host.home .. "/www", runs_bucket = cfg.runs_bucket,
  }
end

--- Catches SIGINT and SIGTERM from now on, so that a stop during the start is orderly too. After wait() a further
--- signal ends the process at once.
---@return table signals with wait(on_tick) -> exit code
local function catch_signals()
  local handles, code = {}, nil
  for name, exit_code in pairs { sigint = 130, sigterm = 0 } do
    local handle = uv.new_signal()
    handles[#handles + 1] = handle
    handle:start(name, function()
      code = code or exit_code
      uv.stop()
    end)
  end
  local signals = {}

  --- The exit code of the signal that has come; nil = none has.
  function signals.code() return code end

  --- As if a signal had come.
  function signals.raise(exit_code)
    code = code or exit_code
    uv.stop()
  end

  --- Turns the loop until a signal has come.
  function signals.wait(on_tick)
    local timer = uv.new_timer()
    timer:start(0, LINK_CHECK_MS, on_tick)
    while not code do uv.run() end
    timer:close()
    signals.close()
    return code
  end

  --- Back to the default action.
  function signals.close()
    for _, handle in ipairs(handles) do handle:close() end
    uv.run("nowait")
  end
  return signals
end

--- Starts a NATS of our own, into `running`, and has cfg name it; nil and what is wrong when it does not start.
local function start_nats(cfg, log, running)
  if running.origins.nats_url ~= "default" then
    return nil, ("--with-nats starts a NATS of its own, and %s names %s; drop one of them"):format(
      running.origins.nats_url, require("pyoco.config").public(cfg.nats_url))
  end
  local message
  running.claim, message = require("pyoco.up.folder").claim(cfg.data_dir, M.PROGRAM.name)
  if not running.claim then return nil, message end
  running.nats, message = require("pyoco.up.nats").start { port = running.nats_port,
    store_dir = cfg.data_dir .. "/nats", log_path = cfg.data_dir .. "/nats.log", ready_sec = NATS_READY_SEC,
    is_stopping = running.signals.code,
    say = function(format, ...) log:warning(format:format(...)) end,
    on_exit = function(child)
      log:event("nats", ("NATS %s; the gateway stops"):format(child:ending()))
      running.signals.raise(1)
    end }
  local own = running.nats
  if not own then return nil, message end
  if not own.url then return true end -- a signal has come
  cfg.nats_url = own.url
  log:info(("NATS is at %s, store in %s/nats"):format(own.url, cfg.data_dir), { note = own.note })
  return true
end

--- Starts everything, into `running`; nil and what is wrong when a part does not start.
local function start(cfg, log, running)
  local message
  if running.with_nats then
    local fine
    fine, message = start_nats(cfg, log, running)
    if not fine or running.signals.code() then return fine, message end
  end
  running.link, message = new_link(cfg, log)
  if not running.link then return nil, message end
  running.link.check()
  running.model, message = require("host.readmodel").start { bucket = cfg.runs_bucket }
  if not running.model then return nil, message end
  if cfg.http_auth_mode == "api_key" then
    running.keys, message = running.link.store:mirror(cfg.auth_bucket)
    if not running.keys then return nil, message end
  end
  running.server, message = serve(cfg)
  return running.server, message
end

--- Ends what runs, in the right order: what follows a bucket before the connection that it follows it on.
local function stop(running)
  if running.server then running.server:stop(DRAIN_SEC) end
  if running.keys then running.keys:stop() end
  if running.model then running.model:stop() end
  if running.link then
    lease.release(running.link.store)
    running.link.close()
  end
  if running.nats then
    running.nats.child.is_ready = false -- its end is no event any more
    running.nats.child:stop(NATS_STOP_SEC)
  end
  if running.claim then running.claim:close() end
end

--- The whole life of the process.
---@param argv string[]
---@return integer exit code: 0 after SIGTERM, 130 after Ctrl-C, 1 when it cannot start
function M.run(argv)
  local cfg, values, origins, warnings = program.start(M.PROGRAM, argv)
  if not cfg then return values end
  cfg.dashboard_lang = locale.language(cfg.dashboard_lang)
  local log = gateway.new_log(cfg)
  for _, warning in ipairs(warnings) do log:warning(warning) end
  local signals = catch_signals()
  local running = { signals = signals, origins = origins, with_nats = values.with_nats, nats_port = values.nats_port }
  local started, message = start(cfg, log, running)
  if not started then
    stop(running)
    signals.close()
    io.stderr:write("gateway.lua: ", message, "\n")
    return 1
  end
  if signals.code() and not running.server then -- stopped in the middle of the start
    stop(running)
    signals.close()
    return signals.code()
  end
  local address = ("http://%s:%d"):format(cfg.http_host, running.server:port())
  log:info("gateway is listening at " .. address, { address = address })
  local code = signals.wait(running.link.check)
  log:info("gateway is stopping")
  stop(running)
  return code
end

return M
