--- Real child processes for specs: output captured, ended for certain, waited for on this process's luv loop.
--- Every child gets SIGKILL from the kernel should the spec runner itself die.
local uv = require "luv"

local M = {}
local Process = {}
Process.__index = Process

local PATIENCE_MS = 60000 -- for a machine that does ten other things, and beyond the ack_wait of a dead worker's job

--- Turns the loop until a condition holds.
---@param condition fun():any
---@param deadline_ms integer|nil default, and least, 60000
---@param what string|nil what is waited for, for the error
---@return any value the condition's first true value; raises when the deadline passes first
function M.wait_for(condition, deadline_ms, what)
  local value = condition()
  if value then return value end
  local expired, limit_ms = false, math.max(deadline_ms or 0, PATIENCE_MS)
  local tick, deadline = uv.new_timer(), uv.new_timer()
  uv.update_time() -- the loop's time may be old: blocking calls do not turn it
  tick:start(5, 5, function() end)
  deadline:start(limit_ms, 0, function() expired = true end)
  repeat
    uv.run("once")
    value = condition()
  until value or expired
  tick:close()
  deadline:close()
  uv.run("nowait")
  if not value then
    error(("gave up after %d ms waiting for %s"):format(limit_ms, what or "a condition"), 2)
  end
  return value
end

--- Turns the loop once without waiting: what is due happens, closed handles are freed.
function M.settle()
  for _ = 1, 3 do uv.run("nowait") end
end

local function capture(process, field)
  local pipe = uv.new_pipe(false)
  process[field] = ""
  process.open = process.open + 1
  local function read()
    pipe:read_start(function(_, chunk)
      if chunk then
        process[field] = process[field] .. chunk
      else
        pipe:close()
        process.open = process.open - 1
      end
    end)
  end
  return pipe, read
end

--- Starts a program.
---@param file string program, found on PATH
---@param args string[]
---@param opts table|nil env (name -> value, added to ours), cwd, stdin (text given to it)
---@return table process .pid .stdout .stderr .code .signal; :wait() :kill(name) :stop()
function M.spawn(file, args, opts)
  opts = opts or {}
  local process = setmetatable({ open = 0, name = file }, Process)
  local env = uv.os_environ()
  for name, value in pairs(opts.env or {}) do env[name] = value or nil end
  local list = {}
  for name, value in pairs(env) do list[#list + 1] = name .. "=" .. value end
  local stdin = uv.new_pipe(false)
  local out, read_out = capture(process, "stdout")
  local err, read_err = capture(process, "stderr")
  local all = { "--pdeathsig", "KILL", "--", file, table.unpack(args) }
  local handle, pid = uv.spawn("setpriv", { args = all, env = list, cwd = opts.cwd, stdio = { stdin, out, err } },
    function(code, signal)
      process.code, process.signal = code, signal
      process.handle:close()
    end)
  if not handle then
    for _, pipe in ipairs { stdin, out, err } do pipe:close() end
    uv.run("nowait")
    error(("cannot start %s: %s"):format(file, pid), 2)
  end
  process.handle, process.pid = handle, pid
  read_out()
  read_err()
  if opts.stdin then stdin:write(opts.stdin) end
  stdin:shutdown(function() stdin:close() end)
  return process
end

--- Starts this very pyoco-host.
---@param args string[]
---@param opts table|nil as M.spawn
---@return table process
function M.host(args, opts)
  return M.spawn(require("host").exe, args, opts)
end

--- Runs this very pyoco-host to its end.
---@param args string[]
---@param opts table|nil as M.spawn, and deadline_ms
---@return table process with .code .stdout .stderr
function M.run(args, opts)
  local process = M.host(args, opts)
  process:wait(opts and opts.deadline_ms)
  return process
end

--- Waits until it has ended and its output is read to the end.
---@param deadline_ms integer|nil default 10000
---@return integer code
---@return integer signal 0 when it ended by itself
function Process:wait(deadline_ms)
  M.wait_for(function() return self.code and self.open == 0 end, deadline_ms, self.name .. " to end")
  return self.code, self.signal
end

--- Sends a signal.
---@param name string|nil default "sigterm"
function Process:kill(name)
  if not self.code then self.handle:kill(name or "sigterm") end
end

--- Ends it: SIGTERM, then SIGKILL when it has not ended in time. Fine to call twice.
---@param grace_ms integer|nil default 5000
function Process:stop(grace_ms)
  if self.code and self.open == 0 then return end
  self:kill()
  if not pcall(self.wait, self, grace_ms or 5000) then
    self:kill("sigkill")
    self:wait()
  end
end

return M
