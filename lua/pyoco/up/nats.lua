--- A nats-server of our own, with JetStream, as a child process.
local child = require "pyoco.up.child"
local port = require "pyoco.up.port"
local wait = require "pyoco.up.wait"

local M = {}

--- Says who holds a port.
local function holder_of(host, number)
  local greeting = port.greeting(host, number)
  if greeting and greeting:find("^INFO {") then
    return greeting:find('"jetstream":true', 1, true) and "a NATS server that is not ours"
      or "a NATS server without JetStream that is not ours"
  end
  return "another program"
end

--- Starts nats-server and waits until it answers.
---@param opts table { host = IPv4 address (default: loopback), port = wanted (the next free one is taken when it is
---  in use), exact = that port or none, http_port = nil | port of its monitoring, store_dir, log_path, ready_sec,
---  program = "nats-server", on_exit = fn, is_stopping = fn() -> true to give up }
---@return table|nil server { child, url, port, note = nil | text about the port }
---@return string|nil message
---@return string|nil code "unavailable" | "cancelled"
function M.start(opts)
  local host, note = opts.host or "127.0.0.1", nil
  local number = port.first_free(host, opts.port)
  if not number then return nil, ("no port is free from %d to %d"):format(opts.port, opts.port + 100), "unavailable" end
  if number ~= opts.port then
    note = ("port %d is taken by %s; it is left alone"):format(opts.port, holder_of(host, opts.port))
    if opts.exact then return nil, note .. ". Choose another with --nats-client-port N", "conflict" end
  end
  local server, message = child.start { name = "NATS", death_signal = "sigterm", on_exit = opts.on_exit,
    command = { opts.program or "nats-server", "-a", host, "-p", tostring(number), "-js", "-sd", opts.store_dir,
      "-l", opts.log_path, opts.http_port and "-m", opts.http_port and tostring(opts.http_port) } }
  if not server then return nil, message, "unavailable" end
  local ready = wait.until_true(function()
    if server.exited or opts.is_stopping() then return "ended" end
    local greeting = port.greeting(host, number, 0.2)
    return greeting and greeting:find('"jetstream":true', 1, true) and "ready"
  end, opts.ready_sec)
  if ready == "ready" then
    return { child = server, url = ("nats://%s:%d"):format(host, number), port = number, note = note }
  end
  if opts.is_stopping() then return { child = server }, nil, "cancelled" end
  if server.exited and server.exited.code == 127 then
    return nil, "nats-server is not installed; get it with: apt-get install nats-server", "unavailable"
  end
  if not server.exited then
    server:signal("sigkill")
    wait.until_true(function() return server.exited end, 5)
    local text = "NATS did not answer on port %d within %g s; see %s"
    return nil, text:format(number, opts.ready_sec, opts.log_path), "unavailable"
  end
  return nil, ("NATS %s; see %s"):format(server:ending(), opts.log_path), "unavailable"
end

return M
