--- Loops, switches, retries, isolated failures and limits on a real worker: what the snapshot says of them, and what
--- becomes of a run whose slot dies, or which is cancelled, in the middle.
local json = require "host.json"
local uv = require "luv"
local process = require "spec.support.process"
local support = require "spec.support.worker"
local tmp = require "spec.support.tmp"

local TASKS = [[
local M = {}
local counts = {}
function M.double(x) return 2 * x end
function M.sum(double) local s = 0 for _, n in ipairs(double) do s = s + n end return s end
function M.which() return "B" end
function M.one() return 1 end
function M.fail() error("it cannot work") end
function M.flaky(ctx) if ctx.attempt < 3 then error("attempt " .. ctx.attempt) end return ctx.attempt end
function M.hang(ctx) ctx:sleep(3600) end
function M.spin() while true do end end
function M.wait(ctx) ctx:sleep(3600) end
-- a pattern that backtracks for ever, in C
function M.stuck() return (("a"):rep(10000):find((".-"):rep(12) .. "b")) end
-- each call leaves a line in a file; the second item of the first attempt never ends
function M.step(ctx, x)
  local file <close> = io.open("steps", "a")
  file:write(ctx.run.attempt, ":", x, "\n")
  file:flush()
  if x == 2 and ctx.run.attempt == 1 then ctx:sleep(3600) end
  return x
end
return M
]]

describe("a worker", function()
  local world

  before_each(function()
    world = support.world()
    world:write("lang.lua", TASKS)
  end)

  after_each(function() world:stop() end)

  --- A document; every task is a function of lang.lua. options: { task = lines of YAML }.
  local function document(graph, names, options)
    local lines = {}
    for name in names:gmatch("%S+") do
      lines[#lines + 1] = ("  %s:\n    callable: lang:%s\n"):format(name, name)
      for line in ((options or {})[name] or ""):gmatch("[^\n]+") do lines[#lines + 1] = "    " .. line .. "\n" end
    end
    return ("version: 1\nflow:\n  graph: |\n    %s\ntasks:\n%s"):format(graph, table.concat(lines))
  end

  local function submit(graph, names, options, job)
    job = job or {}
    job.workflow_yaml = document(graph, names, options)
    return world:submit(job)
  end

  it("stores the records of loops and switches", function()
    world:worker()
    local run = world:wait(submit('double["$ctx.params.items as x"] >> sum >> which >> '
      .. 'switch("$node.which.output")["A" >> fail, "B" >> one]', "double sum which fail one", nil,
      { params = { items = { 1, 2, 3 } } }), "COMPLETED")
    assert.same({ double = "SUCCEEDED", sum = "SUCCEEDED", which = "SUCCEEDED", one = "SUCCEEDED", fail = "PENDING" },
      run.tasks)
    assert.same({ 2, 4, 6 }, run.task_records.double.output)
    assert.equal(3, run.task_records.double.iterations)
    assert.equal(12, run.task_records.sum.output)
    assert.is_true(run.task_records.fail.skipped)
    local frames = run.frame_records
    assert.same({ "SUCCEEDED", 3 }, { frames.each1.state, frames.each1.iterations })
    assert.same({ "SUCCEEDED", "B" }, { frames.switch1.state, frames.switch1.label })
    assert.is_nil(run.failed_tasks)
    assert.is_nil(run.tasks_truncated)
  end)

  it("has no more fields than the contract in a run without any of it", function()
    world:worker()
    local run = world:wait(submit("one", "one"), "COMPLETED")
    assert.same({}, { run.frame_records, run.failed_tasks, run.task_counts, run.tasks_truncated })
    assert.same({ "SUCCEEDED" }, { run.task_records.one.state, run.task_records.one.attempt,
      run.task_records.one.iterations, run.task_records.one.skipped })
  end)

  it("shows attempts while a task waits for its retry, and in the end", function()
    world:worker()
    local run_id = submit("flaky", "flaky", { flaky = "retries: 3\nretry_delay_sec: 0.01" })
    local record = world:wait(run_id, "COMPLETED").task_records.flaky
    assert.same({ "SUCCEEDED", 3, 3, 2 }, { record.state, record.output, record.attempt, #record.attempts })
    assert.truthy(record.attempts[1].error:find("attempt 1", 1, true))

    run_id = submit("flaky", "flaky", { flaky = "retries: 1\nretry_delay_sec: 3600" })
    local run = world:wait(run_id, function(run)
      local flaky = run.task_records.flaky
      return run.status == "RUNNING" and flaky and flaky.attempts
    end)
    assert.equal("RUNNING", run.tasks.flaky)
    world:cancel(run_id)
    run = world:wait(run_id, "CANCELLED")
    assert.same({ "CANCELLED", "CANCELLED", json.null },
      { run.tasks.flaky, run.task_records.flaky.state, run.error })
    world:wait_settled()
  end)

  it("goes on after an isolated failure and names it", function()
    world:worker()
    local run = world:wait(submit("(fail >> sum) & one", "fail sum one", { fail = "fail_policy: isolate" }),
      "COMPLETED")
    assert.same({ "fail" }, run.failed_tasks)
    assert.same({ fail = "FAILED", sum = "FAILED", one = "SUCCEEDED" }, run.tasks)
    assert.equal("upstream_failed: fail", run.task_records.sum.error)
    assert.equal(json.null, run.error)
    world:wait_settled()
    assert.same({}, world:letters())
  end)

  for _, name in ipairs { "hang", "spin" } do
    it("fails a run whose task is over its limit: " .. name, function()
      world:worker()
      local run = world:wait(submit(name .. " >> one", name .. " one", { [name] = "timeout_sec: 0.05" }), "FAILED")
      local text = ("task '%s' timed out after 0.05 s (timeout_sec)"):format(name)
      assert.same({ text, text, "FAILED", "PENDING" },
        { run.error, run.task_records[name].error, run.tasks[name], run.tasks.one })
      assert.equal("execution_error", world:wait_letter(1).body.reason)
    end)
  end

  it("kills a slot whose task is in a C function that does not return, and goes on with the next run", function()
    local worker = world:worker({}, { PYOCO_CANCEL_GRACE_PERIOD_SEC = "0.2" })
    local slot = world:slots(worker)[1]
    local run_id = submit("(stuck & wait) >> one", "stuck wait one", { stuck = "timeout_sec: 0.05" })
    local next_id = submit("one", "one")
    local run = world:wait(run_id, "FAILED")
    local text = "task 'stuck' timed out after 0.05 s (timeout_sec)"
    assert.same({ text, "FAILED", text }, { run.error, run.tasks.stuck, run.task_records.stuck.error })
    assert.is_not.equal("RUNNING", run.tasks.wait)
    assert.is_nil(run.crash_count)
    assert.equal("COMPLETED", world:wait(next_id, "COMPLETED").status)
    assert.truthy(worker.stdout:find("task ignores its timeout", 1, true))
    assert.is_nil((uv.kill(slot, 0)))
    local letter = world:wait_letter(1)
    assert.same({ "execution_error", text }, { letter.body.reason, letter.body.error })
    world:wait_settled()
  end)

  it("leaves a slot alone whose task with a limit has ended, though another one blocks", function()
    world:write("block.lua", 'return { block = function() os.execute("sleep 2.5") return "done" end }')
    world:worker({}, { PYOCO_CANCEL_GRACE_PERIOD_SEC = "0" })
    local text = document("one >> block", "one block", { one = "timeout_sec: 0.01" })
    local run_id = world:submit { workflow_yaml = (text:gsub("lang:block", "block:block")) }
    assert.equal("done", world:wait(run_id, "COMPLETED").task_records.block.output)
  end)

  it("kills a slot that a cancel does not reach, in a C function that does not return", function()
    local worker = world:worker({}, { PYOCO_CANCEL_GRACE_PERIOD_SEC = "0.2" })
    local run_id = submit("wait & stuck", "wait stuck") -- it gets stuck at once
    world:wait(run_id, "PENDING")
    process.wait_for(function()
      return (tmp.read(("/proc/%d/stat"):format(world:slots(worker)[1])) or ""):find(") R ", 1, true)
    end, 10000, "the slot to compute")
    world:cancel(run_id)
    local run = world:wait(run_id, "CANCELLED")
    assert.equal("CANCELLED", run.status)
    assert.equal("COMPLETED", world:wait(submit("one", "one"), "COMPLETED").status)
    world:wait_settled()
  end)

  it("runs a loop from its beginning when its slot is killed in the middle", function()
    local worker = world:worker()
    local run_id = submit('step["$ctx.params.items as x"]', "step", nil, { params = { items = { 1, 2, 3 } } })
    local function steps() return (tmp.read(world.flows .. "/steps") or ""):gsub("\n", " ") end
    process.wait_for(function() return steps() == "1:1 1:2 " end, 10000, "the second iteration")
    local first = world:wait(run_id, function(run) return run.frame_records and run.frame_records.each1 end)
    assert.equal("RUNNING", first.frame_records.each1.state)
    for _, pid in ipairs(world:slots(worker)) do assert(uv.kill(pid, "sigkill")) end
    local run = world:wait(run_id, "COMPLETED")
    assert.equal("1:1 1:2 2:1 2:2 2:3 ", steps())
    assert.same({ 1, 2, 3 }, run.task_records.step.output)
    assert.same({ "SUCCEEDED", 3 }, { run.frame_records.each1.state, run.frame_records.each1.iterations })
    assert.equal(1, run.crash_count)
    world:wait_settled()
  end)

  it("ends loops and switches of a run that is cancelled", function()
    world:worker()
    local run_id = submit('(one >> wait)[3] >> switch("1")["1" >> sum]', "one wait sum")
    world:wait(run_id, function(run) return run.tasks.wait == "RUNNING" end)
    world:cancel(run_id)
    local run = world:wait(run_id, "CANCELLED")
    assert.equal("CANCELLED", run.frame_records.times1.state)
    for id, frame in pairs(run.frame_records) do
      assert.truthy(({ CANCELLED = true, PENDING = true })[frame.state], id .. " is " .. frame.state)
    end
    world:wait_settled()
  end)

  it("ends a run with an output that is too large for its snapshot well", function()
    world:write("big.lua", 'return { big = function() return ("x"):rep(10 << 20) end }')
    world:worker()
    local text = document("big >> one", "big one"):gsub("lang:big", "big:big")
    local run_id = world:submit { workflow_yaml = text }
    local run = world:wait(run_id, "COMPLETED", 30000)
    assert.same({ big = "SUCCEEDED", one = "SUCCEEDED" }, run.tasks)
    assert.same({ json.null, 2 + (10 << 20) }, { run.task_records.big.output, run.task_records.big.output_ref.size })
    assert.is_nil(run.task_records_truncated)
    world:wait_settled()
  end)

  it("cuts the tasks of a run with too many of them to those that did not end well, and counts", function()
    world:worker({}, { PYOCO_MAX_RUN_SNAPSHOT_BYTES = "4096" })
    local lines, names = {}, {}
    for i = 1, 300 do
      names[i] = "t" .. i
      lines[i] = ("  t%d:\n    callable: lang:%s\n"):format(i, i == 300 and "fail" or "one")
    end
    local run = world:wait(world:submit { workflow_yaml = ("version: 1\nflow:\n  graph: |\n    %s\ntasks:\n%s"):format(
      table.concat(names, " >> "), table.concat(lines)) }, "FAILED")
    assert.same({ { t300 = "FAILED" }, { SUCCEEDED = 299, FAILED = 1 }, true, true },
      { run.tasks, run.task_counts, run.tasks_truncated, run.task_records_truncated })
  end)
end)
