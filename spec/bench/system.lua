--- The system under the bench: a nats-server, a gateway and a worker of this very build, on free ports and a
--- store of their own; and the C tools that drive it.
local uv = require "luv"
local host = require "host"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local proc = require "spec.bench.proc"

local M = {}
local System = {}
System.__index = System

local TOOLS <const> = host.exe:gsub("[^/]*$", "") .. "bench/"
local FLOWS <const> = host.home .. "/spec/bench/flow"
local WORKER_ID <const> = "bench"

local function free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  uv.run("nowait")
  return port
end

--- Runs a tool to its end; a tool that fails ends the bench with what it said.
---@param name string "floor" | "load"
---@param args string[]
---@param opts table|nil env; on_line (called as soon as the tool has printed its figures)
---@return table values name -> number or text, from its lines of name=value
function M.tool(name, args, opts)
  local run = process.spawn(TOOLS .. name, args, { env = opts and opts.env })
  process.wait_for(function() return run.code or run.stdout:find("\n", 1, true) end, 600000, name)
  if opts and opts.on_line then opts.on_line() end
  run:wait(600000)
  if run.code ~= 0 then
    error(("%s %s failed (%s): %s"):format(name, table.concat(args, " "), run.code ~= 0 and run.code or run.signal,
      run.stderr), 0)
  end
  local values = {}
  for key, value in run.stdout:gmatch("([%w_]+)=(%S+)") do values[key] = tonumber(value) or value end
  return values
end

--- Starts nats-server only.
---@return table system
function M.new()
  local self = setmetatable({ nats = nats.start(), port = free_port() }, System)
  self.env = { PYOCO_NATS_URL = self.nats.url, PYOCO_TASK_PATH = FLOWS, PYOCO_LOAD_DOTENV = "0" }
  return self
end

--- Command line of the gateway, after the program's name.
function System:gateway_command()
  return { "gateway.lua", "--host", "127.0.0.1", "--port", tostring(self.port) }
end

--- Command line of a worker, after the program's name.
---@param slots integer
---@param id string|nil
function M.worker_command(slots, id)
  return { "worker.lua", "--tags", "default", "--worker-id", id or WORKER_ID, "--slots", tostring(slots) }
end

--- Starts gateway and worker and waits until a first run has gone through.
---@param slots integer
---@return table sizes payload bytes of one run's messages, as `load sizes` prints them
function System:start(slots)
  self.gateway = process.host(self:gateway_command(), { env = self.env })
  self.worker = process.host(M.worker_command(slots), { env = self.env })
  local ok, sizes = pcall(function()
    M.tool("load", { "ready", "--port", tostring(self.port) })
    return self:load("sizes", {})
  end)
  if not ok then
    self:stop()
    error(("%s\ngateway: %s\nworker: %s"):format(sizes, self.gateway.stderr, self.worker.stderr), 0)
  end
  return sizes
end

--- Runs the load driver against this system.
---@param mode string of load.c
---@param args string[]
---@param on_line function|nil as M.tool
---@return table values
function System:load(mode, args, on_line)
  local all = { mode, "--port", tostring(self.port), "--url", self.nats.url, "--file", FLOWS .. "/bench.yaml",
    "--flow-name", "bench" }
  return M.tool("load", table.move(args, 1, #args, #all + 1, all), { on_line = on_line })
end

--- Times the start of a program of ours.
---@param times integer
---@param command string[] after the program's name
---@param worker_id string|nil waits for this worker's record instead of the gateway's /health
---@return table values start_p50_us ...
function System:time_start(times, command, worker_id)
  local args = { "start", "--runs", tostring(times), "--port", tostring(self.port), "--url", self.nats.url }
  if worker_id then table.move({ "--worker-id", worker_id }, 1, 2, #args + 1, args) end
  table.move({ "--", host.exe }, 1, 2, #args + 1, args)
  return M.tool("load", table.move(command, 1, #command, #args + 1, args), { env = self.env })
end

--- Runs the floor on this system's nats-server.
---@param args string[]
---@param on_line function|nil as M.tool
---@return table values
function System:floor(args, on_line)
  return M.tool("floor", table.move(args, 1, #args, 3, { "--url", self.nats.url }), { on_line = on_line })
end

--- The processes that run now, in the order of a run's way.
---@return table[] list {name, pid}
function System:processes()
  local list = { { name = "nats-server", pid = self.nats.process.pid } }
  if self.gateway then
    list[2] = { name = "gateway", pid = self.gateway.pid }
    list[3] = { name = "supervisor", pid = self.worker.pid }
    for i, pid in ipairs(proc.children(self.worker.pid)) do list[#list + 1] = { name = "slot " .. i, pid = pid } end
  end
  return list
end

--- Runs a tool and adds to its figures what CPU was used meanwhile: `usage`, a list of {name, seconds, ended (it is
--- gone: its time is not known)} with the tool's own at its end, and `foreign`, the seconds of everything else on
--- this machine.
---@param fn fun(on_line:function):table runs the tool, handing on_line to it
---@return table values of fn
function System:with_cpu(fn)
  local list, machine = self:processes(), proc.machine_cpu()
  for _, it in ipairs(list) do it.before = proc.cpu(it.pid) end
  local values = fn(function()
    for _, it in ipairs(list) do
      it.ended = proc.threads(it.pid) == 0
      it.seconds = it.ended and 0 or proc.cpu(it.pid) - it.before
    end
    machine = proc.machine_cpu() - machine
  end)
  list[#list + 1] = { name = "driver", seconds = values.cpu }
  for _, it in ipairs(list) do machine = machine - it.seconds end
  values.usage, values.foreign = list, math.max(0, machine)
  return values
end

--- Ends all of it.
function System:stop()
  for _, name in ipairs { "worker", "gateway" } do
    if self[name] then self[name]:stop(15000) end
  end
  self.nats:stop()
end

return M
