--- Lua flows that spawn others, end to end: a gateway, a worker of one slot that allows it, and one that does not.
local http = require "host.http"
local json = require "host.json"
local gateways = require "spec.support.gateway"
local run_snapshot = require "pyoco.run.snapshot"
local tmp = require "spec.support.tmp"
local workers = require "spec.support.worker"

local FLOWS = [[
local pyoco = require "pyoco"
local task, flow = pyoco.task, pyoco.flow

local train = task("train", function(ctx, rate)
  ctx:save_artifact("model", { rate = rate })
  return { loss = rate * 2 }
end)
local trial = task("trial", { spawn = "training", inputs = { rate = "$ctx.rate" } })
local best = task("best", function(trial)
  local least = math.huge
  for _, child in ipairs(trial) do least = math.min(least, child.outputs.train.loss) end
  return least
end)
local wait = task("wait", function(ctx, file)
  while not io.open(file) do ctx:sleep(0.01) end
  return "seen"
end)
local run_child = task("run_child", { spawn = "waiting" })
local pid = task("pid", function() return io.open("/proc/self/stat"):read("n") end)
local again = task("again", { spawn = "study" })
local elsewhere = task("elsewhere", { spawn = "training", tag = "gpu" })

return { flow("training", train), flow("study", trial:each("$ctx.rates", "rate", { parallel = 2 }) >> best),
  flow("waiting", wait), flow("parent", pid >> run_child), flow("deep", again), flow("elsewhere", elsewhere) }
]]

describe("Lua flows that spawn runs", function()
  local world, gateway

  lazy_setup(function()
    world = workers.world()
    world:write("flows.lua", FLOWS)
    gateway = gateways.start { nats_url = world.server.url }
    world:worker { "--allow-spawn" }
    world:worker { "--tags", "strict", "--worker-id", "strict" }
  end)

  after_each(function() http.close() end)

  lazy_teardown(function()
    gateway:stop()
    world:stop()
  end)

  local function fetch(path, options)
    local answer = assert(gateway:fetch(path, options))
    assert.equal(200, answer.status, answer.body)
    return json.decode(answer.body)
  end

  local function submit(flow, params, tag)
    return fetch("/runs", { method = "POST", headers = { ["content-type"] = "application/json" },
      body = assert(json.encode { flow_name = flow, params = params, tag = tag }) }).run_id
  end

  --- The first child of a run, once it is in a state.
  local function child_of(run_id, status)
    local parent = world:wait(run_id, function(s) return s.child_run_ids and s.child_run_ids[1] end)
    return world:wait(parent.child_run_ids[1], function(s) return s.status == status end)
  end

  it("have child runs that are known by their names, and get their whole results", function()
    local run_id = submit("study", { rates = { 3, 1, 2 } })
    local parent = world:wait(run_id, "COMPLETED")
    assert.same({ 2, 3 }, { parent.task_records.best.output, parent.spawn_count })
    local child = world:run(parent.child_run_ids[2])
    assert.same({ "training", "COMPLETED", run_id, run_id, "trial", 1, json.null, "not_required" },
      { child.flow_name, child.status, child.parent_run_id, child.root_run_id, child.spawned_from_task,
        child.spawn_depth, child.bundle_hash, child.approval_status })
    assert.same({ rates = { 3, 1, 2 }, rate = 1 }, child.params)
    assert.same({ train = { loss = 2 } }, child.result_summary.outputs)
    for _, key in ipairs(run_snapshot.WORKER_KEYS) do assert.not_nil(child[key], key) end
    local family = fetch("/runs/" .. child.run_id .. "/relations")
    assert.same({ run_id, run_id, "training" }, { family.parent.run_id, family.root.run_id, family.workflow_name })
    assert.equal(3, #fetch("/runs/" .. run_id .. "/relations").children)
    assert.truthy(fetch("/runs/" .. run_id .. "/graph"))
  end)

  it("take their children along when they are cancelled", function()
    local run_id = submit("parent", { file = world.flows .. "/never" })
    local child = child_of(run_id, "RUNNING")
    fetch("/runs/" .. run_id .. "/cancel", { method = "POST", body = "" })
    world:wait(run_id, "CANCELLED")
    world:wait(child.run_id, "CANCELLED")
  end)

  it("find their children again when their slot dies", function()
    local file = world.flows .. "/go"
    local run_id = submit("parent", { file = file })
    local child = child_of(run_id, "RUNNING")
    local first = world:run(run_id)
    assert(require("luv").kill(first.task_records.pid.output, "sigkill"))
    world:wait(run_id, function(s) return s.status == "PENDING" end) -- handed back; the only place is the child's
    tmp.write(file, "")
    local parent = world:wait(run_id, "COMPLETED")
    assert.equal(first.attempt.delivery + 1, parent.attempt.delivery)
    assert.same({ child.run_id }, { table.unpack(parent.child_run_ids) })
    assert.equal("seen", parent.task_records.run_child.output.outputs.wait)
  end)

  it("spawn no grandchildren", function()
    local parent = world:wait(submit("deep"), "COMPLETED")
    assert.equal("child_respawn_not_allowed", parent.task_records.again.output.error_summary)
  end)

  it("have children on another tag, if they say so", function()
    local run_id = submit "elsewhere"
    local child = child_of(run_id, "PENDING")
    assert.equal("gpu", child.tag)
    fetch("/runs/" .. run_id .. "/cancel", { method = "POST", body = "" })
    world:wait(child.run_id, "CANCELLED")
  end)

  it("fail on a worker that does not allow it, before any task", function()
    local run = world:wait(submit("study", { rates = { 1 } }, "strict"), "FAILED")
    assert.equal("flow 'study' spawns runs, which this worker does not allow: start it with --allow-spawn "
      .. "(PYOCO_WORKER_ALLOW_SPAWN=1)", run.error)
    assert.same({}, run.task_records)
  end)
end)
