--- The gateway: builds the app of the standard routes, and in the script role starts the server.
--- The same script runs in three roles: "script" reads the command line and serves; "http" and "service" VMs only
--- hand their app to the host, with the configuration that the script role has read.
local host = require "host"
local guard = require "host.guard"
local json = require "host.json"
local http_app = require "pyoco.http.app"
local readmodel = require "pyoco.store.readmodel"
local store = require "pyoco.store.jetstream"
local logger = require "pyoco.log"

local M = {}

--- What is mounted, in order. Each is a list of rows (pyoco.http.app).
M.ROUTES = { "pyoco.routes.page", "pyoco.routes.status", "pyoco.routes.runs", "pyoco.routes.events",
  "pyoco.routes.bundles", "pyoco.routes.schedules", "pyoco.routes.workers", "pyoco.routes.wheels",
  "pyoco.routes.queues", "pyoco.routes.dlq", "pyoco.routes.schemas", "pyoco.routes.metrics",
  "pyoco.routes.openapi" }

local function new_log(cfg)
  return logger.new { service = "pyoco-server:http", logger = "pyoco_server.http_api", config = cfg }
end

--- The store of a VM: its writes are told to the read model, which answers its lists, and to the guard.
---@param cfg table
---@return table store (pyoco.store.jetstream) with model (pyoco.store.readmodel)
function M.store(cfg)
  local opened = store.shared(cfg)
  opened.model = readmodel.new()
  opened.runs.on_write = function(revision, run_id, bytes)
    opened.model:wrote(revision)
    if bytes then guard.see(run_id, bytes, revision) end
  end
  return opened
end

--- An app with the standard routes, to which a script adds its own.
---@return table app (pyoco.http.app) with `store` and `config`
function M.app()
  local boot = host.boot()
  local cfg = boot and assert(json.decode(boot)) or {}
  local app = http_app.new { config = cfg, log = new_log(cfg) }
  if boot then app.store = M.store(cfg) end
  local function mount()
    require("pyoco.gateway.duties").mount(app)
    for _, name in ipairs(M.ROUTES) do app:mount(require(name)) end
  end
  if host.role == "script" then app:later(mount) else mount() end -- it serves nothing: most of it is never loaded there
  return app
end

--- The OpenAPI document of the standard routes, as docs/protocol/openapi.json has it.
---@return string JSON
function M.openapi()
  local app = http_app.new { config = { http_api_key_header = "X-API-Key" } }
  for _, name in ipairs(M.ROUTES) do app:mount(require(name)) end
  local answer = app:handle { method = "GET", raw_path = "/openapi.json", path = "/openapi.json", query_string = "",
    headers = {}, body = "", remote_addr = "", scheme = "http" }
  return assert(json.encode(json.decode(answer.body), { sort = true, pretty = true })) .. "\n"
end

--- Ends a gateway script. In the script role: reads the command line, serves until a signal, and returns the exit
--- code. In a VM of the pool: returns the app.
---@param app table
---@param ... string the script's arguments
---@return table|integer
function M.main(app, ...)
  if host.role ~= "script" then return app end
  return require("pyoco.gateway.main").run { ... }
end

--- A logger as the gateway writes; for gateway.main.
M.new_log = new_log

return M
