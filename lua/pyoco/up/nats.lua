--- A nats-server of our own, with JetStream, as a child process.
local child = require "pyoco.up.child"
local port = require "pyoco.up.port"
local wait = require "pyoco.up.wait"

local M = {}

local HOST = "127.0.0.1"

--- Says who holds a port.
local function holder_of(number)
  local greeting = port.greeting(HOST, number)
  if greeting and greeting:find("^INFO {") then
    return greeting:find('"jetstream":true', 1, true) and "a NATS server that is not ours"
      or "a NATS server without JetStream that is not ours"
  end
  return "another program"
end

--- Starts nats-server and waits until it answers.
---@param opts table { port = wanted (the next free one is taken when it is in use), store_dir, log_path,
---  ready_sec, program = "nats-server", on_exit = fn, is_stopping = fn() -> true to give up }
---@return table|nil server { child, url, port, note = nil | text about the port }
---@return string|nil message
---@return string|nil code "unavailable" | "cancelled"
function M.start(opts)
  local number, note = port.first_free(HOST, opts.port), nil
  if not number then return nil, ("no port is free from %d to %d"):format(opts.port, opts.port + 100), "unavailable" end
  if number ~= opts.port then
    note = ("port %d is taken by %s; it is left alone"):format(opts.port, holder_of(opts.port))
  end
  local server, message = child.start { name = "NATS", death_signal = "sigterm", on_exit = opts.on_exit,
    command = { opts.program or "nats-server", "-a", HOST, "-p", tostring(number), "-js", "-sd", opts.store_dir,
      "-l", opts.log_path } }
  if not server then return nil, message, "unavailable" end
  local ready = wait.until_true(function()
    if server.exited or opts.is_stopping() then return "ended" end
    local greeting = port.greeting(HOST, number, 0.2)
    return greeting and greeting:find('"jetstream":true', 1, true) and "ready"
  end, opts.ready_sec)
  if ready == "ready" then
    return { child = server, url = ("nats://%s:%d"):format(HOST, number), port = number, note = note }
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
