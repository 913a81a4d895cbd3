--- A NATS with our gateway and our worker, and the task functions of the recordings, for specs of a mixed fleet. Beside
--- them the spec itself plays the reference's gateway and worker: blind writes, as CONTRACT 5 has them.
local host = require "host"
local json = require "host.json"
local clock = require "host.clock"
local client_module = require "pyoco.client.http"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local workers = require "spec.support.worker"

local M = {}
local Fleet = {}
Fleet.__index = Fleet

--- The callables of the recordings, as a module of ours.
local TASKS = [[
return {
  add_one = function(x) return x + 1 end,
  to_text = function(add_one) return "v=" .. add_one end,
  child_summary_text = function(run_child) return run_child.status .. ":" .. run_child.outputs.to_text end,
}
]]

--- The text of a recording.
---@param name string file name; .json may be left out
---@return string
function M.text(name)
  local file = name:find("%.%l+$") and name or name .. ".json"
  return assert(tmp.read(("%s/spec/fixtures/%s"):format(host.home, file)))
end

--- Starts all of it.
---@param opts table|nil { env (of the gateway), args (of the worker; default: tag hello), no_worker }
---@return table fleet { world, gateway, client, store }
function M.start(opts)
  opts = opts or {}
  local self = setmetatable({ world = workers.world() }, Fleet)
  self.store = self.world.store
  require("luv").fs_mkdir(self.world.flows .. "/pyoco_server", tonumber("755", 8))
  self.world:write("pyoco_server/_workflow_test_tasks.lua", TASKS)
  self.gateway = gateways.start { nats_url = self.world.server.url, env = opts.env }
  if not opts.no_worker then self.world:worker(opts.args or { "--tags", "hello", "--slots", "2" }, opts.worker_env) end
  self.gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
  self.client = assert(client_module.new(self.gateway.url))
  return self
end

--- Ends all of it.
function Fleet:stop()
  self.gateway:stop()
  self.world:stop()
end

--- The stored bytes of a run's snapshot.
---@param run_id string
---@return string
function Fleet:raw(run_id) return (assert(self.store.runs:get_raw(run_id))) end

--- A blind write of a snapshot, as the reference's programs make them.
---@param snapshot table
function Fleet:put(snapshot)
  assert(self.store.runs.kv:put(snapshot.run_id, assert(json.encode(snapshot, { ascii = true }))))
end

--- Publishes a job as the reference does: without message id.
---@param job table
---@return integer sequence
function Fleet:publish(job)
  local ack = assert(self.store.js:publish("pyoco.work." .. job.tag, assert(json.encode(job, { ascii = true })),
    { expect_stream = "PYOCO_WORK" }))
  return ack.seq
end

--- Waits until a message of the work stream is settled.
---@param seq integer
function Fleet:settled(seq)
  process.wait_for(function() return select(3, self.store.js:get_msg("PYOCO_WORK", seq)) == "not_found" end, 10000,
    "the job to be settled\n" .. self.world:logs())
end

--- The last stored message of a subject: { data, headers, subject, seq }.
---@param stream string
---@param subject string
---@return table
function Fleet:last(stream, subject) return assert(self.store.js:last_msg(stream, subject)) end

--- Waits until a run has ended and its snapshot rests.
---@param run_id string
---@return table snapshot
function Fleet:ended(run_id)
  return self.world:wait(run_id, function(run)
    return run.status == "COMPLETED" or run.status == "FAILED" or run.status == "CANCELLED"
  end)
end

--- Waits until GET of a path is answered as wanted.
---@param path string
---@param fits fun(value: any): any
---@return any the decoded answer
function Fleet:see(path, fits)
  local value
  process.wait_for(function()
    local answer = self.gateway:fetch(path)
    value = answer and answer.json
    return answer and answer.status == 200 and fits(value)
  end, 10000, path)
  return value
end

--- A worker of the reference for one run: writes its snapshots blindly.
---@param snapshot table the run as the gateway stored it
---@param full table a recorded snapshot of a worker, for its keys
---@return table reference with write(fields)
function Fleet:reference_worker(snapshot, full)
  local image = {}
  for key in pairs(full) do image[key] = snapshot[key] ~= nil and snapshot[key] or json.null end
  image.spawn_depth, image.task_records, image.child_run_ids, image.spawn_count = 0, {}, json.array {}, 0
  local reference = { image = image }

  --- Writes the image with some fields changed.
  function reference.write(fields)
    for key, value in pairs(fields) do image[key] = value end
    image.heartbeat_at, image.updated_at = clock.wall(), clock.wall()
    self:put(image)
  end
  return reference
end

return M
