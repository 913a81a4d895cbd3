--- GET /workers on a memory store.
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"

describe("routes.workers", function()
  local app

  local function ids(query)
    local answer = app:simulate { path = "/workers" .. (query or "") }
    assert.equal(200, answer.status, answer.body)
    local list = {}
    for i, record in ipairs(answer.json) do list[i] = record.worker_id .. " " .. record.state end
    return list
  end

  before_each(function()
    app = gateway_app.new()
    local function put(id, state, seen, more)
      local record = { worker_id = id, state = state, last_seen_at = seen, tags = { "cpu", " " } }
      for key, value in pairs(more or {}) do record[key] = value end
      app.store.workers:put(record)
    end
    put("idle", "IDLE", 3.5)
    put("busy", "RUNNING", 2.5)
    put("hidden", "IDLE", 9.5, { hidden = true })
    put("stopped", "STOPPED_GRACEFUL", 1.5)
    put("odd", "SLEEPY", 0.5)
  end)

  it("lists active ones, last seen first", function()
    assert.same({ "idle IDLE", "busy RUNNING", "odd IDLE" }, ids())
    assert.same({ "hidden IDLE", "idle IDLE", "busy RUNNING", "odd IDLE" }, ids "?include_hidden=true")
    assert.same({ "idle IDLE" }, ids "?limit=1")
    assert.same({ "busy RUNNING" }, ids "?state=running")
    assert.same({ "stopped STOPPED_GRACEFUL" }, ids "?scope=ALL&state=stopped_graceful")
  end)

  it("is empty on an empty bucket", function()
    app = gateway_app.new()
    assert.equal("[]", app:simulate { path = "/workers" }.body)
  end)

  it("shows a silent worker as DISCONNECTED, by the server's clock", function()
    local now = app.store:now()
    app.store.now = function() return now + 21 end
    assert.same({}, ids())
    assert.same({ "idle DISCONNECTED", "busy DISCONNECTED", "stopped STOPPED_GRACEFUL", "odd DISCONNECTED" },
      ids "?scope=all")
    app.config.worker_disconnect_timeout_sec = 0
    assert.same({ "idle IDLE", "busy RUNNING", "odd IDLE" }, ids())
  end)

  it("has every field of the contract", function()
    local record = app:simulate { path = "/workers" }.json[1]
    for key in pairs(fixture "worker-record") do assert.is_not_nil(record[key], key) end
    assert.same({ "cpu" }, record.tags)
  end)

  it("fills in what other programs left out", function()
    app.store.workers.kv:put("old", '{"state":"running","heartbeat_at":7.5,"tags":["a",5," "]}')
    local record = app:simulate { path = "/workers?state=running" }.json[1]
    assert.same({ "old", "old", "RUNNING", 7.5, 7.5, 7.5, { "a", "5" } }, { record.worker_id, record.instance_id,
      record.state, record.heartbeat_at, record.last_heartbeat_at, record.last_seen_at, record.tags })
  end)

  it("takes blank filters for none", function()
    assert.same(ids(), ids "?scope=&state=%20")
    assert.same(ids "?scope=all&state=idle", ids "?scope=%20all&state=idle%20")
  end)

  it("refuses other scopes, states and limits", function()
    for _, query in ipairs { "?scope=some", "?state=asleep" } do
      local answer = app:simulate { path = "/workers" .. query }
      assert.same({ 422, "invalid workers request" }, { answer.status, answer.json.detail })
    end
    assert.equal("less_than_equal", app:simulate { path = "/workers?limit=501" }.json.detail[1].type)
  end)

  describe("PATCH /workers/{id}", function()
    local function patch(id, body)
      return app:simulate { method = "PATCH", path = "/workers/" .. id, json = body }
    end

    it("hides and shows, and keeps all else of the record", function()
      local before = app.store.workers:get "busy"
      local answer = patch("busy", { hidden = true })
      assert.equal(200, answer.status, answer.body)
      assert.equal("busy", answer.json.worker_id)
      assert.is_true(answer.json.hidden)
      assert.is_number(answer.json.updated_at)
      assert.same({ "idle IDLE", "odd IDLE" }, ids())
      local after = app.store.workers:get "busy"
      for key, value in pairs(before) do assert.same(value, after[key]) end
      patch("busy", { hidden = false })
      assert.same({ "idle IDLE", "busy RUNNING", "odd IDLE" }, ids())
    end)

    it("does not make a silent worker look alive", function()
      local now = app.store:now()
      app.store.now = function() return now + 21 end
      patch("busy", { hidden = false })
      assert.equal("busy DISCONNECTED", ids "?scope=all"[2])
    end)

    it("is written over a worker's write that came between", function()
      local update, first = app.store.workers.update, true
      app.store.workers.update = function(self, record, revision)
        if first then
          first = false
          local fresh = self:get "busy"
          fresh.current_run_id = "r9"
          self:put(fresh)
        end
        return update(self, record, revision)
      end
      assert.equal(200, patch("busy", { hidden = true }).status)
      assert.equal("r9", (app.store.workers:get "busy").current_run_id)
    end)

    it("answers 404 for no worker and 422 for no boolean, and changes nothing", function()
      local answer = patch("nobody", { hidden = true })
      assert.equal(404, answer.status)
      assert.equal("worker not found", answer.json.detail)
      local before = app.store.workers:get "busy"
      for _, body in ipairs { {}, { hidden = "perhaps" }, { hidden = require("host.json").null } } do
        assert.equal(422, patch("busy", body).status)
      end
      assert.same(before, (app.store.workers:get "busy"))
      assert.is_nil(app.store.workers:get "nobody")
    end)
  end)

  it("forgets workers that were silent for the retention time, and only those", function()
    local worker = require "pyoco.service.worker"
    app.config.workers_retention_sec = 100
    local now = app.store:now()
    app.store.now = function() return now + 101 end
    app.store.workers:put { worker_id = "back", state = "IDLE", seen_at = now + 100 }
    worker.remove_forgotten(app)
    local left = app.store.workers:list()
    assert.equal(1, #left)
    assert.equal("back", left[1].key)
  end)
end)
