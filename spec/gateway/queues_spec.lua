--- GET /queues of a real gateway: what waits, who would take it, the last hour.
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local support = require "spec.support.worker"

local FLOW = [[
local pyoco = require "pyoco"
return pyoco.flow("nap", pyoco.task("one", function(ctx, sec) ctx:sleep(sec) return 1 end))
]]

describe("GET /queues", function()
  local world, gateway

  before_each(function()
    world = support.world()
    world:write("nap.lua", FLOW)
    gateway = gateways.start { nats_url = world.server.url }
  end)
  after_each(function()
    gateway:stop()
    world:stop()
  end)

  local function wait_for(fits, what)
    local last
    local ok, found = pcall(process.wait_for, function()
      local answer = gateway:fetch "/queues"
      last = answer and answer.body
      return answer and answer.status == 200 and fits(answer.json) and answer.json
    end, 20000, what)
    assert.is_true(ok, ("%s: %s"):format(what, tostring(last)))
    return found
  end

  it("tells what waits by tag, and which workers would take it", function()
    assert.same({}, wait_for(function(answer) return answer.queues end, "an answer").queues)
    world:submit { flow_name = "nap", tag = "nobody", params = { sec = 0 } }
    local found = wait_for(function(answer) return #answer.queues == 1 end, "the queue")
    local alone, present = found.queues[1], found.history.points[#found.history.points]
    assert.equal(1, present.waiting) -- the plots show it now, not with the next sample
    assert.equal(alone.oldest_age_sec, present.oldest_age_sec)
    assert.equal("nobody", alone.tag)
    assert.equal(1, alone.jobs)
    assert.equal(0, alone.workers)
    assert.is_true(alone.oldest_age_sec >= 0 and alone.oldest_age_sec < 60)

    world:worker { "--tags", "busy,other", "--slots", "busy=2,other=1" }
    for _ = 1, 3 do world:submit { flow_name = "nap", tag = "busy", params = { sec = 1000 } } end
    local answer = wait_for(function(answer)
      return #answer.queues == 2 and answer.queues[1].in_hand and answer.queues[1].in_hand >= 2
    end, "jobs in hand")
    assert.equal("busy", answer.queues[1].tag)
    assert.equal(3, answer.queues[1].jobs)
    assert.equal(1, answer.queues[1].workers)
    assert.equal(2, answer.queues[1].slots)
  end)

  it("keeps points of the last hour", function()
    local answer = wait_for(function(answer) return #answer.history.points > 1 end, "a sample beside the present")
    assert.equal(10, answer.history.step_sec)
    assert.equal(0, answer.history.points[1].waiting)
    assert.is_number(answer.history.points[1].at)
  end)

  it("is 503 without NATS", function()
    world.server:kill()
    process.wait_for(function() return gateway:fetch("/queues").status == 503 end, 10000, "503")
    world.server:restart()
  end)
end)
