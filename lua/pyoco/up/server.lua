--- server.lua, installed as pyoco-server: the reference's command line (CONTRACT 16.3). The gateway alone, or with a
--- NATS and a worker beside it; what they log is printed as it is.
local clock = require "host.clock"
local output = require "pyoco.cli.output"
local program = require "pyoco.cli.program"
local keep = require "pyoco.up.keep"
local port = require "pyoco.up.port"

local M = {}

--- The reference's names of log levels -> ours.
local LEVELS = { critical = "CRITICAL", error = "ERROR", warning = "WARNING", info = "INFO", debug = "DEBUG",
  trace = "DEBUG" }

M.program = {
  name = "server.lua",
  doc = "The gateway; on request with NATS and a worker beside it. up.lua is the shorter way to all three.",
  epilog = "Ctrl-C or SIGTERM stops worker, gateway and NATS, in this order. Exit codes: 1 failed, 130 stopped.",
  config = { "http_host", "http_port", "nats_url", "dashboard_lang", "data_dir" },
  options = {
    { "up", choices = { "up" }, optional = true, metavar = "up", doc = "May be left out." },
    { "--log-level", choices = { "critical", "error", "warning", "info", "debug", "trace" },
      doc = "Least important level that is logged. Default: PYOCO_LOG_LEVEL." },
    { "--with-nats-bootstrap", flag = true, doc = "Start a nats-server with JetStream; its store is in --data-dir." },
    { "--nats-listen-host", default = "127.0.0.1", metavar = "<address>", doc = "Where that NATS listens." },
    { "--nats-client-port", type = "integer", min = 1, max = 65535, default = 4222, doc = "Its port for clients." },
    { "--nats-http-port", type = "integer", min = 1, max = 65535, default = 8222, doc = "Its port for monitoring." },
    { "--with-worker", flag = true, doc = "Start a worker too." },
    { "--worker-id", default = "worker", metavar = "<id>", doc = "Its name." },
    { "--worker-tags", type = "tags", default = "default", metavar = "<tags>", doc = "Its tags, separated by commas." },
    { "--worker-flow-resolver", metavar = "<file.lua[:name]>", doc = "Its --flow-resolver." },
    { "--worker-poll-timeout", type = "number", min = 0, metavar = "<sec>",
      doc = "Taken for the reference's sake: our workers are told of jobs, they do not poll." },
  },
}

local function fail(text)
  io.stderr:write("[pyoco-server][ERR-PYOCO-0018] ", text, "\n")
end

--- What is against starting a NATS of our own; nil when nothing is.
local function against_nats(cfg, values, origins)
  local url = ("nats://%s:%d"):format(values.nats_listen_host, values.nats_client_port)
  if origins.nats_url ~= "default" and cfg.nats_url ~= url then
    return ("--with-nats-bootstrap starts %s, and %s says %s; drop one of them, or make them the same"):format(url,
      origins.nats_url, require("pyoco.config").public(cfg.nats_url))
  end
  for _, number in ipairs { values.nats_client_port, values.nats_http_port } do
    if not port.is_free(values.nats_listen_host, number) then
      return ("port %d on %s is in use; stop what listens there, or choose others with --nats-client-port and "
        .. "--nats-http-port"):format(number, values.nats_listen_host)
    end
  end
end

local function overlay(base, fields) return setmetatable(fields, { __index = base }) end

--- What the parts log goes to where ours goes.
local function pass_on(_)
  return function(line)
    io.stdout:write(line, "\n")
    io.stdout:flush()
  end
end

local function parts_of(values)
  local parts = { "gateway" }
  if values.with_nats_bootstrap then table.insert(parts, 1, "nats") end
  if values.with_worker then parts[#parts + 1] = "worker" end
  return parts
end

--- Runs server.lua.
---@param argv string[]
---@return integer exit code
function M.main(argv)
  local started_at = clock.monotonic()
  local cfg, values, origins = program.start(M.program, argv)
  if not cfg then return values end
  local trouble = values.with_nats_bootstrap and against_nats(cfg, values, origins)
  if trouble then
    fail(trouble)
    return 1
  end
  local is_terminal = output.is_terminal(1)
  return keep.run(keep.new {
    program = M.program.name, parts = parts_of(values), ready_sec = 30,
    ready_path = not values.with_worker and "/health" or nil,
    cfg = overlay(cfg, { worker_id = values.worker_id, worker_tags = values.worker_tags }),
    origins = overlay(origins, { http_port = "--port",
      nats_url = values.with_nats_bootstrap and "default" or "given" }),
    flags = values.flags, default_slots = 1, flow_resolver = values.worker_flow_resolver, nats_url = cfg.nats_url,
    nats_host = values.nats_listen_host, nats_port = values.nats_client_port, nats_exact = true,
    nats_http_port = values.nats_http_port, env = { PYOCO_LOG_LEVEL = LEVELS[values.log_level] },
    paint = output.painter(is_terminal and cfg.no_color == nil), on_line = pass_on, fail = fail,
    say = function(format, ...)
      if is_terminal then io.stdout:write(format:format(...), "\n") end
    end,
  }, started_at)
end

return M
