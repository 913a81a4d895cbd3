--- ctx:http in a slot: one process after the other run of it, RUNNING before the request, and a cancel in the middle.
local http_server = require "spec.support.http_server"
local process = require "spec.support.process"
local support = require "spec.support.worker"

local FLOW = [[
local pyoco = require "pyoco"
local get = pyoco.task("get", function(ctx, url) return ctx:http({ url = url }).body end)
local beside = pyoco.task("beside", function(ctx) ctx:sleep(0.001) return "done" end)
return pyoco.flow("main", get & beside)
]]

describe("ctx:http in a worker", function()
  local world, server, handle

  before_each(function()
    world = support.world()
    world:write("main.lua", FLOW)
    server = http_server.start(function(request) return handle(request) end)
  end)

  after_each(function()
    server.stop()
    world:stop()
  end)

  local function submit() return world:submit { params = { url = server.url } } end

  it("works run after run in one slot, which keeps no files of it", function()
    handle = function() return { body = "hello", headers = {} } end
    local worker = world:worker()
    local slot, files = world:slots(worker)[1], nil
    for i = 1, 12 do
      local run = world:wait(submit(), "COMPLETED")
      assert.equal("hello", run.task_records.get.output)
      if i == 2 then files = world.open_files(slot) end
    end
    assert.same({ slot }, world:slots(worker))
    process.wait_for(function() return world.open_files(slot) <= files end, 5000, "the slot's files to be closed")
    world:wait_settled()
  end)

  it("stores RUNNING before the request leaves, while another task goes on", function()
    local run_id, seen
    handle = function()
      seen = world:run(run_id)
      return { body = "", headers = {} }
    end
    world:worker()
    run_id = submit()
    world:wait(run_id, "COMPLETED")
    assert.same({ "RUNNING", "RUNNING" }, { seen.status, seen.tasks.get })
  end)

  it("ends with a cancel, and with the limit of its task", function()
    handle = function() return { stays_open = true, stream = true, headers = {} } end
    world:worker()
    local run_id = submit()
    process.wait_for(function() return #server.requests == 1 end, 10000, "the request")
    world:wait(run_id, function(now) return now.tasks.beside == "SUCCEEDED" end)
    world:cancel(run_id)
    local run = world:wait(run_id, "CANCELLED")
    assert.same({ "CANCELLED", "SUCCEEDED" }, { run.tasks.get, run.tasks.beside })

    world:write("main.lua", (FLOW:gsub("%.body end%)", ".body end, { timeout_sec = 0.2 })")))
    run = world:wait(submit(), "FAILED")
    assert.equal("task 'get' timed out after 0.2 s (timeout_sec)", run.error)
    world:wait_settled()
  end)
end)
