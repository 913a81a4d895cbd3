--- Runs of bundles on a real worker: children, waiting, limits, cancels, and what is left when a slot dies.
local json = require "host.json"
local clock = require "host.clock"
local crypto = require "host.crypto"
local uv = require "luv"
local run_bundle = require "pyoco.run.bundle"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local workers = require "spec.support.worker"

local TASKS = [[
local M = {}
function M.add_one(x) return x + 1 end
function M.to_text(add_one) return "v=" .. add_one end
function M.child_summary_text(run_child) return run_child.status .. ":" .. run_child.outputs.to_text end
function M.wait_for(ctx, file)
  while not io.open(file) do ctx:sleep(0.01) end
  return "seen"
end
function M.fail() error("broken", 0) end
function M.big(bytes) return ("x"):rep(bytes) end
function M.size(run_child) return #run_child.outputs.big end
function M.beside(ctx) ctx:sleep(0.01) return "beside" end
function M.count(text) return #text end
function M.nap(ctx) ctx:sleep(0.02) end
function M.pid() return io.open("/proc/self/stat"):read("n") end
return M
]]

local STUDY = fixture("job-bundle-root").body.workflow_bundle:gsub("pyoco_server._workflow_test_tasks", "tasks")

describe("bundles on a worker", function()
  local world

  lazy_setup(function()
    world = workers.world()
    world:write("tasks.lua", TASKS)
    world:worker()
  end)

  lazy_teardown(function() world:stop() end)

  --- A run of a bundle as an approved gateway's submit leaves it.
  local function submit(text, fields)
    local bundle = assert(require("pyoco.flow.bundle").read(text))
    local first = run_bundle.root { run_id = crypto.uuid4(), flow_name = bundle.entry_workflow, tag = "default",
      params = bundle.inputs, bundle_hash = bundle.sha256, workflow_bundle_bytes = #text, now = clock.wall(),
      requires_approval = false, tenant_id = "t1", api_key_id = "k1" }
    for key, value in pairs(fields or {}) do first[key] = value end
    assert(world.store.runs:create(first))
    assert(world.store.relations:put(first, first.updated_at))
    assert(world.store.jobs:publish(run_bundle.job(first, text, first.updated_at)))
    return first.run_id
  end

  --- A bundle of an entry workflow `main`, whose task `run_child` spawns `trial`.
  local function bundle(parts)
    return ([[
workflows:
  main:
    tasks:
      run_child: {spawn: trial%s}
%s    flow: {graph: '%s'}
  trial:
    tasks:
%s    flow: {graph: '%s'}
submit: {entry_workflow: main, inputs: {%s}}
]]):format(parts.spawn or "", parts.tasks or "", parts.graph or "run_child", parts.child
      or "      wait: {callable: 'tasks:wait_for'}\n", parts.child_graph or "wait", parts.inputs or "")
  end

  local function children(run_id)
    local list = {}
    for i, id in ipairs(world:run(run_id).child_run_ids) do list[i] = assert(world:run(id)) end
    return list
  end

  local function file() return world.flows .. "/" .. crypto.uuid4() end

  local function touch(path) assert(io.open(path, "w")):close() end

  --- Waits until the nth child of a run is there and runs.
  local function child_of(run_id, n, status)
    local id = world:wait(run_id, function(s) return s.child_run_ids[n or 1] end).child_run_ids[n or 1]
    return world:wait(id, status or "RUNNING")
  end

  --- A bundle whose parent tells the process that it runs in, and that process.
  local function with_pid(spawn)
    return bundle { spawn = spawn, graph = "pid >> run_child", tasks = "      pid: {callable: 'tasks:pid'}\n" }
  end

  local function slot_of(run_id)
    return world:wait(run_id, function(s) return s.tasks.pid == "SUCCEEDED" end).task_records.pid.output
  end

  local function keys(object)
    local list = {}
    for key in pairs(object) do list[#list + 1] = key end
    table.sort(list)
    return list
  end

  --- Our own fields beside the contract's.
  local OURS = { worker_id = true, attempt = true, graph_sha256 = true, crash_count = true }

  local function contract_keys(snapshot)
    local list = {}
    for _, key in ipairs(keys(snapshot)) do
      if not OURS[key] then list[#list + 1] = key end
    end
    return list
  end

  it("finish with one slot, as the recorded ones of the reference: parent, child, relations", function()
    local run_id = submit(STUDY)
    local parent = world:wait(run_id, "COMPLETED")
    local recorded = fixture "snapshot-completed-parent"
    assert.same(contract_keys(recorded), contract_keys(parent))
    assert.equal(1, parent.spawn_count)
    local child = children(run_id)[1]
    local recorded_child = fixture "snapshot-completed-child"
    assert.same(contract_keys(recorded_child), contract_keys(child))
    for _, key in ipairs { "flow_name", "approval_required", "approval_status", "spawned_from_task", "spawn_depth",
        "entry_workflow", "params", "tasks", "child_run_ids", "spawn_count", "workflow_yaml_sha256", "error", "status",
        "schedule_id", "cancel_requested_at" } do
      assert.same(recorded_child[key], child[key], key)
    end
    assert.same({ "t1", "k1", run_id, run_id }, { child.tenant_id, child.api_key_id, child.root_run_id,
      child.parent_run_id })
    local function result_of(snapshot) -- without ids
      return (json.encode(snapshot.result_summary, { sort = true }):gsub('"run_id":"[^"]*"', ""))
    end
    assert.equal(result_of(recorded_child), result_of(child))
    assert.equal(result_of(recorded), result_of(parent))
    assert.same({ x = 2 }, parent.task_records.run_child.inputs)
    assert.same(child.result_summary, parent.task_records.run_child.output)
    assert.equal("COMPLETED:v=3", parent.task_records.summarize.output)
    local relation = assert(world.store.relations:get(child.run_id))
    assert.same(keys(fixture("relations")[2]), keys(relation))
    assert.same({ "trial", 1, run_id, "run_child" }, { relation.workflow_name, relation.depth, relation.parent_run_id,
      relation.spawned_from_task })
    assert.truthy(world.store.documents:get(child.graph_sha256))
    world:wait_settled()
  end)

  it("run the reference's own job, with its run id as it is", function()
    local job = fixture("job-bundle-root").body
    job.workflow_bundle, job.tag, job.tags = STUDY, "default", json.array { "default" }
    assert(world.store.jobs:publish(job))
    local parent = world:wait(job.run_id, "COMPLETED")
    assert.equal("COMPLETED:v=3", parent.task_records.summarize.output)
    assert.equal(0, parent.spawn_depth)
  end)

  it("give their place back while they wait, and their other branches go on", function()
    local gate = file()
    local run_id = submit(bundle { spawn = ", inputs: {file: " .. gate .. "}", graph = "run_child & beside",
      tasks = "      beside: {callable: 'tasks:beside'}\n" })
    child_of(run_id)
    local parent = world:wait(run_id, function(s) return s.tasks.beside == "SUCCEEDED" end)
    assert.equal("RUNNING", parent.tasks.run_child)
    touch(gate)
    assert.equal("COMPLETED", world:wait(run_id, "COMPLETED").task_records.run_child.output.status)
  end)

  it("spawn in loops: each iteration has a child of its own, side by side", function()
    local run_id = submit((bundle { graph = 'run_child["$ctx.names as text"]', spawn =
      ", parallel: 3, inputs: {text: $ctx.text}", child = "      count: {callable: 'tasks:count'}\n",
      child_graph = "count", inputs = "names: [a, bb, ccc, dddd]" }))
    local parent = world:wait(run_id, "COMPLETED")
    local counts = {}
    for i, output in ipairs(parent.task_records.run_child.output) do counts[i] = output.outputs.count end
    assert.same({ 1, 2, 3, 4 }, counts)
    assert.equal(4, parent.spawn_count)
    assert.equal(4, parent.result_summary.outputs.run_child[4].outputs.count)
    for _, child in ipairs(children(run_id)) do assert.equal("COMPLETED", child.status) end
  end)

  it("succeed though a child failed, and the summary tells; with fail_on they fail", function()
    local failing = { child = "      fail: {callable: 'tasks:fail'}\n", child_graph = "fail" }
    local parent = world:wait(submit(bundle(failing)), "COMPLETED")
    local output = parent.task_records.run_child.output
    assert.same({ "FAILED", "broken", { fail = json.null } },
      { output.status, output.error_summary, output.outputs })
    failing.spawn = ", fail_on: [FAILED]"
    local run_id = submit(bundle(failing))
    parent = world:wait(run_id, "FAILED")
    assert.equal(("child run %s is FAILED: broken"):format(parent.child_run_ids[1]), parent.error)
    assert.equal(parent.error, parent.result_summary.error_summary)
    failing.spawn = ", fail_on: [FAILED], retries: 1, retry_delay_sec: 0"
    parent = world:wait(submit(bundle(failing)), "FAILED")
    assert.equal(2, parent.spawn_count)
  end)

  it("refuse grandchildren: a child whose workflow spawns fails before its first task", function()
    local text = bundle { child = "      again: {spawn: main}\n      fail: {callable: 'tasks:fail'}\n",
      child_graph = "fail" }
    local run_id = submit(text)
    world:wait(run_id, "COMPLETED")
    local child = children(run_id)[1]
    assert.same({ "FAILED", "child_respawn_not_allowed", {}, 0 },
      { child.status, child.error, child.tasks, child.spawn_count })
    assert.equal("child_respawn_not_allowed", child.result_summary.error_summary)
    assert.same({ "main" }, { world:run(run_id).flow_name })
  end)

  it("fail when their workflow is not in the bundle, or the bundle is broken", function()
    local before = #world:letters()
    local run_id = submit(bundle {}, { flow_name = "other" })
    local failed = world:wait(run_id, "FAILED")
    assert.equal("flow_not_found: 'other' (no workflow is called 'other')", failed.error)
    local letter = world:wait_letter(before + 1).body
    assert.same({ run_id, "flow_not_found", failed.error }, { letter.run_id, letter.reason, letter.error })
    run_id = crypto.uuid4()
    assert(world.store.jobs:publish { run_id = run_id, flow_name = "main", tag = "default", params = {},
      workflow_bundle = "workflows: [", workflow_bundle_sha256 = "ab", bundle_hash = "ab", spawn_depth = 0 })
    assert.truthy(world:wait(run_id, "FAILED").error:find("invalid workflow bundle", 1, true))
  end)

  it("keep children that a dead slot has left: the next attempt adopts them", function()
    local gate = file()
    local run_id = submit(with_pid(", inputs: {file: " .. gate .. "}"))
    local child = child_of(run_id)
    uv.kill(slot_of(run_id), "sigkill")
    world:wait(run_id, function(s) return s.crash_count == 1 end)
    touch(gate) -- the child has the only place, so its parent comes after it
    local parent = world:wait(run_id, "COMPLETED")
    assert.same({ child.run_id }, { table.unpack(parent.child_run_ids) })
    assert.equal(1, parent.spawn_count)
    assert.equal("seen", parent.task_records.run_child.output.outputs.wait)
    world:wait_settled()
  end)

  it("take their children with them when they are cancelled", function()
    local run_id = submit(bundle { spawn = ", inputs: {file: /nonexistent/never}" })
    local child = child_of(run_id)
    world:cancel(run_id)
    local parent = world:wait(run_id, "CANCELLED")
    child = world:wait(child.run_id, "CANCELLED")
    assert.equal("CANCELLED", parent.tasks.run_child)
    assert.same({ "CANCELLED", "CANCELLED" }, { parent.result_summary.status, child.result_summary.status })
    world:wait_settled()
  end)

  it("take them along too when their own slot is gone", function()
    local run_id = submit(with_pid ", inputs: {file: /nonexistent/never}")
    local child, slot = child_of(run_id), slot_of(run_id)
    uv.kill(slot, "sigstop") -- it cannot hear of the cancel
    world:cancel(run_id, { without_hint = true })
    uv.kill(slot, "sigkill")
    world:wait(run_id, "CANCELLED")
    world:wait(child.run_id, "CANCELLED")
    world:wait_settled()
  end)

  it("move to another worker with their children when theirs stops", function()
    local gate = file()
    local first = world:worker({ "--tags", "moving", "--worker-id", "m1", "--drain-sec", "0.1" })
    local run_id = submit(bundle { spawn = ", inputs: {file: " .. gate .. "}" },
      { tag = "moving", tags = json.array { "moving" } })
    local child = child_of(run_id)
    first:kill "sigterm"
    first:wait()
    for _, id in ipairs { run_id, child.run_id } do assert.equal("PENDING", world:run(id).status) end
    local second = world:worker({ "--tags", "moving", "--worker-id", "m2" })
    touch(gate)
    local parent = world:wait(run_id, "COMPLETED")
    assert.same({ child.run_id }, { table.unpack(parent.child_run_ids) })
    world:wait_settled()
    second:stop()
  end)

  it("have each child once, whichever slots die when", function()
    local strong = world:worker({ "--tags", "strong", "--worker-id", "s1", "--slots", "2" },
      { PYOCO_WORKER_MAX_CRASHES = "100", PYOCO_WORKER_MAX_WAITING = "3" })
    local text = bundle { graph = 'run_child["$ctx.texts as text"]', spawn = ", parallel: 2, inputs: {text: $ctx.text}",
      child = "      nap: {callable: 'tasks:nap'}\n      count: {callable: 'tasks:count'}\n",
      child_graph = "nap >> count", inputs = "texts: [a, bb, ccc]" }
    local ids = {}
    for i = 1, 6 do ids[i] = submit(text, { tag = "strong", tags = json.array { "strong" } }) end
    local dead
    for _ = 1, 8 do
      local slots = process.wait_for(function() -- the last one was noticed, and replaced
        local now = world:slots(strong)
        for _, pid in ipairs(now) do
          if pid == dead then return false end
        end
        return #now >= 2 and now
      end)
      dead = slots[math.random(#slots)]
      uv.kill(dead, "sigkill")
    end
    for _, id in ipairs(ids) do
      local parent, counts = world:wait(id, "COMPLETED"), {}
      for i, output in ipairs(parent.task_records.run_child.output) do counts[i] = output.outputs.count end
      assert.same({ { 1, 2, 3 }, 3 }, { counts, parent.spawn_count })
    end
    world:wait_settled()
    strong:stop()
  end)

  it("end a child whose parent was cancelled before anybody found it", function()
    local parent_id = submit(bundle {}, { status = "CANCELLED", end_time = 1 })
    local child = run_bundle.child(world:run(parent_id), { run_id = crypto.uuid4(), workflow = "trial",
      task = "run_child", tag = "default", params = { file = "/nonexistent" }, now = clock.wall() })
    assert(world.store.runs:create(child))
    assert(world.store.jobs:publish(run_bundle.job(child, bundle {}, clock.wall())))
    assert.same({}, world:wait(child.run_id, "CANCELLED").tasks)
  end)

  it("cancel the child of a task that is cut by its own timeout", function()
    local run_id = submit(bundle { spawn = ", timeout_sec: 0.5, inputs: {file: /nonexistent/never}" })
    assert.truthy(world:wait(run_id, "FAILED").error:find("timed out after 0.5 s", 1, true))
    assert.equal("CANCELLED", world:wait(world:run(run_id).child_run_ids[1], "CANCELLED").status)
  end)

  it("give the parent outputs that are too big for a snapshot", function()
    local text = bundle { graph = "run_child >> size", tasks = "      size: {callable: 'tasks:size'}\n",
      child = "      big: {callable: 'tasks:big'}\n", child_graph = "big", inputs = "bytes: 900000" }
    local run_id = submit(text)
    local parent = world:wait(run_id, "COMPLETED")
    assert.equal(900000, parent.task_records.size.output)
    local child = children(run_id)[1]
    assert.same({}, child.result_summary.outputs)
    local ref = child.result_summary.summary_ref
    assert.equal(child.run_id .. "/result_summary/summary", ref.name)
    assert.equal("COMPLETED", parent.result_summary.status)
  end)

  describe("limits", function()
    local limited, narrow

    lazy_setup(function()
      narrow = world:worker({ "--tags", "narrow", "--worker-id", "w3" }, { PYOCO_WORKER_MAX_WAITING = "1" })
      world.cfg.default_tag = "limited"
      limited = world:worker({ "--tags", "limited,kids", "--worker-id", "w2", "--slots", "2" }, {
        PYOCO_SPAWN_MAX_CHILD_RUNS = "3", PYOCO_SPAWN_MAX_PARALLEL_CHILD_RUNS = "2", PYOCO_SPAWN_CHILD_TAG = "kids",
        PYOCO_SPAWN_CHILD_WAIT_TIMEOUT_SEC = "0.6", PYOCO_SPAWN_POLL_INTERVAL_SEC = "0.05" })
    end)

    local function error_of(parts)
      local run_id = submit(bundle(parts), { tag = "limited", tags = json.array { "limited" } })
      local ended = world:wait(run_id, function(s) return s.status == "FAILED" or s.status == "COMPLETED" end)
      return ended.error, ended
    end

    it("of waiting parents: they finish, however many stand in the queue before their children", function()
      local ids = {}
      narrow:kill "sigstop"
      for i = 1, 4 do
        ids[i] = submit(bundle { child = "      count: {callable: 'tasks:count'}\n", child_graph = "count",
          inputs = "text: abc" }, { tag = "narrow", tags = json.array { "narrow" } })
      end
      narrow:kill "sigcont"
      for _, id in ipairs(ids) do
        assert.equal(3, world:wait(id, "COMPLETED").task_records.run_child.output.outputs.count)
      end
    end)

    it("of children in all", function()
      local message, ended = error_of { graph = "run_child[4]", child = "      count: {callable: 'tasks:count'}\n",
        child_graph = "count", inputs = "text: a" }
      assert.equal("spawn_max_child_runs_exceeded", message)
      assert.equal(3, ended.spawn_count)
      assert.equal("kids", children(ended.run_id)[1].tag)
      assert.equal("limited", limited and ended.tag)
    end)

    it("of children at once", function()
      local message, ended = error_of { graph = 'run_child["$ctx.n as i"]', spawn = ", parallel: 3",
        child = "      count: {callable: 'tasks:count'}\n", child_graph = "count", inputs = "text: a, n: [1, 2, 3]" }
      assert.equal("spawn_max_parallel_child_runs_exceeded", message)
      assert.equal(2, ended.spawn_count)
    end)

    it("of the wait: the child goes on", function()
      local gate = file()
      local message, ended = error_of { inputs = "file: " .. gate }
      assert.equal("child_wait_timeout", message)
      local child = world:run(ended.child_run_ids[1])
      assert.equal("RUNNING", child.status)
      touch(gate)
      world:wait(child.run_id, "COMPLETED")
    end)
  end)
end)
