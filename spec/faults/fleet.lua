--- The fleet under stress: one nats-server, two gateways, three workers, each a process that can be killed, frozen and
--- started again under its own name. All waiting is done in coroutines (pyoco.worker.async).
---
--- Times are short, so that what takes minutes in use takes seconds here. Every process has MARK in its environment: by
--- that, whatever is left of the fleet is found, also what its tasks have started.
local host = require "host"
local uv = require "luv"
local async = require "pyoco.worker.async"
local config = require "pyoco.config"
local process = require "spec.support.process"
local stores = require "pyoco.store.jetstream"
local tmp = require "spec.support.tmp"
local flows = require "spec.faults.flows"

local M = {}
local Fleet = {}
Fleet.__index = Fleet

local MARK = "PYOCO_FAULTS"
local START_SEC, STOP_SEC = 60, 60

--- What all processes of the fleet are told. Seconds.
M.SETTINGS = {
  PYOCO_LOAD_DOTENV = "0", PYOCO_CONSUMER_ACK_WAIT_SEC = "3", PYOCO_CONSUMER_MAX_DELIVER = "12",
  PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC = "0.5", PYOCO_WORKER_DISCONNECT_TIMEOUT_SEC = "4",
  PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.5", PYOCO_CANCEL_GRACE_PERIOD_SEC = "2", PYOCO_WORKER_DRAIN_SEC = "2",
  PYOCO_SWEEP_INTERVAL_SEC = "1", PYOCO_SWEEP_AFTER_SEC = "6", PYOCO_LEASE_TTL_SEC = "2",
  PYOCO_WHEEL_SYNC_INTERVAL_SEC = "1", PYOCO_SCHEDULE_POLL_INTERVAL_SEC = "0.2",
}

local WORKERS = { -- name, arguments
  { "w1", { "--tags", "default,cpu", "--slots", "3" } },
  { "w2", { "--tags", "default", "--slots", "2", "--wheel-sync" } },
  { "w3", { "--tags", "cpu,gpu", "--slots", "gpu=1,cpu=2", "--allow-commands" } },
}

-- one process -----------------------------------------------------------------------------------------------

local Member = {}
Member.__index = Member

--- Whether it runs and is not frozen.
function Member:is_up() return self.process ~= nil and self.process.code == nil and not self.is_frozen end

--- All that its lives have said: list of { name, text }.
function Member:said()
  local list = {}
  for i, life in ipairs(self.lives) do
    list[i] = { name = ("%s#%d"):format(self.name, i), text = life.stdout .. life.stderr }
  end
  return list
end

--- Starts it and waits until it is ready. In a coroutine.
---@return boolean ready
function Member:start()
  self.process = process.spawn(self.file, self:args(), { env = self.env, cwd = self.cwd })
  self.is_frozen = false
  self.lives[#self.lives + 1] = self.process
  local life, deadline = self.process, uv.now() + START_SEC * 1000
  while not (life.stdout .. life.stderr):find(self.sign) do
    if life.code or uv.now() > deadline then return false end
    async.sleep(0.02)
  end
  if self.on_ready then self:on_ready(life) end
  return true
end

--- Tells the ledger when it has ended though nobody ended it.
---@param ledger table
function Member:complain(ledger)
  local life = self.process
  if life.code == nil then return end
  ledger:breach("no process ends by itself", ("%s ended with code %d, signal %d:\n%s"):format(self.name, life.code,
    life.signal, (life.stdout .. life.stderr):sub(-3000)))
end

--- Sends a signal to it, by number or name.
function Member:signal(name)
  if self.process and self.process.code == nil then self.process:kill(name) end
end

--- Waits until it has ended; kills it when that takes too long. In a coroutine.
---@return boolean by_itself
function Member:await_end()
  local deadline = uv.now() + STOP_SEC * 1000
  while self.process.code == nil and uv.now() < deadline do async.sleep(0.01) end
  local by_itself = self.process.code ~= nil
  if not by_itself then self.process:kill "sigkill" end
  while self.process.code == nil or self.process.open > 0 do async.sleep(0.01) end
  return by_itself
end

--- Ends it, with SIGKILL or in order, and waits for that. In a coroutine.
---@param name string signal
---@return boolean by_itself
function Member:finish(name)
  if self.is_frozen then self:thaw() end
  self:signal(name)
  return self:await_end()
end

--- Ids of its child processes: a worker's slots.
---@return integer[]
function Member:children()
  local list, pid = {}, self.process.pid
  for id in (tmp.read(("/proc/%d/task/%d/children"):format(pid, pid)) or ""):gmatch "%d+" do
    list[#list + 1] = math.tointeger(tonumber(id))
  end
  return list
end

function Member:freeze()
  self.is_frozen = true
  self:signal "sigstop"
end

function Member:thaw()
  self.is_frozen = false
  self:signal "sigcont"
end

--- Resident bytes of it and its children.
function Member:memory()
  local total = 0
  local list = self:children()
  list[#list + 1] = self.process.pid
  for i, pid in ipairs(list) do
    local kb = tonumber((tmp.read(("/proc/%d/status"):format(pid)) or ""):match "VmRSS:%s*(%d+)") or 0
    if i == #list then return total, kb * 1024 end
    total = total + kb * 1024
  end
end

-- the fleet ---------------------------------------------------------------------------------------------------

local function member(fleet, fields)
  local one = setmetatable(fields, Member)
  one.lives = {}
  fleet.members[#fleet.members + 1] = one
  return one
end

local function environment(fleet, more)
  local env = { PYOCO_NATS_URL = fleet.nats_url, [MARK] = fleet.dir, TMPDIR = fleet.dir .. "/tmp",
    PYOCO_HTTP_SPOOL_DIR = fleet.dir .. "/tmp" }
  for _, set in ipairs { M.SETTINGS, more or {} } do
    for name, value in pairs(set) do env[name] = value end
  end
  return env
end

local function add_nats(fleet)
  fleet.nats = member(fleet, { kind = "nats", name = "nats", file = "nats-server", sign = "Server is ready",
    env = { [MARK] = fleet.dir }, args = function(self)
      return { "-a", "127.0.0.1", "-p", tostring(self.port or -1), "-js", "-sd", fleet.dir .. "/nats" }
    end,
    on_ready = function(self, life)
      self.port = self.port or tonumber(life.stderr:match "client connections on [%d.]+:(%d+)")
      fleet.nats_url = "nats://127.0.0.1:" .. self.port
    end })
end

local function add_gateway(fleet, number)
  local one = member(fleet, { kind = "gateway", name = "g" .. number, file = host.exe,
    sign = "listening at http://[%d.:]+", env = environment(fleet), cwd = fleet.dir,
    args = function(self) return { fleet.dir .. "/gateway.lua", "--port", tostring(self.port or 0) } end,
    on_ready = function(self, life)
      self.url = life.stdout:match "listening at (http://[%d.:]+)"
      self.port = tonumber(self.url:match ":(%d+)$")
    end })
  fleet.gateways[number] = one
end

local function add_worker(fleet, name, args)
  local list = { "worker.lua", "--task-path", fleet.dir .. "/flows", "--worker-id", name,
    "--wheel-sync-dir", fleet.dir .. "/wheels-" .. name }
  table.move(args, 1, #args, #list + 1, list)
  fleet.workers[#fleet.workers + 1] = member(fleet, { kind = "worker", name = name, file = host.exe,
    sign = "worker ready", env = environment(fleet), cwd = fleet.dir, args = function() return list end })
end

--- Writes a file as an editor does that saves in place.
---@param name string below the fleet's folder
---@param text string
function Fleet:write(name, text) tmp.write(self.dir .. "/" .. name, text) end

--- Lines that tasks have written: { run_id, task, delivery, round (of a loop), attempt, pid, what }.
---@return table[]
function Fleet:effects()
  local list = {}
  for line in (tmp.read(self.dir .. "/effects") or ""):gmatch "[^\n]+" do
    local run_id, task, delivery, round, attempt, pid, at, what = line:match(
      "^(%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$")
    list[#list + 1] = { run_id = run_id, task = task, delivery = tonumber(delivery), round = tonumber(round),
      attempt = tonumber(attempt), pid = tonumber(pid), at = tonumber(at), what = what, line = line }
  end
  return list
end

--- Process ids that carry our mark, without those of `known`.
---@param known table<integer, boolean>|nil
---@return table[] list of { pid, command }
function Fleet:processes(known)
  local list, needle = {}, MARK .. "=" .. self.dir
  for name in uv.fs_scandir_next, assert(uv.fs_scandir "/proc") do
    local pid = math.tointeger(tonumber(name))
    local environ = pid and not (known and known[pid]) and tmp.read(("/proc/%d/environ"):format(pid))
    if environ and environ:find(needle, 1, true) then
      local command = (tmp.read(("/proc/%d/cmdline"):format(pid)) or ""):gsub("%z", " ")
      if command ~= "" then list[#list + 1] = { pid = pid, command = command } end -- a zombie has none
    end
  end
  return list
end

--- Processes that are neither members nor their slots: what tasks have left.
---@return table[]
function Fleet:strays()
  local known = {}
  for _, one in ipairs(self.members) do
    if one.process.code == nil then
      known[one.process.pid] = true
      for _, pid in ipairs(one:children()) do known[pid] = one.kind == "worker" and #one:children() <= 64 or nil end
    end
  end
  return self:processes(known)
end

--- (Re)connects the stress's own store: blocking, for quiet times only.
function Fleet:connect()
  if self.store then self.store:close() end
  self.store = assert(stores.connect(self.cfg, { name = "faults" }))
end

--- Makes the folder and the members; starts all. In a coroutine.
---@return table fleet { members, nats, gateways, workers, dir, store, cfg }
function M.start()
  local self = setmetatable({ dir = tmp.dir(), members = {}, gateways = {}, workers = {} }, Fleet)
  for _, name in ipairs { "tmp", "flows", "nats" } do
    assert(uv.fs_mkdir(self.dir .. "/" .. name, tonumber("755", 8)))
  end
  for name, text in pairs(flows.files(self.dir .. "/effects")) do self:write("flows/" .. name, text) end
  self.gateway_script = assert(tmp.read(host.home .. "/lua/gateway.lua"))
  self:write("gateway.lua", self.gateway_script)
  add_nats(self)
  assert(self.nats:start(), "nats-server does not start")
  self.cfg = assert(config.load { env = {}, cwd = self.dir, flags = { nats_url = self.nats_url } })
  for number = 1, 2 do add_gateway(self, number) end
  for _, row in ipairs(WORKERS) do add_worker(self, table.unpack(row)) end
  for i = 2, #self.members do
    local one = self.members[i]
    if not one:start() then error(("%s does not start:\n%s"):format(one.name, one:said()[1].text)) end
  end
  self:connect()
  return self
end

--- Stops all in order, workers first. In a coroutine.
---@param ledger table
---@return string[] complaints of what did not end as it should
function Fleet:stop(ledger)
  local complaints = {}
  for i = #self.members, 1, -1 do
    local one = self.members[i]
    if one.kind == "nats" and self.store then
      self.store:close()
      self.store = nil
    end
    one:complain(ledger)
    if not one:finish "sigterm" then complaints[#complaints + 1] = one.name .. " did not stop in time" end
  end
  for _, one in ipairs(self:processes()) do
    complaints[#complaints + 1] = ("left running after the stop: %d %s"):format(one.pid, one.command)
  end
  local scan = assert(uv.fs_scandir(self.dir .. "/tmp"))
  for name in uv.fs_scandir_next, scan do complaints[#complaints + 1] = "left in TMPDIR after the stop: " .. name end
  return complaints
end

--- Removes the folder.
function Fleet:remove() tmp.remove(self.dir) end

return M
