--- What every store must do; run by spec/store/* on each backend.
local json = require "host.json"
local crypto = require "host.crypto"

local CFG = {
  work_stream = "PYOCO_WORK", work_subject_prefix = "pyoco.work", dlq_stream = "PYOCO_DLQ",
  dlq_subject_prefix = "pyoco.dlq", runs_bucket = "pyoco_runs", workers_bucket = "pyoco_workers",
  workflow_bundles_bucket = "pyoco_workflow_bundles", dlq_max_age_sec = 604800, dlq_max_msgs = 100000,
  dlq_max_bytes = 536870912, nats_replicas = 1,
}

--- Declares the suite.
---@param busted table the spec file's _ENV: describe, it, before_each, after_each
---@param open function (cfg) -> store, with its resources made
---@param close function () ends what open began
return function(busted, open, close)
  local describe, it, assert = busted.describe, busted.it, busted.assert
  local store

  busted.before_each(function() store = open(CFG) end)
  busted.after_each(function() close() end)

  describe("runs", function()
    it("are created once", function()
      local run = { run_id = crypto.uuid4(), status = "PENDING", params = { text = "テ", list = json.array {} } }
      local revision = assert(store.runs:create(run))
      assert.is_true(math.type(revision) == "integer")
      local again, message, code = store.runs:create(run)
      assert.is_nil(again)
      assert.equal("conflict", code, message)
      local stored, stored_revision, entry = store.runs:get(run.run_id)
      assert.same(run, stored)
      assert.equal(revision, stored_revision)
      assert.is_true(math.abs(entry.created - store:now()) < 60)
    end)

    it("are stored as ASCII JSON", function()
      local run = { run_id = crypto.uuid4(), error = "失敗" }
      assert(store.runs:create(run))
      assert.is_nil(store.runs:get_raw(run.run_id):find("[\128-\255]"))
    end)

    it("change only from the revision that was read", function()
      local run = { run_id = crypto.uuid4(), status = "PENDING" }
      local first = assert(store.runs:create(run))
      run.status = "RUNNING"
      local second = assert(store.runs:update(run, first))
      assert.is_true(second > first)
      local lost, _, code = store.runs:update(run, first)
      assert.is_nil(lost)
      assert.equal("conflict", code)
      assert.equal("RUNNING", store.runs:get(run.run_id).status)
    end)

    it("are gone after delete, and can be created again", function()
      local run = { run_id = crypto.uuid4() }
      local revision = assert(store.runs:create(run))
      local kept, _, code = store.runs:delete(run.run_id, revision + 1000)
      assert.is_nil(kept)
      assert.equal("conflict", code)
      assert(store.runs:delete(run.run_id, revision))
      local missing, _, missing_code = store.runs:get(run.run_id)
      assert.is_nil(missing)
      assert.equal("not_found", missing_code)
      assert(store.runs:create(run))
    end)

    it("have ids from NATS's alphabet", function()
      for _, id in ipairs { "a b", "a*", ".a", "a.", "ä" } do
        local value, _, code = store.runs:get(id)
        assert.is_nil(value)
        assert.equal("invalid", code, id)
      end
    end)

    it("refuse what JSON cannot carry, naming it", function()
      local revision, message, code = store.runs:create { run_id = crypto.uuid4(), params = { x = 0 / 0 } }
      assert.is_nil(revision)
      assert.equal("invalid", code)
      assert.truthy(message:find("params.x", 1, true), message)
    end)
  end)

  describe("jobs", function()
    it("are queued once under a message id", function()
      local job = { run_id = crypto.uuid4(), tag = "default", flow_name = "f" }
      local seq = assert(store.jobs:publish(job))
      assert.equal(seq, store.jobs:publish(job))
    end)
  end)

  describe("documents", function()
    it("live under their own hash and may be stored twice", function()
      local sha256 = assert(store.documents:put("version: 1\n"))
      assert.equal(crypto.sha256 "version: 1\n", sha256)
      assert.equal(sha256, store.documents:put("version: 1\n"))
      assert.equal("version: 1\n", (store.documents:get(sha256)))
    end)
  end)

  describe("workers", function()
    it("are listed with the server's timestamp", function()
      assert.same({}, store.workers:list())
      assert(store.workers:put { worker_id = "w1", state = "IDLE" })
      assert(store.workers:put { worker_id = "w1", state = "RUNNING" })
      local list = assert(store.workers:list())
      assert.equal(1, #list)
      assert.equal("RUNNING", list[1].record.state)
      assert.is_true(math.abs(list[1].created - store:now()) < 60)
    end)
  end)

  it("takes dead letters and hints", function()
    assert(store.dlq:publish("default", { reason = "invalid_job" }))
    assert(store.hints:cancel(crypto.uuid4()))
  end)
end
