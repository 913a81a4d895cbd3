--- Routes of runs, on a memory store: shapes of answers, snapshots and jobs as the contract has them.
local json = require "host.json"
local crypto = require "host.crypto"
local shared = require "host.shared"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"

local DOCUMENT = [[
version: 1
flow:
  graph: |
    add_one >> to_text
  defaults:
    x: 1
tasks:
  add_one:
    callable: demo:add_one
  to_text:
    callable: demo:to_text
]]

local function keys(object)
  local list = {}
  for key in pairs(object) do list[#list + 1] = key end
  table.sort(list)
  return list
end

local function detail_types(answer)
  local list = {}
  for _, item in ipairs(answer.json.detail) do list[#list + 1] = item.type .. " " .. table.concat(item.loc, ".") end
  table.sort(list)
  return list
end

describe("routes.runs", function()
  local app

  before_each(function()
    app = gateway_app.new()
    for _, key in ipairs(shared.keys "document.") do shared.delete(key) end
  end)

  local function submit(body)
    local answer = app:simulate { path = "/runs", json = body }
    assert.equal(200, answer.status, answer.body)
    return answer.json
  end

  describe("?wait of a submit", function()
    it("holds the answer back, as the caller may see the run", function()
      app.authenticate_fn = function(_, req)
        req.caller = { tenant_id = "t1", api_key_id = "k1" }
        return true
      end
      local answer = app:simulate { path = "/runs?wait=2.5", json = { flow_name = "main" } }
      assert.same({ "wait", 202, "PENDING", 2.5, true, "t1" }, { answer.stream, answer.status, answer.json.status,
        answer.timeout_sec, answer.brief, answer.tenant_id })
      assert.equal(answer.json.run_id, answer.run_id)
      assert.truthy(app.store.runs:get(answer.run_id))
      answer = app:simulate { path = "/runs/yaml?wait=600&include=records", form = gateway_app.form(DOCUMENT) }
      assert.same({ "wait", 600, false }, { answer.stream, answer.timeout_sec, answer.brief })
    end)

    it("changes nothing when it is 0, and for a submit that fails", function()
      local answer = app:simulate { path = "/runs?wait=0", json = { flow_name = "main" } }
      assert.same({ 200 }, { answer.status, answer.stream })
      answer = app:simulate { path = "/runs/yaml?wait=5", form = gateway_app.form "no document" }
      assert.same({ 422 }, { answer.status, answer.stream })
    end)

    it("is a number from 0 to 600", function()
      for text, kind in pairs { ["-1"] = "greater_than_equal", ["600.5"] = "less_than_equal", x = "float_parsing" } do
        local answer = app:simulate { path = "/runs?wait=" .. text, json = { flow_name = "main" } }
        assert.same({ 422, kind .. " query.wait" }, { answer.status, detail_types(answer)[1] })
      end
      assert.equal(0, #app.store.messages)
    end)
  end)

  describe("POST /runs", function()
    it("stores the snapshot and queues the job of the contract", function()
      local answer = submit { flow_name = "main", params = { a = 1 }, tag = "nobody", tags = { "x", "y" } }
      assert.same({ "bundle_hash", "run_id", "status" }, keys(answer))
      assert.equal("PENDING", answer.status)
      assert.equal(json.null, answer.bundle_hash)
      local snapshot = assert(app.store.runs:get(answer.run_id))
      assert.same(keys(fixture "snapshot-initial-runs"), keys(snapshot))
      local message = app.store.messages[1]
      assert.equal("pyoco.work.nobody", message.subject)
      assert.equal(answer.run_id, message.msg_id)
      local job = assert(json.decode(message.data))
      assert.same(keys(fixture "job-runs".body), keys(job))
      assert.same({ "x", "y" }, job.tags)
      assert.equal(snapshot.updated_at, job.submitted_at)
    end)

    it("takes the default tag", function()
      local answer = submit { flow_name = "main" }
      assert.equal("pyoco.work.default", app.store.messages[1].subject)
      local snapshot = app.store.runs:get(answer.run_id)
      assert.same({ "default" }, snapshot.tags)
      assert.same({}, snapshot.params)
    end)

    it("refuses what does not fit, all at once", function()
      local answer = app:simulate { path = "/runs", json = { flow_name = "", params = json.null, tag = "a.b" } }
      assert.equal(422, answer.status)
      assert.same({ "dict_type body.params", "string_pattern_mismatch body.tag", "string_too_short body.flow_name" },
        detail_types(answer))
      assert.same({ "missing body.flow_name" }, detail_types(app:simulate { path = "/runs", json = { tag = "a" } }))
      for _, tag in ipairs { "a b", "a.b", "", ">" } do
        assert.equal(422, app:simulate { path = "/runs", json = { flow_name = "f", tag = tag } }.status, tag)
      end
      assert.same({}, app.store.messages)
    end)

    it("says where JSON breaks", function()
      local answer = app:simulate { path = "/runs", body = '{"flow_name": }',
        headers = { ["content-type"] = "application/json" } }
      assert.equal(422, answer.status)
      assert.equal("json_invalid", answer.json.detail[1].type)
      assert.equal("body", answer.json.detail[1].loc[1])
    end)

    it("takes null for no body", function()
      local function post(body)
        local answer = app:simulate { path = "/runs", method = "POST", body = body,
          headers = { ["content-type"] = "application/json" } }
        assert.equal(422, answer.status)
        return answer.body
      end
      assert.equal(post "", post "null")
    end)

    it("refuses another content type and another method", function()
      local answer = app:simulate { path = "/runs", body = "flow_name=x",
        headers = { ["content-type"] = "text/plain" } }
      assert.equal(415, answer.status)
      answer = app:simulate { path = "/runs/yaml", method = "DELETE" }
      assert.equal(405, answer.status)
      assert.equal("Method Not Allowed", answer.json.detail)
    end)

    it("withdraws the run when the job cannot be queued", function()
      app.store.jobs.publish = function() return nil, "no answer", "unavailable" end
      local created
      local create = app.store.runs.create
      app.store.runs.create = function(self, snapshot)
        created = snapshot.run_id
        return create(self, snapshot)
      end
      local answer = app:simulate { path = "/runs", json = { flow_name = "f" } }
      assert.equal(503, answer.status)
      assert.equal("nats unavailable: no answer", answer.json.detail)
      assert.equal("not_found", select(3, app.store.runs:get(created)))
    end)

    it("publishes again when the fate of the job is unknown", function()
      local publish, calls = app.store.jobs.publish, 0
      app.store.jobs.publish = function(self, job)
        calls = calls + 1
        if calls < 3 then return nil, "no answer in time", "timeout" end
        return publish(self, job)
      end
      submit { flow_name = "f" }
      assert.equal(3, calls)
      assert.equal(1, #app.store.messages)
    end)
  end)

  describe("POST /runs/yaml", function()
    it("stores the snapshot and queues the job of the contract", function()
      local answer = app:simulate { path = "/runs/yaml", form = gateway_app.form(DOCUMENT,
        { flow_name = " train ", tag = " nobody " }) }
      assert.equal(200, answer.status, answer.body)
      local snapshot = assert(app.store.runs:get(answer.json.run_id))
      local expected = fixture "snapshot-initial-yaml"
      expected.graph_sha256 = "ours"
      assert.same(keys(expected), keys(snapshot))
      assert.equal("train", snapshot.flow_name)
      assert.same({ x = 1 }, snapshot.params)
      assert.equal(crypto.sha256(DOCUMENT), snapshot.workflow_yaml_sha256)
      local job = assert(json.decode(app.store.messages[1].data))
      assert.same(keys(fixture "job-yaml".body), keys(job))
      assert.equal(DOCUMENT, job.workflow_yaml)
      assert.equal(#DOCUMENT, job.workflow_yaml_bytes)
    end)

    it("takes a raw body, with its fields in the query", function()
      local answer = app:simulate { path = "/runs/yaml?flow_name=train&params=%7B%22x%22%3A5%7D", body = DOCUMENT,
        headers = { ["content-type"] = "application/yaml" } }
      assert.equal(200, answer.status, answer.body)
      assert.same({ x = 5 }, (app.store.runs:get(answer.json.run_id)).params)
    end)

    it("lays params over the defaults and refuses what is no object", function()
      local function with(params)
        return app:simulate { path = "/runs/yaml", form = gateway_app.form(DOCUMENT,
          { flow_name = "f", params = params }) }
      end
      assert.same({ x = 2, y = "b" }, (app.store.runs:get(with('{"x":2,"y":"b"}').json.run_id)).params)
      for _, params in ipairs { "[1]", "7", "{" } do
        local answer = with(params)
        assert.equal(422, answer.status)
        assert.truthy(answer.json.detail:find "^params: ", answer.body)
      end
    end)

    it("takes params from the query too; the form's win", function()
      local path = "/runs/yaml?params=%7B%22x%22%3A5%7D"
      local function params(fields)
        local answer = app:simulate { path = path, form = gateway_app.form(DOCUMENT, fields) }
        assert.equal(200, answer.status, answer.body)
        return (app.store.runs:get(answer.json.run_id)).params
      end
      assert.same({ x = 5 }, params { flow_name = "f" })
      assert.same({ x = 2 }, params { flow_name = "f", params = '{"x":2}' })
    end)

    it("takes the last of repeated fields; an empty one is as if absent", function()
      local function post(...)
        local _, files = table.unpack(gateway_app.form(DOCUMENT))
        return app:simulate { path = "/runs/yaml", form = { { ... }, files } }
      end
      local answer = post({ "flow_name", "a" }, { "flow_name", "b" })
      assert.equal("b", (app.store.runs:get(answer.json.run_id)).flow_name)
      assert.same({ "missing body.flow_name" }, detail_types(post({ "flow_name", "a" }, { "flow_name", "" })))
    end)

    it("refuses in the contract's order", function()
      local function status(form)
        local answer = app:simulate { path = "/runs/yaml", form = form }
        return answer.status .. " " .. (type(answer.json.detail) == "string" and answer.json.detail or "items")
      end
      assert.equal("422 invalid tag", status(gateway_app.form("x", { flow_name = "f", tag = "a.b" })))
      assert.equal("413 workflow too large", status(gateway_app.form(("#"):rep(262145))))
      assert.equal("422 invalid workflow yaml", status(gateway_app.form("x", { flow_name = " " })))
      assert.equal("422 missing flow_name", status(gateway_app.form(DOCUMENT, { flow_name = " " })))
      assert.equal("422 items", status(gateway_app.form(DOCUMENT, {})))
      assert.same({}, app.store.messages)
    end)

    it("names every error of a document with its line", function()
      local answer = app:simulate { path = "/runs/yaml", form = gateway_app.form [[
flow:
  graph: |
    add_one >> (to_text
    add_one >> nobody
tasks:
  add_one: { callable: "demo:add_one" }
  to_text: { callable: "demo" }
]] }
      assert.equal(422, answer.status)
      assert.equal("invalid workflow yaml", answer.json.detail)
      assert.is_true(#answer.json.errors >= 2)
      for _, item in ipairs(answer.json.errors) do
        assert.is_true(item.line >= 1 and item.column >= 1)
        assert.is_string(item.message)
      end
    end)

    it("refuses hostile and broken documents, naming the fault", function()
      local bomb = { "a: &a0 [x, x, x, x, x, x, x, x, x]" }
      for i = 1, 12 do bomb[i + 1] = ("a%d: &a%d [%s]"):format(i, i, ("*a%d, "):format(i - 1):rep(9)) end
      local tasks = "\ntasks:\n  a: { callable: 'm:a' }\n  b: { callable: 'm:b' }\n"
      for _, case in ipairs {
        { table.concat(bomb, "\n") .. "\nflow: { graph: *a12 }" .. tasks, "limit" },
        { "flow: { graph: a }\nflow: { graph: b }" .. tasks, "duplicate" },
        { "flow: { graph: a >> nobody }" .. tasks, "unknown_task" },
        { "flow:\n  graph: |\n    a >> b\n    b >> a" .. tasks, "cycle" },
        { "flow: { graph: '(a >> b' }" .. tasks, "unclosed_bracket" },
        { "flow: { graph: 'a >> b if x else b' }" .. tasks, "unsupported_syntax" },
        { "flow: { graph: a >> b }\ntasks:\n  a: { callable: 'm:a', inputs: { x: $node.b.output } }"
          .. "\n  b: { callable: 'm:b' }\n", "selector" },
      } do
        local answer = app:simulate { path = "/runs/yaml", form = gateway_app.form(case[1]) }
        assert.equal(422, answer.status, case[2])
        local codes = {}
        for _, item in ipairs(answer.json.errors) do codes[#codes + 1] = item.code end
        assert.truthy(table.concat(codes, " "):find(case[2], 1, true), case[2] .. ": " .. answer.body)
      end
      assert.same({}, app.store.messages)
    end)

    it("refuses a graph that is too large to be served", function()
      local left, right, tasks = {}, {}, {}
      for i = 1, 400 do
        left[i], right[i] = "l" .. i, "r" .. i
        tasks[i] = ("  l%d: { callable: 'm:f' }\n  r%d: { callable: 'm:f' }\n"):format(i, i)
      end
      local document = ("flow: { graph: (%s) >> (%s) }\ntasks:\n%s"):format(table.concat(left, " & "),
        table.concat(right, " & "), table.concat(tasks))
      local answer = app:simulate { path = "/runs/yaml", form = gateway_app.form(document) }
      assert.equal(422, answer.status)
      assert.equal("graph_too_large", answer.json.detail)
      assert.equal("split the flow into several", answer.json.errors[1].hint)
      assert.same({}, app.store.messages)
    end)

    it("keeps document and graph, and serves them", function()
      local run_id = app:simulate { path = "/runs/yaml", form = gateway_app.form(DOCUMENT) }.json.run_id
      local source = app:simulate { path = "/runs/" .. run_id .. "/source" }
      assert.equal(DOCUMENT, source.body)
      local graph = app:simulate { path = "/runs/" .. run_id .. "/graph" }
      assert.same({ "add_one", "to_text" }, { graph.json.nodes[1].name, graph.json.nodes[2].name })
      local check = app:simulate { path = "/check", form = gateway_app.form(DOCUMENT, {}) }
      assert.same(graph.json, check.json.graph)
      assert.same({ x = 1 }, check.json.defaults)
    end)

    it("checks without any effect", function()
      assert.equal(422, app:simulate { path = "/check", form = gateway_app.form("a: [", {}) }.status)
      app:simulate { path = "/check", form = gateway_app.form(DOCUMENT, {}) }
      assert.same({}, app.store.messages)
      assert.equal("not_found", select(3, app.store.documents:get(crypto.sha256(DOCUMENT))))
    end)
  end)

  describe("GET /runs/{id}", function()
    it("leaves task records out unless asked for them", function()
      local stored = fixture "snapshot-completed-yaml"
      assert(app.store.runs:create(stored))
      local answer = app:simulate { path = "/runs/" .. stored.run_id }
      assert.same(keys(fixture "http-get-run"), keys(answer.json))
      for _, include in ipairs { "records", "task_records", "all", "full" } do
        local full = app:simulate { path = ("/runs/%s?include=%s"):format(stored.run_id, include) }
        assert.same(stored, full.json)
      end
      assert.is_nil(app:simulate { path = "/runs/" .. stored.run_id .. "?include=other" }.json.task_records)
      assert.same(fixture "http-get-tasks", app:simulate { path = "/runs/" .. stored.run_id .. "/tasks" }.json)
    end)

    it("has all fields of the tasks, whatever wrote the snapshot; what is no object is no run", function()
      assert(app.store.runs:create { run_id = "bare" })
      assert.same({ run_id = "bare", flow_name = json.null, status = json.null, tasks = {}, task_records = {},
        task_records_truncated = false }, app:simulate { path = "/runs/bare/tasks" }.json)
      for i, text in ipairs { "[1]", "null", '"x"', "", "{" } do
        local run_id = "junk-" .. i
        assert(app.store.runs:create_raw(run_id, text))
        for _, what in ipairs { "GET ", "GET /tasks", "POST /cancel" } do
          local method, path = what:match("^(%S+) (.*)$")
          assert.equal(404, app:simulate { method = method, path = "/runs/" .. run_id .. path }.status, text .. what)
        end
      end
    end)

    it("tells of loops, of isolated failures and of what was too much, where there is anything to tell", function()
      local stored = fixture "snapshot-completed-yaml"
      stored.frame_records = { each1 = { state = "SUCCEEDED", iterations = 3 } }
      stored.failed_tasks, stored.tasks_truncated, stored.task_counts = { "a" }, true, { SUCCEEDED = 9 }
      assert(app.store.runs:create(stored))
      local brief = app:simulate { path = "/runs/" .. stored.run_id }.json
      assert.is_nil(brief.frame_records)
      local answer = app:simulate { path = ("/runs/%s/tasks"):format(stored.run_id) }.json
      assert.same(stored.frame_records, answer.frame_records)
      for _, got in ipairs { brief, answer } do
        assert.same({ { "a" }, true, { SUCCEEDED = 9 } }, { got.failed_tasks, got.tasks_truncated, got.task_counts })
      end
    end)

    it("adds what the registry knows of the worker", function()
      local run_id = crypto.uuid4()
      app.store.runs:create { run_id = run_id, status = "RUNNING", worker_id = "w1" }
      assert.equal("DISCONNECTED", app:simulate { path = "/runs/" .. run_id }.json.worker_state)
      app.store.workers:put { worker_id = "w1", state = "RUNNING", tags = { "gpu" }, heartbeat_at = 5.5 }
      local answer = app:simulate { path = "/runs/" .. run_id }.json
      assert.same({ true, "RUNNING", 5.5, false, { "gpu" } }, { answer.worker_alive, answer.worker_state,
        answer.worker_heartbeat_at, answer.worker_hidden, answer.worker_tags })
    end)

    it("gives a task's output from its record, or from the object store", function()
      local run_id, big = crypto.uuid4(), json.encode { text = ("x"):rep(5000) }
      local ref = assert(app.store.data:put(run_id, "big", "output", big))
      local run = { run_id = run_id, status = "RUNNING",
        tasks = { small = "SUCCEEDED", none = "SUCCEEDED", big = "SUCCEEDED", busy = "RUNNING" },
        task_records = { small = { state = "SUCCEEDED", output = { n = 1 } },
          none = { state = "SUCCEEDED", output = json.null }, busy = { state = "RUNNING", output = json.null },
          big = { state = "SUCCEEDED", output = json.null, output_ref = ref } } }
      local revision = app.store.runs:create(run)
      local function output(task)
        local answer = app:simulate { path = ("/runs/%s/tasks/%s/output"):format(run_id, task) }
        return answer.status, answer.status == 200 and answer.body or answer.json.detail
      end
      assert.same({ 200, '{"n":1}' }, { output "small" })
      assert.same({ 200, "null" }, { output "none" })
      assert.same({ 200, big }, { output "big" })
      assert.same({ 404, "not known yet" }, { output "busy" })
      assert.same({ 404, "task not found" }, { output "other" })
      run.task_records, run.task_records_truncated = {}, true
      revision = app.store.runs:update(run, revision)
      assert.same({ 200, big }, { output "big" })
      assert.same({ 404, "not known yet" }, { output "small" })
      ref.sha256 = crypto.sha256("another attempt's")
      run.task_records, run.task_records_truncated = { big = { state = "SUCCEEDED", output_ref = ref } }, nil
      assert(app.store.runs:update(run, revision))
      assert.equal(409, (output "big"))
    end)

    it("gives a task's log from its record, or from the object store", function()
      local run_id, long = crypto.uuid4(), ("line\n"):rep(1000)
      local run = { run_id = run_id, status = "RUNNING", tasks = { a = "RUNNING", b = "SUCCEEDED", c = "PENDING" },
        task_records = { a = { state = "RUNNING", log_tail = "so far\n" }, c = { state = "PENDING" },
          b = { state = "SUCCEEDED", log_tail = "line\n", log_ref = app.store.data:put(run_id, "b", "log", long) } } }
      local revision = app.store.runs:create(run)
      local function log(task)
        local answer = app:simulate { path = ("/runs/%s/tasks/%s/log"):format(run_id, task) }
        return answer.status, answer.status == 200 and answer.body or answer.json.detail
      end
      assert.same({ 200, "so far\n" }, { log "a" })
      assert.same({ 200, long }, { log "b" })
      assert.same({ 200, "" }, { log "c" })
      assert.same({ 404, "task not found" }, { log "d" })
      run.task_records, run.task_records_truncated = {}, true
      assert(app.store.runs:update(run, revision))
      assert.same({ 200, long }, { log "b" })
      assert.same({ 404, "not known yet" }, { log "a" })
    end)

    it("is 404 for a run that is not there, on every path", function()
      for _, path in ipairs { "", "/tasks", "/tasks/t/output", "/tasks/t/log", "/graph", "/source" } do
        for _, id in ipairs { crypto.uuid4(), "a%20b", "..%2Fx" } do
          local answer = app:simulate { path = "/runs/" .. id .. path }
          assert.equal(404, answer.status)
          assert.equal("run not found", answer.json.detail)
        end
      end
      assert.equal(404, app:simulate { path = "/runs/x/cancel", method = "POST" }.status)
      local run_id = submit { flow_name = "f" }.run_id
      assert.equal("not known yet", app:simulate { path = "/runs/" .. run_id .. "/graph" }.json.detail)
    end)

    it("checks the watch's query", function()
      local run_id = submit { flow_name = "f" }.run_id
      assert.same({ "less_than_equal query.timeout_sec", "literal_error query.until" },
        detail_types(app:simulate { path = "/runs/" .. run_id .. "/watch?timeout_sec=601&until=never" }))
      local answer = app:simulate { path = "/runs/" .. run_id .. "/watch?until=terminal&include=records" }
      assert.same({ "watch", run_id, false, 60, true }, { answer.stream, answer.run_id, answer.brief,
        answer.timeout_sec, answer.until_terminal })
    end)
  end)

  describe("POST /runs/{id}/cancel", function()
    local function cancel(run_id)
      return app:simulate { path = ("/runs/%s/cancel"):format(run_id), body = "{}" }.json
    end

    it("ends a run that has not begun, and says CANCELLING as clients expect", function()
      local run_id = submit { flow_name = "f" }.run_id
      local answer = cancel(run_id)
      assert.equal("CANCELLING", answer.status)
      assert.is_nil(answer.task_records)
      local stored = app.store.runs:get(run_id)
      assert.equal("CANCELLED", stored.status)
      assert.equal(stored.end_time, stored.cancel_requested_at)
    end)

    it("asks a running run to end, keeps the first request's time, and hints the worker", function()
      local run_id = crypto.uuid4()
      app.store.runs:create { run_id = run_id, status = "RUNNING" }
      local first = cancel(run_id)
      local second = cancel(run_id)
      assert.equal("CANCELLING", app.store.runs:get(run_id).status)
      assert.equal(first.cancel_requested_at, second.cancel_requested_at)
      assert.equal("pyoco.hint.cancel." .. run_id, app.store.sent_hints[1].subject)
    end)

    it("leaves a finished run and closes one that waits for approval", function()
      local done = fixture "snapshot-completed-yaml"
      app.store.runs:create(done)
      assert.equal("COMPLETED", cancel(done.run_id).status)
      local waiting = fixture "snapshot-pending-approval"
      app.store.runs:create(waiting)
      local answer = cancel(waiting.run_id)
      assert.equal("CANCELLED", answer.status)
      assert.is_nil(answer.cancel_requested_at)
    end)

    it("loses to nobody: a write in between is read again", function()
      local run_id = crypto.uuid4()
      app.store.runs:create { run_id = run_id, status = "PENDING" }
      local get = app.store.runs.get
      app.store.runs.get = function(self, id)
        local snapshot, revision, entry = get(self, id)
        app.store.runs.get = nil
        self:update({ run_id = id, status = "RUNNING", worker_id = "w" }, revision)
        return snapshot, revision, entry
      end
      assert.equal("CANCELLING", cancel(run_id).status)
      local stored = app.store.runs:get(run_id)
      assert.same({ "CANCELLING", "w" }, { stored.status, stored.worker_id })
    end)
  end)
end)
