--- Routes of bundles, on a memory store: answers, snapshots, jobs and relations as the contract has them.
local json = require "host.json"
local crypto = require "host.crypto"
local shared = require "host.shared"
local approval = require "pyoco.service.approval"
local cancel = require "pyoco.service.cancel"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"
local relations = require "pyoco.service.relations"

local BUNDLE = fixture("job-bundle-root").body.workflow_bundle
local NO_SPAWN = (BUNDLE:gsub("spawn: trial", "callable: m:f"))

local function keys(object)
  local list = {}
  for key in pairs(object) do list[#list + 1] = key end
  table.sort(list)
  return list
end

--- Keys and values of a snapshot but for ids and times, and our own fields.
local function fixed(snapshot)
  local copy = {}
  for key, value in pairs(snapshot) do copy[key] = value end
  for _, key in ipairs { "run_id", "root_run_id", "approval_requested_at", "approved_at", "rejected_at", "heartbeat_at",
      "updated_at", "end_time" } do
    copy[key] = type(copy[key])
  end
  copy.graph_sha256 = nil
  return copy
end

describe("routes.bundles", function()
  local app

  before_each(function()
    app = gateway_app.new()
    for _, key in ipairs(shared.keys "document.") do shared.delete(key) end
  end)

  local function post(text, fields)
    local list = {}
    for name, value in pairs(fields or {}) do list[#list + 1] = { name, value } end
    return app:simulate { path = "/runs/bundle", form = { list, { { name = "bundle", filename = "bundle.yaml",
      content_type = "application/x-yaml", data = text } } } }
  end

  local function submit(text, fields)
    local answer = post(text or BUNDLE, fields)
    assert.equal(200, answer.status, answer.body)
    return answer.json
  end

  local function decide(run_id, what, body)
    return app:simulate { method = "POST", path = ("/runs/%s/%s"):format(run_id, what), json = body }
  end

  local function stored(run_id) return (app.store.runs:get(run_id)) end

  describe("POST /runs/bundle", function()
    it("stores bundle, snapshot and relation of the contract, and waits for approval when a task spawns", function()
      local answer = submit(BUNDLE, { tag = "nobody" })
      local expected = fixture "http-bundle-submit"
      assert.same({ "PENDING_APPROVAL", expected.bundle_hash, "study" },
        { answer.status, answer.bundle_hash, answer.entry_workflow })
      local snapshot = stored(answer.run_id)
      assert.same(fixed(fixture "snapshot-initial-bundle_pending"), fixed(snapshot))
      assert.equal(answer.run_id, snapshot.root_run_id)
      assert.equal(BUNDLE, (app.store.documents:get(answer.bundle_hash)))
      assert.truthy(app.store.documents:get(snapshot.graph_sha256))
      local relation, recorded = assert(app.store.relations:get(answer.run_id)), fixture("relations")[1]
      assert.same(keys(recorded), keys(relation))
      assert.same({ "study", 0, json.null, answer.run_id },
        { relation.workflow_name, relation.depth, relation.parent_run_id, relation.root_run_id })
      assert.same({}, app.store.messages)
    end)

    it("queues the job of the contract when no task spawns, or no approval is asked for", function()
      for text, settings in pairs { [NO_SPAWN] = {}, [BUNDLE] = { spawn_requires_approval = false } } do
        app = gateway_app.new(settings)
        local answer = submit(text, { tag = "nobody", params = '{"x": 5, "y": 6}' })
        assert.equal("PENDING", answer.status)
        local snapshot = stored(answer.run_id)
        assert.same({ false, "not_required", json.null },
          { snapshot.approval_required, snapshot.approval_status, snapshot.approval_requested_at })
        local job = assert(json.decode(app.store.messages[1].data))
        assert.same(keys(fixture("job-bundle-root").body), keys(job))
        assert.same({ x = 5, y = 6 }, job.params)
        assert.equal(text, job.workflow_bundle)
        assert.equal(answer.run_id, app.store.messages[1].msg_id)
        assert.equal("pyoco.work.nobody", app.store.messages[1].subject)
      end
    end)

    it("asks for approval of a spawn task that the graph does not name: it runs too", function()
      local text = BUNDLE:gsub("prepare >> run_child >> summarize", "prepare"):gsub("x: %$node.prepare.output", "x: 1")
      assert.equal("PENDING_APPROVAL", submit(text).status)
    end)

    it("takes the bundle as the raw body, with tag and params in the query", function()
      for _, kind in ipairs { "application/yaml", "application/x-yaml", "text/yaml; charset=utf-8" } do
        local answer = app:simulate { path = "/runs/bundle?tag=gpu&params=%7B%22x%22%3A9%7D", body = BUNDLE,
          headers = { ["content-type"] = kind } }
        assert.equal(200, answer.status, answer.body)
        local snapshot = stored(answer.json.run_id)
        assert.same({ "gpu", { x = 9 } }, { snapshot.tag, snapshot.params })
      end
    end)

    it("takes params from the query of a form too", function()
      local answer = app:simulate { path = "/runs/bundle?params=%7B%22x%22%3A9%7D", form = { {}, {
        { name = "bundle", filename = "bundle.yaml", content_type = "application/x-yaml", data = BUNDLE } } } }
      assert.same({ x = 9 }, stored(answer.json.run_id).params)
    end)

    it("checks tag, size and bundle in this order; a bad request stores nothing", function()
      app = gateway_app.new { workflow_bundle_max_bytes = #BUNDLE }
      local function refused(text, fields, status, detail)
        local answer = post(text, fields)
        assert.equal(status, answer.status)
        assert.equal(detail, answer.json.detail)
        return answer.json
      end
      local big = BUNDLE .. "#"
      refused(big, { tag = "a.b" }, 422, "invalid tag")
      refused(big, {}, 413, "workflow bundle too large")
      local bad = refused("workflows: {a: {flow: {graph: b}}}\nsubmit: {entry_workflow: c}", {}, 422,
        "invalid workflow bundle")
      assert.same({ "unknown_task workflows.a.flow.graph", "missing_entry_workflow submit.entry_workflow" },
        { bad.errors[1].code .. " " .. bad.errors[1].path, bad.errors[2].code .. " " .. bad.errors[2].path })
      refused("version: 1\nflow: {graph: a}", {}, 422, "invalid workflow bundle")
      refused("\255\0", {}, 422, "invalid workflow bundle")
      local answer = app:simulate { path = "/runs/bundle", form = { { { "tag", "a" } }, {} } }
      assert.equal("body.bundle", table.concat(answer.json.detail[1].loc, "."))
      assert.equal(422, post(BUNDLE, { params = "[1]" }).status)
      for _, kv in ipairs { app.store.runs.kv, app.store.documents.kv, app.store.relations.kv } do
        assert.same({}, kv:entries())
      end
      submit(BUNDLE)
    end)

    it("withdraws run and relation when the job cannot be queued, or the relation not stored", function()
      local created
      local create = app.store.runs.create
      app.store.runs.create = function(self, snapshot)
        created = snapshot.run_id
        return create(self, snapshot)
      end
      app.store.jobs.publish = function() return nil, "no answer", "unavailable" end
      local answer = post(NO_SPAWN)
      assert.same({ 503, "nats unavailable: no answer" }, { answer.status, answer.json.detail })
      assert.equal("not_found", select(3, app.store.runs:get(created)))
      assert.equal("not_found", select(3, app.store.relations:get(created)))
      app.store.relations.put = function() return nil, "no answer", "timeout" end
      assert.equal(503, post(BUNDLE).status)
      assert.equal("not_found", select(3, app.store.runs:get(created)))
      assert.same({}, app.store.messages)
    end)

    it("is one run for one Idempotency-Key", function()
      local function send()
        return app:simulate { path = "/runs/bundle", body = BUNDLE, headers = { ["content-type"] = "text/yaml",
          ["idempotency-key"] = "k1" } }
      end
      local first, again = send(), send()
      assert.same(first.json, again.json)
      assert.equal("true", again.headers["idempotent-replayed"])
      assert.equal("study", again.json.entry_workflow)
    end)

    it("never executes what it is given", function()
      for _, text in ipairs { "!!python/object/apply:os.system ['touch /tmp/owned']",
          (BUNDLE:gsub("prepare >> run_child >> summarize", "__import__('os').system('touch /tmp/owned')")),
          "a: &a [*a]", ("["):rep(5000), "workflows: " .. ("{a: "):rep(200) .. "1" .. ("}"):rep(200) } do
        assert.equal(422, post(text).status)
      end
    end)
  end)

  it("POST /check takes bundles: each workflow's graph, or all errors", function()
    local function check(text)
      return app:simulate { path = "/check", body = text, headers = { ["content-type"] = "text/yaml" } }
    end
    local answer = check(BUNDLE).json
    assert.same({ "study", true, { x = 1 }, "study", "trial" }, { answer.entry_workflow, answer.requires_approval,
      answer.defaults, answer.workflows.study.graph.name, answer.workflows.trial.graph.name })
    assert.equal(answer.graph_sha256, answer.workflows.study.graph_sha256)
    assert.equal(crypto.sha256(BUNDLE), answer.sha256)
    answer = check((BUNDLE:gsub("spawn: trial", "spawn: trail")))
    assert.equal(422, answer.status)
    assert.same({ "invalid workflow bundle", "unknown_spawn_target", 8 },
      { answer.json.detail, answer.json.errors[1].code, answer.json.errors[1].line })
  end)

  describe("approve and reject", function()
    it("queue the run, with who and why, as the contract has it", function()
      local run_id = submit(BUNDLE, { tag = "nobody" }).run_id
      local answer = decide(run_id, "approve", { comment = "fine", reason = "ignored" })
      assert.equal(200, answer.status, answer.body)
      assert.is_nil(answer.json.task_records)
      local snapshot = stored(run_id)
      assert.same(fixed(fixture "snapshot-approved-bundle"), fixed(snapshot))
      assert.equal(1, #app.store.messages)
      local job = assert(json.decode(app.store.messages[1].data))
      local recorded = fixture("job-bundle-root").body
      assert.same(keys(recorded), keys(job))
      for _, key in ipairs { "flow_name", "tag", "tags", "params", "workflow_bundle", "workflow_bundle_sha256",
          "bundle_hash", "workflow_bundle_bytes", "spawn_depth", "entry_workflow" } do
        assert.same(recorded[key], job[key])
      end
      assert.equal(snapshot.approved_at, job.submitted_at)
    end)

    it("end the run when it is rejected", function()
      local run_id = submit(BUNDLE, { tag = "hello" }).run_id
      assert.equal(200, decide(run_id, "reject", { reason = "no" }).status)
      assert.same(fixed(fixture "snapshot-rejected"), fixed(stored(run_id)))
      assert.equal(409, decide(run_id, "approve").status)
      assert.same({}, app.store.messages)
    end)

    it("need no body, and refuse one of another kind", function()
      local run_id = submit().run_id
      assert.equal(422, decide(run_id, "approve", { comment = 3 }).status)
      assert.equal(200, decide(run_id, "approve").status)
      assert.equal(json.null, stored(run_id).approval_comment)
    end)

    it("tell what is wrong in the contract's order", function()
      local function told(run_id, what)
        local answer = decide(run_id, what, {})
        return answer.status .. " " .. answer.json.detail
      end
      for _, what in ipairs { "approve", "reject" } do
        assert.equal("404 run not found", told("nobody", what))
        assert.equal("404 run not found", told("no body", what))
        local plain = app:simulate({ path = "/runs", json = { flow_name = "f" } }).json.run_id
        assert.equal("409 run is not pending approval", told(plain, what))
      end
      local run_id = submit().run_id
      local snapshot, revision = app.store.runs:get(run_id)
      snapshot.bundle_hash, snapshot.status = json.null, "pending_approval" -- compared upper-case
      revision = app.store.runs:update(snapshot, revision)
      assert.equal("409 bundle hash missing", told(run_id, "approve"))
      snapshot.bundle_hash = ("0"):rep(64)
      app.store.runs:update(snapshot, revision)
      assert.equal("409 workflow bundle not found", told(run_id, "approve"))
      assert.equal("pending_approval", stored(run_id).status)
    end)

    it("keep tenants apart", function()
      local run_id = submit().run_id
      local snapshot, revision = app.store.runs:get(run_id)
      snapshot.tenant_id = "a"
      app.store.runs:update(snapshot, revision)
      for _, verb in ipairs { approval.approve, approval.reject } do
        assert.same({ "run not found", "not_found" }, { select(2, verb(app, { tenant_id = "b" }, run_id)) })
      end
      assert.equal("not_found", select(3, relations.of(app, { tenant_id = "b" }, run_id)))
      assert(approval.approve(app, { tenant_id = "a", api_key_id = "k7" }, run_id))
      assert.equal("api_key:k7", stored(run_id).approved_by)
    end)

    it("publish once, however many approve", function()
      local run_id = submit().run_id
      assert.equal(200, decide(run_id, "approve").status)
      assert.equal(409, decide(run_id, "approve").status)
      assert.equal(409, decide(run_id, "reject").status)
      assert.equal(1, #app.store.messages)
      assert.equal("approved", stored(run_id).approval_status)
    end)

    it("put the run back when its job cannot be queued; a later approve queues it", function()
      local run_id = submit().run_id
      local before = app.store.runs:get_raw(run_id)
      local publish_raw = app.store.jobs.publish_raw
      app.store.jobs.publish_raw = function() return nil, "no answer", "unavailable" end
      assert.equal(503, decide(run_id, "approve").status)
      assert.same(json.decode(before), stored(run_id))
      app.store.jobs.publish_raw = publish_raw
      assert.equal(200, decide(run_id, "approve").status)
      assert.equal(1, #app.store.messages)
    end)

    it("queue the job of a run that was put back though its job had arrived: it was acked unrun", function()
      local run_id = submit().run_id
      local publish_raw, lost = app.store.jobs.publish_raw, true
      app.store.jobs.publish_raw = function(self, id, ...)
        local seq, message, code, is_known = publish_raw(self, id, ...)
        if lost then return nil, "the answer is lost", "unavailable" end
        return seq, message, code, is_known
      end
      assert.equal(503, decide(run_id, "approve").status)
      lost = false
      assert.equal(200, decide(run_id, "approve").status)
      assert.equal(2, #app.store.messages)
      assert.is_nil(app.store.messages[2].msg_id)
    end)

    it("finish what a gateway that died has left: approved, and no job", function()
      local run_id = submit().run_id
      local snapshot, revision = app.store.runs:get(run_id)
      local function approved_ago(seconds)
        snapshot.status, snapshot.approval_status = "PENDING", "approved"
        snapshot.approved_at = app.store:now() - seconds
        revision = assert(app.store.runs:update(snapshot, revision))
        assert.equal(409, decide(run_id, "approve").status)
        return #app.store.messages
      end
      assert.equal(0, approved_ago(1)) -- it may be at it still
      assert.equal(0, approved_ago(600)) -- the sweeper's: the stream would not know the message
      assert.equal(1, approved_ago(30))
      assert.equal(run_id, app.store.messages[1].msg_id)
      assert.equal(1, approved_ago(40))
      snapshot.attempt = { seq = 1, delivery = 1 }
      assert.equal(1, approved_ago(30))
    end)

    it("lose to a cancel that was first", function()
      local run_id = submit().run_id
      local answer = app:simulate { method = "POST", path = "/runs/" .. run_id .. "/cancel" }
      assert.equal("CANCELLED", answer.json.status)
      local snapshot = stored(run_id)
      assert.same({ "CANCELLED", "pending", nil }, { snapshot.status, snapshot.approval_status,
        snapshot.cancel_requested_at })
      assert.equal("number", type(snapshot.end_time))
      assert.equal("409 run is not pending approval", decide(run_id, "approve").status .. " "
        .. decide(run_id, "approve").json.detail)
    end)
  end)

  describe("families", function()
    local function family()
      app = gateway_app.new { spawn_requires_approval = false }
      local parent = submit().run_id
      local children = {}
      for i, status in ipairs { "RUNNING", "PENDING", "COMPLETED" } do
        children[i] = crypto.uuid4()
        local child = stored(parent)
        child.run_id, child.status, child.parent_run_id, child.flow_name = children[i], status, parent, "trial"
        child.spawned_from_task, child.spawn_depth = "run_child", 1
        assert(app.store.runs:create(child))
      end
      local snapshot, revision = app.store.runs:get(parent)
      snapshot.status, snapshot.spawn_count = "RUNNING", 4
      snapshot.child_run_ids = json.array { children[1], children[2], children[3], crypto.uuid4() }
      app.store.runs:update(snapshot, revision)
      return parent, children
    end

    it("are shown: parent, root and children", function()
      local parent, children = family()
      local answer = app:simulate({ path = "/runs/" .. parent .. "/relations" }).json
      assert.same({ 0, json.null, parent }, { answer.depth, answer.parent, answer.root.run_id })
      local shown = {}
      for i, child in ipairs(answer.children) do shown[i] = child.run_id .. " " .. child.status end
      assert.same({ children[1] .. " RUNNING", children[2] .. " PENDING", children[3] .. " COMPLETED" }, shown)
      answer = app:simulate({ path = "/runs/" .. children[1] .. "/relations" }).json
      assert.same({ 1, "trial", parent, parent, {} }, { answer.depth, answer.workflow_name, answer.parent.run_id,
        answer.root.run_id, answer.children })
      local plain = app:simulate({ path = "/runs", json = { flow_name = "f" } }).json.run_id
      answer = app:simulate({ path = "/runs/" .. plain .. "/relations" }).json
      assert.same({ json.null, json.null, {} }, { answer.parent, answer.root, answer.children })
      assert.equal(404, app:simulate({ path = "/runs/nobody/relations" }).status)
    end)

    it("are cancelled together, whoever runs the parent", function()
      local parent, children = family()
      assert(cancel.run(app, { api_key_id = "k1" }, parent))
      local statuses = {}
      for i, id in ipairs(children) do statuses[i] = stored(id).status end
      assert.same({ "CANCELLING", "CANCELLED", "COMPLETED" }, statuses)
      assert.equal("api_key:k1", stored(children[1]).cancel_requested_by)
      local told = {}
      for _, hint in ipairs(app.store.sent_hints) do told[hint.subject] = true end
      assert.is_true(told["pyoco.hint.cancel." .. children[1]])
      assert.is_true(told["pyoco.hint.done." .. children[2]])
    end)
  end)

  it("GET /runs/{id}/source is the bundle", function()
    local run_id = submit().run_id
    assert.equal(BUNDLE, app:simulate({ path = "/runs/" .. run_id .. "/source" }).body)
    assert.equal("study", app:simulate({ path = "/runs/" .. run_id .. "/graph" }).json.name)
  end)
end)
