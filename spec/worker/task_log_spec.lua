--- Logs of tasks through the temporary file and into a store of objects.
local process = require "spec.support.process"
local run = require("spec.support.js").run
local memory = require "pyoco.store.memory"
local task_logs = require "pyoco.worker.task_log"

local CFG = { runs_bucket = "r", workers_bucket = "w", workflow_bundles_bucket = "b", run_data_bucket = "d" }

describe("worker.task_log", function()
  local data, logs

  before_each(function()
    data = memory.open(CFG).data
    logs = task_logs.new(data, "r", 1000000)
  end)
  after_each(function() process.settle() end)

  local function stored(task) return (data:get("r", task, "log", 1 << 21)) end

  it("keeps tasks apart that speak in turns", function()
    local said = { a = {}, b = {}, c = {} }
    for i = 1, 3000 do
      for task, every in pairs { a = 1, b = 2, c = 500 } do
        if i % every == 0 then
          local text = ("%s says %d\n"):format(task, i)
          said[task][#said[task] + 1] = text
          logs:append(task, text)
        end
      end
    end
    logs:store()
    assert.is_true(stored("a") == table.concat(said.a))
    assert.is_true(stored("b") == table.concat(said.b))
    assert.is_nil(stored("c")) -- the record's log_tail has it all
    local records = { a = {}, c = {} }
    logs:apply(records)
    assert.equal("r/a/log", records.a.log_ref.name)
    assert.is_nil(records.c.log_ref)
  end)

  it("cuts what is too long, and says so", function()
    logs.max_bytes = 10000
    for _ = 1, 30 do logs:append("a", ("x"):rep(999)) end
    logs:store()
    assert.equal(("x"):rep(10000) .. "\n[the log was cut after 10000 bytes]\n", stored("a"))
  end)

  it("tries again when NATS is away for a moment, and gives up in the end", function()
    local put, tries, faults = data.put, 0, 2
    data.put = function(...)
      tries = tries + 1
      if tries <= faults then return nil, "away", "unavailable" end
      return put(...)
    end
    logs:append("a", ("x"):rep(20000))
    run(function() logs:store() end)
    assert.equal(20000, #stored("a"))
    tries, faults = 0, math.huge
    logs = task_logs.new(data, "r", 1000000)
    logs:append("b", ("x"):rep(20000))
    run(function() logs:store() end)
    local records = { b = {} }
    logs:apply(records)
    assert.is_nil(records.b.log_ref)
  end)
end)
