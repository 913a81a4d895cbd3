--- Dispatching schedules on a memory store with a clock of the spec's own.
local crypto = require "host.crypto"
local json = require "host.json"
local shared = require "host.shared"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"
local scheduler = require "pyoco.service.scheduler"

local START = 1795327000.0

describe("service.scheduler", function()
  local app, state, now, logged

  before_each(function()
    app, state, now, logged = gateway_app.new(), scheduler.new(), START, {}
    app.store.now = function() return now end
    app.log = setmetatable({}, { __index = function()
      return function(_, message, context, failure)
        if message ~= "schedule dispatch failed" then return end
        logged[#logged + 1] = { message, context, failure }
      end
    end })
    shared.set("lease.until", math.huge)
    for _, key in ipairs(shared.keys "document.") do shared.delete(key) end
  end)
  after_each(function()
    for _, key in ipairs(shared.keys "count.") do shared.delete(key) end
    for _, key in ipairs { "lease.until", "lease.revision", "lease.since", "lease.id", "health.leader" } do
      shared.delete(key)
    end
  end)

  local function schedule(fields)
    local record = fixture "schedule-interval"
    record.schedule_id, record.start_at, record.next_run_at = crypto.uuid4(), START, START + 10
    record.interval_seconds = 10.0
    for key, value in pairs(fields or {}) do record[key] = value end
    assert(app.store.schedules:create(record))
    return record.schedule_id
  end

  local function get(id) return (app.store.schedules:get(id)) end

  --- Runs turns at a time until it has nothing to do at once.
  local function turn(at)
    now = at or now
    local delay
    repeat delay = scheduler.turn(app, state) until delay > 0
    return delay
  end

  local function snapshots()
    local list = {}
    for i, entry in ipairs(app.store.runs.kv:entries()) do list[i] = json.decode(entry.value) end
    return list
  end

  it("starts a run at its time: snapshot, job and record of the contract", function()
    local id = schedule { tenant_id = "t1", api_key_id = "k1" }
    assert.is_true(turn() <= 1)
    assert.same({}, app.store.messages)
    assert.is_true(turn(START + 9.99) <= 0.0101)
    turn(START + 10.001)
    local run = snapshots()[1]
    local text, record = fixture "schedule-interval".workflow_yaml, get(id)
    assert.same({ id, "a", "nobody", "t1", "k1", "PENDING", { x = 1 } }, { run.schedule_id, run.flow_name, run.tag,
      run.tenant_id, run.api_key_id, run.status, run.params })
    local job = json.decode(app.store.messages[1].data)
    assert.same({ run.run_id, id, text }, { job.run_id, job.schedule_id, job.workflow_yaml })
    assert.same({ "ACTIVE", START + 20, 1, run.run_id, now, now, json.null, json.null }, { record.status,
      record.next_run_at, record.dispatch_count, record.last_run_id, record.last_submitted_at, record.updated_at,
      record.last_error, record.lease_until })
    turn(START + 10.5)
    assert.equal(1, #app.store.messages)
    turn(START + 20)
    assert.equal(2, #app.store.messages)
  end)

  it("ends one that runs once", function()
    local id = schedule { schedule_type = "once", run_at = START + 1, next_run_at = START + 1,
      interval_seconds = json.null, start_at = json.null }
    turn(START + 1)
    assert.same({ "COMPLETED", json.null, 1 }, { get(id).status, get(id).next_run_at, get(id).dispatch_count })
    turn(START + 1000)
    assert.equal(1, #app.store.messages)
  end)

  it("does not make up for what was missed", function()
    local id = schedule()
    turn(START + 10007)
    assert.equal(1, #app.store.messages)
    assert.equal(START + 10010, get(id).next_run_at)
  end)

  it("runs one whose interval is too short once for each poll", function()
    schedule { interval_seconds = 0.01, next_run_at = START + 0.01 }
    for i = 1, 40 do turn(START + i * 0.05) end
    assert.equal(2, #app.store.messages)
  end)

  it("leaves one alone that another gateway is dispatching, until its claim is over", function()
    local id = schedule { lease_until = START + 13 }
    turn(START + 12.9)
    assert.same({}, app.store.messages)
    assert.equal(START + 13, get(id).lease_until)
    turn(START + 13)
    assert.equal(1, #app.store.messages)
  end)

  it("claims one before it starts its run", function()
    local id, lease_until = schedule(), nil
    local create = app.store.runs.create_raw
    app.store.runs.create_raw = function(...)
      lease_until = get(id).lease_until
      return create(...)
    end
    turn(START + 10)
    assert.equal(START + 13, lease_until)
  end)

  it("lets go when a reference gateway was faster", function()
    local id = schedule()
    local get_raw = app.store.schedules.get
    app.store.schedules.get = function(self, name) -- between our read and our claim
      app.store.schedules.get = get_raw
      local record, revision, entry = get_raw(self, name)
      local theirs = get_raw(self, name)
      theirs.lease_until = START + 13
      assert(self:update(theirs, revision))
      return record, revision, entry
    end
    turn(START + 10)
    turn(START + 10.1)
    assert.same({}, app.store.messages)
    local record, revision = get_raw(app.store.schedules, id)
    record.lease_until, record.next_run_at = json.null, START + 20
    assert(app.store.schedules:update(record, revision))
    turn(START + 15)
    assert.same({}, app.store.messages)
  end)

  it("gives one run when it dies between the submit and the record's update", function()
    local id = schedule()
    local update, count = app.store.schedules.update, 0
    app.store.schedules.update = function(...)
      count = count + 1
      if count > 1 then error("killed here") end
      return update(...)
    end
    now = START + 10
    assert.has_error(function() scheduler.turn(app, state) end)
    app.store.schedules.update = update
    assert.equal(1, #app.store.messages)
    state = scheduler.new() -- another gateway
    turn(START + 12)
    assert.equal(0, get(id).dispatch_count)
    turn(START + 13)
    assert.same({ 1, 1, 1 }, { get(id).dispatch_count, #app.store.messages, #snapshots() })
    assert.equal(snapshots()[1].run_id, get(id).last_run_id)
    turn(START + 20)
    assert.same({ 2, 2 }, { get(id).dispatch_count, #snapshots() })
  end)

  it("keeps the time and says why when a dispatch fails, and tries again, later each time", function()
    local id = schedule()
    local publish = app.store.jobs.publish
    app.store.jobs.publish = function() return nil, "no answer", "unavailable" end
    turn(START + 10)
    local record = get(id)
    assert.same({ START + 10, json.null, "unavailable: nats unavailable: no answer", 0 }, { record.next_run_at,
      record.lease_until, record.last_error, record.dispatch_count })
    assert.same({ "schedule dispatch failed", { schedule_id = id } }, { logged[1][1], logged[1][2] })
    for i = 0, 620 do turn(START + 10 + i / 10) end
    assert.equal(6, #logged) -- at 0, 1, 3, 7, 15, 31; next at 63
    app.store.jobs.publish = publish
    turn(START + 74)
    assert.same({ json.null, 1 }, { get(id).last_error, get(id).dispatch_count })
    assert.equal(1, #snapshots())
  end)

  it("says where a document is wrong that another gateway has taken", function()
    local id = schedule { workflow_yaml = "version: 1\nflow:\n  graph: a >> nobody\ntasks:\n  a: {callable: m:f}\n" }
    turn(START + 10)
    assert.truthy(get(id).last_error:find("^invalid: invalid workflow yaml %(line 3:%d+: .*nobody"),
      get(id).last_error)
    assert.same({}, snapshots())
  end)

  it("passes over records that are none", function()
    for i, record in ipairs { {}, { status = "ACTIVE" }, { status = "ACTIVE", next_run_at = "soon" },
      { status = "PAUSED", next_run_at = START } } do
      assert(app.store.schedules.kv:put("odd" .. i, assert(json.encode(record))))
    end
    assert(app.store.schedules.kv:put("odd", "[1]"))
    assert(app.store.schedules.kv:put("worse", '{"status":"ACTIVE","next_run_at":1.5,"workflow_yaml":7}'))
    local id = schedule()
    turn(START + 10)
    assert.equal(1, get(id).dispatch_count)
    assert.equal(1, #snapshots())
  end)

  it("forgets what is deleted, also while its run is started", function()
    local first, second = schedule(), schedule()
    turn(START)
    assert(app.store.schedules:delete(first))
    local create = app.store.runs.create_raw
    app.store.runs.create_raw = function(...)
      assert(app.store.schedules:delete(second))
      return create(...)
    end
    turn(START + 10)
    assert.equal(1, #snapshots())
    turn(START + 30)
    assert.same({ {}, 1 }, { app.store.schedules:list(), #snapshots() })
    assert.is_nil(state.agenda:first())
  end)

  it("dispatches many in the order of their times, some of them at each turn", function()
    local ids = {}
    for i = 1, 50 do ids[i] = schedule { schedule_type = "once", next_run_at = START + (i * 7) % 50 + 1 } end
    turn(START + 100)
    local last
    for i, message in ipairs(app.store.messages) do
      local at
      for k, id in ipairs(ids) do
        if json.decode(message.data).schedule_id == id then at = (k * 7) % 50 end
      end
      assert.is_true(i == 1 or at > last)
      last = at
    end
    assert.equal(50, #app.store.messages)
  end)

  it("sleeps until the next is due", function()
    assert.equal(1, turn())
    schedule { next_run_at = START + 0.25 }
    assert.equal(0.25, turn())
  end)

  it("rests while another gateway holds the lease", function()
    schedule()
    local duty = scheduler.duty()
    now = START + 10
    shared.set("lease.until", 0)
    assert.equal(0.5, duty(app))
    assert.same({}, app.store.messages)
    shared.set("lease.until", math.huge)
    duty(app)
    assert.equal(1, #app.store.messages)
  end)

  it("derives a run's id from schedule and time", function()
    local id = scheduler.run_id("s1", 1.5)
    assert.truthy(id:find "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-8%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$", id)
    assert.equal(id, scheduler.run_id("s1", 1.5))
    assert.not_equal(id, scheduler.run_id("s1", 1.6))
    assert.not_equal(id, scheduler.run_id("s2", 1.5))
  end)
end)
