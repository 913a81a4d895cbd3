--- Dead letters over the routes on a memory store: who sees what, and what becomes a run again.
local json = require "host.json"
local shared = require "host.shared"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"
local submit = require "pyoco.service.submit"

local DOCUMENT = "flow:\n  graph: a\n  defaults:\n    x: 1\n    y: 2\ntasks:\n  a:\n    callable: demo:a\n"
local BUNDLE = [[
version: 1
workflows:
  study:
    tasks:
      a:
        callable: demo:a
    flow:
      graph: a
submit:
  entry_workflow: study
  inputs:
    x: 1
]]

describe("dead letters", function()
  local app

  before_each(function()
    for _, key in ipairs(shared.keys "document.") do shared.delete(key) end
    app = gateway_app.new()
  end)

  local function letter(body, tag)
    return assert(app.store.dlq:publish(tag or body.tag or "default", body)).seq
  end

  --- A letter as a worker writes it.
  local function failed(run_id, fields)
    local body = { reason = "execution_error", error = "boom", timestamp = 1.5, run_id = run_id, flow_name = "f",
      tag = "gpu", tags = json.array { "gpu" }, tenant_id = json.null, api_key_id = json.null, worker_id = "w1" }
    for name, value in pairs(fields or {}) do body[name] = value end
    return letter(body)
  end

  local function as(tenant_id)
    app:authenticate(function(_, req)
      req.caller = { tenant_id = tenant_id, api_key_id = tenant_id and "their-key" }
      return true
    end)
  end

  local function get(path) return app:simulate { path = path } end

  local function seqs(query)
    local answer = get("/dlq" .. (query or ""))
    assert.equal(200, answer.status, answer.body)
    local list = {}
    for i, item in ipairs(answer.json.items) do list[i] = item.seq end
    return list, answer.json.next_before
  end

  local function requeue(seq) return app:simulate { method = "POST", path = ("/dlq/%s/requeue"):format(seq) } end

  --- A run that has failed, with its letter.
  local function run_that_failed(answer, fields)
    local run, revision = app.store.runs:get(answer.run_id)
    run.status, run.error = "FAILED", "boom"
    for name, value in pairs(fields or {}) do run[name] = value end
    assert(app.store.runs:update(run, revision))
    return failed(run.run_id, { tenant_id = run.tenant_id, flow_name = run.flow_name }), run
  end

  describe("GET /dlq", function()
    it("is empty where there are none", function()
      assert.same({ items = {}, next_before = json.null }, get("/dlq").json)
    end)

    it("shows the recorded letters, newest first", function()
      local names = { "dlq-1-execution_error", "dlq-2-flow_not_found", "dlq-3-invalid_job", "dlq-4-invalid_job" }
      for _, name in ipairs(names) do letter(fixture(name).body, "hello") end
      local items = get("/dlq").json.items
      assert.equal(4, #items)
      for i, name in ipairs(names) do
        local expected = fixture(name).body
        expected.payload = nil -- shown with the one letter
        expected.seq, expected.stored_at, expected.dlq_subject = i, items[5 - i].stored_at, "pyoco.dlq.hello"
        assert.same(expected, items[5 - i])
      end
      local whole = get("/dlq/4").json
      assert.same({ "not json", json.null }, { whole.payload, whole.requeued_to })
    end)

    it("pages by sequence, and filters by reason, flow and tag", function()
      for i = 1, 300 do
        failed("r" .. i, { reason = i % 3 == 0 and "flow_not_found" or "execution_error",
          flow_name = i % 2 == 0 and "even" or "odd", tag = i % 100 == 0 and "rare" or "gpu" })
      end
      local list, before = seqs "?limit=2"
      assert.same({ 300, 299 }, list)
      assert.equal(299, before)
      assert.same({ 298, 297 }, (seqs("?limit=2&before=" .. before)))
      assert.same({ 300, 200, 100 }, (seqs "?tag=rare"))
      assert.same({ 297, 291 }, (seqs "?reason=flow_not_found&flow=odd&limit=2"))
      assert.same({}, (seqs "?tag=other"))
      local all = {}
      before = nil
      repeat
        list, before = seqs("?limit=7" .. (before and "&before=" .. before or ""))
        table.move(list, 1, #list, #all + 1, all)
      until before == json.null
      assert.equal(300, #all)
      for i, seq in ipairs(all) do assert.equal(301 - i, seq) end
      assert.same({}, (seqs "?before=1"))
    end)

    it("has no gaps where letters were removed", function()
      for i = 1, 5 do failed("r" .. i) end
      for _, seq in ipairs { 1, 3, 5 } do assert(app.store.backend.work("PYOCO_DLQ"):delete(seq)) end
      assert.same({ 4, 2 }, (seqs()))
      assert.equal(404, get("/dlq/3").status)
    end)

    it("refuses what is no query", function()
      for _, query in ipairs { "?limit=0", "?limit=201", "?before=0", "?before=x" } do
        assert.equal(422, get("/dlq" .. query).status, query)
      end
    end)

    it("goes on another time after many letters that do not fit", function()
      for i = 1, 10500 do letter({ reason = i == 1 and "rare" or "execution_error", error = "" }, "t") end
      local list, before = seqs "?reason=rare"
      assert.same({}, list)
      assert.is_true(before > 1 and before < 1000)
      assert.same({ 1 }, (seqs("?reason=rare&before=" .. before)))
    end)

    it("shows a letter that is no JSON object", function()
      assert(app.store.backend.publish("pyoco.dlq.x", "[1]", {}))
      assert.equal("unreadable", get("/dlq").json.items[1].reason)
      assert.equal(409, requeue(1).status)
    end)
  end)

  describe("of another tenant, or of none", function()
    it("need a key where keys are asked for", function()
      local seq = run_that_failed(submit.flow(app, {}, { flow_name = "main" }))
      local revision = app.store.runs.kv.revision
      app:authenticate(function() return nil, "api key required", "unauthorized" end)
      assert.same({ 401, 401, 401 }, { get("/dlq").status, get("/dlq/" .. seq).status, requeue(seq).status })
      assert.equal(422, get("/dlq?limit=0").status)
      assert.equal(revision, app.store.runs.kv.revision)
    end)

    it("are as if they were not there", function()
      failed("r1", { tenant_id = "acme" })
      failed("r2", { tenant_id = "other" })
      failed "r3"
      letter({ reason = "invalid_job", error = "invalid_json", payload = "secret" }, "gpu")
      assert.same({ 4, 3, 2, 1 }, (seqs()))
      as "acme"
      assert.same({ 1 }, (seqs()))
      assert.equal(200, get("/dlq/1").status)
      local absent = get("/dlq/999")
      for seq = 2, 4 do
        assert.same({ absent.status, absent.body }, { get("/dlq/" .. seq).status, get("/dlq/" .. seq).body })
        assert.same({ 404, "dead letter not found" }, { requeue(seq).status, requeue(seq).json.detail })
      end
      assert.same({}, app.store.runs.kv:entries())
    end)

    it("give no way to another's run", function()
      assert(app.store.runs:create { run_id = "r1", status = "FAILED", tenant_id = "other", tag = "gpu" })
      local seq = failed("r1", { tenant_id = "acme" }) -- as a forged job could have it
      as "acme"
      local answer = requeue(seq)
      assert.equal(409, answer.status)
      assert.truthy(answer.json.detail:find("is no more", 1, true))
    end)
  end)

  describe("POST /dlq/{seq}/requeue", function()
    it("makes the run of a flow anew, once", function()
      local seq, run = run_that_failed(submit.flow(app, { tenant_id = "acme", api_key_id = "k1" }, { flow_name = "main",
        params = { a = 1 }, tag = "gpu", tags = json.array { "x" } }))
      local answer = requeue(seq)
      assert.equal(200, answer.status, answer.body)
      assert.same({ run_id = answer.json.run_id, status = "PENDING", bundle_hash = json.null,
        requeued_from = run.run_id }, answer.json)
      assert.truthy(answer.json.run_id:find("^%x+%-%x+%-8%x+%-[89ab]%x+%-%x+$"))
      local anew = app.store.runs:get(answer.json.run_id)
      assert.same({ run.run_id, "main", { a = 1 }, "gpu", { "x" }, "acme", "k1" }, { anew.requeued_from, anew.flow_name,
        anew.params, anew.tag, anew.tags, anew.tenant_id, anew.api_key_id })
      local job = json.decode(app.store.messages[#app.store.messages].data)
      local first = json.decode(app.store.messages[1].data)
      job.run_id, job.submitted_at = first.run_id, first.submitted_at
      assert.same(first, job)
      assert.equal(answer.json.run_id, get("/dlq/" .. seq).json.requeued_to)
      local count = #app.store.messages
      assert.same(answer.json, requeue(seq).json)
      assert.equal(count, #app.store.messages)
      assert.equal(2, #app.store.runs.kv:entries())
    end)

    it("is not the caller's, but its owner's", function()
      local seq = run_that_failed(submit.flow(app, { tenant_id = "acme", api_key_id = "k1" }, { flow_name = "main" }))
      as "acme"
      local anew = app.store.runs:get(requeue(seq).json.run_id)
      assert.same({ "acme", "their-key" }, { anew.tenant_id, anew.api_key_id })
    end)

    it("makes the run of a document anew, with its parameters and schedule", function()
      local seq, run = run_that_failed(submit.yaml(app, {}, { workflow = DOCUMENT, flow_name = "f", tag = "gpu",
        params = { x = 5 } }, { schedule_id = "s1" }))
      local anew = app.store.runs:get(requeue(seq).json.run_id)
      for _, name in ipairs { "workflow_yaml_sha256", "graph_sha256", "schedule_id", "flow_name", "tag", "params" } do
        assert.same(run[name], anew[name], name)
      end
      assert.same({ x = 5, y = 2 }, anew.params)
      local job = json.decode(app.store.messages[#app.store.messages].data)
      assert.same({ DOCUMENT, "s1" }, { job.workflow_yaml, job.schedule_id })
    end)

    it("makes the run of a bundle anew", function()
      local bundle = require "pyoco.service.bundle"
      local seq, run = run_that_failed(assert(bundle.submit(app, {}, { bundle = BUNDLE, params = { x = 5 } })))
      local answer = requeue(seq)
      assert.equal(200, answer.status, answer.body)
      local anew = app.store.runs:get(answer.json.run_id)
      assert.same({ run.bundle_hash, { x = 5 }, anew.run_id, run.run_id },
        { anew.bundle_hash, anew.params, anew.root_run_id, anew.requeued_from })
      assert(app.store.relations:get(anew.run_id))
    end)

    it("refuses what cannot be run again, says why, and leaves everything as it was", function()
      local seq, run = run_that_failed(submit.yaml(app, {}, { workflow = DOCUMENT, flow_name = "f" }))
      assert(app.store.documents.kv:delete(run.workflow_yaml_sha256))
      for _, it in ipairs { { "alive", { status = "RUNNING", tag = "gpu" } },
        { "child", { status = "FAILED", parent_run_id = "root-1", tag = "gpu" } },
        { "tag", { status = "FAILED", tag = "a.b" } } } do
        it[2].run_id = it[1]
        assert(app.store.runs:create(it[2]))
      end
      local revision = app.store.runs.kv.revision
      local cases = {
        { letter(fixture("dlq-3-invalid_job").body, "hello"), 409, "about no run.*missing_fields" },
        { failed "gone", 409, "run gone is no more" }, { failed "alive", 409, "run alive is RUNNING" },
        { failed "child", 409, "spawned by run root%-1" }, { failed "tag", 409, "tag a.b, which is none" },
        { seq, 409, "the document of run .* is not stored here" },
        { 999, 404, "dead letter not found" }, { "x", 404, "dead letter not found" }, { 0, 404, "not found" },
        { "99999999999999999999", 404, "not found" },
      }
      local count = #app.store.messages
      for _, case in ipairs(cases) do
        local answer = requeue(case[1])
        assert.equal(case[2], answer.status, answer.body)
        assert.truthy(answer.json.detail:find(case[3]), answer.body)
      end
      assert.equal(405, app:simulate { method = "PUT", path = "/dlq/1/requeue" }.status)
      assert.same({ revision, count }, { app.store.runs.kv.revision, #app.store.messages })
    end)

    it("is 503 while NATS is away, at every step", function()
      local seq = run_that_failed(submit.flow(app, {}, { flow_name = "main" }))
      local function gone() return nil, "gone", "unavailable" end
      for _, step in ipairs { { "dlq", "get" }, { "runs", "get" }, { "runs", "create" }, { "jobs", "publish" } } do
        local verbs, real = app.store[step[1]], app.store[step[1]][step[2]]
        verbs[step[2]] = gone
        assert.equal(503, requeue(seq).status, step[2])
        verbs[step[2]] = real
      end
      app.store.dlq.page = gone
      assert.equal(503, get("/dlq").status)
      assert.equal(200, requeue(seq).status)
    end)

    it("is refused to another site's page", function()
      local seq = run_that_failed(submit.flow(app, {}, { flow_name = "main" }))
      assert.equal(403, app:simulate { method = "POST", path = ("/dlq/%d/requeue"):format(seq),
        headers = { origin = "http://evil" } }.status)
    end)
  end)
end)
