--- A real worker beside a real nats-server, jobs by hand, and what became of them.
local json = require "host.json"
local crypto = require "host.crypto"
local clock = require "host.clock"
local uv = require "luv"
local config = require "pyoco.config"
local stores = require "pyoco.store.jetstream"
local snapshot = require "pyoco.run.snapshot"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local M = {}
local World = {}
World.__index = World

local BASE = "version: 1\nflow:\n  graph: |\n    %s\ntasks:\n%s"

--- A YAML document: graph text and { task = callable }.
---@param graph string
---@param tasks table
---@return string
function M.yaml(graph, tasks)
  local lines = {}
  for name, callable in pairs(tasks) do lines[#lines + 1] = ("  %s:\n    callable: %s\n"):format(name, callable) end
  table.sort(lines)
  return BASE:format(graph, table.concat(lines))
end

--- Starts a nats-server, with its streams and buckets, and a folder of flows.
---@param opts table|nil cfg (configuration values that differ)
---@return table world .server .cfg .store .flows
function M.world(opts)
  local world = setmetatable({ server = nats.start(), flows = tmp.dir(), workers = {} }, World)
  world.cfg = assert(config.load { env = {}, cwd = world.flows, flags = { nats_url = world.server.url } })
  for name, value in pairs(opts and opts.cfg or {}) do world.cfg[name] = value end
  world:connect()
  assert(world.store:ensure())
  return world
end

--- (Re)connects the spec's own store.
function World:connect()
  if self.store then self.store:close() end
  self.store = assert(stores.connect(self.cfg, { name = "spec" }))
end

--- Writes a file into the folder of flows.
---@param name string
---@param text string
function World:write(name, text) tmp.write(self.flows .. "/" .. name, text) end

--- Starts a worker and waits until it is ready.
---@param args string[]|nil more arguments
---@param env table|nil environment variables
---@return table process
function World:worker(args, env)
  local all = { "worker.lua", "--nats-url", self.server.url, "--task-path", self.flows, "--worker-id", "w1" }
  table.move(args or {}, 1, #(args or {}), #all + 1, all)
  local one = process.host(all, { env = env, cwd = self.flows })
  self.workers[#self.workers + 1] = one
  process.wait_for(function()
    if one.code then error("the worker ended at once:\n" .. one.stdout .. one.stderr) end
    return one.stdout:find("worker ready", 1, true)
  end, 10000, "the worker to be ready")
  return one
end

--- Stores a run's first snapshot and publishes its job.
---@param job table fields that differ: flow_name, tag, params, workflow_yaml, run_id
---@param opts table|nil without_snapshot
---@return string run_id
function World:submit(job, opts)
  local tag = job.tag or "default"
  local full = { run_id = crypto.uuid4(), flow_name = "main", tag = tag, tags = json.array { tag }, params = {},
    tenant_id = json.null, api_key_id = json.null, submitted_at = clock.wall() }
  for key, value in pairs(job) do full[key] = value end
  if not (opts and opts.without_snapshot) then
    assert(self.store.runs:create(snapshot.initial { run_id = full.run_id, flow_name = full.flow_name, tag = tag,
      tags = full.tags, params = full.params, now = clock.wall(),
      workflow_yaml_sha256 = full.workflow_yaml and crypto.sha256(full.workflow_yaml),
      workflow_yaml_bytes = full.workflow_yaml and #full.workflow_yaml }))
  end
  assert(self.store.jobs:publish(full))
  return full.run_id
end

--- The snapshot of a run.
---@param run_id string
---@return table|nil
function World:run(run_id) return (self.store.runs:get(run_id)) end

--- Waits until a run satisfies a condition.
---@param run_id string
---@param condition string|fun(snapshot):any status, or a function
---@param deadline_ms integer|nil
---@return table snapshot
function World:wait(run_id, condition, deadline_ms)
  local last
  local ok, message = pcall(process.wait_for, function()
    last = self:run(run_id)
    if not last then return false end
    if type(condition) == "string" then return last.status == condition end
    return condition(last)
  end, deadline_ms or 10000)
  if ok then return last end
  error(("%s; run is %s\n%s"):format(message, last and json.encode(last) or "absent", self:logs()), 2)
end

--- Waits until the queue holds nothing: every message is settled.
---@param deadline_ms integer|nil
function World:wait_settled(deadline_ms)
  process.wait_for(function() return self:queued() == 0 end, deadline_ms, "all messages to be settled\n" .. self:logs())
end

--- Messages in the work stream, delivered or not.
---@return integer
function World:queued()
  return assert(self.store.js:stream_info(self.cfg.work_stream)).state.messages
end

--- The dead letters, oldest first.
---@return table[] list of { subject, body }
function World:letters()
  local info, list = assert(self.store.js:stream_info(self.cfg.dlq_stream)), {}
  for seq = math.max(info.state.first_seq, 1), info.state.last_seq do
    local message = assert(self.store.js:get_msg(self.cfg.dlq_stream, seq))
    list[#list + 1] = { subject = message.subject, body = assert(json.decode(message.data)) }
  end
  return list
end

--- Waits for the nth dead letter.
---@param n integer
---@return table letter
function World:wait_letter(n)
  return process.wait_for(function() return self:letters()[n] end, 10000, "a dead letter")
end

--- Cancels as the gateway does: compare-and-set, then the hint.
---@param run_id string
---@param opts table|nil without_hint
function World:cancel(run_id, opts)
  repeat
    local current, revision = assert(self.store.runs:get(run_id))
    current.status, current.cancel_requested_at = "CANCELLING", clock.wall()
    local done, _, code = self.store.runs:update(current, revision)
    assert(done or code == "conflict")
  until done
  if not (opts and opts.without_hint) then self.store.hints:cancel(run_id) end
end

--- Process ids of a worker's slots.
---@param worker table
---@return integer[]
function World.slots(_, worker)
  local list = {}
  local text = tmp.read(("/proc/%d/task/%d/children"):format(worker.pid, worker.pid)) or ""
  for pid in text:gmatch("%d+") do list[#list + 1] = math.tointeger(tonumber(pid)) end
  return list
end

--- How many files a process has open.
---@param pid integer
---@return integer
function World.open_files(pid)
  local count, scan = 0, assert(uv.fs_scandir(("/proc/%d/fd"):format(pid)))
  while uv.fs_scandir_next(scan) do count = count + 1 end
  return count
end

--- What the workers have said, for a failure's text.
---@return string
function World:logs()
  local parts = {}
  for _, one in ipairs(self.workers) do parts[#parts + 1] = one.stdout .. one.stderr end
  return table.concat(parts, "\n")
end

--- Ends all of it.
function World:stop()
  for _, one in ipairs(self.workers) do one:kill("sigterm") end
  for _, one in ipairs(self.workers) do
    process.wait_for(function() return one.code or one.stdout:find("stopping: waiting", 1, true) end)
    one:stop() -- the second signal: at once
  end
  self.store:close()
  self.server:stop()
  tmp.remove(self.flows)
end



return M
