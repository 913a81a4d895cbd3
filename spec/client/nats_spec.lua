--- pyoco.client.nats and pyoco.ensure_resources on a real NATS, with a real worker and gateway beside.
local json = require "host.json"
local client_module = require "pyoco.client.nats"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local pyoco = require "pyoco"
local shape = require "spec.support.shape"
local tmp = require "spec.support.tmp"
local workers = require "spec.support.worker"

--- The contract's keys of a run that this library submits (CONTRACT 4 and 5).
local SNAPSHOT = { "run_id", "flow_name", "tag", "tags", "status", "params", "tasks", "task_records", "start_time",
  "end_time", "heartbeat_at", "updated_at", "error" }
local JOB = { "run_id", "flow_name", "tag", "tags", "params", "submitted_at" }

describe("pyoco.client.nats", function()
  local world, client

  setup(function()
    world = workers.world()
    world:write("wait.lua", [[
      local pyoco = require "pyoco"
      return { pyoco.flow("wait", pyoco.task("wait", function(ctx) ctx:sleep(60) end)),
        pyoco.flow("double", pyoco.task("double", function(ctx, x) ctx:sleep(0.05) return 2 * x end)) }
    ]])
    world:worker()
    client = assert(client_module.connect { nats_url = world.server.url })
  end)

  teardown(function()
    client:close()
    world:stop()
  end)

  it("submits with the reference's shapes: neither tenant nor key", function()
    local run_id = assert(client:submit_run("main", { a = { 1 } }, { tag = "nobody", tags = { "x", "y" } }))
    local stored = assert(world.store.runs:get_raw(run_id))
    assert.same(SNAPSHOT, shape.keys(stored))
    local snapshot = json.decode(stored)
    assert.same({ "PENDING", { a = { 1 } }, { "x", "y" }, "nobody" },
      { snapshot.status, snapshot.params, snapshot.tags, snapshot.tag })
    local info = world.store.js:stream_info(world.cfg.work_stream)
    local message = assert(world.store.js:get_msg(world.cfg.work_stream, info.state.last_seq))
    assert.equal("pyoco.work.nobody", message.subject)
    assert.same(JOB, shape.keys(message.data))
    assert.equal(run_id, message.headers["Nats-Msg-Id"])
    assert.same({ "nobody", { "nobody" } }, (function()
      local other = client:get_run(assert(client:submit_run("f", nil, { tag = "nobody" })))
      return { other.tag, other.tags }
    end)())
  end)

  it("sees the run through: watch, get, list", function()
    local run_id = assert(client:submit_run("double", { x = 4 }))
    local states = {}
    for event in assert(client:watch_run(run_id)) do
      assert.same({ "snapshot", run_id }, { event.event, event.data.run_id })
      states[#states + 1] = event.data.snapshot.status
    end
    assert.equal("COMPLETED", states[#states])
    assert.equal(8, assert(client:get_run(run_id)).task_records.double.output)
    local list = assert(client:list_runs { flow = "double", status = "COMPLETED" })
    assert.equal(run_id, list[1].run_id)
    assert.same({}, client:list_runs { tag = "none" })
    assert.equal(1, #client:list_runs { limit = 1 })
  end)

  it("cancels as a gateway does", function()
    local run_id = assert(client:submit_run "wait")
    world:wait(run_id, "RUNNING")
    assert.equal("CANCELLING", assert(client:cancel_run(run_id)).status)
    world:wait(run_id, "CANCELLED")
    local _, _, code = client:cancel_run "nosuch"
    assert.equal("not_found", code)
  end)

  it("ends a watch in time, on close, and at a run that is deleted", function()
    local run_id = assert(client:submit_run("main", nil, { tag = "nobody" }))
    local count = 0
    for _ in assert(client:watch_run(run_id, { timeout_sec = 0.05 })) do count = count + 1 end
    assert.equal(1, count)
    do
      local watch <close> = assert(client:watch_run(run_id))
      assert.equal("PENDING", watch:next().data.snapshot.status)
      watch:close()
      assert.is_nil(watch:next())
    end
    local watch = assert(client:watch_run(run_id))
    watch:next()
    assert(world.store.runs:delete(run_id))
    assert.is_nil(watch:next())
    local none, _, code = client:watch_run(run_id)
    assert.same({ nil, "not_found" }, { none, code })
  end)

  it("refuses what no run can be, before anything is stored", function()
    local before = #assert(client:list_runs { limit = 1000 })
    for _, call in ipairs { { "" }, { "a\nb" }, { 7 }, { "f", { 1, 2 } }, { "f", "x" }, { "f", {}, { tag = "a.b" } },
      { "f", { x = 0 / 0 } } } do
      local none, message, code = client:submit_run(table.unpack(call))
      assert.same({ nil, "invalid" }, { none, code }, message)
    end
    assert.equal(before, #client:list_runs { limit = 1000 })
  end)

  it("is served beside it by a gateway", function()
    local gateway = gateways.start { nats_url = world.server.url }
    finally(function() gateway:stop() end)
    local run_id = assert(client:submit_run("main", nil, { tag = "nobody" }))
    assert.equal("PENDING", gateway:wait("/runs/" .. run_id, function(answer) return answer.status == 200 end,
      "the run").json.status)
    assert.equal(json.null, gateway:fetch("/runs?tag=nobody&limit=1").json[1].error)
  end)
end)

describe("connecting", function()
  it("refuses options that are none, and says when nobody answers", function()
    local none, message, code = client_module.connect { nats_ulr = "x" }
    assert.same({ nil, "invalid" }, { none, code })
    assert.truthy(message:find("nats_ulr is not an option; did you mean nats_url?", 1, true), message)
    none, message, code = client_module.connect { consumer_max_deliver = "many" }
    assert.same({ nil, "invalid" }, { none, code }, message)
    none, message, code = client_module.connect { nats_url = "nats://127.0.0.1:1" }
    assert.same({ nil, "unavailable" }, { none, code }, message)
  end)
end)

describe("pyoco.ensure_resources", function()
  it("makes what is missing, once and again, and leaves what is there", function()
    local server = nats.start()
    finally(function() server:stop() end)
    assert.is_true(pyoco.ensure_resources { nats_url = server.url, dlq_max_msgs = 7 })
    assert.is_true(pyoco.ensure_resources { nats_url = server.url })
    local client = assert(client_module.connect { nats_url = server.url })
    assert.equal(7, client.store.js:stream_info("PYOCO_DLQ").config.max_msgs)
    assert.truthy(client.store.js:stream_info("KV_pyoco_runs"))
    client:close()
    local none, message, code = pyoco.ensure_resources { nats_url = "nats://127.0.0.1:1" }
    assert.same({ nil, "unavailable" }, { none, code }, message)
  end)

  it("works from a script", function()
    local server, dir = nats.start(), tmp.dir()
    finally(function()
      server:stop()
      tmp.remove(dir)
    end)
    tmp.write(dir .. "/my.lua", [[
      local pyoco = require "pyoco"
      assert(pyoco.ensure_resources())
      local client = assert(require("pyoco.client.nats").connect())
      print(#assert(client:submit_run("main")))
    ]])
    local got = process.run({ dir .. "/my.lua" }, { cwd = dir, env = { PYOCO_NATS_URL = server.url } })
    assert.same({ "36\n", "", 0 }, { got.stdout, got.stderr, got.code })
  end)
end)
