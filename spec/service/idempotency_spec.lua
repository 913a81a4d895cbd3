--- service.idempotency on a memory store: each crash and each race, made by hand at the step where it matters.
local json = require "host.json"
local gateway_app = require "spec.support.gateway_app"
local submit = require "pyoco.service.submit"

local DOCUMENT = "flow:\n  graph: a\ntasks:\n  a:\n    callable: demo:a\n"

describe("service.idempotency", function()
  local app

  before_each(function() app = gateway_app.new() end)

  local function records() return app.store.idempotency.kv:entries() end

  local function runs()
    local list = {}
    for i, entry in ipairs(app.store.runs.kv:entries()) do list[i] = json.decode(entry.value) end
    return list
  end

  local function once(key, fields, caller)
    local request = { flow_name = "main" }
    for name, value in pairs(fields or {}) do request[name] = value end
    return submit.flow(app, caller or {}, request, { idempotency_key = key })
  end

  --- Makes a verb act otherwise, the first `times` times.
  local function instead(object, verb, times, act)
    local real = object[verb]
    object[verb] = function(...)
      times = times - 1
      if times < 0 then return real(...) end
      return act(real, ...)
    end
  end

  --- The gateway dies when it comes to this step.
  local function crash_at(object, verb)
    instead(object, verb, 1, function() error "killed" end)
    assert.has_error(function() once "k" end)
  end

  it("starts one run for a key, and answers the same each time", function()
    local first = assert(once "k")
    assert.is_nil(first.replayed)
    assert(app.store.runs:update({ run_id = first.run_id, status = "COMPLETED" },
      select(2, app.store.runs:get(first.run_id))))
    local again = assert(once "k")
    assert.is_true(again.replayed)
    again.replayed = nil
    assert.same(first, again)
    assert.equal(1, #runs())
    assert.equal(1, #app.store.messages)
  end)

  it("keeps keys of other flows and tenants apart", function()
    for _, other in ipairs { {}, { { flow_name = "other" } }, { {}, { tenant_id = "acme" } },
      { {}, { tenant_id = "b" } } } do
      assert.is_nil(assert(once("k", other[1], other[2])).replayed)
    end
    assert.is_nil(assert(once "l").replayed)
    assert.equal(5, #runs())
    assert.equal(5, #records())
    assert.is_true(once("k", nil, { tenant_id = "acme", api_key_id = "another of theirs" }).replayed)
  end)

  it("refuses a key with another request, and leaves everything as it was", function()
    assert(once("k", { params = { a = 1, b = json.null } }))
    assert.is_true(once("k", { params = { b = json.null, a = 1 }, tag = "default" }).replayed) -- says the same
    local before = { app.store.runs.kv.revision, app.store.idempotency.kv.revision, #app.store.messages }
    for _, fields in ipairs { { params = { a = 2 } }, {}, { params = { a = 1, b = json.null }, tag = "gpu" },
      { params = { a = 1, b = json.null }, tags = json.array { "x" } } } do
      local answer, message, code = once("k", fields)
      assert.is_nil(answer)
      assert.equal("invalid", code)
      assert.truthy(message:find("another request", 1, true))
    end
    assert.same(before, { app.store.runs.kv.revision, app.store.idempotency.kv.revision, #app.store.messages })
  end)

  it("tells documents apart, and stores none for a refused one", function()
    local function yaml(text, params)
      return submit.yaml(app, {}, { workflow = text, flow_name = "main", params = params }, { idempotency_key = "k" })
    end
    local run_id = assert(yaml(DOCUMENT)).run_id
    assert.equal(run_id, yaml(DOCUMENT).run_id)
    local documents = #app.store.documents.kv:entries()
    assert.equal("invalid", select(3, yaml(DOCUMENT .. "# another\n")))
    assert.equal("invalid", select(3, yaml(DOCUMENT, { x = 1 })))
    assert.equal("invalid", select(3, once "k")) -- a run of that name is another request, too
    assert.equal(documents, #app.store.documents.kv:entries())
    assert.equal(1, #app.store.messages)
  end)

  it("refuses what is no key", function()
    for _, key in ipairs { "", ("x"):rep(256), "a\nb" } do
      local _, message, code = once(key)
      assert.equal("invalid", code)
      assert.truthy(message:find("1 to 255", 1, true))
    end
    assert.same({}, records())
    assert(once(("x"):rep(255)))
  end)

  it("leaves no record of a request that JSON cannot carry", function()
    local _, message, code = once("k", { params = { x = 0 / 0 } })
    assert.equal("invalid", code, message)
    assert.same({}, records())
  end)

  describe("after a crash", function()
    local function expect_finished(run_id)
      local answer = assert(once "k")
      assert.equal(run_id, answer.run_id)
      assert.is_true(answer.replayed)
      assert.equal("PENDING", app.store.runs:get(run_id).status)
      assert.equal(1, #app.store.messages)
      assert.equal(run_id, app.store.messages[1].msg_id)
      assert.is_true(json.decode(records()[1].value).started)
    end

    local function claimed_id() return json.decode(records()[1].value).run_id end

    it("between record and snapshot, a replay makes the snapshot and the job", function()
      crash_at(app.store.runs, "update")
      assert.same({}, runs())
      expect_finished(claimed_id())
    end)

    it("between snapshot and job, a replay makes the job", function()
      crash_at(app.store.jobs, "publish")
      assert.equal(1, #runs())
      assert.same({}, app.store.messages)
      expect_finished(claimed_id())
    end)

    it("between job and mark, a replay makes nothing new", function()
      crash_at(app.store.idempotency, "update")
      assert.equal(1, #app.store.messages)
      expect_finished(claimed_id())
    end)

    it("a run that a worker has meanwhile is left to it", function()
      crash_at(app.store.idempotency, "update")
      local run = runs()[1]
      run.status, run.attempt = "RUNNING", { seq = 1, delivery = 1 }
      local revision = assert(app.store.runs:update(run, select(2, app.store.runs:get(run.run_id))))
      assert.equal("RUNNING", once("k").status)
      assert.equal(revision, select(2, app.store.runs:get(run.run_id)))
    end)

    it("between document and snapshot, a replay stores what is missing", function()
      local opts = { idempotency_key = "k" }
      local form = { workflow = DOCUMENT .. "# crash\n", flow_name = "main" }
      instead(app.store.documents, "put", 1, function() return nil, "gone", "unavailable" end)
      assert.equal("unavailable", select(3, submit.yaml(app, {}, form, opts)))
      local answer = assert(submit.yaml(app, {}, form, opts))
      assert.is_true(answer.replayed)
      assert(app.store.documents:get(app.store.runs:get(answer.run_id).workflow_yaml_sha256))
    end)
  end)

  describe("a run that is withdrawn", function()
    it("takes its record with it: the key is free, even for another request", function()
      instead(app.store.jobs, "publish", 1, function() return nil, "the stream is full", "unavailable" end)
      local answer, message, code = once "k"
      assert.is_nil(answer)
      assert.equal("unavailable", code, message)
      assert.same({}, runs())
      assert.same({}, records())
      assert.is_nil(assert(once("k", { params = { other = 1 } })).replayed)
    end)

    it("stays with its record while NATS is away, and the replay finishes it", function()
      instead(app.store.jobs, "publish", 1, function() return nil, "gone", "unavailable" end)
      instead(app.store.runs, "delete", 1, function() return nil, "gone", "unavailable" end)
      assert.equal("unavailable", select(3, once "k"))
      local run_id = runs()[1].run_id
      local answer = assert(once "k")
      assert.equal(run_id, answer.run_id)
      assert.equal(1, #app.store.messages)
    end)

    it("is not made anew under its id when its record was left behind", function()
      instead(app.store.jobs, "publish", 1, function() return nil, "gone", "unavailable" end)
      instead(app.store.idempotency, "delete", 1, function() return nil, "gone", "unavailable" end)
      assert.equal("unavailable", select(3, once "k"))
      local old = json.decode(records()[1].value).run_id
      local answer = assert(once "k")
      assert.not_equal(old, answer.run_id) -- its job could be dropped as a duplicate of one that was acked unrun
      assert.is_nil(answer.replayed)
      assert.equal(answer.run_id, json.decode(records()[1].value).run_id)
      assert.equal(1, #runs())
    end)

    it("is answered as begun when its job was stored after all and a worker was quick", function()
      instead(app.store.jobs, "publish", 1, function(real, self, job)
        assert(real(self, job))
        local run, revision = app.store.runs:get(job.run_id)
        run.status = "RUNNING"
        assert(app.store.runs:update(run, revision))
        return nil, "the connection broke", "unavailable"
      end)
      assert.equal("RUNNING", assert(once "k").status)
      assert.equal("RUNNING", once("k").status)
    end)
  end)

  describe("two at once", function()
    --- Lets a second submit of the key run whole just before a step of the first.
    local function second_before(object, verb)
      local second
      instead(object, verb, 1, function(real, ...)
        second = table.pack(once "k")
        return real(...)
      end)
      local first = table.pack(once "k")
      return first, second
    end

    for _, step in ipairs { { "idempotency", "claim" }, { "runs", "update" }, { "jobs", "publish" },
      { "idempotency", "update" } } do
      it(("give one run when they meet at %s.%s"):format(step[1], step[2]), function()
        local first, second = second_before(app.store[step[1]], step[2])
        assert.equal(assert(first[1]).run_id, assert(second[1]).run_id)
        assert.equal(1, #runs())
        assert.equal(1, #app.store.messages)
        assert.equal(1, #records())
      end)
    end

    it("keep the run when one has queued its job and the other cannot", function()
      local second
      instead(app.store.jobs, "publish", 1, function()
        second = assert(once "k")
        return nil, "gone", "unavailable" -- the first has made the run, and would withdraw it
      end)
      assert.equal("unavailable", select(3, once "k"))
      assert.equal(second.run_id, runs()[1].run_id)
      assert.equal(1, #app.store.messages)
      assert.equal(second.run_id, once("k").run_id)
    end)

    it("take a new run when the one they meet at is withdrawn", function()
      local second
      instead(app.store.jobs, "publish", 1, function() return nil, "gone", "unavailable" end)
      instead(app.store.idempotency, "delete", 1, function(real, ...)
        second = assert(once "k") -- the run is withdrawn, its record is still there
        return real(...)
      end)
      assert.equal("unavailable", select(3, once "k"))
      assert.equal(1, #runs())
      assert.equal(second.run_id, runs()[1].run_id)
      assert.equal(1, #records())
      assert.equal(second.run_id, once("k").run_id)
    end)

    it("see the run change under their hands, and look again", function()
      crash_at(app.store.jobs, "publish")
      local run_id = runs()[1].run_id
      instead(app.store.runs, "update", 2, function(real, self, run, revision)
        if revision == 0 then return real(self, run, revision) end
        local now, at = self:get(run_id)
        now.status = "RUNNING"
        assert(real(self, now, at))
        return real(self, run, revision)
      end)
      assert.equal("RUNNING", assert(once "k").status)
      assert.same({}, app.store.messages)
    end)
  end)

  it("passes on what the store fails with, and a damaged record is nobody's", function()
    instead(app.store.idempotency, "claim", 1, function() return nil, "no reply", "timeout" end)
    assert.same({ "nats unavailable: no reply", "unavailable" }, { select(2, once "k") })
    assert(once "k")
    local place = records()[1].key
    app.store.idempotency.kv:put(place, "garbage")
    assert.equal("invalid", select(3, once "k"))
  end)
end)
