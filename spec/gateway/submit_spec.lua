--- Submits with real gateways: two at once with one Idempotency-Key, one that is killed at the worst moment, batches.
local http = require "host.http"
local json = require "host.json"
local host = require "host"
local crypto = require "host.crypto"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local runs_support = require "spec.support.runs"
local tmp = require "spec.support.tmp"
local web = require "spec.support.web"

--- A gateway that hangs in a step of the store, for flows that are called after it.
local SCRIPT = [[
local gateway = require "pyoco.gateway"
local app = gateway.app()
local function hang_at(verbs, verb, run_of)
  local real = verbs[verb]
  verbs[verb] = function(self, it, ...)
    if it.flow_name == "hang at " .. verb then require("host.clock").sleep(60) end
    return real(self, it, ...)
  end
end
if app.store then
  hang_at(app.store.runs, "update")
  hang_at(app.store.jobs, "publish")
end
return gateway.main(app, ...)
]]

describe("submits", function()
  local fleet, second

  setup(function()
    fleet = runs_support.start()
    second = gateways.start { nats_url = fleet.server.url }
  end)

  teardown(function()
    second:stop()
    fleet:stop()
  end)

  after_each(function() http.close() end) -- connections that are kept

  local function post(gateway, key, body, query)
    return assert(gateway:fetch("/runs" .. (query or ""), { method = "POST", body = assert(json.encode(body)),
      headers = { ["content-type"] = "application/json", ["idempotency-key"] = key } }))
  end

  local function jobs_of(run_id)
    local count = 0
    local info = assert(fleet.store.js:stream_info("PYOCO_WORK"))
    for seq = info.state.first_seq, info.state.last_seq do
      local msg = fleet.store.js:get_msg("PYOCO_WORK", seq)
      if msg and json.decode(msg.data).run_id == run_id then count = count + 1 end
    end
    return count
  end

  local function place_of(flow_name, key) return crypto.sha256(("\0%s\0%s"):format(flow_name, key)) end

  it("answers a replay with the first run and a header; another request is 422", function()
    local body = { flow_name = "http", params = { a = 1 } }
    local first, again = post(fleet.gateway, "key 1", body), post(second, "key 1", body)
    assert.same({ 200, 200 }, { first.status, again.status })
    assert.same(first.json, again.json)
    assert.is_nil(first.headers["idempotent-replayed"])
    assert.equal("true", again.headers["idempotent-replayed"])
    local held = post(second, "key 1", body, "?wait=0.01")
    assert.same({ 202, "true" }, { held.status, held.headers["idempotent-replayed"] })
    local before = fleet.store.js:stream_info("KV_pyoco_runs").state.last_seq
    body.params.a = 2
    local other = post(second, "key 1", body)
    assert.equal(422, other.status)
    assert.truthy(other.json.detail:find("another request", 1, true))
    assert.equal(422, post(second, ("x"):rep(256), body).status)
    assert.equal(before, fleet.store.js:stream_info("KV_pyoco_runs").state.last_seq)
    assert.equal(1, jobs_of(first.json.run_id))
  end)

  it("forgets a key after a day", function()
    assert.equal(86400 * 1000000000, fleet.store.js:stream_info("KV_pyoco_idempotency").config.max_age)
  end)

  it("gives one run when two gateways get the key at the same time", function()
    local connections = {}
    for i = 1, 12 do
      local body = json.encode { flow_name = "race", params = { i = i } }
      local request = ("POST /runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        .. "Idempotency-Key: race %d\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(i, #body, body)
      for _, gateway in ipairs { fleet.gateway, second, fleet.gateway } do
        connections[#connections + 1] = { i = i, it = web.connect(gateway.url:match ":(%d+)$", request) }
      end
    end
    local ids = {}
    for _, connection in ipairs(connections) do
      connection.it:wait()
      local answer = assert(json.decode(connection.it.text:match "\r\n\r\n(.*)$"), connection.it.text)
      connection.it:close()
      assert.truthy(answer.run_id, connection.it.text)
      ids[connection.i] = ids[connection.i] or answer.run_id
      assert.equal(ids[connection.i], answer.run_id)
    end
    for _, run_id in ipairs(ids) do assert.equal(1, jobs_of(run_id)) end
    local stored = 0
    for _, entry in ipairs(fleet.store.runs.kv:entries()) do
      if json.decode(entry.value).flow_name == "race" then stored = stored + 1 end
    end
    assert.equal(12, stored)
  end)

  describe("when a gateway is killed -9", function()
    local dir, doomed

    before_each(function()
      dir = tmp.dir()
      local file <close> = assert(io.open(dir .. "/doomed.lua", "w"))
      file:write(SCRIPT)
      file:close()
      doomed = gateways.start { nats_url = fleet.server.url, script = dir .. "/doomed.lua",
        env = { PYOCO_HOME = host.home } }
    end)

    after_each(function()
      doomed:stop()
      tmp.remove(dir)
    end)

    --- Sends a submit, waits until the gateway hangs in it, and kills the gateway. The run that it has claimed.
    local function kill_at(verb, is_there)
      local flow_name = "hang at " .. verb
      local body = json.encode { flow_name = flow_name }
      local connection = web.connect(doomed.url:match ":(%d+)$", ("POST /runs HTTP/1.1\r\nHost: x\r\n"
        .. "Content-Type: application/json\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body))
      local record = process.wait_for(function()
        local found = fleet.store.idempotency:get(place_of(flow_name, "k"))
        return found and is_there(found.run_id) and found
      end, 10000, "the step to be reached")
      doomed.process:kill "sigkill"
      doomed.process:wait()
      connection:close()
      assert.is_nil(record.started)
      assert.equal(0, jobs_of(record.run_id))
      return record.run_id, flow_name
    end

    local function expect_finished(run_id, flow_name)
      local answer = post(second, "k", { flow_name = flow_name })
      assert.equal(200, answer.status, answer.body)
      assert.equal(run_id, answer.json.run_id)
      assert.equal("true", answer.headers["idempotent-replayed"])
      assert.equal("PENDING", fleet.store.runs:get(run_id).status)
      assert.equal(1, jobs_of(run_id))
    end

    it("between record and snapshot, another gateway finishes the run", function()
      expect_finished(kill_at("update", function() return true end))
    end)

    it("between snapshot and job, too", function()
      expect_finished(kill_at("publish", function(run_id) return fleet.store.runs:get(run_id) end))
    end)
  end)

  describe("in a batch", function()
    local function batch(gateway, body) return assert(gateway:fetch("/runs/batch", { json = body })) end

    local function items(count, prefix)
      local list = json.array {}
      for i = 1, count do
        list[i] = { flow_name = "batch", params = { i = i }, tag = "batch", idempotency_key = prefix and prefix .. i }
      end
      return { runs = list }
    end

    it("queues every run, once for its key on any gateway", function()
      local first, again = batch(fleet.gateway, items(300, "b")), batch(second, items(300, "b"))
      assert.same({ 200, 300, 0 }, { first.status, first.json.accepted, first.json.refused })
      for i = 1, 300, 50 do
        assert.equal(first.json.results[i].run_id, again.json.results[i].run_id)
        assert.is_true(again.json.results[i].replayed)
        assert.equal(i, fleet.store.runs:get(first.json.results[i].run_id).params.i)
      end
      local info = fleet.store.js:stream_info("PYOCO_WORK", { subjects_filter = "pyoco.work.batch" })
      assert.equal(300, info.state.subjects["pyoco.work.batch"])
      local listed = fleet:list("?flow=batch&limit=200") -- at once
      assert.equal(200, #listed)
    end)

    it("gives one run for each key when two gateways get the batch at the same time", function()
      local body, connections = json.encode(items(100, "race")), {}
      for i, gateway in ipairs { fleet.gateway, second } do
        connections[i] = web.connect(gateway.url:match ":(%d+)$", ("POST /runs/batch HTTP/1.1\r\nHost: x\r\n"
          .. "Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(#body, body))
      end
      local results = {}
      for i, connection in ipairs(connections) do
        connection:wait()
        results[i] = assert(json.decode(connection.text:match "\r\n\r\n(.*)$"), connection.text).results
        connection:close()
      end
      for i = 1, 100 do
        assert.equal(assert(results[1][i].run_id), results[2][i].run_id)
        assert.equal("PENDING", fleet.store.runs:get(results[1][i].run_id).status)
      end
      local info = fleet.store.js:stream_info("PYOCO_WORK", { subjects_filter = "pyoco.work.batch" })
      assert.equal(400, info.state.subjects["pyoco.work.batch"])
    end)
  end)

  it("is 503 without NATS, and the same key works when it is back", function()
    fleet.server:kill()
    second:wait("/health", function(health) return health.json.nats ~= "connected" end, "the outage")
    assert.equal(503, post(second, "outage", { flow_name = "f" }).status)
    assert.equal(503, second:fetch("/runs/batch", { json = { runs = json.array { { flow_name = "f" } } } }).status)
    fleet.server:restart()
    process.wait_for(function() return post(second, "outage", { flow_name = "f" }).status == 200 end, 10000, "the run")
    process.wait_for(function()
      return post(fleet.gateway, "outage", { flow_name = "f" }).headers["idempotent-replayed"] == "true"
    end, 10000, "the other gateway to be back")
  end)
end)
