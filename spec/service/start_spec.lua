--- service.start: snapshot, then job; runs of a derived id are started once, however often it is tried.
local json = require "host.json"
local snapshot = require "pyoco.run.snapshot"
local start = require "pyoco.service.start"
local submit = require "pyoco.service.submit"
local gateway_app = require "spec.support.gateway_app"

describe("service.start", function()
  local app

  before_each(function() app = gateway_app.new() end)

  --- A first snapshot and its job.
  local function run_of(run_id, fields)
    local run = { run_id = run_id, flow_name = "main", tag = "gpu", tags = json.array { "gpu" }, params = {} }
    for key, value in pairs(fields or {}) do run[key] = value end
    run = start.identity(app, {}, run)
    return snapshot.initial(run), { run_id = run.run_id, tag = "gpu", flow_name = "main", params = {} }
  end

  local function refuse_jobs(message, code)
    local publish = app.store.jobs.publish
    app.store.jobs.publish = function() return nil, message, code end
    return function() app.store.jobs.publish = publish end
  end

  it("gives a run its id, its owner and the server's time", function()
    local fields = start.identity(app, { tenant_id = "acme", api_key_id = "k1" }, { flow_name = "f" })
    assert.truthy(fields.run_id:find("^%x+%-%x+%-4%x+%-%x+%-%x+$"))
    assert.equal("acme", fields.tenant_id)
    assert.equal("k1", fields.api_key_id)
    assert.truthy(math.abs(fields.now - app.store:now()) < 60)
    assert.equal("given", start.identity(app, {}, { run_id = "given" }).run_id)
    assert.equal(json.null, start.identity(app, {}, {}).tenant_id)
  end)

  it("stores the snapshot, then the job", function()
    local first, job = run_of "r1"
    assert.same({ run_id = "r1", status = "PENDING", bundle_hash = json.null }, (start.run(app, first, job)))
    assert.equal("PENDING", app.store.runs:get("r1").status)
    assert.equal(1, #app.store.messages)
    assert.equal("conflict", select(3, start.run(app, first, job)))
    assert.equal(1, #app.store.messages)
  end)

  it("queues nothing for a run that waits for approval", function()
    local first = run_of("r1", { bundle_hash = "abc", status = "PENDING_APPROVAL" })
    assert.same({ run_id = "r1", status = "PENDING_APPROVAL", bundle_hash = "abc" }, (start.run(app, first)))
    assert.same({ run_id = "r1", status = "PENDING_APPROVAL", bundle_hash = "abc" }, (start.resume(app, first)))
    assert.same({}, app.store.messages)
  end)

  it("withdraws a run whose job cannot be queued", function()
    refuse_jobs("no answer", "unavailable")
    for _, how in ipairs { "run", "resume" } do
      local first, job = run_of(how)
      local answer, message, code = start[how](app, first, job)
      assert.is_nil(answer)
      assert.equal("nats unavailable: no answer", message)
      assert.equal("unavailable", code)
      assert.equal("not_found", select(3, app.store.runs:get(how)), how)
    end
  end)

  describe("resume", function()
    it("starts a run once", function()
      for _ = 1, 3 do
        local first, job = run_of "r1"
        assert.same({ run_id = "r1", status = "PENDING", bundle_hash = json.null }, (start.resume(app, first, job)))
      end
      assert.equal(1, #app.store.messages)
      assert.equal(1, select(2, app.store.runs:get("r1")))
    end)

    it("queues the job that a crash left out", function()
      local first, job = run_of "r1"
      assert(app.store.runs:create(first))
      assert(start.resume(app, first, job))
      assert.equal("r1", app.store.messages[1].msg_id)
    end)

    it("starts a withdrawn run anew", function()
      local first, job = run_of "r1"
      local restore = refuse_jobs("no answer", "unavailable")
      assert.is_nil((start.resume(app, first, job)))
      restore()
      assert(start.resume(app, first, job))
      assert.equal(1, #app.store.messages)
    end)

    it("queues a job anew that was stored after all, and acked while the run was withdrawn", function()
      local first, job = run_of "r1"
      local publish = app.store.jobs.publish
      app.store.jobs.publish = function(...)
        publish(...)
        return nil, "the answer was lost", "unavailable"
      end
      assert.is_nil((start.resume(app, first, job)))
      app.store.jobs.publish = publish
      assert(start.resume(app, first, job)) -- it is still there
      assert.equal(1, #app.store.messages)
      assert(app.store.work:delete(1)) -- a worker found no key
      assert(app.store.runs:delete("r1"))
      assert(start.resume(app, first, job))
      assert.equal(2, #app.store.messages)
      assert.is_nil(app.store.messages[2].msg_id)
      assert.equal("r1", json.decode(app.store.messages[2].data).run_id)
    end)

    it("leaves a run alone that somebody has begun", function()
      for name, fields in pairs {
        running = { status = "RUNNING", attempt = { seq = 1, delivery = 1 } }, ended = { status = "COMPLETED" },
        handed_back = { status = "PENDING", attempt = { seq = 1, delivery = 1 } },
        cancelled = { status = "CANCELLED" },
      } do
        local first, job = run_of(name, fields)
        first.attempt = fields.attempt
        local revision = assert(app.store.runs:create(first))
        assert.equal(fields.status, start.resume(app, first, job).status, name)
        assert.equal(revision, select(2, app.store.runs:get(name)), name)
      end
      assert.same({}, app.store.messages)
    end)

    it("does not withdraw a run that it has not made", function()
      local first, job = run_of "r1"
      assert(app.store.runs:create(first))
      refuse_jobs("no answer", "unavailable")
      assert.equal("unavailable", select(3, start.resume(app, first, job)))
      assert(app.store.runs:get "r1")
    end)

    it("says so when the run is withdrawn under its hands", function()
      local first, job = run_of "r1"
      app.store.runs.create = function() return nil, "exists", "conflict" end
      assert.same({ "the run was withdrawn just now; try again", "conflict" },
        { select(2, start.resume(app, first, job)) })
    end)
  end)

  it("is what a submit of a derived id uses, with more fields for the snapshot", function()
    for _ = 1, 2 do
      assert(submit.flow(app, {}, { flow_name = "main" }, { run_id = "derived", extra = { requeued_from = "old" } }))
    end
    assert.equal("old", app.store.runs:get("derived").requeued_from)
    local document = "flow:\n  graph: a\ntasks:\n  a:\n    callable: demo:a\n"
    assert(submit.yaml(app, {}, { workflow = document, flow_name = "f" }, { run_id = "s1", schedule_id = "every-day" }))
    assert.equal("every-day", app.store.runs:get("s1").schedule_id)
    assert.equal("every-day", json.decode(app.store.messages[2].data).schedule_id)
    assert.equal(2, #app.store.messages)
  end)
end)
