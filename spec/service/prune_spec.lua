--- service.prune, service.garbage and the duty on a memory store: what goes, what stays, and why.
local clock = require "host.clock"
local crypto = require "host.crypto"
local json = require "host.json"
local garbage = require "pyoco.service.garbage"
local prune = require "pyoco.service.prune"
local submit = require "pyoco.service.submit"
local gateway_app = require "spec.support.gateway_app"
local shared = require "host.shared"

local DOCUMENT = "flow:\n  graph: a\ntasks:\n  a:\n    callable: demo:a\n"
local DAY <const> = 86400

describe("pruning", function()
  local app, now

  before_each(function()
    for _, key in ipairs(shared.keys "document.") do shared.delete(key) end
    app = gateway_app.new()
    now = clock.wall()
  end)

  --- Stores a run that was last updated `age` seconds ago.
  local function run(run_id, status, age, fields)
    local snapshot = { run_id = run_id, flow_name = "f", status = status, updated_at = now - age }
    for name, value in pairs(fields or {}) do snapshot[name] = value end
    assert(app.store.runs:create(snapshot))
    return run_id
  end

  --- Makes what a bucket holds older.
  local function age(kv, key, seconds)
    local entry = assert(kv.entries_by_key[key], key)
    entry.created = entry.created - seconds
  end

  local function left()
    local ids = {}
    for i, entry in ipairs(app.store.runs.kv:entries()) do ids[i] = entry.key end
    table.sort(ids)
    return ids
  end

  local function older_than(seconds, opts)
    opts = opts or {}
    opts.before = now - seconds
    return assert(prune.run(app, opts))
  end

  it("takes ended runs whose last update is older than wanted", function()
    for _, status in ipairs { "PENDING_APPROVAL", "PENDING", "RUNNING", "CANCELLING", "ODD" } do
      run(status, status, 90 * DAY)
    end
    for _, status in ipairs(prune.STATUSES) do
      run(status .. "-old", status, 31 * DAY)
      run(status .. "-new", status, 29 * DAY)
    end
    assert.same({ runs = 3, objects = 0 }, older_than(30 * DAY))
    assert.same({ "CANCELLED-new", "CANCELLING", "COMPLETED-new", "FAILED-new", "ODD", "PENDING", "PENDING_APPROVAL",
      "RUNNING" }, left())
    assert.same({ runs = 0, objects = 0 }, older_than(30 * DAY))
  end)

  it("takes only the statuses that are asked for, and with dry_run none", function()
    for _, status in ipairs(prune.STATUSES) do run(status, status, 31 * DAY) end
    local revision = app.store.runs.kv.revision
    assert.equal(3, older_than(30 * DAY, { dry_run = true }).runs)
    assert.equal(1, older_than(30 * DAY, { dry_run = true, statuses = { FAILED = true } }).runs)
    assert.equal(revision, app.store.runs.kv.revision)
    older_than(30 * DAY, { statuses = { FAILED = true } })
    assert.same({ "CANCELLED", "COMPLETED" }, left())
  end)

  it("goes by the server's time of the entry where a run does not say when it was updated", function()
    run("a", "FAILED", 0, { updated_at = json.null })
    run("b", "FAILED", 0, { updated_at = json.null })
    age(app.store.runs.kv, "b", 31 * DAY)
    older_than(30 * DAY)
    assert.same({ "a" }, left())
  end)

  it("takes outputs, logs and relations along", function()
    run("r1", "FAILED", 31 * DAY, { bundle_hash = "abc" })
    run("r2", "FAILED", 1)
    for _, run_id in ipairs { "r1", "r2" } do
      assert(app.store.data:put(run_id, "load", "output", "x"))
      assert(app.store.data:put(run_id, "load", "log", "y"))
      assert(app.store.relations:put({ run_id = run_id }, now))
    end
    assert.same({ runs = 1, objects = 2 }, older_than(30 * DAY))
    assert.same({ "r2/load/log", "r2/load/output" }, app.store.garbage.data:names())
    assert.same({ "r2" }, app.store.garbage:keys "relations")
  end)

  it("leaves a child as long as its root runs", function()
    run("root", "RUNNING", 1)
    run("done", "COMPLETED", 31 * DAY, { root_run_id = "done" })
    run("child", "COMPLETED", 31 * DAY, { root_run_id = "root" })
    run("orphan", "COMPLETED", 31 * DAY, { root_run_id = "gone" })
    run("other", "COMPLETED", 31 * DAY, { root_run_id = "done" })
    older_than(30 * DAY)
    assert.same({ "child", "root" }, left())
  end)

  it("leaves a run that is written meanwhile", function()
    run("a", "FAILED", 31 * DAY)
    run("b", "FAILED", 31 * DAY)
    local read = app.store.garbage.read_runs
    app.store.garbage.read_runs = function(...)
      local found = read(...)
      assert(app.store.runs.kv:put("a", '{"run_id":"a","status":"RUNNING"}'))
      return found
    end
    assert.equal(1, older_than(30 * DAY).runs)
    assert.same({ "a" }, left())
  end)

  it("breaks off when NATS goes, before the key of a run whose data is still there", function()
    run("r1", "FAILED", 31 * DAY)
    assert(app.store.data:put("r1", "load", "output", "x"))
    local erase = app.store.garbage.data.erase
    app.store.garbage.data.erase = function() return nil, "gone", "unavailable" end
    assert.same({ "nats unavailable: gone", "unavailable" }, { select(2, prune.run(app, { before = now - DAY })) })
    app.store.garbage.data.erase = erase
    assert.same({ "r1" }, left())
    assert.same({ runs = 1, objects = 1 }, older_than(DAY))
  end)

  it("is told of by on_write, so that lists forget the run at once", function()
    run("r1", "FAILED", 31 * DAY)
    local told
    app.store.runs.on_write = function(revision) told = revision end
    older_than(DAY)
    assert.equal(app.store.runs.kv.revision, told)
  end)

  it("ends at Ctrl-C, at the next pause", function()
    for i = 1, 3 do run("r" .. i, "FAILED", 31 * DAY) end
    local admin_runs = require "pyoco.cli.admin_runs"
    local result, _, code = admin_runs.prune(app, { older_than = 30 * DAY }, { interrupt = { seen = "sigint" } })
    assert.same({ nil, "cancelled" }, { result, code })
    assert.equal(3, #left())
  end)

  describe("garbage:", function()
    local function collect(opts) return assert(garbage.collect(app, opts)) end

    local function documents() return #app.store.garbage:keys "documents" end

    local function yaml() return assert(submit.yaml(app, {}, { workflow = DOCUMENT, flow_name = "f" })).run_id end

    local function age_documents(seconds)
      for _, hash in ipairs(app.store.garbage:keys "documents") do age(app.store.documents.kv, hash, seconds) end
    end

    it("documents go when no run refers to them and none was submitted lately", function()
      local run_id = yaml()
      for _, field in ipairs { "source_sha256", "bundle_hash" } do
        run(field, "FAILED", 1, { [field] = assert(app.store.documents:put(field)) })
      end
      assert(app.store.documents:put "nobody's, but new")
      age_documents(2 * 3600)
      local young = assert(app.store.documents:put "nobody's, and young")
      assert.equal(1, collect().documents)
      assert.equal(5, documents())
      assert(app.store.runs:delete(run_id))
      assert.equal(2, collect().documents) -- the document and its graph
      age(app.store.documents.kv, young, 3601)
      assert.equal(1, collect().documents)
      assert.equal(2, documents())
    end)

    it("a submit makes the documents young that it finds", function()
      assert(app.store.runs:delete(yaml()))
      age_documents(2 * 3600)
      for _, key in ipairs(shared.keys "document.") do shared.delete(key) end -- the minute is over
      -- the look at the runs is done, then a submit comes
      local keys = app.store.garbage.keys
      local run_id
      app.store.garbage.keys = function(...)
        run_id = run_id or yaml()
        return keys(...)
      end
      assert.equal(0, collect().documents)
      assert(app.store.documents:get(app.store.runs:get(run_id).workflow_yaml_sha256))
      assert(app.store.documents:get(app.store.runs:get(run_id).graph_sha256))
    end)

    it("markers of deleted runs go after a day", function()
      run("r1", "FAILED", 31 * DAY)
      older_than(30 * DAY)
      assert.equal(0, collect().markers)
      age(app.store.runs.kv, "r1", DAY + 1)
      local announced = {}
      app.store.garbage.announce_purge = function(self)
        announced[#announced + 1] = app.store.runs.kv.entries_by_key.r1 ~= nil
        return getmetatable(self).__index.announce_purge(self)
      end
      assert.equal(1, collect().markers)
      assert.same({ true }, announced) -- before it went
      assert.is_nil(app.store.runs.kv.entries_by_key.r1)
    end)

    it("data and relations of runs that are no more go, once they are old", function()
      run("r1", "FAILED", 1)
      for _, run_id in ipairs { "r1", "gone" } do
        assert(app.store.data:put(run_id, "load", "log", "x"))
        assert(app.store.relations:put({ run_id = run_id }, now))
        age(app.store.garbage.relations, run_id, 3601)
      end
      assert(app.store.data:objects()):put("not of a run", "x")
      local counts = collect()
      assert.same({ 1, 0 }, { counts.relations, counts.objects })
      for _, it in pairs(app.store.data:objects().objects) do it.info.modified = it.info.modified - DAY - 1 end
      assert.equal(1, collect().objects)
      assert.same({ "not of a run", "r1/load/log" }, app.store.garbage.data:names())
    end)

    it("where runs are kept for ever, only broken uploads go", function()
      assert(app.store.documents:put "nobody's")
      age_documents(2 * 3600)
      assert.same({ uploads = 0 }, collect { uploads_only = true })
      assert.equal(1, documents())
    end)

    it("nothing goes when the runs cannot be read", function()
      assert(app.store.documents:put "nobody's")
      age_documents(2 * 3600)
      app.store.garbage.each_run = function() return nil, "gone", "timeout" end
      assert.same({ "nats unavailable: gone", "unavailable" }, { select(2, garbage.collect(app)) })
      assert.equal(1, documents())
    end)
  end)

  describe("as a duty", function()
    local retention, logged

    before_each(function()
      package.loaded["pyoco.service.retention"] = nil -- it keeps its state
      retention = require "pyoco.service.retention"
      logged = {}
      local function note(level)
        return function(_, message, fields) logged[#logged + 1] = { level, message, fields } end
      end
      app.log = { info = note "info", warning = note "warning" }
      app.config.runs_retention_sec = 30 * DAY
      app.store.model = nil
    end)

    it("prunes, collects what became useless, and says so", function()
      run("r1", "FAILED", 31 * DAY, { source_sha256 = assert(app.store.documents:put "x") })
      age(app.store.documents.kv, crypto.sha256 "x", 3601)
      assert.is_nil(retention.duty(app))
      assert.same({}, left())
      assert.same({}, app.store.garbage:keys "documents")
      assert.same({ "info", "runs pruned", { runs = 1, objects = 0 } }, logged[1])
      assert.equal("garbage removed", logged[2][2])
      run("r2", "FAILED", 31 * DAY)
      assert.is_nil(retention.duty(app)) -- not again so soon
      assert.same({ "r2" }, left())
    end)

    it("keeps runs for ever by default", function()
      app.config.runs_retention_sec = 0
      run("r1", "FAILED", 1000 * DAY)
      retention.duty(app)
      assert.same({ "r1" }, left())
    end)

    it("works in slices, and goes on where it stopped", function()
      for i = 1, 3 do
        run("r" .. i, "FAILED", 31 * DAY)
        assert(app.store.data:put("r" .. i, "a", "log", "x"))
      end
      local erase, monotonic, passed = app.store.garbage.data.erase, clock.monotonic, 0
      clock.monotonic = function() return monotonic() + passed end
      finally(function() clock.monotonic = monotonic end)
      app.store.garbage.data.erase = function(...)
        passed = passed + 1 -- a slow disk
        return erase(...)
      end
      local turns = 1
      while retention.duty(app) do turns = turns + 1 end
      assert.equal(4, turns)
      assert.same({}, left())
    end)

    it("tells a failure, and a bug with its place", function()
      run("r1", "FAILED", 31 * DAY)
      local each_run = app.store.garbage.each_run
      app.store.garbage.each_run = function() return nil, "gone", "timeout" end
      assert.is_nil(retention.duty(app))
      assert.same({ "info", "pruning broke off; it goes on later: nats unavailable: gone" }, logged[1])
      package.loaded["pyoco.service.retention"] = nil
      retention = require "pyoco.service.retention"
      app.store.garbage.each_run = function() error "a bug" end
      local fine, message = pcall(retention.duty, app)
      assert.is_false(fine)
      assert.truthy(message:find("prune_spec.lua:%d+: a bug"), message)
      app.store.garbage.each_run = each_run
    end)
  end)
end)
