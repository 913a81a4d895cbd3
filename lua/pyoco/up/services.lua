--- The parts that up.lua starts, in order, and how each shows that it is ready.
local clock = require "host.clock"
local host = require "host"
local http = require "host.http"
local json = require "host.json"
local uv = require "luv"
local child = require "pyoco.up.child"
local nats = require "pyoco.up.nats"
local port = require "pyoco.up.port"
local wait = require "pyoco.up.wait"

local M = {}

local SAY_AFTER_SEC = 2 -- a wait that takes longer is explained
local PORT_TRIES = 10

--- Flags that hand configuration values on to a program.
local function flags_of(up, names)
  local config, list = require "pyoco.config", {}
  for _, name in ipairs(names) do
    local given = up.flags[name]
    if given ~= nil then list[#list + 1] = config.row(name).flag end
    if given ~= nil and given ~= true then list[#list + 1] = given end -- a switch is its flag alone
  end
  return list
end

--- A remark below a part's line.
local function note_line(note) return note and "\n         " .. note or "" end

local function start(up, name, script, arguments, env)
  for variable, value in pairs(up.env or {}) do env[variable] = value end
  return child.start { name = name, death_signal = "sigkill", log_path = up.cfg.data_dir .. "/" .. name .. ".log",
    command = { host.exe, script, table.unpack(arguments) }, env = env,
    on_exit = function(it) if it.is_ready then up.on_exit(it) end end, on_line = up.on_line(name) }
end

--- Waits until a part is ready, has died, or we are to stop. The condition gives true, or false and what is missing.
local function ready(up, started, condition)
  local since, missing, said = clock.monotonic(), nil, nil
  local result = wait.until_true(function()
    if started.exited or up.is_stopping() then return "ended" end
    local fine
    fine, missing = condition()
    if not fine and not said and clock.monotonic() - since > SAY_AFTER_SEC then
      said = up.say("waiting for the %s: %s", started.name, missing or "no answer") or true
    end
    return fine and "ready"
  end, up.ready_sec, 20)
  if up.is_stopping() then return true end
  if result == "ready" then
    started.is_ready = true
    if started.exited then up.on_exit(started) end
    return true
  end
  wait.until_true(function() return started.exited and started.open == 0 end, 1) -- its last words
  local log = up.cfg.data_dir .. "/" .. started.name .. ".log"
  if not started.exited then
    return nil, ("the %s was not ready within %g s: %s; more is in %s"):format(started.name, up.ready_sec,
      missing or "no answer", log), "unavailable"
  end
  return nil, ("the %s %s; its last words (all of them: %s):\n  %s"):format(started.name, started:ending(), log,
    table.concat(started.recent, "\n  ")), "unavailable"
end

--- NATS: our own, unless an address was given.
---@param up table
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function M.nats(up)
  if up.origins.nats_url ~= "default" then
    up.nats_url = up.cfg.nats_url
    up.say("NATS     %s (%s)", require("pyoco.config").public(up.nats_url), up.origins.nats_url)
    return true
  end
  local server, message, code = nats.start { host = up.nats_host, port = up.nats_port, exact = up.nats_exact,
    http_port = up.nats_http_port, store_dir = up.cfg.data_dir .. "/nats",
    log_path = up.cfg.data_dir .. "/nats.log",
    on_exit = up.on_exit, is_stopping = up.is_stopping, ready_sec = up.ready_sec, say = up.say }
  if not server then return nil, message, code end
  table.insert(up.children, server.child)
  up.nats_url = server.url
  if server.url then
    up.say("NATS     %s, store in %s/nats%s", server.url, up.cfg.data_dir, note_line(server.note))
  end
  return true
end

--- The gateway's port: the wanted one; when it is in use and nobody asked for it, the next free one.
local function choose_port(up)
  local wanted, address = up.cfg.http_port, up.cfg.http_host
  if wanted == 0 then return port.first_free(address, 8000) end
  if port.is_free(address, wanted) then return wanted end
  if up.origins.http_port ~= "default" then
    return nil, ("port %d on %s is in use (%s asks for it); stop what listens there, or choose another with --port N")
      :format(wanted, address, up.origins.http_port), "conflict"
  end
  local other = port.first_free(address, wanted + 1)
  if not other then return nil, ("no port is free from %d on; choose one with --port N"):format(wanted), "conflict" end
  return other, ("port %d is in use by another program; it is left alone"):format(wanted)
end

--- Whether the gateway that we started is ready: another program may have taken its port in between.
local function answers(up, started)
  local function get(path)
    local answer = http.request { url = up.server_url .. path, timeout_sec = 2, connect_timeout_sec = 1 }
    return answer and answer.status, answer and json.decode(answer.body)
  end
  local _, health = get "/health"
  if type(health) ~= "table" or health.pid ~= started.pid then return false end
  if up.ready_path == "/health" then return true end
  local status, said = get "/ready"
  return status == 200, type(said) == "table" and said.detail or nil
end

--- Starts the gateway on a port.
local function start_gateway(up, number)
  local arguments = { "--host", up.cfg.http_host, "--port", tostring(number),
    table.unpack(flags_of(up, { "dashboard_lang" })) }
  local started, message, code = start(up, "gateway", "gateway.lua", arguments, { PYOCO_NATS_URL = up.nats_url })
  if not started then return nil, message, code end
  table.insert(up.children, started)
  local reachable = up.cfg.http_host == "0.0.0.0" and "127.0.0.1" or up.cfg.http_host
  up.server_url = ("http://%s:%d"):format(reachable, number)
  local fine, why, kind = ready(up, started, function() return answers(up, started) end)
  local was_taken = not fine and started.exited and table.concat(started.recent, "\n"):find("is in use", 1, true)
  if was_taken then table.remove(up.children) end
  return fine, why, was_taken and "conflict" or kind
end

--- The gateway. When nobody asked for its port and another program takes it while we start, the next one is tried.
---@param up table
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function M.gateway(up)
  local may_move = up.origins.http_port == "default" or up.cfg.http_port == 0
  local fine, why, kind, note
  for _ = 1, PORT_TRIES do
    local number
    number, note, kind = choose_port(up)
    if not number then return nil, note, kind end
    fine, why, kind = start_gateway(up, number)
    if kind ~= "conflict" or not may_move then break end
  end
  if fine and not up.is_stopping() then up.say("gateway  %s/%s", up.server_url, note_line(note)) end
  return fine, why, kind
end

--- Where the demo's flow is, when the current folder has no flows and nobody said where they are.
local function examples_path(up)
  local has_own = up.origins.task_path ~= "default" or uv.fs_stat("flows")
  return up.demo and not has_own and host.home .. "/flows" or nil
end

--- The folders where the worker looks for flows.
---@param up table
---@return string[]
function M.task_roots(up)
  local examples = examples_path(up)
  return examples and { examples } or up.cfg.task_path
end

--- Whether the gateway lists the worker with a heartbeat of this start. When it wants a key that we have not, the
--- worker's own word is taken.
local function is_listed(up, started, since)
  local key = up.cfg.api_key
  local answer = http.request { url = up.server_url .. "/workers?include_hidden=true", timeout_sec = 2,
    headers = key and { [up.cfg.api_key_header] = key } or nil }
  if answer and (answer.status == 401 or answer.status == 403) then
    for _, line in ipairs(started.recent) do
      if line:find("worker ready", 1, true) then return true end
    end
  end
  for _, worker in ipairs(answer and answer.status == 200 and json.decode(answer.body) or {}) do
    if worker.worker_id == up.cfg.worker_id and (worker.last_seen_at or 0) >= since then return true end
  end
  return false, "the gateway does not list it"
end

--- The worker; ready once it is listed.
---@param up table
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function M.worker(up)
  local slots = up.origins.worker_slots == "default" and tostring(up.default_slots)
  local arguments = { "--worker-id", up.cfg.worker_id, "--tags", table.concat(up.cfg.worker_tags, ","),
    table.unpack(flags_of(up, { "worker_slots", "worker_drain_sec", "task_path", "worker_allow_commands",
      "worker_allow_spawn" })) }
  if up.flow_resolver then table.move({ "--flow-resolver", up.flow_resolver }, 1, 2, #arguments + 1, arguments) end
  local since = clock.wall() - 0.5
  local started, message, code = start(up, "worker", "worker.lua", arguments, { PYOCO_NATS_URL = up.nats_url,
    PYOCO_WORKER_SLOTS = slots or nil, PYOCO_TASK_PATH = examples_path(up) })
  if not started then return nil, message, code end
  table.insert(up.children, started)
  local fine, why, kind = ready(up, started, function() return is_listed(up, started, since) end)
  if fine and not up.is_stopping() then
    up.say("worker   %s: tags %s, slots %s", up.cfg.worker_id, table.concat(up.cfg.worker_tags, ", "),
      slots or up.flags.worker_slots or tostring(up.cfg.worker_slots))
  end
  return fine, why, kind
end

return M
