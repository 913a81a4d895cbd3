--- What every store must do; run by spec/store/* on each backend.
local json = require "host.json"
local crypto = require "host.crypto"
local shared = require "host.shared"

local CFG = {
  work_stream = "PYOCO_WORK", work_subject_prefix = "pyoco.work", dlq_stream = "PYOCO_DLQ",
  dlq_subject_prefix = "pyoco.dlq", runs_bucket = "pyoco_runs", workers_bucket = "pyoco_workers",
  workflow_bundles_bucket = "pyoco_workflow_bundles", run_relations_bucket = "pyoco_run_relations",
  leases_bucket = "pyoco_leases",
  yaml_schedules_bucket = "pyoco_yaml_schedules",
  run_data_bucket = "pyoco_run_data",
  auth_bucket = "pyoco_auth",
  run_data_max_bytes = 0, dlq_max_age_sec = 604800, dlq_max_msgs = 100000,
  dlq_max_bytes = 536870912, nats_replicas = 1, wheels_bucket = "pyoco_wheels", wheel_store_max_bytes = 0,
  wheel_history_bucket = "pyoco_wheel_history", wheel_history_ttl_sec = 7776000,
  idempotency_bucket = "pyoco_idempotency", idempotency_ttl_sec = 86400,
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

  describe("relations", function()
    it("keeps who started whom, by the first snapshot of each run", function()
      local snapshot = { run_id = "c1", flow_name = "trial", root_run_id = "r1", parent_run_id = "r1", spawn_depth = 1,
        bundle_hash = "ab", spawned_from_task = "run_child", entry_workflow = "study", status = "PENDING" }
      assert(store.relations:put(snapshot, 12.5))
      assert.same({ run_id = "c1", root_run_id = "r1", parent_run_id = "r1", workflow_name = "trial",
        bundle_hash = "ab", spawned_from_task = "run_child", depth = 1, entry_workflow = "study", submitted_at = 12.5 },
        store.relations:get("c1"))
      assert(store.relations:delete("c1"))
      assert.equal("not_found", select(3, store.relations:get("c1")))
      assert.equal("invalid", select(3, store.relations:get("c 1")))
    end)
  end)

  describe("data", function()
    it("keeps what is too big for a snapshot, and says what it is", function()
      local bytes = ("テ\0"):rep(100000)
      local ref = assert(store.data:put("r1", "load", "output", bytes))
      assert.same({ name = "r1/load/output", size = 400000, sha256 = crypto.sha256(bytes) }, ref)
      local back, info = store.data:get("r1", "load", "output", 400000)
      assert.is_true(back == bytes)
      assert.equal(ref.sha256, info.sha256)
      assert(store.data:put("r1", "load", "output", ""))
      assert.equal("", (store.data:get("r1", "load", "output", 1)))
    end)

    it("tells what is missing, too large, or no name", function()
      assert(store.data:put("r1", "load", "output", "12345"))
      assert.equal("too_large", select(3, store.data:get("r1", "load", "output", 4)))
      assert.equal("not_found", select(3, store.data:get("r1", "other", "output", 4)))
      assert.equal("invalid", select(3, store.data:put("r1", "a\nb", "output", "x")))
    end)

    it("is an object store like any other", function()
      local objects = assert(store.data:objects())
      assert.same({}, objects:list())
      local given = { "ab", "cde" }
      local info = assert(objects:put("x/2", function() return table.remove(given, 1) end,
        { headers = { a = "1" }, description = "d", chunk_size = 2 }))
      assert.same({ 5, 3, 2, "d", { a = "1" } },
        { info.size, info.chunks, info.chunk_size, info.description, info.headers })
      assert(objects:put("a", "1"))
      local names = {}
      for i, one in ipairs(objects:list()) do names[i] = one.name end
      assert.same({ "a", "x/2" }, names)
      assert.equal(info.digest, objects:info("x/2").digest)
      assert.is_true(objects:delete("a"))
      for _, verb in ipairs { "info", "get", "delete" } do
        assert.equal("not_found", select(3, objects[verb](objects, "a")))
      end
      assert.equal("invalid", select(3, objects:put("b", function() return nil, "broken", "invalid" end)))
      assert.equal("not_found", select(3, objects:info("b")))
    end)
  end)

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

    it("are created many at once, each with its own result", function()
      local deleted = { run_id = crypto.uuid4() }
      assert(store.runs:delete(deleted.run_id, (assert(store.runs:create(deleted)))))
      local there = { run_id = crypto.uuid4() }
      assert(store.runs:create(there))
      local told = {}
      store.runs.on_write = function(revision) told[revision] = true end
      local list = { { run_id = crypto.uuid4(), n = 1 }, there, { run_id = "a b" },
        { run_id = crypto.uuid4(), x = 0 / 0 }, deleted, { run_id = crypto.uuid4(), n = 2 } }
      local results = store.runs:create_many(list)
      store.runs.on_write = nil
      local codes = {}
      for i, result in ipairs(results) do codes[i] = result.code or "ok" end
      assert.same({ "ok", "conflict", "invalid", "invalid", "conflict", "ok" }, codes)
      assert.truthy(results[4].message:find("x", 1, true))
      for _, i in ipairs { 1, 6 } do
        local _, revision = store.runs:get_raw(list[i].run_id)
        assert.is_true(told[revision])
        assert.equal(revision, results[i].revision)
      end
      assert.same({}, store.runs:create_many {})
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

  describe("jobs", function()
    it("are queued many at once, each once under its message id", function()
      local list = {}
      for i = 1, 3 do list[i] = { run_id = crypto.uuid4(), tag = "default", flow_name = "f" } end
      list[4] = { run_id = crypto.uuid4(), tag = "default", params = { x = 0 / 0 } }
      local first, again = store.jobs:publish_many(list), store.jobs:publish_many(list)
      for i = 1, 3 do assert.equal(assert(first[i].seq), again[i].seq) end
      assert.equal("invalid", first[4].code)
      assert.same({}, store.jobs:publish_many {})
    end)
  end)

  describe("idempotency", function()
    it("keeps one record for each key, changed from the revision that was read", function()
      local record = { run_id = "r1", fingerprint = "f" }
      local revision = assert(store.idempotency:claim("k1", record))
      assert.equal("conflict", select(3, store.idempotency:claim("k1", { run_id = "r2" })))
      assert.same({ record, revision }, { store.idempotency:get "k1" })
      record.started = true
      local marked = assert(store.idempotency:update("k1", record, revision))
      assert.equal("conflict", select(3, store.idempotency:update("k1", record, revision)))
      assert.equal("conflict", select(3, store.idempotency:delete("k1", revision)))
      assert(store.idempotency:delete("k1", marked))
      assert.equal("not_found", select(3, store.idempotency:get "k1"))
      assert(store.idempotency:claim("k1", record))
    end)

    it("claims and changes many at once", function()
      assert(store.idempotency:claim("b", { run_id = "r" }))
      local claims = store.idempotency:claim_many { { "a", { run_id = "1" } }, { "b", { run_id = "2" } },
        { "c", { run_id = "3" } } }
      assert.equal("conflict", claims[2].code)
      assert.same({ [1] = { run_id = "3" }, [3] = { run_id = "r" } }, store.idempotency:get_many { "c", "x", "b" })
      local changes = store.idempotency:update_many { { "a", { run_id = "1", started = true }, claims[1].revision },
        { "c", { run_id = "3", started = true }, claims[1].revision } }
      assert(changes[1].revision)
      assert.equal("conflict", changes[2].code)
      assert.is_true(store.idempotency:get("a").started)
    end)
  end)

  describe("dead letters", function()
    it("are read newest first, page by page, past what was removed", function()
      assert.same({ {} }, { store.dlq:page(nil, 10) })
      local first
      for i = 1, 30 do
        local ack = assert(store.dlq:publish(i % 2 == 0 and "even" or "odd", { reason = "r" .. i }))
        first = first or ack.seq
      end
      local work = store.dlq.backend.work(store.dlq.stream)
      for i = 8, 14 do assert(work:delete(first + i - 1)) end
      local reasons, before = {}, nil
      repeat
        local letters, older = store.dlq:page(before, 4)
        for _, letter in ipairs(assert(letters)) do
          reasons[#reasons + 1] = letter.body.reason
          assert.truthy(letter.subject:find "^pyoco%.dlq%.%l+$")
          assert.is_true(math.abs(letter.stored_at - store:now()) < 60)
        end
        before = older
      until not before
      local expected = {}
      for i = 30, 1, -1 do
        if i < 8 or i > 14 then expected[#expected + 1] = "r" .. i end
      end
      assert.same(expected, reasons)
      assert.equal("r7", store.dlq:get(first + 6).body.reason)
      assert.equal("not_found", select(3, store.dlq:get(first + 7)))
      assert.equal("not_found", select(3, store.dlq:get(first + 1000)))
      assert.same({ {} }, { store.dlq:page(first, 10) })
    end)
  end)

  describe("garbage", function()
    local function keys_of(list)
      local keys = {}
      for i, run in ipairs(list) do keys[i] = run.run_id end
      table.sort(keys)
      return keys
    end

    local function all_runs()
      local list = {}
      assert(store.garbage:each_run(function(run) list[#list + 1] = run end))
      table.sort(list, function(a, b) return a.run_id < b.run_id end)
      return list
    end

    it("sees every run with its revision and age, deleted and damaged ones too", function()
      assert.same({}, all_runs())
      local first = assert(store.runs:create { run_id = "a", status = "FAILED" })
      assert(store.runs:create_raw("b", "garbage"))
      local marker = assert(store.runs:delete("c", (assert(store.runs:create { run_id = "c" }))))
      local list = all_runs()
      assert.same({ "a", "b", "c" }, keys_of(list))
      assert.same({ { run_id = "a", status = "FAILED" }, first }, { list[1].snapshot, list[1].revision })
      assert.same({}, { list[2].snapshot, list[3].snapshot })
      assert.same({ false, false, true, marker },
        { list[1].is_deleted, list[2].is_deleted, list[3].is_deleted, list[3].revision })
      local now = assert(store.garbage:time())
      for _, run in ipairs(list) do assert.is_true(now - run.created >= 0 and now - run.created < 60) end
      local found = assert(store.garbage:read_runs { "a", "b", "c", "d" })
      assert.equal(first, found.a.revision)
      assert.is_nil(found.b.snapshot)
      assert.same({}, { found.c, found.d })
    end)

    it("deletes runs as they were read, tells of it, and erases markers", function()
      local told = {}
      local one, two = assert(store.runs:create { run_id = "a" }), assert(store.runs:create { run_id = "b" })
      store.runs.on_write = function(revision) told[#told + 1] = revision end
      local results = store.garbage:delete_runs { { run_id = "a", revision = one }, { run_id = "b", revision = one } }
      store.runs.on_write = nil
      assert.equal("conflict", results[2].code)
      assert.same({ results[1].revision }, told)
      assert.equal(two, select(2, store.runs:get "b"))
      assert.equal("not_found", select(3, store.runs:get "a"))
      assert.equal(1, store.garbage:erase_marker(all_runs()[1]))
      assert.same({ "b" }, keys_of(all_runs()))
      local again = assert(store.runs:create { run_id = "a" }) -- made anew after the marker was read
      assert.equal(0, store.garbage:erase_marker { run_id = "a", revision = again - 1 })
      assert(store.runs:get "a")
    end)

    it("erases documents and relations that are old enough, without a trace", function()
      local hash = assert(store.documents:put "text")
      assert(store.relations:put({ run_id = "r" }, 1.5))
      assert.same({ hash }, store.garbage:keys "documents")
      local now = store.garbage:time()
      assert.is_false(store.garbage:erase("documents", hash, now - 60))
      assert.equal("text", (store.documents:get(hash)))
      assert.is_true(store.garbage:erase("documents", hash, now + 60))
      assert.is_true(store.garbage:erase("documents", hash, now + 60)) -- nothing left to do
      assert.is_true(store.garbage:erase("relations", "r"))
      assert.same({ {}, {} }, { store.garbage:keys "documents", store.garbage:keys "relations" })
      assert.equal("text", store.documents:get(assert(store.documents:put "text")))
    end)

    it("leaves a document that was stored again after it was found old", function()
      local hash = assert(store.documents:put "text")
      local kv = store.garbage.documents
      local entries_of = kv.entries_of
      kv.entries_of = function(self, keys)
        local found = entries_of(self, keys)
        assert(store.documents:put "text")
        return found
      end
      assert.is_false(store.garbage:erase("documents", hash, store.garbage:time() + 60))
      kv.entries_of = entries_of
      assert.equal("text", (store.documents:get(hash)))
    end)

    it("erases run data by name and age", function()
      for _, task in ipairs { "a", "b" } do assert(store.data:put("r1", task, "output", ("x"):rep(200000))) end
      assert(store.data:put("r2", "a", "log", "y"))
      local names = store.garbage.data:names()
      table.sort(names)
      assert.same({ "r1/a/output", "r1/b/output", "r2/a/log" }, names)
      local now = store.garbage:time()
      assert.is_false(store.garbage.data:erase("r1/a/output", now - 60))
      assert.is_true(store.garbage.data:erase "r1/a/output")
      assert.is_true(store.garbage.data:erase("r1/b/output", now + 60))
      assert.is_true(store.garbage.data:erase "r1/nothing")
      assert.same({ "r2/a/log" }, store.garbage.data:names())
      assert.equal("not_found", select(3, store.data:get("r1", "a", "output", 1e6)))
      assert.equal("y", (store.data:get("r2", "a", "log", 10)))
      assert.equal(0, store.garbage.data:erase_orphans(now + 60))
      assert.equal("y", (store.data:get("r2", "a", "log", 10)))
    end)
  end)

  describe("documents", function()
    it("are kept once a minute, and made young by being stored again", function()
      local hash = crypto.sha256 "kept"
      local puts, put = 0, store.documents.kv.put
      store.documents.kv.put = function(...)
        puts = puts + 1
        return put(...)
      end
      for _, key in ipairs(shared.keys "document.") do shared.delete(key) end
      for _ = 1, 3 do assert.equal(hash, store.documents:keep("kept", hash)) end
      store.documents.kv.put = put
      assert.equal(1, puts)
      local before = store.garbage.documents:entries_of({ hash })[hash].revision
      assert(store.documents:put("kept", hash))
      assert.is_true(store.garbage.documents:entries_of({ hash })[hash].revision > before)
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

  describe("keys", function()
    it("are kept, changed and listed", function()
      local record = { key_id = "abcdefgh", tenant_id = "t", revoked_at = json.null }
      assert.equal("not_found", select(3, store.keys:get_raw("abcdefgh")))
      assert.same({}, store.keys:list())
      assert(store.keys:create(record))
      assert.equal("conflict", select(3, store.keys:create(record)))
      assert.equal('{"key_id":"abcdefgh","tenant_id":"t","revoked_at":null}', (store.keys:get_raw("abcdefgh")))
      local changed = assert(store.keys:change("abcdefgh", function(stored) stored.revoked_at = 5.5 end))
      assert.equal(5.5, changed.revoked_at)
      assert.same({ { key_id = "abcdefgh", record = changed } }, store.keys:list())
      assert.equal("not_found", select(3, store.keys:change("other", function() end)))
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

  require "spec.contract.wheels"(busted, function() return store end)
  require "spec.contract.duties"(busted, function() return store end)

  it("takes dead letters and hints", function()
    assert(store.dlq:publish("default", { reason = "invalid_job" }))
    assert(store.hints:cancel(crypto.uuid4()))
  end)
end
