--- Who may require whom, as data (DESIGN section 1): `cli, routes -> service -> flow, run, store -> host`.
--- A layer's row names every layer that its files may require, its own included.
local M = {}

--- Path prefix -> layer; the longest prefix wins. A file under lua/ that matches none is a fault.
M.places = {
  ["lua/pyoco/init.lua"] = "front", -- what flow files require; one function of it is for scripts
  ["lua/pyoco/err.lua"] = "base",
  ["lua/pyoco/log.lua"] = "base",
  ["lua/pyoco/config"] = "base",
  ["lua/pyoco/nearest.lua"] = "base",
  ["lua/pyoco/null.lua"] = "base",
  ["lua/pyoco/sorted.lua"] = "base",
  ["lua/pyoco/flow/"] = "flow",
  ["lua/pyoco/run/"] = "run",
  ["lua/pyoco/wheel/"] = "wheel",
  ["lua/pyoco/nats/"] = "nats",
  ["lua/pyoco/store/"] = "store",
  ["lua/pyoco/engine/"] = "engine",
  ["lua/pyoco/local/"] = "local", -- runs that spawn others, with no server
  ["lua/pyoco/testing"] = "testing",
  ["lua/pyoco/worker/"] = "worker",
  ["lua/pyoco/service/"] = "service",
  ["lua/pyoco/http/"] = "http",
  ["lua/pyoco/routes/"] = "routes",
  ["lua/pyoco/client/"] = "client",
  ["lua/pyoco/client/nats.lua"] = "native", -- talks to NATS itself: a gateway and its services in the script
  ["lua/pyoco/cli/"] = "cli",
  ["lua/pyoco/up/"] = "up",
  ["lua/pyoco/gateway/"] = "program",
  ["lua/pyoco/worker/user_script.lua"] = "program", -- what the slots of worker.connect load
  ["lua/pyoco/worker/init.lua"] = "program", -- worker.main: the command line, then the supervisor
  ["lua/"] = "program", -- gateway.lua, worker.lua ...: they put the layers together
  ["flows/"] = "user",
}

--- Layer -> layers it may require. `host` is every host.* module and luv.
M.may = {
  base = { "base", "host" },
  flow = { "flow", "base", "host" },
  run = { "run", "flow", "base", "host" },
  wheel = { "wheel", "base", "host" }, -- what a wheel is: names, versions, contents
  nats = { "nats", "base", "host" },
  store = { "store", "nats", "run", "base", "host" },
  front = { "native", "flow", "base", "host" },
  engine = { "engine", "flow", "run", "base", "host" },
  ["local"] = { "local", "engine", "store", "flow", "run", "base", "host" },
  testing = { "testing", "local", "engine", "flow", "run", "base", "host" }, -- for users' specs: nothing else needs it
  worker = { "worker", "wheel", "engine", "store", "nats", "flow", "run", "base", "host" },
  service = { "service", "wheel", "flow", "run", "store", "base", "host" },
  http = { "http", "base", "host" },
  routes = { "routes", "service", "http", "base", "host" },
  client = { "client", "run", "base", "host" },
  native = { "native", "client", "service", "store", "run", "base", "host" },
  cli = { "cli", "client", "wheel", "service", "http", "local", "engine", "flow", "run", "base", "host" },
  up = { "up", "cli", "client", "http", "base", "host" },
  program = { "program", "testing", "up", "cli", "client", "routes", "http", "service", "worker", "wheel", "store",
    "nats", "engine", "flow", "run", "base", "host" },
  user = { "user", "flow", "host" },
}

--- Modules with an audience of their own: module prefix -> the path prefixes that may require it, and why.
M.only = {
  { module = "host.nats", from = { "lua/pyoco/store/jetstream.lua", "lua/pyoco/nats/" },
    why = "only the store's JetStream side talks to NATS" },
  { module = "host.httpd", from = { "lua/pyoco/http/", "lua/pyoco/gateway/" },
    why = "only the gateway serves HTTP" },
  { module = "host.http", from = { "lua/pyoco/http/", "lua/pyoco/client/", "lua/pyoco/cli/", "lua/pyoco/engine/",
    "lua/pyoco/up/", "lua/client.lua" }, why = "the store, flows and runs know nothing of HTTP" },
  { module = "pyoco.engine", from = { "lua/pyoco/engine/", "lua/pyoco/worker/", "lua/pyoco/cli/", "lua/client.lua",
    "lua/pyoco/local/", "lua/pyoco/testing" }, why = "only engine/ runs flow code, for a worker or a local run" },
  { module = "pyoco.flow.load", from = { "lua/pyoco/flow/", "lua/pyoco/engine/", "lua/pyoco/worker/", "lua/pyoco/cli/",
    "lua/client.lua", "lua/pyoco/testing" }, why = "loading a flow runs its file: never in the gateway" },
}

--- The layer of a file, by its path; nil when the table has no place for it.
---@param path string relative to the checkout
---@return string|nil
function M.of_file(path)
  local best
  for prefix in pairs(M.places) do
    if path:sub(1, #prefix) == prefix and #prefix > #(best or "") then best = prefix end
  end
  -- a new folder of the library must be given its place here, not fall to the programs
  if best == "lua/" and path:find("^lua/pyoco/") then return nil end
  return M.places[best]
end

--- The layer of a module name; nil for what is not ours (a system library, a test's helper).
---@param name string as given to require
---@return string|nil
function M.of_module(name)
  if name == "host" or name == "luv" or name:find("^host%.") then return "host" end
  if name == "pyoco" then return "flow" end
  if name:find("^pyoco%.") then
    local path = "lua/" .. name:gsub("%.", "/")
    return M.of_file(path .. ".lua") or M.of_file(path .. "/init.lua") or "unknown"
  end
  return nil
end

return M
