--- Our gateway beside programs that write snapshots without reading them, as the reference does.
local http = require "host.http"
local json = require "host.json"
local uv = require "luv"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local runs = require "spec.support.runs"

describe("beside a blind writer", function()
  local it_has

  setup(function()
    it_has = runs.start()
    it_has.gateway:wait("/health", function(got)
      return type(got.json.leader) == "table" and got.json.leader.here and got.json.warming == false
    end, "the gateway to lead")
  end)
  teardown(function() it_has:stop() end)
  after_each(function() http.close() end)

  --- A snapshot as a reference worker writes it.
  local function recorded(run_id, fields)
    local value = fixture "snapshot-completed-yaml"
    value.run_id, value.status, value.end_time = run_id, "RUNNING", json.null
    for name, field in pairs(fields or {}) do value[name] = field end
    return value
  end

  local function put(value)
    return assert(it_has.store.runs.kv:put(value.run_id, assert(json.encode(value, { ascii = true }))))
  end

  local function get(run_id)
    local value, revision = it_has.store.runs:get(run_id)
    return value, revision
  end

  --- Writes what the gateway has seen before the next write: KV keeps one version, so another at once would hide it.
  local function put_seen(value)
    put(value)
    it_has.gateway:wait("/runs?status=" .. value.status, function(got)
      for _, item in ipairs(got.json) do
        if item.run_id == value.run_id then return item.updated_at == value.updated_at end
      end
    end, value.run_id .. " to be listed")
  end

  local function cancel(run_id)
    local answer = it_has.gateway:fetch(("/runs/%s/cancel"):format(run_id), { method = "POST" })
    assert.equal(200, answer.status)
    return answer.json
  end

  --- Turns the loop until the run is as wanted.
  local function wait(run_id, fits, what)
    local last
    local ok = pcall(process.wait_for, function()
      last = get(run_id)
      return fits(last)
    end, 10000)
    if not ok then error(("gave up waiting for %s: %s"):format(what, json.encode(last or json.null)), 2) end
    return last
  end

  it("a cancel stays, whatever is written over it, until the run has ended", function()
    local beat = 0
    put(recorded "r1")
    local asked_at = cancel("r1").cancel_requested_at
    -- a worker that writes blindly every 50 ms, and looks for a cancel at every fourth write as at a heartbeat
    local noticed, timer = false, uv.new_timer()
    timer:start(50, 50, function()
      beat = beat + 1
      if beat > 20 and beat % 4 == 0 then
        local found = get "r1"
        noticed = noticed or found.cancel_requested_at ~= json.null or found.status == "CANCELLING"
      end
      if not noticed then put(recorded("r1", { heartbeat_at = beat + 0.5, updated_at = beat + 0.5 })) end
    end)
    for _ = 1, 5 do -- each time it is overwritten it comes back, as it was
      local seen = beat
      local found = wait("r1", function(it) return beat > seen and it.status == "CANCELLING" end, "the cancel")
      assert.equal(asked_at, found.cancel_requested_at)
      assert.is_true(noticed or found.heartbeat_at > 0.5)
    end
    process.wait_for(function() return noticed end, 10000, "the worker to notice the cancel")
    timer:close()
    uv.run "nowait"
    put(recorded("r1", { status = "CANCELLED", cancel_requested_at = asked_at }))
    assert.equal("CANCELLED", get("r1").status)
  end)

  it("a cancel stays that is overwritten at once", function()
    put(recorded "r7")
    local asked_at = cancel("r7").cancel_requested_at
    put(recorded("r7", { heartbeat_at = 1.5 })) -- the tail may never see what was between
    put(recorded("r7", { heartbeat_at = 2.5 }))
    local found = wait("r7", function(it) return it.status == "CANCELLING" end, "the cancel")
    assert.equal(asked_at, found.cancel_requested_at)
  end)

  it("who has cancelled is told again too", function()
    put_seen(recorded("r2", { status = "CANCELLING", cancel_requested_at = 12.5, cancel_requested_by = "api_key:k1" }))
    put(recorded "r2")
    local found = wait("r2", function(it) return it.status == "CANCELLING" end, "the cancel")
    assert.same({ 12.5, "api_key:k1" }, { found.cancel_requested_at, found.cancel_requested_by })
  end)

  it("a run that has ended stays so", function()
    local ended = recorded("r3", { status = "COMPLETED", end_time = 5.5 })
    put_seen(ended)
    for _, fields in ipairs {
      { status = "CANCELLING", cancel_requested_at = 7.5 }, -- a reference gateway that had read it before its end
      { status = "RUNNING", heartbeat_at = 9.5 },           -- a late heartbeat
    } do
      put(recorded("r3", fields))
      assert.same(ended, wait("r3", function(it) return it.status == "COMPLETED" end, "its end"))
    end
    local again = recorded("r3", { status = "FAILED", end_time = 8.5, updated_at = 8.5 }) -- run again, to another end
    put_seen(again)
    put(recorded("r3", { status = "CANCELLING", cancel_requested_at = 10.5 }))
    assert.same(again, wait("r3", function(it) return it.status == "FAILED" end, "its new end"))
  end)

  it("is told of by metrics", function()
    local text = it_has.gateway:fetch("/metrics").body
    assert.truthy(text:find("\npyoco_leader 1\n", 1, true), text)
    assert.truthy(text:find('\npyoco_mended_total{what="cancel_again"} %d+\n'), text)
    assert.truthy(text:find('\npyoco_mended_total{what="end_again"} %d+\n'), text)
  end)

  it("leaves runs alone that nobody has cancelled, and those that are deleted", function()
    put(recorded("r4", { cancel_requested_at = 1.5 }))
    assert(it_has.store.runs:delete("r4"))
    local revision = put(recorded "r4")
    put_seen(recorded("r5", { status = "CANCELLING", cancel_requested_at = 1.5 }))
    put(recorded "r5")
    wait("r5", function(it) return it.status == "CANCELLING" end, "the cancel of another run")
    assert.same({ "RUNNING", revision }, { get("r4").status, select(2, get("r4")) })
  end)

  it("mends after an outage what was written before it", function()
    put_seen(recorded("r6", { status = "CANCELLING", cancel_requested_at = 1.5 }))
    it_has.server:restart()
    it_has.store:close()
    it_has:connect()
    put(recorded "r6")
    wait("r6", function(it) return it.status == "CANCELLING" end, "the cancel")
  end)
end)
