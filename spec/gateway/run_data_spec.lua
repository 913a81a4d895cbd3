--- What is too big for a snapshot, from a real worker's task to the body of a gateway's answer.
local json = require "host.json"
local gateways = require "spec.support.gateway"
local support = require "spec.support.worker"

describe("the gateway's run data", function()
  local world, gateway

  before_each(function()
    world = support.world()
    gateway = gateways.start { nats_url = world.server.url }
  end)
  after_each(function()
    gateway:stop()
    world:stop()
  end)

  it("is a task's whole output and whole log", function()
    world:write("big.lua", [[return {
      big = function()
        for i = 1, 100000 do print("line", i) end
        return { text = ("ä"):rep(2 << 20) }
      end,
      size = function(big) return #big.text end,
    }]])
    world:worker()
    local run_id = world:submit { workflow_yaml = support.yaml("big >> size", { big = "big:big", size = "big:size" }) }
    local run = world:wait(run_id, "COMPLETED", 30000)
    assert.equal(4 << 20, run.task_records.size.output)
    local answer = assert(gateway:fetch(("/runs/%s/tasks/big/output"):format(run_id)))
    assert.equal(200, answer.status)
    assert.equal(run.task_records.big.output_ref.size, #answer.body)
    assert.is_true(answer.json.text == ("ä"):rep(2 << 20))
    assert.equal(tostring(4 << 20), gateway:fetch(("/runs/%s/tasks/size/output"):format(run_id)).body)
    answer = assert(gateway:fetch(("/runs/%s/tasks/big/log"):format(run_id)))
    assert.equal("text/plain; charset=utf-8", answer.headers["content-type"])
    assert.equal(run.task_records.big.log_ref.size, #answer.body)
    local lines = 0
    for i in answer.body:gmatch("line\t(%d+)\n") do
      lines = lines + 1
      assert.equal(lines, tonumber(i))
    end
    assert.equal(100000, lines)
    -- the snapshot that everybody reads stays small
    local tasks = assert(gateway:fetch(("/runs/%s/tasks"):format(run_id)))
    assert.is_true(#tasks.body < 16384)
    assert.equal(json.null, tasks.json.task_records.big.output)
    assert.is_nil(tasks.json.task_records_truncated or nil)
  end)

  it("that is gone is 404, and 503 when its store is", function()
    world:write("big.lua", 'return { big = function() return ("x"):rep(1 << 20) end }')
    world:worker()
    local run_id = world:submit { workflow_yaml = support.yaml("big", { big = "big:big" }) }
    world:wait(run_id, "COMPLETED")
    local path = ("/runs/%s/tasks/big/output"):format(run_id)
    assert(world.store.data:objects():delete(run_id .. "/big/output"))
    assert.equal(404, gateway:fetch(path).status)
    assert(world.store.js:stream_delete("OBJ_pyoco_run_data"))
    local answer = gateway:fetch(path)
    assert.equal(503, answer.status)
    assert.truthy(answer.json.detail:find("^nats unavailable: "), answer.body)
  end)
end)
