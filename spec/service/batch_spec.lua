--- POST /runs/batch on a memory store: each item has its own result, and a failure is its own.
local json = require "host.json"
local gateway_app = require "spec.support.gateway_app"

describe("POST /runs/batch", function()
  local app

  before_each(function() app = gateway_app.new() end)

  local function post(items) return app:simulate { path = "/runs/batch", json = { runs = json.array(items) } } end

  --- Results of a batch that was taken.
  local function submit(items)
    local answer = post(items)
    assert.equal(200, answer.status, answer.body)
    assert.equal(#items, #answer.json.results)
    assert.equal(#items, answer.json.accepted + answer.json.refused)
    return answer.json.results, answer.json
  end

  local function codes(results)
    local list = {}
    for i, result in ipairs(results) do list[i] = result.error and result.error.code or result.status end
    return list
  end

  local function count(bucket) return #bucket:entries() end

  --- Makes a verb act otherwise once.
  local function once(object, verb, act)
    local real = object[verb]
    object[verb] = function(...)
      object[verb] = real
      return act(real, ...)
    end
  end

  it("stores all snapshots, then queues all jobs, in order", function()
    local order = {}
    for _, step in ipairs { { "runs", "create_many" }, { "jobs", "publish_many" } } do
      local real = app.store[step[1]][step[2]]
      app.store[step[1]][step[2]] = function(...)
        order[#order + 1] = step[2]
        return real(...)
      end
    end
    local items = {}
    for i = 1, 1000 do items[i] = { flow_name = "f" .. i, params = { i = i } } end
    local results, whole = submit(items)
    assert.same({ 1000, 0 }, { whole.accepted, whole.refused })
    assert.same({ "create_many", "publish_many" }, order)
    for _, i in ipairs { 1, 500, 1000 } do
      assert.same({ run_id = results[i].run_id, status = "PENDING", bundle_hash = json.null }, results[i])
      local run, job = app.store.runs:get(results[i].run_id), json.decode(app.store.messages[i].data)
      assert.same({ "f" .. i, i, results[i].run_id, "default" }, { run.flow_name, run.params.i, job.run_id, job.tag })
    end
    assert.equal(1000, #app.store.messages)
  end)

  it("lists the faults of an item at its place, and takes the others", function()
    local results = submit { { flow_name = "a" }, { flow_name = "", tag = "a.b" }, "text",
      { params = json.array { 1 } }, { flow_name = "b", tag = json.null, idempotency_key = json.null },
      { flow_name = "c", idempotency_key = "" } }
    assert.same({ "PENDING", "invalid", "invalid", "invalid", "PENDING", "invalid" }, codes(results))
    local faults = {}
    for _, i in ipairs { 2, 3, 4 } do
      for _, item in ipairs(results[i].error.detail) do
        faults[#faults + 1] = item.type .. " " .. table.concat(item.loc, ".")
      end
    end
    assert.same({ "string_too_short body.runs.1.flow_name", "string_pattern_mismatch body.runs.1.tag",
      "model_attributes_type body.runs.2", "missing body.runs.3.flow_name", "dict_type body.runs.3.params" }, faults)
    assert.equal(2, #app.store.messages)
    assert.equal(2, count(app.store.runs.kv))
  end)

  it("refuses what is no batch, whole, and leaves everything as it was", function()
    local many = {}
    for i = 1, 1001 do many[i] = { flow_name = "f" } end
    for _, case in ipairs { { { runs = json.array(many) }, "too_long body.runs" }, { {}, "missing body.runs" },
      { { runs = { flow_name = "f" } }, "list_type body.runs" }, { json.array { 1 }, "model_attributes_type body" } } do
      local answer = app:simulate { path = "/runs/batch", json = case[1] }
      assert.equal(422, answer.status)
      assert.equal(case[2], answer.json.detail[1].type .. " " .. table.concat(answer.json.detail[1].loc, "."))
    end
    local broken = app:simulate { path = "/runs/batch", body = '{"runs":[', headers = {
      ["content-type"] = "application/json" } }
    assert.equal(422, broken.status)
    assert.equal(415, app:simulate { path = "/runs/batch", body = "x", headers = { ["content-type"] = "text/plain" }
      }.status)
    assert.equal(0, app.store.runs.kv.revision)
    assert.same({}, app.store.messages)
  end)

  it("may be empty", function()
    assert.same({ results = {}, accepted = 0, refused = 0 }, post({}).json)
  end)

  it("is the caller's", function()
    app:authenticate(function(_, req)
      req.caller = { tenant_id = "acme", api_key_id = "k1" }
      return true
    end)
    local run = app.store.runs:get(submit({ { flow_name = "f" } })[1].run_id)
    assert.same({ "acme", "k1" }, { run.tenant_id, run.api_key_id })
  end)

  it("needs a key where keys are asked for, after its shape was checked", function()
    app:authenticate(function() return nil, "api key required", "unauthorized" end)
    assert.equal(401, post({ { flow_name = "f" } }).status)
    assert.equal(422, app:simulate { path = "/runs/batch", json = {} }.status)
    assert.equal(0, app.store.runs.kv.revision)
  end)

  describe("with keys", function()
    local function item(key, fields)
      local it = { flow_name = "f", idempotency_key = key }
      for name, value in pairs(fields or {}) do it[name] = value end
      return it
    end

    it("starts a run once, sent again or twice in one batch", function()
      local first = submit { item "a", item "b", item "a", { flow_name = "f" } }
      assert.equal(first[1].run_id, first[3].run_id)
      assert.same({ [3] = true }, { first[1].replayed, first[2].replayed, first[3].replayed, first[4].replayed })
      assert.equal(3, #app.store.messages)
      local again = submit { item "c", item "b", item("a", { params = { other = 1 } }) }
      assert.same({ "PENDING", "PENDING", "invalid" }, codes(again))
      assert.equal(first[2].run_id, again[2].run_id)
      assert.truthy(again[3].error.detail:find("another request", 1, true))
      assert.equal(4, #app.store.messages)
    end)

    it("shares its keys with POST /runs", function()
      local run_id = submit({ item "a" })[1].run_id
      local answer = app:simulate { path = "/runs", json = { flow_name = "f" },
        headers = { ["idempotency-key"] = "a" } }
      assert.same({ run_id, "true" }, { answer.json.run_id, answer.headers["idempotent-replayed"] })
    end)

    it("finishes what a crash left, at every step", function()
      for _, step in ipairs { { "runs", "create_many" }, { "jobs", "publish_many" },
        { "idempotency", "update_many" } } do
        app = gateway_app.new()
        once(app.store[step[1]], step[2], function() error "killed" end)
        assert.equal(500, post({ item "a", item "b" }).status)
        local results = submit { item "a", item "b" }
        assert.same({ "PENDING", "PENDING" }, codes(results), step[2])
        assert.same({ true, true }, { results[1].replayed, results[2].replayed })
        assert.equal(2, #app.store.messages, step[2])
        assert.equal(2, count(app.store.runs.kv), step[2])
      end
    end)

    it("gives back the key of a run that is withdrawn", function()
      once(app.store.jobs, "publish_many", function(real, self, jobs)
        local results = real(self, { jobs[2] })
        return { { message = "full", code = "unavailable" }, results[1] }
      end)
      assert.same({ "unavailable", "PENDING" }, codes((submit { item "a", item "b" })))
      assert.equal(1, count(app.store.runs.kv))
      assert.equal(1, count(app.store.idempotency.kv))
      assert.same({ "PENDING" }, codes((submit { item("a", { params = { other = true } }) })))
    end)

    it("meets another gateway that is at the same key", function()
      once(app.store.runs, "create_many", function(real, self, firsts)
        local answer = app:simulate { path = "/runs", json = { flow_name = "f" },
          headers = { ["idempotency-key"] = "a" } }
        assert.equal(firsts[1].run_id, answer.json.run_id)
        return real(self, firsts)
      end)
      local results = submit { item "a", item "b" }
      assert.same({ "PENDING", "PENDING" }, codes(results))
      assert.equal(2, #app.store.messages)
      assert.equal(2, count(app.store.runs.kv))
    end)
  end)

  describe("when NATS fails", function()
    it("tells it of each run; when none was started, of the whole", function()
      once(app.store.runs, "create_many", function(real, self, firsts)
        local results = real(self, { firsts[1] })
        return { results[1], { message = "no reply", code = "timeout" } }
      end)
      local said
      local quiet = app.log
      app.log = { warning = function(_, message) said = message end }
      local results = submit { { flow_name = "a" }, { flow_name = "b" } }
      assert.same({ "PENDING", "unavailable" }, codes(results))
      assert.equal("submit batch: 1 of 2 runs could not be started: nats unavailable", said)
      app.log = quiet
      assert.equal("nats unavailable: TimeoutError", results[2].error.detail)
      once(app.store.runs, "create_many", function()
        return { { message = "gone", code = "unavailable" }, { message = "gone", code = "unavailable" } }
      end)
      local answer = post { { flow_name = "a" }, { flow_name = "b" } }
      assert.equal(503, answer.status)
      assert.equal("nats unavailable: gone", answer.json.detail)
    end)

    it("queues a job again whose fate is unknown", function()
      once(app.store.jobs, "publish_many", function(real, self, jobs)
        real(self, jobs)
        return { { message = "no reply", code = "timeout" }, { message = "no reply", code = "timeout" } }
      end)
      assert.same({ "PENDING", "PENDING" }, codes((submit { { flow_name = "a" }, { flow_name = "b" } })))
      assert.equal(2, #app.store.messages)
    end)

    it("tells nothing of records that cannot be read", function()
      submit { { flow_name = "f", idempotency_key = "a" } }
      once(app.store.idempotency, "get_many", function() return nil, "gone", "unavailable" end)
      assert.is_true(submit({ { flow_name = "f", idempotency_key = "a" } })[1].replayed)
      once(app.store.idempotency, "claim_many", function() return { { message = "gone", code = "unavailable" } } end)
      assert.equal(503, post({ { flow_name = "f", idempotency_key = "b" } }).status)
    end)
  end)
end)
