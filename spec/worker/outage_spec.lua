--- NATS goes away and comes back while runs are in hand; messages are redelivered; attempts overtake each other.
local json = require "host.json"
local support = require "spec.support.worker"
local process = require "spec.support.process"

local TASKS = [[
local M = {}
--- Waits until the file `go` lies beside the flows.
function M.gate(ctx, dir)
  while not io.open(dir .. "/go") do ctx:sleep(0.02) end
  return "through"
end
function M.count(dir)
  local file = io.open(dir .. "/count", "a")
  file:write("x")
  file:close()
end
function M.quick() return 1 end
return M
]]

describe("a worker", function()
  local world

  before_each(function()
    world = support.world()
    world:write("gate_tasks.lua", TASKS)
  end)

  after_each(function() world:stop() end)

  local function gate_job()
    return { params = { dir = world.flows },
      workflow_yaml = support.yaml("count >> gate", { count = "gate_tasks:count", gate = "gate_tasks:gate" }) }
  end

  --- How often the run's first task has run.
  local function starts() return #(require("spec.support.tmp").read(world.flows .. "/count") or "") end

  local function open_gate() world:write("go", "") end

  --- Makes the consumer.
  local function consume(ack_wait_sec)
    assert(world.store.js:consumer_create("PYOCO_WORK", { durable_name = "pyoco_workers_default",
      filter_subject = "pyoco.work.default", ack_policy = "explicit", ack_wait = ack_wait_sec * 1000000000,
      max_deliver = 20 }))
  end

  --- Runs one job with a consumer of this ack_wait.
  local function start(ack_wait_sec, env, args)
    consume(ack_wait_sec)
    local worker = world:worker(args, env)
    local run_id = world:submit(gate_job())
    world:wait(run_id, "RUNNING")
    return run_id, worker
  end

  for _, how in ipairs { "gracefully", "by a crash" } do
    it("finishes its run when NATS was restarted " .. how, function()
      local run_id, worker = start(30)
      if how == "gracefully" then world.server:halt() else world.server:kill() end
      process.wait_for(function() return worker.stdout:find("connection to NATS lost", 1, true) end)
      world.server:restart()
      world:connect()
      open_gate()
      local run = world:wait(run_id, "COMPLETED", 20000)
      assert.equal(1, run.attempt.delivery)
      assert.equal(1, starts())
      world:wait_settled()
      world:wait(world:submit { workflow_yaml = support.yaml("quick", { quick = "gate_tasks:quick" }) }, "COMPLETED")
    end)
  end

  it("finishes a run that ended while NATS was away", function()
    local run_id, worker = start(30)
    world.server:halt()
    process.wait_for(function() return worker.stdout:find("connection to NATS lost", 1, true) end)
    open_gate()
    world.server:restart()
    world:connect()
    world:wait(run_id, "COMPLETED", 20000)
    assert.equal(1, starts())
    world:wait_settled(20000)
  end)

  it("adopts the redelivery of a run that it still has: nothing starts twice", function()
    local run_id, worker = start(30, nil, { "--slots", "2" })
    -- acks match on the stream sequence alone, so anybody can nak: the server delivers the message again
    world.store.conn:publish("$JS.ACK.PYOCO_WORK.pyoco_workers_default.1.1.1.0.0", "-NAK")
    world:wait(run_id, function(run) return run.attempt.delivery == 2 end)
    assert.equal(1, starts())
    open_gate()
    world:wait(run_id, "COMPLETED")
    assert.equal(1, starts())
    world:wait_settled()
    assert.is_nil(worker.code)
  end)

  it("takes a new job under the number of one that it has: the stream was made anew", function()
    local first = start(30, nil, { "--slots", "2" })
    assert(world.store.js:stream_delete "PYOCO_WORK")
    assert(world.store:ensure())
    consume(30)
    local second = world:submit { workflow_yaml = support.yaml("quick", { quick = "gate_tasks:quick" }) }
    assert.equal(world:run(first).attempt.seq, world:wait(second, "COMPLETED", 60000).attempt.seq)
    world:wait_settled()
    open_gate()
    world:wait(first, "COMPLETED")
    assert.equal(1, starts())
  end)

  it("renews its job for as long as the run takes", function()
    local run_id = start(1)
    local begun = require("host.clock").monotonic()
    process.wait_for(function() return require("host.clock").monotonic() - begun > 3.2 end)
    local info = world.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_default")
    assert.equal(0, info.num_redelivered)
    open_gate()
    assert.equal(1, world:wait(run_id, "COMPLETED").attempt.delivery)
  end)

  it("is fenced when a newer attempt has its run: it writes, acks and naks nothing", function()
    local run_id = start(30)
    local current, revision
    repeat -- another worker's attempt takes over
      current, revision = world.store.runs:get(run_id)
      current.attempt = { seq = current.attempt.seq, delivery = 7 }
      current.worker_id = "other"
    until world.store.runs:update(current, revision)
    open_gate()
    local quick = world:submit { workflow_yaml = support.yaml("quick", { quick = "gate_tasks:quick" }) }
    world:wait(quick, "COMPLETED") -- the slot is free again
    local run = world:run(run_id)
    assert.equal("other", run.worker_id)
    assert.equal("RUNNING", run.status)
    process.wait_for(function() return world:queued() == 1 end) -- the quick one's is settled; ours stays
  end)

  it("acks its own message and stops when the run was republished and runs elsewhere", function()
    local run_id = start(30)
    local current, revision
    repeat
      current, revision = world.store.runs:get(run_id)
      current.attempt = { seq = current.attempt.seq + 100, delivery = 1 }
    until world.store.runs:update(current, revision)
    local quick = world:submit { workflow_yaml = support.yaml("quick", { quick = "gate_tasks:quick" }) }
    world:wait(quick, "COMPLETED")
    assert.equal("RUNNING", world:run(run_id).status)
  end)

  it("drops the result of a run that somebody has ended meanwhile", function()
    local run_id = start(30)
    local current, revision
    repeat
      current, revision = world.store.runs:get(run_id)
      current.status = "CANCELLED"
    until world.store.runs:update(current, revision)
    open_gate()
    world:wait_settled()
    assert.equal("CANCELLED", world:run(run_id).status)
  end)

  it("leaves a run alone whose earlier message's attempt is alive", function()
    local run_id = start(30)
    local job = gate_job()
    job.run_id, job.flow_name, job.tag = run_id, "main", "default"
    world.store.jobs:publish_raw(nil, "default", (assert(json.encode(job))))
    world:worker { "--worker-id", "w2" }
    process.wait_for(function()
      local info = world.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_default")
      return info.delivered.consumer_seq >= 2
    end)
    open_gate()
    local run = world:wait(run_id, "COMPLETED")
    assert.equal("w1", run.worker_id)
    assert.equal(1, starts())
  end)

  it("holds surplus jobs and runs them next, without another delivery", function()
    world:worker { "--tags", "a,b,c,d" }
    local ids = {}
    for _, tag in ipairs { "a", "b", "c", "d" } do
      ids[#ids + 1] = world:submit { tag = tag, workflow_yaml = support.yaml("quick", { quick = "gate_tasks:quick" }) }
    end
    for _, id in ipairs(ids) do assert.equal(1, world:wait(id, "COMPLETED").attempt.delivery) end
    world:wait_settled()
  end)

  it("that is to take one job does not wait for ever for a NATS that is not there", function()
    local one = process.run({ "worker.lua", "--nats-url", "nats://127.0.0.1:1", "--run-once", "--poll-timeout", "0.1",
      "--task-path", world.flows }, { deadline_ms = 20000 })
    assert.equal(1, one.code)
    local text = "NATS did not answer within 2 s; --poll-timeout SEC waits longer"
    assert.truthy(one.stderr:find(text, 1, true), one.stderr)
  end)
end)
