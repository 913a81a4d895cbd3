--- A nats-server of the spec's own: its port, its store, its end.
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local M = {}
local Server = {}
Server.__index = Server

local function launch(server)
  local args = { "-a", "127.0.0.1", "-p", tostring(server.port or -1) }
  if server.jetstream then
    table.move({ "-js", "-sd", server.dir }, 1, 3, #args + 1, args)
  end
  table.move(server.args, 1, #server.args, #args + 1, args)
  server.process = process.spawn("nats-server", args)
  process.wait_for(function()
    if server.process.code then error("nats-server ended at once:\n" .. server.process.stderr) end
    return server.process.stderr:find("Server is ready", 1, true)
  end, 10000, "nats-server to be ready")
  server.port = tonumber(server.process.stderr:match("client connections on [%d.]+:(%d+)"))
  server.url = "nats://127.0.0.1:" .. server.port
end

--- Starts a server and waits until it is ready.
---@param opts table|nil jetstream (default true), port (default: a free one), dir (store; default: a new temporary
---folder, removed by stop), args (more command-line arguments)
---@return table server .url .port .dir; :stop() :kill() :restart()
function M.start(opts)
  opts = opts or {}
  local server = setmetatable({
    port = opts.port, jetstream = opts.jetstream ~= false, args = opts.args or {},
    dir = opts.dir or tmp.dir(), owns_dir = not opts.dir,
  }, Server)
  launch(server)
  return server
end

--- Ends it with SIGKILL, as a crash would; the store stays.
function Server:kill()
  self.process:kill("sigkill")
  self.process:wait()
end

--- Ends it gracefully; the store stays.
function Server:halt()
  self.process:stop()
end

--- Starts it again on the same port and store, ending it gracefully first when it still runs.
function Server:restart()
  self.process:stop()
  launch(self)
end

--- Freezes the process (SIGSTOP): connections stay, nothing answers.
function Server:freeze() self.process:kill("sigstop") end

--- Undoes freeze.
function Server:thaw() self.process:kill("sigcont") end

--- Ends it gracefully and removes its store.
function Server:stop()
  self.process:stop()
  if self.owns_dir then tmp.remove(self.dir) end
end

return M
