--- A child process of up.lua: dies with us, its output goes to a file, its trouble to the terminal.
local config = require "pyoco.config"
local host = require "host"
local uv = require "luv"
local wait = require "pyoco.up.wait"

local M = {}

local KEPT_LINES = 12 -- last lines of output that are shown when it dies

local Child = {}
Child.__index = Child

--- Reads a stream of the child: to the log, and line by line to on_line.
local function follow(child, pipe, on_line)
  local rest = ""
  child.open = child.open + 1
  pipe:read_start(function(_, chunk)
    if not chunk then
      pipe:close()
      child.open = child.open - 1
      return
    end
    if child.log then
      child.log:write(chunk)
      child.log:flush()
    end
    rest = rest .. chunk
    while true do
      local line, after = rest:match("^([^\n]*)\n()")
      if not line then break end
      rest = rest:sub(after)
      table.insert(child.recent, line)
      if #child.recent > KEPT_LINES then table.remove(child.recent, 1) end
      if on_line then on_line(line) end
    end
  end)
end

--- Starts a program in a session of its own, so that a terminal's Ctrl-C reaches us alone and we stop it in order.
---@param opts table { name, command = {program, arguments...}, env = {variable = text}, log_path,
---  death_signal = "sigterm" | "sigkill" (when we die), lock = nil | path of a file that it holds locked while it lives
---  (exit code 75 when another does), on_line = fn(line), on_exit = fn(child) }
---@return table|nil child { name, pid, exited = nil | { code, signal }, recent = lines, open = pipes
---  not read to the end }
---@return string|nil message
---@return string|nil code "unavailable"
function M.start(opts)
  local log = opts.log_path and io.open(opts.log_path, "wb")
  local child = setmetatable({ name = opts.name, recent = {}, log = log, open = 0 }, Child)
  local out, err = uv.new_pipe(false), uv.new_pipe(false)
  local arguments = { tostring(opts.death_signal == "sigterm" and 15 or 9),
    tostring(math.tointeger(uv.os_getpid())), table.unpack(opts.command) }
  if opts.lock then arguments = { "--lock", opts.lock, table.unpack(arguments) } end
  table.insert(arguments, 1, "--exec-child")
  local handle, pid
  handle, pid = uv.spawn(host.exe, { args = arguments, stdio = { nil, out, err }, detached = true,
    env = config.child_environment(opts.env or {}) }, function(code, signal)
      child.exited = { code = code, signal = signal }
      handle:close()
      if opts.on_exit then opts.on_exit(child) end
    end)
  if not handle then
    out:close()
    err:close()
    if child.log then child.log:close() end
    return nil, ("cannot start %s: %s"):format(opts.name, pid), "unavailable"
  end
  child.pid = math.tointeger(pid)
  follow(child, out, opts.on_line)
  follow(child, err, opts.on_line)
  return child
end

--- Sends a signal, if it still lives.
---@param signal string "sigterm" | "sigkill"
function Child:signal(signal)
  if not self.exited then uv.kill(self.pid, signal) end
end

--- How it ended, in words.
---@return string
function Child:ending()
  if self.exited.signal ~= 0 then return ("was killed by signal %d"):format(self.exited.signal) end
  return ("ended with exit code %d"):format(self.exited.code)
end

--- Asks it to end and waits for that; kills it when it does not in time.
---@param seconds number
function Child:stop(seconds)
  if self.exited then return end
  self:signal "sigterm"
  if wait.until_true(function() return self.exited end, seconds) then return end
  self:signal "sigkill"
  wait.until_true(function() return self.exited end, 10)
end

--- Closes its log; the pipes close themselves at the end of its output.
function Child:close()
  if self.log then self.log:close() end
  self.log = nil
end

return M
