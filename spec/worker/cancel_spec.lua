--- A cancel reaches whatever the run is doing, and always ends in CANCELLED.
local clock = require "host.clock"
local support = require "spec.support.worker"
local process = require "spec.support.process"

local TASKS = [[
local M = {}
function M.sleeper(ctx) ctx:sleep(60) end
function M.looper() while true do end end
function M.swallower()
  while true do pcall(function() while true do end end) end
end
function M.generator()
  local co = coroutine.wrap(function() while true do coroutine.yield(1) end end)
  while true do co() end
end
function M.blocked() io.popen("sleep 60"):read("a") end
function M.quick() return 1 end
return M
]]

describe("a worker cancels", function()
  local world

  before_each(function()
    world = support.world()
    world:write("cancel_tasks.lua", TASKS)
  end)

  after_each(function() world:stop() end)

  local function start(task, env, args)
    world:worker(args, env)
    local run_id = world:submit { workflow_yaml = support.yaml(task .. " >> quick",
      { [task] = "cancel_tasks:" .. task, quick = "cancel_tasks:quick" }) }
    world:wait(run_id, "RUNNING")
    return run_id
  end

  for _, task in ipairs { "sleeper", "looper", "swallower", "generator" } do
    it("a run that is a " .. task .. ", by the gateway's hint", function()
      -- heartbeats so rare that only the hint can be what reaches it
      local run_id = start(task, { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "60" })
      local before = clock.wall()
      world:cancel(run_id)
      local run = world:wait(run_id, "CANCELLED")
      assert.equal("CANCELLED", run.tasks[task])
      assert.equal("CANCELLED", run.tasks.quick)
      assert.is_true(run.cancel_requested_at >= before)
      assert.is_true(run.end_time >= run.cancel_requested_at)
      world:wait_settled()
      assert.same({}, world:letters())
    end)
  end

  it("a run whose cancel nobody hinted at: the heartbeat finds it", function()
    local run_id = start("looper", { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.2" })
    world:cancel(run_id, { without_hint = true })
    world:wait(run_id, "CANCELLED")
    world:wait_settled()
  end)

  it("a run that a reference gateway has cancelled with a blind write", function()
    local run_id = start("sleeper", { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.2" })
    local run = world:run(run_id)
    run.status, run.cancel_requested_at = "CANCELLING", 5
    assert(world.store.runs.kv:put(run_id, (assert(require("host.json").encode(run)))))
    assert.equal(5, world:wait(run_id, "CANCELLED").cancel_requested_at)
  end)

  it("a run that cannot hear it: killed after the grace period, its end written for it", function()
    local run_id = start("blocked", { PYOCO_CANCEL_GRACE_PERIOD_SEC = "0.3" })
    local worker = world.workers[1]
    local slot = world:slots(worker)[1]
    world:cancel(run_id)
    local run = world:wait(run_id, "CANCELLED")
    assert.equal("CANCELLED", run.tasks.blocked)
    assert.equal("CANCELLED", run.task_records.blocked.state)
    world:wait_settled()
    assert.truthy(worker.stdout:find("cancel request timed out", 1, true))
    -- another slot has taken its place
    process.wait_for(function()
      local now = world:slots(worker)[1]
      return now and now ~= slot
    end)
    world:wait(world:submit { workflow_yaml = support.yaml("quick", { quick = "cancel_tasks:quick" }) }, "COMPLETED")
  end)

  it("nothing on a hint that the snapshot does not bear out", function()
    local run_id = start "sleeper"
    world.store.hints:cancel(run_id)
    local seen = world:run(run_id).updated_at
    world:wait(run_id, function(run) return run.updated_at > seen end)
    assert.equal("RUNNING", world:run(run_id).status)
  end)

  it("a run that waits in the queue of a busy worker", function()
    start "sleeper"
    local second = world:submit { workflow_yaml = support.yaml("quick", { quick = "cancel_tasks:quick" }) }
    world:cancel(second)
    world:worker({ "--worker-id", "w2" })
    world:wait(second, "CANCELLED")
  end)

  it("a run while its flow file is still loading", function()
    world:write("stuck.lua", "while true do end")
    world:worker({}, { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.2" })
    local run_id = world:submit { workflow_yaml = support.yaml("x", { x = "stuck:f" }) }
    world:wait(run_id, "RUNNING")
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
  end)
end)
