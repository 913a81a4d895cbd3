--- Routes of schedules on a memory store: the contract's checks in their order, the record, who sees it.
local json = require "host.json"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"

local NOW = 1795327450.2792172
local ID = "^%x+%-%x+%-4%x+%-%x+%-%x+$"

describe("routes.schedules", function()
  local app, document

  before_each(function()
    app = gateway_app.new()
    app.store.now = function() return NOW end
    document = fixture "schedule-interval".workflow_yaml
  end)

  local function post(fields, text)
    local all = { flow_name = "a", tag = "nobody" }
    for name, value in pairs(fields) do all[name] = value end
    return app:simulate { path = "/schedules/yaml", form = gateway_app.form(text or document, all) }
  end

  local function made(fields)
    local answer = post(fields)
    assert.equal(200, answer.status, answer.body)
    return answer.json
  end

  --- The bytes of the record.
  local function stored(id) return (app.store.schedules.kv:get(id)) end

  local function with_id(recorded, id)
    recorded.schedule_id = id
    return recorded
  end

  it("makes an interval exactly as recorded", function()
    local got = made { interval_seconds = "3600", start_at = "2020-01-01T00:00:00Z" }
    assert.truthy(got.schedule_id:find(ID))
    assert.same(with_id(fixture "http-schedule-interval", got.schedule_id), got)
    local recorded = with_id(fixture "schedule-interval", got.schedule_id)
    assert.same(recorded, json.decode(stored(got.schedule_id)))
    local order = {}
    for key in stored(got.schedule_id):gmatch '"([%w_]+)":' do
      if recorded[key] ~= nil then order[#order + 1] = key end
    end
    assert.equal("schedule_id flow_name tag status schedule_type workflow_yaml workflow_yaml_sha256 "
      .. "workflow_yaml_bytes params "
      .. "tenant_id api_key_id created_at updated_at last_submitted_at last_run_id dispatch_count last_error "
      .. "lease_until run_at interval_seconds start_at next_run_at", table.concat(order, " "))
  end)

  it("takes the document as the body, too", function()
    local answer = app:simulate { path = "/schedules/yaml?flow_name=a&interval_seconds=60", body = document,
      headers = { ["content-type"] = "application/yaml" } }
    assert.equal(200, answer.status, answer.body)
    assert.same({ "a", 60.0 }, { answer.json.flow_name, answer.json.interval_seconds })
  end)

  it("makes one that runs once exactly as recorded", function()
    local got = made { run_at = "2099-01-01T00:00:00+00:00" }
    local recorded = with_id(fixture "schedule-once", got.schedule_id)
    recorded.created_at, recorded.updated_at = NOW, NOW
    assert.same(recorded, json.decode(stored(got.schedule_id)))
  end)

  it("starts an interval after itself, lays params over the defaults, takes the default tag", function()
    local got = made { interval_seconds = "0.5", params = '{"y": 2}', tag = " " }
    assert.same({ NOW + 0.5, NOW + 0.5, "default" }, { got.start_at, got.next_run_at, got.tag })
    assert.same({ x = 1, y = 2 }, json.decode(stored(got.schedule_id)).params)
    got = made { interval_seconds = "60", start_at = "2099-01-01T00:00:00Z" }
    assert.same({ 4070908800.0, 4070908800.0 }, { got.start_at, got.next_run_at })
  end)

  local YEAR_1999 = "1999-01-01T00:00:00Z"

  for _, case in ipairs {
    { "invalid tag", { tag = "a b", flow_name = " " }, "no yaml: [" },
    { "workflow too large", { flow_name = " " }, ("#"):rep(262145), 413 },
    { "invalid workflow yaml", { flow_name = " " }, "no yaml: [" },
    { "missing flow_name", { flow_name = " " } },
    { "specify either run_at or interval_seconds", { start_at = "x" } },
    { "specify either run_at or interval_seconds", { run_at = "x", interval_seconds = "1" } },
    { "specify either run_at or interval_seconds", { run_at = "  " } },
    { "start_at is only valid with interval_seconds", { run_at = "x", start_at = "x" } },
    { "run_at must be ISO 8601 datetime", { run_at = "soon" } },
    { "run_at must include timezone offset", { run_at = "1999-01-01T00:00:00" } },
    { "run_at must be in the future", { run_at = YEAR_1999 } },
    { "interval_seconds must be positive", { interval_seconds = "0", start_at = "x" } },
    { "interval_seconds must be positive", { interval_seconds = "-1" } },
    { "start_at must be ISO 8601 datetime", { interval_seconds = "1", start_at = "soon" } },
    { "start_at must include timezone offset", { interval_seconds = "1", start_at = "2030-01-01" } },
  } do
    it(("refuses: %s (%s)"):format(case[1], json.encode(case[2], { sort = true })), function()
      local answer = post(case[2], case[3])
      assert.same({ case[4] or 422, case[1] }, { answer.status, answer.json.detail })
      assert.same({}, app.store.schedules:list())
      assert.same({}, app.store.documents.kv:entries())
    end)
  end

  it("takes blank times for none", function()
    assert.equal("interval", post({ run_at = " ", interval_seconds = "3600", start_at = " " }).json.schedule_type)
    assert.equal("once", post({ run_at = "2099-01-01T00:00:00Z", start_at = " " }).json.schedule_type)
  end)

  it("names the field of what does not fit its form", function()
    for value, kind in pairs { nan = "float_parsing", inf = "float_parsing", ["1e999"] = "finite_number",
      often = "float_parsing" } do
      local answer = post { interval_seconds = value }
      assert.equal(422, answer.status)
      assert.same({ kind, { "body", "interval_seconds" } }, { answer.json.detail[1].type, answer.json.detail[1].loc })
    end
    assert.equal("missing", app:simulate { path = "/schedules/yaml", form = { {}, {} } }.json.detail[1].type)
    assert.equal(422, post({ interval_seconds = "1", params = "[1]" }).status)
    assert.same({}, app.store.schedules:list())
  end)

  it("lists those that run first, then those that are done", function()
    assert.equal("[]", app:simulate { path = "/schedules" }.body)
    local ids = {}
    for i, at in ipairs { "2098", "2097", "2099" } do
      ids[i] = made({ run_at = at .. "-01-01T00:00:00Z" }).schedule_id
    end
    local record, revision = app.store.schedules:get(ids[2])
    record.status, record.next_run_at = "COMPLETED", json.null
    assert(app.store.schedules:update(record, revision))
    assert(app.store.schedules.kv:put("broken", "no json"))
    local got = {}
    for i, one in ipairs(app:simulate { path = "/schedules" }.json) do
      got[i] = one.schedule_id
      assert.is_nil(one.workflow_yaml or one.params or one.lease_until)
    end
    assert.same({ ids[1], ids[3], ids[2] }, got)
  end)

  it("removes one, once", function()
    local id = made({ interval_seconds = "1" }).schedule_id
    local path = "/schedules/" .. id
    assert.same({ schedule_id = id, deleted = true }, app:simulate({ method = "DELETE", path = path }).json)
    local again = app:simulate { method = "DELETE", path = path }
    assert.same({ 404, "schedule not found" }, { again.status, again.json.detail })
    assert.equal(404, app:simulate({ path = path .. "/runs" }).status)
    assert.equal(404, app:simulate({ method = "DELETE", path = "/schedules/a%20b" }).status)
    assert.equal(422, app:simulate({ path = path .. "/runs?limit=201" }).status)
  end)

  it("hides a tenant's schedules from another, in every way", function()
    local caller
    app:authenticate(function(_, req)
      req.caller = caller
      return true
    end)
    caller = { tenant_id = "t1", api_key_id = "k1" }
    local id = made({ interval_seconds = "1" }).schedule_id
    assert.same({ "t1", "k1" }, { app.store.schedules:get(id).tenant_id, app.store.schedules:get(id).api_key_id })
    caller = { tenant_id = "t2", api_key_id = "k2" }
    assert.same({}, app:simulate({ path = "/schedules" }).json)
    assert.equal(404, app:simulate({ method = "DELETE", path = "/schedules/" .. id }).status)
    assert.equal(404, app:simulate({ path = "/schedules/" .. id .. "/runs" }).status)
    assert.truthy(app.store.schedules:get(id))
    caller = { tenant_id = "t1", api_key_id = "k9" }
    assert.equal(1, #app:simulate({ path = "/schedules" }).json)
  end)

  it("is 503 when the store cannot be reached, and keeps nothing", function()
    app.store.schedules.kv = setmetatable({}, { __index = function()
      return function() return nil, "no answer", "timeout" end
    end })
    local answer = post { interval_seconds = "1" }
    assert.same({ 503, "nats unavailable: TimeoutError" }, { answer.status, answer.json.detail })
    assert.equal(503, app:simulate({ path = "/schedules" }).status)
    assert.equal(503, app:simulate({ method = "DELETE", path = "/schedules/x" }).status)
  end)
end)
