--- Schedules of real gateways on a real NATS: one dispatch whatever happens to them, and the commands of the client.
local http = require "host.http"
local json = require "host.json"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local runs = require "spec.support.runs"
local tmp = require "spec.support.tmp"

local DOCUMENT = "version: 1\nflow:\n  graph: a\n  defaults:\n    x: 1\ntasks:\n  a:\n    callable: m:f\n"

--- A gateway that dies between the submit and the record's update: the second write of a schedule is that one.
local MORTAL = [[
local gateway = require "pyoco.gateway"
local app = gateway.app()
if require("host").role == "service" then
  local schedules, writes = app.store.schedules, 0
  local update = schedules.update
  schedules.update = function(...)
    writes = writes + 1
    if writes == 2 then require("luv").kill(require("luv").os_getpid(), "sigkill") end
    return update(...)
  end
end
return gateway.main(app, ...)
]]

describe("schedules", function()
  local it_has, folder

  setup(function()
    folder = tmp.dir()
    tmp.write(folder .. "/flow.yaml", DOCUMENT)
    tmp.write(folder .. "/mortal.lua", MORTAL)
    it_has = runs.start { env = { PYOCO_LEASE_TTL_SEC = "1" } }
  end)
  teardown(function()
    it_has:stop()
    tmp.remove(folder)
  end)

  after_each(function() http.close() end) -- gateways come and go

  local function post(gateway, fields)
    local list = { { "flow_name", "nightly" }, { "tag", "gpu" } }
    for name, value in pairs(fields) do list[#list + 1] = { name, value } end
    local body, kind = http.multipart(list, { { name = "workflow", filename = "f.yaml", data = DOCUMENT } })
    return assert(gateway:fetch("/schedules/yaml", { method = "POST", body = body,
      headers = { ["content-type"] = kind } }))
  end

  local function made(gateway, fields)
    local answer = post(gateway, fields)
    assert.equal(200, answer.status, answer.body)
    return answer.json
  end

  local function record(id) return (it_has.store.schedules:get(id)) end

  local function wait_record(id, fits)
    return process.wait_for(function()
      local found = record(id)
      return found and fits(found) and found
    end, 15000, "the schedule to be " .. tostring(id))
  end

  --- Ids of the runs that carry the schedule's id, as KV has them.
  local function runs_of(id)
    local found = {}
    for _, entry in ipairs(assert(it_has.store.runs.kv:entries())) do
      if json.decode(entry.value).schedule_id == id then found[#found + 1] = entry.key end
    end
    return found
  end

  local function iso(at)
    return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(at)) .. ("%.3f+00:00"):format(at % 1):sub(2)
  end

  it("make one run at their time, which another gateway lists", function()
    local other = gateways.start { nats_url = it_has.server.url }
    local at = it_has.store:now() + 0.4
    local schedule = made(other, { run_at = iso(at), params = '{"y": 2}' })
    assert.equal("once", schedule.schedule_type)
    local done = wait_record(schedule.schedule_id, function(it) return it.status == "COMPLETED" end)
    local run_id = done.last_run_id
    assert.same({ run_id }, runs_of(schedule.schedule_id))
    local run = it_has.store.runs:get(run_id)
    assert.same({ "nightly", "gpu", { x = 1, y = 2 }, "PENDING" }, { run.flow_name, run.tag, run.params, run.status })
    assert.truthy(it_has.gateway:fetch("/metrics").body:find('\npyoco_schedule_dispatches_total{result="ok"} 1\n', 1,
      true))
    local early = done.last_submitted_at - schedule.next_run_at
    assert.is_true(early >= 0, tostring(early))
    local answer = other:wait("/schedules/" .. schedule.schedule_id .. "/runs", function(got) return #got.json == 1 end,
      "the run to be listed")
    assert.equal(run_id, answer.json[1].run_id)
    answer = other:fetch("/schedules/" .. schedule.schedule_id .. "/runs?include=full")
    assert.same({ x = 1, y = 2 }, answer.json[1].params)
    answer = other:fetch("/runs?schedule_id=" .. schedule.schedule_id)
    assert.equal(run_id, answer.json[1].run_id)
    other:stop()
  end)

  it("make one run for each time when two gateways are there, and go on when one is killed", function()
    local mortal = gateways.start { nats_url = it_has.server.url, env = { PYOCO_LEASE_TTL_SEC = "1" },
      script = folder .. "/mortal.lua" }
    -- the mortal one gets the lease, and dies with the first run submitted and the record not yet written
    it_has.gateway:stop()
    mortal:wait("/health", function(got)
      return type(got.json.leader) == "table" and got.json.leader.here
    end, "the mortal gateway to lead")
    it_has.gateway = gateways.start { nats_url = it_has.server.url, env = { PYOCO_LEASE_TTL_SEC = "1" } }
    local schedule = made(it_has.gateway, { interval_seconds = "1.5" })
    local id = schedule.schedule_id
    mortal.process:wait()
    assert.equal(9, mortal.process.signal)
    assert.equal(0, record(id).dispatch_count)
    assert.equal(1, #runs_of(id))
    local info = assert(it_has.store.js:stream_info("PYOCO_WORK"))
    local first = runs_of(id)[1]
    local after = wait_record(id, function(it) return it.dispatch_count >= 1 end)
    assert.equal(first, after.last_run_id)
    assert.equal(1, #runs_of(id))
    assert.equal(info.state.last_seq, assert(it_has.store.js:stream_info("PYOCO_WORK")).state.last_seq)
    after = wait_record(id, function(it) return it.dispatch_count >= 2 end)
    assert.equal(after.dispatch_count, #runs_of(id))
    assert.equal(200, it_has.gateway:fetch("/schedules/" .. id, { method = "DELETE" }).status)
    mortal:stop()
  end)

  it("are not dispatched while a reference gateway does it", function()
    -- as the reference claims: a lease in the record; it then finalises by compare-and-set
    local schedule = made(it_has.gateway, { interval_seconds = "3600" })
    local id = schedule.schedule_id
    local found, revision = it_has.store.schedules:get(id)
    local now = it_has.store:now()
    found.next_run_at, found.lease_until = now - 1, now + 0.8
    revision = assert(it_has.store.schedules:update(found, revision))
    it_has.gateway:wait("/schedules", function(got) return got.status == 200 end, "a list")
    local due = made(it_has.gateway, { run_at = iso(now + 0.3) }) -- one that is due later is dispatched first
    wait_record(due.schedule_id, function(it) return it.status == "COMPLETED" end)
    assert.equal(0, #runs_of(id))
    found.next_run_at, found.lease_until, found.dispatch_count = now + 3600, json.null, 1
    assert(it_has.store.schedules:update(found, revision))
    due = made(it_has.gateway, { run_at = iso(now + 1.1) })
    wait_record(due.schedule_id, function(it) return it.status == "COMPLETED" end)
    assert.equal(0, #runs_of(id))
  end)

  it("wait for a NATS that is away: 503 meanwhile, one run when it is back", function()
    local schedule = made(it_has.gateway, { run_at = iso(it_has.store:now() + 0.5) })
    it_has.server:kill()
    it_has.gateway:wait("/ready", function(got) return got.status == 503 end, "the gateway to notice")
    assert.equal(503, post(it_has.gateway, { interval_seconds = "60" }).status)
    assert.equal(503, it_has.gateway:fetch("/schedules").status)
    it_has.server:restart()
    wait_record(schedule.schedule_id, function(it) return it.status == "COMPLETED" end)
    assert.equal(1, #runs_of(schedule.schedule_id))
  end)

  describe("commands", function()
    local function client(...)
      local got = process.run { "client.lua", "--server", it_has.gateway.url, ... }
      return got.stdout, got.code, got.stderr
    end

    it("make, list and delete them, with one line of JSON each", function()
      it_has.gateway:wait("/ready", function(got) return got.status == 200 end, "the gateway to be ready")
      local text, code, errors = client("schedule-yaml", "--workflow-file", folder .. "/flow.yaml", "--flow-name",
        "日本", "--tag", "gpu", "--interval-seconds", "3600", "--start-at", "2020-01-01T00:00:00Z", "--param", "y=2")
      assert.same({ 0, "" }, { code, errors })
      assert.truthy(text:find('^{"api_key_id": null, .*"flow_name": "\\u65e5\\u672c".*}\n$'), text)
      local schedule = json.decode(text)
      assert.same({ 3600.0, 1577836800.0 }, { schedule.interval_seconds, schedule.start_at })
      assert.same({ x = 1, y = 2 }, record(schedule.schedule_id).params)
      assert.equal(schedule.schedule_id, json.decode((client "schedules"))[1].schedule_id)
      assert.equal("[]\n", (client("schedule-runs", "--schedule-id", schedule.schedule_id, "--limit", "5",
        "--records")))
      assert.same({ schedule_id = schedule.schedule_id, deleted = true },
        json.decode((client("schedule-delete", "--schedule-id", schedule.schedule_id))))
    end)

    it("say what is wrong, and exit with 1", function()
      local _, code, errors = client("schedule-yaml", "--workflow-file", folder .. "/flow.yaml", "--flow-name", "a",
        "--tag", "gpu", "--run-at", "soon")
      assert.equal(1, code)
      assert.truthy(errors:find('ERR-PYOCO-HTTP: request failed\n- reason: HTTP 422 POST /schedules/yaml: '
        .. '{"detail":"run_at must be ISO 8601 datetime"}', 1, true), errors)
      _, code, errors = client("schedule-delete", "--schedule-id", "none")
      assert.equal(1, code)
      assert.truthy(errors:find('HTTP 404 DELETE /schedules/none: {"detail":"schedule not found"}', 1, true), errors)
      assert.equal(1, select(2, client("schedule-runs")))
      assert.equal(1, select(2, client("schedule-yaml", "--workflow-file", "/none.yaml", "--flow-name", "a",
        "--tag", "g")))
    end)
  end)
end)
