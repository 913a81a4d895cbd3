--- A nats-server of our own, with JetStream, as a child process.
local clock = require "host.clock"
local crypto = require "host.crypto"
local child = require "pyoco.up.child"
local port = require "pyoco.up.port"
local wait = require "pyoco.up.wait"

local M = {}

local LOCKED = 75 -- exit code of a child that could not have its lock (src/child.h)
local AGAIN_SEC = 0.1

--- Says who holds a port.
local function holder_of(host, number)
  local greeting = port.greeting(host, number)
  if greeting and greeting:find("^INFO {") then
    return greeting:find('"jetstream":true', 1, true) and "a NATS server that is not ours"
      or "a NATS server without JetStream that is not ours"
  end
  return "another program"
end

--- The port to try, and a note when it is not the wanted one.
local function choose_port(opts, host)
  local number = port.first_free(host, opts.port)
  if not number then return nil, ("no port is free from %d to %d"):format(opts.port, opts.port + 100), "unavailable" end
  if number == opts.port then return number end
  local note = ("port %d is taken by %s; it is left alone"):format(opts.port, holder_of(host, opts.port))
  if opts.exact then return nil, note .. ". Choose another with --nats-client-port N", "conflict" end
  return number, note
end

--- Starts it once. Gives the child and how that went: "ready", "ended", or nil when the time was over.
local function try(opts, host, number, deadline)
  local name = "pyoco-" .. crypto.uuid4() -- another's server on this port has another one
  local server, message = child.start { name = "NATS", death_signal = "sigterm", lock = opts.store_dir .. ".lock",
    on_exit = opts.on_exit and function(it)
      if it.is_ready then opts.on_exit(it) end
    end,
    command = { opts.program or "nats-server", "-a", host, "-p", tostring(number), "-n", name, "-js",
      "-sd", opts.store_dir, "-l", opts.log_path, opts.http_port and "-m", opts.http_port
        and tostring(opts.http_port) } }
  if not server then return nil, message end
  return server, wait.until_true(function()
    if server.exited or opts.is_stopping() then return "ended" end
    local greeting = port.greeting(host, number, 0.2)
    local is_ours = greeting and greeting:find(name, 1, true)
    return is_ours and greeting:find('"jetstream":true', 1, true) and "ready"
  end, deadline - clock.monotonic())
end

--- What is wrong with a server that did not get ready; nothing of it is left.
local function explain(opts, server, number, was_locked)
  local has_ended = server.exited
  server:stop(0)
  if was_locked then
    return ("another nats-server uses the store %s (`fuser %s.lock` shows it); stop it, or use another "
      .. "--data-dir"):format(
      opts.store_dir, opts.store_dir)
  end
  if not has_ended then
    return ("NATS did not answer on port %d within %g s; see %s"):format(number, opts.ready_sec, opts.log_path)
  end
  if server.exited.code == 127 then return "nats-server is not installed; get it with: apt-get install nats-server" end
  return ("NATS %s; see %s"):format(server:ending(), opts.log_path)
end

--- Starts nats-server and waits until it answers. A store that another server still holds, one that is about to end, is
--- waited for; when somebody takes the port in between, the next one is tried.
---@param opts table { host = IPv4 address (default: loopback), port = wanted (the next free one is taken when it is
---  in use), exact = that port or none, http_port = nil | port of its monitoring, store_dir, log_path, ready_sec,
---  program = "nats-server", on_exit = nil | fn once it was ready and ended, is_stopping = fn() -> true to give up,
---  say = nil | fn(format, ...) }
---@return table|nil server { child, url, port, note = nil | text about the port }
---@return string|nil message
---@return string|nil code "unavailable" | "conflict" | "cancelled"
function M.start(opts)
  local host, deadline, was_locked = opts.host or "127.0.0.1", clock.monotonic() + opts.ready_sec, false
  while true do
    local number, note, code = choose_port(opts, host)
    if not number then return nil, note, code end
    local server, result = try(opts, host, number, deadline)
    if not server then return nil, result, "unavailable" end
    if result == "ready" then
      server.is_ready = true
      return { child = server, url = ("nats://%s:%d"):format(host, number), port = number, note = note }
    end
    if opts.is_stopping() then return { child = server }, nil, "cancelled" end
    local is_locked = server.exited ~= nil and server.exited.code == LOCKED
    local was_taken = server.exited and not opts.exact and not port.is_free(host, number)
    if is_locked and not was_locked and opts.say then
      opts.say("waiting for another nats-server to leave the store %s", opts.store_dir)
    end
    was_locked = is_locked or was_locked and not server.exited
    if not (is_locked or was_taken) or clock.monotonic() > deadline then
      return nil, explain(opts, server, number, was_locked), was_locked and "conflict" or "unavailable"
    end
    wait.until_true(opts.is_stopping, AGAIN_SEC)
  end
end

return M
