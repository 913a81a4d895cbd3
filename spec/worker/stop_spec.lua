--- Stopping a worker: runs in hand end or go back, nothing is lost, and the registry says how it ended.
local support = require "spec.support.worker"
local process = require "spec.support.process"

local TASKS = [[
local M = {}
function M.short(ctx) ctx:sleep(0.4) return "done" end
function M.sleeper(ctx) ctx:sleep(60) end
function M.blocked() os.execute("sleep 60") end
return M
]]

describe("a worker that is told to stop", function()
  local world

  before_each(function()
    world = support.world()
    world:write("stop_tasks.lua", TASKS)
  end)

  after_each(function() world:stop() end)

  local function start(task, args)
    local worker = world:worker(args)
    local run_id = world:submit { workflow_yaml = support.yaml(task, { [task] = "stop_tasks:" .. task }) }
    world:wait(run_id, "RUNNING")
    return run_id, worker
  end

  for signal, code in pairs { sigterm = 0, sigint = 130 } do
    it(("by %s lets the run in hand end"):format(signal), function()
      local run_id, worker = start "short"
      worker:kill(signal)
      worker:wait()
      assert.equal(code, worker.code)
      local run = world:run(run_id)
      assert.equal("COMPLETED", run.status)
      assert.equal("done", run.task_records.short.output)
      assert.equal("STOPPED_GRACEFUL", world.store.workers:get("w1").state)
      assert.equal(0, world:queued())
    end)
  end

  it("pulls no more", function()
    local run_id, worker = start "short"
    worker:kill("sigterm")
    process.wait_for(function() return worker.stdout:find("stopping", 1, true) end)
    local other = world:submit { workflow_yaml = support.yaml("short", { short = "stop_tasks:short" }) }
    worker:wait()
    assert.equal("COMPLETED", world:run(run_id).status)
    assert.equal("PENDING", world:run(other).status)
    world:worker { "--worker-id", "w2" }
    assert.equal("w2", world:wait(other, "COMPLETED").worker_id)
  end)

  for _, task in ipairs { "sleeper", "blocked" } do
    it(("hands back a run (%s) that does not end within the drain"):format(task), function()
      local run_id, worker = start(task, { "--drain-sec", "0.2" })
      worker:kill("sigterm")
      worker:wait()
      assert.equal(0, worker.code)
      local run = world:run(run_id)
      assert.equal("PENDING", run.status)
      assert.is_nil(run.crash_count)
      world:worker { "--worker-id", "w2" }
      run = world:wait(run_id, "RUNNING")
      assert.equal("w2", run.worker_id)
      assert.equal(2, run.attempt.delivery)
      world:cancel(run_id)
      world:wait(run_id, function(now) return now.status ~= "RUNNING" end)
    end)
  end

  it("does not hand back a run that is being cancelled: it is CANCELLED", function()
    local run_id, worker = start("blocked", { "--drain-sec", "0.2" })
    world:cancel(run_id, { without_hint = true })
    worker:kill("sigterm")
    worker:wait()
    assert.equal("CANCELLED", world:run(run_id).status)
    assert.equal(0, world:queued())
  end)

  it("twice stops at once", function()
    local run_id, worker = start "sleeper"
    worker:kill("sigterm")
    process.wait_for(function() return worker.stdout:find("stopping", 1, true) end)
    worker:kill("sigterm")
    worker:wait()
    assert.equal("STOPPED_GRACEFUL", world.store.workers:get("w1").state)
    world:worker { "--worker-id", "w2" }
    world:wait(run_id, function(run) return run.worker_id == "w2" and run.status == "RUNNING" end)
  end)

  it("hands back held jobs at once", function()
    local first, worker = start("short", { "--tags", "default,other" })
    local held = world:submit { tag = "other", workflow_yaml = support.yaml("short", { short = "stop_tasks:short" }) }
    process.wait_for(function()
      local info = world.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_other")
      return info.num_ack_pending == 1
    end)
    worker:kill("sigterm")
    world:worker { "--worker-id", "w2", "--tags", "other" }
    assert.equal("w2", world:wait(held, "COMPLETED").worker_id)
    world:wait(first, "COMPLETED")
  end)

  it("leaves no process behind when it is killed", function()
    local _, worker = start "sleeper"
    local slots = world:slots(worker)
    worker:kill("sigkill")
    worker:wait()
    process.wait_for(function()
      for _, pid in ipairs(slots) do
        if require("luv").kill(pid, 0) == 0 then return false end
      end
      return true
    end)
  end)
end)

describe("a worker's command line", function()
  it("refuses bad values, naming flag, value and range", function()
    local worker = process.run { "worker.lua", "--tags", "a.b", "--slots", "x" }
    assert.equal(1, worker.code)
    assert.truthy(worker.stderr:find("--tags", 1, true), worker.stderr)
    assert.truthy(worker.stderr:find("--slots", 1, true), worker.stderr)
  end)

  it("says what to do when JetStream is off", function()
    local server = require("spec.support.nats").start { jetstream = false }
    local worker = process.run { "worker.lua", "--nats-url", server.url }
    server:stop()
    assert.equal(1, worker.code)
    assert.truthy(worker.stderr:find("-js", 1, true), worker.stderr)
  end)

  it("waits for a NATS that is not there, and can be stopped", function()
    local worker = process.host { "worker.lua", "--nats-url", "nats://bob:pass@word@127.0.0.1:9" }
    process.wait_for(function() return worker.stdout:find("NATS cannot be reached", 1, true) end)
    assert.truthy(worker.stdout:find("nats://127.0.0.1:9", 1, true), worker.stdout)
    assert.falsy((worker.stdout .. worker.stderr):find("word", 1, true), worker.stdout)
    worker:kill("sigint")
    worker:wait()
    assert.equal(130, worker.code)
  end)

  it("does not offer --slot to users", function()
    local slot = process.run { "--slot" }
    assert.equal(1, slot.code)
    assert.truthy(slot.stderr:find("start worker.lua instead", 1, true))
  end)
end)
