--- Child runs without a server: pyoco.testing runs bundles by the rules of a worker. The whole of `client.lua run`:
--- spec/cli/run_spec.lua; the rules on real workers: spec/worker/bundle_spec.lua.
local testing = require "pyoco.testing"
local source = require "spec.support.source"
local tmp = require "spec.support.tmp"

local TASKS = [[
local count = 0
local M = {}
function M.double(x)
  count = count + 1
  return { twice = x * 2, seen = count }
end
function M.nap(ctx, sec) ctx:sleep(sec) return sec end
function M.fail() error("broken", 0) end
function M.total(trial)
  local sum = 0
  for _, child in ipairs(trial) do sum = sum + child.outputs.double.twice end
  return sum
end
function M.beside(ctx) ctx:sleep(5) return ctx.run.run_id end
function M.spin() while true do end end
function M.keep(ctx) ctx:save_artifact("model", { 1 }) ctx:log("kept") return 1.5 end
return M
]]

describe("child runs without a server", function()
  local dir

  setup(function()
    dir = tmp.dir()
    tmp.write(dir .. "/tasks.lua", TASKS)
  end)
  teardown(function() tmp.remove(dir) end)

  --- A bundle whose workflow `main` has some tasks, and `trial`.
  local function bundle(graph, tasks, child_graph, child_tasks, inputs)
    local path = dir .. "/bundle.yaml"
    tmp.write(path, ([[
workflows:
  main:
    flow: { graph: '%s' }
    tasks:
%s
  trial:
    flow: { graph: '%s' }
    tasks:
%s
submit: { entry_workflow: main, inputs: { %s } }
]]):format(graph, tasks, child_graph, child_tasks, inputs or ""))
    return path
  end

  local DOUBLE = "      double: { callable: 'tasks:double' }"
  local NAP = "      nap: { callable: 'tasks:nap' }"

  it("run side by side, with the parent's params under the task's inputs and modules of their own", function()
    local run = testing.flow(bundle('trial["$ctx.list as x"] >> total', "      trial: { spawn: trial, parallel: 2, "
      .. "inputs: { x: $ctx.x } }\n      total: { callable: 'tasks:total' }", "double", DOUBLE,
      "list: [1, 2, 3], y: 5"), { params = { list = { 1, 2, 3, 4 } } })
    assert.is_true(run.ok, run.error)
    assert.equal(20, run.outputs.total)
    assert.equal(4, #run.children)
    assert.same({ list = { 1, 2, 3, 4 }, x = 3, y = 5 }, run.children[3].params)
    for i, child in ipairs(run.children) do
      assert.same({ "trial", "trial", { i - 1 }, "COMPLETED", { twice = 2 * i, seen = 1 } },
        { child.workflow, child.task, child.iteration, child.status, child.outputs.double })
      assert.equal(child.run_id, run.outputs.trial[i].run_id)
    end
  end)

  it("leave other branches going: the run takes as long as the longest", function()
    local run = testing.flow(bundle("trial & beside", "      trial: { spawn: trial, inputs: { sec: 3600 } }\n"
      .. "      beside: { callable: 'tasks:beside' }", "nap", NAP), { child_timeout_sec = 0 })
    assert.is_true(run.ok, run.error)
    assert.equal(3600, run.clock)
    assert.equal("test", run.outputs.beside)
    assert.equal(3600, run.children[1].clock)
  end)

  it("tell their result as on a worker: outputs, metrics, artifacts; the child's log is its own", function()
    local run = testing.flow(bundle("trial", "      trial: { spawn: trial }", "keep",
      "      keep: { callable: 'tasks:keep' }"))
    local child = run.children[1]
    local summary = run.outputs.trial
    assert.same({ keep = 1.5 }, summary.outputs)
    assert.same({ keep = 1.5 }, summary.summary_metrics)
    assert.same({ "keep", "model" }, { summary.artifacts[1].task, summary.artifacts[1].name })
    assert.equal(child.run_id, summary.run_id)
    assert.same({ "kept\n", "" }, { child.log, run.log })
  end)

  it("that fail are told, and fail the task that says so; a retry is another child", function()
    local spawn = "      trial: { spawn: trial, %s }"
    local FAIL = "      fail: { callable: 'tasks:fail' }"
    local run = testing.flow(bundle("trial", spawn:format "retries: 0", "fail", FAIL))
    assert.is_true(run.ok)
    assert.same({ "FAILED", "broken" }, { run.outputs.trial.status, run.outputs.trial.error_summary })
    run = testing.flow(bundle("trial", spawn:format "fail_on: [FAILED], retries: 1", "fail", FAIL))
    assert.equal("FAILED", run.status)
    assert.equal(2, #run.children)
    assert.equal(("child run %s is FAILED: broken"):format(run.children[2].run_id), run.error)
    assert.not_equal(run.children[1].run_id, run.children[2].run_id)
  end)

  it("that cannot be built are FAILED with the reason", function()
    local path = bundle("trial", "      trial: { spawn: trial }", "double", DOUBLE)
    local flow = testing.load(path)
    tmp.write(dir .. "/tasks.lua", "return {}")
    local run = testing.flow(flow)
    tmp.write(dir .. "/tasks.lua", TASKS)
    assert.truthy(run.outputs.trial.error_summary:find("module 'tasks' has no function 'double'", 1, true))
    assert.same({ "FAILED", {} }, { run.children[1].status, run.children[1].outputs })
  end)

  it("keep the limits of number, of how many at once, and of depth", function()
    local loop = bundle("trial[3]", "      trial: { spawn: trial }", "nap", NAP, "sec: 1")
    assert.equal("spawn_max_child_runs_exceeded", testing.flow(loop, { max_child_runs = 2 }).error)
    local each = bundle('trial["$ctx.list as n"]', "      trial: { spawn: trial, parallel: 3 }", "nap", NAP,
      "sec: 1, list: [1, 2, 3]")
    assert.equal("spawn_max_parallel_child_runs_exceeded", testing.flow(each, { max_parallel_child_runs = 2 }).error)
    assert.is_true(testing.flow(each).ok)
    local deep = testing.flow(bundle("trial", "      trial: { spawn: trial }", "trial", "      trial: { spawn: main }"))
    assert.equal("child_respawn_not_allowed", deep.outputs.trial.error_summary)
  end)

  it("that a task has waited for too long go on, and the run is not over before them", function()
    local run = testing.flow(bundle("trial", "      trial: { spawn: trial }", "nap", NAP, "sec: 100"),
      { child_timeout_sec = 10 })
    assert.equal("child_wait_timeout", run.error)
    assert.equal("COMPLETED", run.children[1].status)
    assert.equal(100, run.clock)
  end)

  it("are cancelled when their task's time is up, also while they compute", function()
    local run = testing.flow(bundle("trial", "      trial: { spawn: trial, timeout_sec: 10 }", "nap", NAP, "sec: 100"))
    assert.equal("task 'trial' timed out after 10 s (timeout_sec)", run.error)
    assert.same({ "CANCELLED", 10 }, { run.children[1].status, run.clock })
    run = testing.flow(bundle("trial", "      trial: { spawn: trial, timeout_sec: 0.05 }", "spin",
      "      spin: { callable: 'tasks:spin' }"))
    assert.equal("task 'trial' timed out after 0.05 s (timeout_sec)", run.error)
    assert.equal("CANCELLED", run.children[1].status)
  end)

  it("end with the run that waits for what cannot come", function()
    local run = testing.flow(bundle("trial", "      trial: { spawn: trial }", "nap", NAP), {
      fakes = { ["trial.nap"] = function(ctx)
        while true do ctx:sleep(0.001) end
      end }, child_timeout_sec = 0 })
    assert.truthy(run.error:find("they wait for what never comes", 1, true), run.error)
    assert.equal("CANCELLED", run.children[1].status)
  end)

  it("have fakes: of a task of theirs, or of the task that spawns them", function()
    local path = bundle('trial["$ctx.list as x"] >> total', "      trial: { spawn: trial, inputs: { x: $ctx.x } }\n"
      .. "      total: { callable: 'tasks:total' }", "double", DOUBLE, "list: [1, 2]")
    local run = testing.flow(path, { fakes = { ["trial.double"] = function(x) return { twice = x * 100 } end } })
    assert.equal(300, run.outputs.total)
    run = testing.flow(path, { fakes = { trial = { outputs = { double = { twice = 7 } } } } })
    assert.equal(14, run.outputs.total)
    assert.same({}, run.children)
    local ok, message = pcall(testing.flow, path, { fakes = { ["trial.dubble"] = 1 } })
    assert.is_false(ok)
    assert.truthy(message:find("flow 'trial' has no task 'dubble'; did you mean double?", 1, true), message)
  end)

  it("are not for a task alone; every workflow is a flow of its own", function()
    local entry, flows = testing.load(bundle("trial", "      trial: { spawn: trial }", "double", DOUBLE))
    assert.same({ "main", "trial" }, { entry.name, flows.trial.name })
    assert.equal(8, testing.flow(flows.trial, { params = { x = 4 } }).outputs.double.twice)
    assert.equal(6, testing.task(flows.trial, "double", { params = { x = 3 } }).output.twice)
    assert.has_error(function() testing.task(entry, "trial") end)
  end)

  it("of a bundle that is wrong: the first error, with its place and remedy", function()
    local ok, message = pcall(testing.load, bundle("trial", "      trial: { spawn: trail }", "double", DOUBLE))
    assert.is_false(ok)
    local expected = "bundle.yaml:5:23: no workflow is called 'trail'; did you mean trial?"
    assert.truthy(message:find(expected, 1, true), message)
  end)

  it("of a Lua flow are the flows of its folder, by their names", function()
    tmp.write(dir .. "/flows.lua", [[
local pyoco = require "pyoco"
local task, flow = pyoco.task, pyoco.flow
local double = task("double", function(ctx, x) return { twice = x * 2, tag = ctx.run.tag } end)
local trial = task("trial", { spawn = "training", inputs = { x = "$ctx.x" }, tag = "gpu" })
local total = task("total", function(trial) return #trial end)
local deep = task("deep", { spawn = "study" })
local gone = task("gone", { spawn = "trainign", fail_on = { "FAILED" } })
return { flow("training", double), flow("study", trial:each("$ctx.list", "x", { parallel = 2 }) >> total),
  flow("deep", deep), flow("gone", gone) }]])
    local study, deep, gone = table.unpack(testing.load(dir .. "/flows.lua"), 2)
    local run = testing.flow(study, { params = { list = { 1, 2 } } })
    assert.is_true(run.ok, run.error)
    assert.equal(2, run.outputs.total)
    assert.same({ twice = 4, tag = "gpu" }, run.children[2].outputs.double)
    assert.same({ double = { twice = 4, tag = "gpu" } }, run.outputs.trial[2].outputs)
    run = testing.flow(study, { params = { list = { 1 } }, fakes = { ["training.double"] = 7 } })
    assert.same({ 7 }, { run.children[1].outputs.double })
    assert.equal("child_respawn_not_allowed", testing.flow(deep).outputs.deep.error_summary)
    assert.truthy(testing.flow(gone).error:find("flow 'trainign' is not declared in " .. dir
      .. "; did you mean training?", 1, true))
  end)

  it("are tried out as the guide says", function()
    for _, page in ipairs { "docs/guide/flows.md", "docs/ja/guide/flows.md" } do
      local example = assert(source.read(page):match('```lua\n(local testing = require "pyoco.testing"\n.-)```'), page)
      assert(load(example:gsub('"flows/', '"' .. source.root .. "/flows/"), "=" .. page))()
    end
  end)
end)
