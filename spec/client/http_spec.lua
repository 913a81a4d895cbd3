--- pyoco.client.http against a real gateway and a real worker, and scripts that use it.
local http = require "host.http"
local json = require "host.json"
local client_module = require "pyoco.client.http"
local gateways = require "spec.support.gateway"
local http_server = require "spec.support.http_server"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local workers = require "spec.support.worker"

local FLOW = [[
local pyoco = require "pyoco"
return pyoco.flow("double", pyoco.task("double", function(ctx, x) ctx:sleep(0.05) return x * 2 end))
]]

describe("pyoco.client.http", function()
  local world, gateway, client

  setup(function()
    world = workers.world()
    world:write("double.lua", FLOW)
    world:write("jobs.lua", "return { one = function() return 1 end }")
    gateway = gateways.start { nats_url = world.server.url }
    world:worker()
    client = assert(client_module.new(gateway.url))
  end)

  teardown(function()
    client:close()
    gateway:stop()
    world:stop()
  end)

  before_each(function() http.close() end)
  after_each(function() client:close() end)

  local function ended(run_id)
    return process.wait_for(function()
      local run = assert(client:get_run(run_id))
      return run.status ~= "PENDING" and run.status ~= "RUNNING" and run
    end, 10000, "the run's end")
  end

  it("submits by name, and reads the run and its tasks", function()
    local run = assert(client:submit_run("double", { x = 21 }, { tags = { "a", "b" } }))
    assert.equal("PENDING", run.status)
    assert.equal(json.null, run.bundle_hash)
    local last = ended(run.run_id)
    assert.equal("COMPLETED", last.status)
    assert.is_nil(last.task_records)
    assert.same({ "a", "b" }, last.tags)
    assert.equal(42, client:get_run_with_records(run.run_id).task_records.double.output)
    local tasks = assert(client:get_tasks(run.run_id))
    assert.same({ double = "SUCCEEDED" }, tasks.tasks)
    assert.equal(42, tasks.task_records.double.output)
  end)

  it("submits documents, with params over their defaults", function()
    local text = workers.yaml("one", { one = "jobs:one" })
    local run = assert(client:submit_run_yaml(text, { flow_name = "y", tag = "default", params = { a = { 1 } } }))
    local last = ended(run.run_id)
    assert.equal("COMPLETED", last.status)
    assert.same({ a = { 1 } }, last.params)
    local page = assert(client:list_runs_vnext { workflow_yaml_sha256 = last.workflow_yaml_sha256 })
    assert.equal(run.run_id, page.items[1].run_id)
  end)

  it("lists: a list, or pages", function()
    local ids = {}
    for i = 1, 3 do ids[i] = assert(client:submit_run("double", { x = i }, { tag = "nobody" })).run_id end
    local list = process.wait_for(function()
      local got = assert(client:list_runs { tag = "nobody", status = "PENDING" })
      return #got == 3 and got
    end)
    assert.equal(ids[3], list[1].run_id)
    assert.equal("double", assert(client:list_runs { tag = "nobody", full = true, limit = 1 })[1].flow_name)
    local page = assert(client:list_runs_vnext { tag = "nobody", limit = 2, updated_after = 0 })
    assert.same({ ids[3], ids[2] }, { page.items[1].run_id, page.items[2].run_id })
    page = assert(client:list_runs_vnext { tag = "nobody", limit = 2, cursor = page.next_cursor })
    assert.same({ ids[1], json.null }, { page.items[1].run_id, page.next_cursor })
    page = assert(client:list_runs_vnext { tag = "nobody" }) -- a bare list of the gateway, made a page
    assert.same({ 3, json.null }, { #page.items, page.next_cursor })
  end)

  it("watches: an iterator of events", function()
    local run = assert(client:submit_run("double", { x = 2 }))
    local states, last = {}, nil
    for event in assert(client:watch_run(run.run_id, { include_records = true, until_terminal = true })) do
      if event.event == "snapshot" then
        assert.equal(run.run_id, event.data.run_id)
        assert.truthy(tonumber(event.id))
        last = event.data.snapshot
        states[#states + 1] = last.status
      end
    end
    assert.equal("COMPLETED", states[#states])
    assert.equal(4, last.task_records.double.output)
  end)

  it("can be left before the stream ends, and says why one cannot be opened", function()
    local run = assert(client:submit_run("double", {}, { tag = "nobody" }))
    local events = assert(client:watch_run(run.run_id))
    assert.equal("PENDING", events:next().data.snapshot.status)
    events:close()
    assert.is_nil(events:next())
    do
      local closed <close> = assert(client:watch_run(run.run_id))
      assert.equal("snapshot", closed:next().event)
    end
    local none, message, code, failure = client:watch_run("nosuch")
    assert.same({ nil, "not_found", 404 }, { none, code, failure.status })
    assert.truthy(message:find('HTTP 404 GET /runs/nosuch/watch: {"detail":"run not found"}', 1, true), message)
  end)

  it("says when a stream breaks", function()
    local server = http_server.start(function()
      return { stream = true, body = "event: snapshot\ndata: {\"a\":1}\n\n",
        headers = { ["content-type"] = "text/event-stream", ["content-length"] = "1000" } }
    end)
    finally(server.stop)
    local other = assert(client_module.new(server.url))
    local events = assert(other:watch_run("r"))
    assert.same({ a = 1 }, events:next().data)
    local event, message, code = events:next()
    assert.same({ nil, "unavailable" }, { event, code })
    assert.equal(message, events.message)
    other:close()
  end)

  it("cancels, and waits for the end if told", function()
    local run = assert(client:submit_run("double", { x = 1 }, { tag = "nobody" }))
    assert.equal("CANCELLED", assert(client:cancel_run(run.run_id, { wait = true })).status)
    local _, _, code = client:cancel_run("nosuch")
    assert.equal("not_found", code)
  end)

  it("names workers, and gives metrics and calls of one's own", function()
    local list = assert(client:get_workers { scope = "all" })
    assert.equal("w1", list[1].worker_id)
    assert.same({}, client:get_workers { state = "DISCONNECTED", scope = "all" })
    assert.truthy(assert(client:get_metrics()):find("pyoco_workers_alive_total 1", 1, true))
    assert.equal("pyoco-host", assert(client:call("GET", "/version")).name)
    local _, _, code, failure = client:call("POST", "/runs", { json = { flow_name = "" } })
    assert.same({ "invalid", 422 }, { code, failure.status })
  end)

  it("refuses what JSON cannot carry, and tells of a gateway that is not there", function()
    local _, message, code = client:submit_run("double", { x = 0 / 0 })
    assert.equal("invalid", code)
    assert.truthy(message:find("params.x", 1, true), message)
    local nobody = assert(client_module.new("http://127.0.0.1:1"))
    _, _, code = nobody:get_run("x")
    assert.equal("unavailable", code)
    _, _, code = nobody:watch_run("x")
    assert.equal("unavailable", code)
    nobody:close()
  end)

  it("serves a script", function()
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    tmp.write(dir .. "/my.lua", [[
      local client = assert(require("pyoco.client.http").new())
      local run = assert(client:submit_run("double", { x = 4 }))
      local last
      for event in assert(client:watch_run(run.run_id, { include_records = true, until_terminal = true })) do
        if event.event == "snapshot" then last = event.data.snapshot end
      end
      print(last.status, last.task_records.double.output)
    ]])
    local got = process.run({ dir .. "/my.lua" }, { env = { PYOCO_SERVER_URL = gateway.url }, cwd = dir })
    assert.same({ "COMPLETED\t8\n", "", 0 }, { got.stdout, got.stderr, got.code })
  end)
end)

describe("the requests of pyoco.client.http", function()
  local server, dir

  --- Runs a script with a client of a server here, which answers `{}` to all; in a process of its own, since the server
  --- is on our loop.
  local function requests(options, calls)
    dir = tmp.dir()
    server = http_server.start(function() return { body = "{}" } end)
    finally(function()
      server.stop()
      tmp.remove(dir)
    end)
    tmp.write(dir .. "/my.lua", ("local client = assert(require('pyoco.client.http').new(%q, %s))\n%s"):format(
      server.url .. "/", options, calls))
    local got = process.run({ dir .. "/my.lua" }, { cwd = dir })
    assert.same({ "", 0 }, { got.stderr, got.code })
    return server.requests
  end

  it("carry the key, in its header", function()
    local one = requests("{ api_key = 'k1', api_key_header = 'X-Other' }", "client:list_wheels()")[1]
    assert.same({ "/wheels", "k1" }, { one.path, one.headers["x-other"] })
  end)

  it("are what the contract wants of each call", function()
    local got = requests("nil", [[
      client:approve_run("a/b", { comment = "fine" })
      client:reject_run("r", { reason = "no" })
      client:submit_batch { { flow_name = "f" } }
      client:patch_worker_hidden("w", { hidden = true })
      client:delete_wheel("a.whl")
      client:delete_schedule("s")
      client:list_schedule_runs("s", { limit = 2 })
      client:submit_run("f", nil, { idempotency_key = "once", wait_sec = 2 })
      client:list_wheel_history { action = "delete", limit = 3 }
      client:upload_wheel { filename = "a.whl", data = "PK", tags = { "x", "y" }, replace = false }
      client:submit_run_bundle("version: 1", { tag = "t" })
      client:create_schedule_yaml("version: 1", { flow_name = "f", tag = "t", interval_seconds = 60 })
    ]])
    local lines = {}
    for i, request in ipairs(got) do
      local body = request.body:find("^%-%-") and "form" or request.body
      if body:find("^{") then body = json.encode(json.decode(body), { sort = true }) end
      lines[i] = ("%s %s %s"):format(request.method, request.path, body)
    end
    assert.same({ 'POST /runs/a%2Fb/approve {"comment":"fine"}', 'POST /runs/r/reject {"reason":"no"}',
      'POST /runs/batch {"runs":[{"flow_name":"f"}]}', 'PATCH /workers/w {"hidden":true}', "DELETE /wheels/a.whl ",
      "DELETE /schedules/s ", "GET /schedules/s/runs?limit=2 ",
      'POST /runs?wait=2 {"flow_name":"f","params":{}}', "GET /wheels/history?limit=3&action=delete ",
      "POST /wheels form", "POST /runs/bundle form", "POST /schedules/yaml form" }, lines)
    assert.equal("once", got[8].headers["idempotency-key"])
    local form = got[10].body
    assert.truthy(form:find('name="replace"\r\n\r\nfalse', 1, true) and form:find('name="tags"\r\n\r\nx,y', 1, true)
      and form:find('name="wheel"; filename="a.whl"', 1, true), form)
    assert.truthy(got[11].body:find('name="bundle"; filename="bundle.yaml"', 1, true))
    assert.truthy(got[12].body:find('name="interval_seconds"\r\n\r\n60', 1, true))
  end)
end)
