--- What a worker says of flow files that do not load: in its log, in its registry record, and on a gateway's /health.
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local support = require "spec.support.worker"

local GOOD = [[
local pyoco = require "pyoco"
return pyoco.flow("good", pyoco.task("one", function() return 1 end))
]]

describe("a flow file that does not load", function()
  local world

  before_each(function()
    world = support.world()
    world:write("good.lua", GOOD)
  end)

  after_each(function() world:stop() end)

  --- The registry record once it satisfies a condition.
  local function record(fits, what)
    return process.wait_for(function()
      local found = world.store.workers:get "w1"
      return found and fits(found) and found
    end, 10000, what)
  end

  it("is shown with file and line everywhere while others go on, and gone when it is mended", function()
    local gateway = gateways.start { nats_url = world.server.url }
    local worker = world:worker()
    record(function(found) return #found.flows == 1 and #found.flow_errors == 0 end, "the flow to be listed")
    gateway:wait("/health", function(answer) return answer.json.flow_errors and #answer.json.flow_errors == 0 end,
      "/health without errors")

    world:write("bad.lua", "local x = 1\nlocal = 2\n")
    local found = record(function(found) return #found.flow_errors == 1 end, "the error in the registry")
    assert.equal("good", found.flows[1].name)
    assert.equal(2, found.flow_errors[1].line)
    assert.truthy(found.flow_errors[1].file:find("bad.lua", 1, true))
    assert.truthy(found.flow_errors[1].message:find("bad.lua:2: ", 1, true))
    process.wait_for(function() return worker.stdout:find("bad.lua:2: ", 1, true) end, 10000, "the error in the log")
    local answer = gateway:wait("/health", function(answer) return #answer.json.flow_errors == 1 end,
      "the error on /health")
    assert.equal("w1", answer.json.flow_errors[1].worker_id)
    assert.truthy(answer.json.flow_errors[1].message:find("bad.lua:2: ", 1, true))
    assert.equal("COMPLETED", world:wait(world:submit { flow_name = "good" }, "COMPLETED").status)

    world:write("bad.lua", "return {}")
    record(function(mended) return #mended.flow_errors == 0 end, "the registry without error")
    gateway:wait("/health", function(later) return #later.json.flow_errors == 0 end, "/health without errors again")
    gateway:stop()
  end)

  it("is logged once, however often the flows are listed", function()
    world:write("bad.lua", "local = 2")
    local worker = world:worker()
    record(function(found) return #found.flow_errors == 1 end, "the error in the registry")
    world:write("other.lua", "local = 3")
    record(function(found) return #found.flow_errors == 2 end, "the second error in the registry")
    local _, count = worker.stdout:gsub("flows cannot be loaded", "")
    assert.equal(2, count, worker.stdout)
  end)

  it("may be the operator's resolver", function()
    local path = world.flows .. "/pick.lua"
    world:write("pick.lua", "return { picks = 7 }")
    world:worker { "--flow-resolver", path .. ":pick" }
    local found = record(function(found) return #found.flow_errors == 1 end, "the error in the registry")
    assert.equal(path, found.flow_errors[1].file)
    assert.truthy(found.flow_errors[1].message:find("expected a function under pick of the table", 1, true))
    world:write("pick.lua", "return { pick = function() end }")
    record(function(mended) return #mended.flow_errors == 0 end, "the registry without error")
  end)

  it("may be a folder that is not there: it is named, with what to do", function()
    world:worker { "--task-path", world.flows .. ":" .. world.flows .. "/nowhere" }
    local found = record(function(found) return #found.flow_errors == 1 end, "the error in the registry")
    assert.truthy(found.flow_errors[1].message:find("nowhere: no such folder; make it", 1, true))
  end)
end)
