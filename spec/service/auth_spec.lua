--- Who calls: keys, their records, what is refused and with which words; on a memory store.
local json = require "host.json"
local shared = require "host.shared"
local address = require "pyoco.http.address"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"
local keys = require "pyoco.service.keys"
local response = require "pyoco.http.response"
local make_key = require("spec.support.keys").make

describe("api keys", function()
  local app, lines

  --- An app that asks for keys, and forgets what earlier ones have learned.
  local function open(settings)
    for _, name in ipairs(shared.keys "auth.") do shared.delete(name) end
    local all = { http_auth_mode = "api_key" }
    for name, value in pairs(settings or {}) do all[name] = value end
    app, lines = gateway_app.new(all), {}
    app.log = require("pyoco.log").new { service = "pyoco-server:http", logger = "pyoco_server.http_api",
      sink = function(line) lines[#lines + 1] = json.decode(line) end }
  end

  before_each(function() open() end)

  local function ask(key, opts)
    local request = { path = "/runs/none", headers = { ["X-API-Key"] = key } }
    for name, value in pairs(opts or {}) do request[name] = value end
    return app:simulate(request)
  end

  --- Refused as the contract says, and logged once with the reason.
  local function refused(key, reason, key_id)
    lines = {}
    local answer = ask(key)
    assert.same({ 403, { detail = "invalid api key" } }, { answer.status, answer.json })
    local line = table.remove(lines)
    assert.same({ "auth failed: " .. reason, "ERR-PYOCO-0015", "INFO", key_id },
      { line.message, line.err_id, line.level, line.api_key_id })
    assert.is_nil(line.exc_type)
    assert.equal(0, #lines)
  end

  it("must be there", function()
    for _, key in ipairs { false, "" } do
      local answer = ask(key or nil)
      assert.same({ 401, { detail = "api key required" } }, { answer.status, answer.json })
      assert.same({ "auth failed: missing api key", "ERR-PYOCO-0014", "MSG-PYOCO-0014", "INFO" },
        { lines[1].message, lines[1].err_id, lines[1].msg_id, lines[1].level })
      lines = {}
    end
  end)

  it("made by the reference are right here", function()
    local recorded = fixture "api-key"
    assert(app.store.keys:create(recorded.record))
    assert.equal(404, ask(recorded.created.api_key).status)
    assert.equal(404, ask(recorded.created.api_key).status)
    refused(recorded.created.api_key:sub(1, -2) .. "x", "api key mismatch/revoked", recorded.record.key_id)
  end)

  it("made by us are right, and their records are as the reference writes them", function()
    local made = assert(keys.create(app, "demo"))
    local recorded = fixture "api-key"
    local bytes = app.store.keys:get_raw(made.key_id)
    local order, ours = {}, {}
    for name in json.encode(recorded.record):gmatch '"([%w_]+)":' do order[#order + 1] = name end
    for name in bytes:gmatch '"([%w_]+)":' do ours[#ours + 1] = name end
    table.sort(order)
    assert.equal("key_id tenant_id kdf iterations salt_b64 hash_b64 created_at revoked_at", table.concat(ours, " "))
    table.sort(ours)
    assert.same(order, ours)
    local record = json.decode(bytes)
    for name, value in pairs(recorded.record) do
      assert.equal(type(value), type(record[name]), name)
      if type(value) == "string" then assert.equal(#value, #record[name], name) end
    end
    assert.same({ "pbkdf2_hmac_sha256", 200000, json.null }, { record.kdf, record.iterations, record.revoked_at })
    assert.equal(made.key_id, made.api_key:match "^pyoco_(%x+)%.[%w_-]+$")
    assert.equal(24, #made.key_id)
    assert.equal(#recorded.created.api_key, #made.api_key)
    assert.equal(404, ask(made.api_key).status)
  end)

  it("of a wrong form are refused before anything is looked up", function()
    app.store.keys.get_raw = error
    for _, key in ipairs { "x", "pyoco_abcdefgh", "pyoco_abcdefg.0123456789abcdef", "pyoco_abcdefgh.0123456789abcde",
      "pyoco_abcdefgh.0123456789abcdef.", "pyoco_abc!efgh.0123456789abcdef", "abcdefgh.0123456789abcdef",
      "pyoco_" .. ("a"):rep(65) .. ".0123456789abcdef", "pyoco_abcdefgh." .. ("a"):rep(257) } do
      refused(key, "invalid api key format")
    end
  end)

  it("of an unknown id cost no PBKDF2, nor does one that was wrong a moment ago", function()
    refused("pyoco_abcdefgh.0123456789abcdef", "unknown api key", "abcdefgh")
    local key, key_id = make_key(app.store)
    local wrong = key:sub(1, -2) .. (key:sub(-1) == "x" and "y" or "x")
    local request = { method = "GET", raw_path = "/runs/none", path = "/runs/none", query_string = "", body = "",
      headers = { ["x-api-key"] = wrong }, remote_addr = "127.0.0.1" }
    assert.truthy(app:handle(request).derive)
    refused(wrong, "api key mismatch/revoked", key_id)
    assert.equal(403, app:handle(request).status)
  end)

  it("are verified once, and once more when their record changes", function()
    local key, key_id = make_key(app.store)
    local function handle()
      return app:handle { method = "GET", raw_path = "/runs/none", path = "/runs/none", query_string = "", body = "",
        headers = { ["x-api-key"] = key }, remote_addr = "127.0.0.1" }
    end
    local wanted = handle().derive
    assert.same({ 10, "salt" }, { wanted.iterations, wanted.salt })
    assert.equal(404, ask(key).status)
    assert.equal(404, handle().status)
    local record = json.decode((app.store.keys:get_raw(key_id)))
    record.note = "edited"
    app.store.keys.kv:put("api_keys." .. key_id, json.encode(record))
    assert.truthy(handle().derive)
  end)

  it("are useless once revoked, at once", function()
    local key, key_id = make_key(app.store)
    assert.equal(404, ask(key).status)
    local first = assert(keys.revoke(app, key_id))
    refused(key, "api key mismatch/revoked", key_id)
    assert.is_true(assert(keys.revoke(app, key_id)).revoked_at >= first.revoked_at)
    assert.equal("not_found", select(3, keys.revoke(app, "other")))
    assert.equal("not_found", select(3, keys.revoke(app, "no key.")))
  end)

  it("with a record that cannot be used are refused", function()
    local faults = { { kdf = "scrypt" }, { iterations = 0 }, { iterations = 1.5 }, { iterations = 10000001 },
      { tenant_id = "a b" }, { tenant_id = json.null }, { salt_b64 = "*" }, { salt_b64 = "" }, { hash_b64 = "QUFB" },
      { hash_b64 = 7 }, { key_id = "another-id" } }
    for _, fault in ipairs(faults) do
      local rounds = fault.iterations
      fault.iterations = nil
      local key, key_id = make_key(app.store, fault)
      if rounds then
        local record = json.decode((app.store.keys:get_raw(key_id)))
        record.iterations = rounds
        app.store.keys.kv:put("api_keys." .. key_id, json.encode(record))
      end
      local stored_id = fault.key_id and key:match("^pyoco_(.-)%.") or key_id
      refused(key, "corrupt api key record", stored_id)
      shared.delete "auth.failures.127.0.0.1"
    end
    local key, key_id = make_key(app.store)
    for _, bytes in ipairs { "", "{", "[]", "7" } do
      app.store.keys.kv:put("api_keys." .. key_id, bytes)
      refused(key, "corrupt api key record", key_id)
    end
  end)

  it("fit only with the pepper that they were made with", function()
    open { auth_pepper = "pfeffer" }
    local plain, plain_id = make_key(app.store)
    local peppered = make_key(app.store, { pepper = "pfeffer" })
    refused(plain, "api key mismatch/revoked", plain_id)
    assert.equal(404, ask(peppered).status)
    assert.equal(404, ask(assert(keys.create(app, "t")).api_key).status)
  end)

  it("cannot be looked up while NATS does not answer: 503", function()
    local key = make_key(app.store)
    app.store.keys.get_raw = function() return nil, "TimeoutError", "timeout" end
    local answer = ask(key)
    assert.same({ 503, { detail = "nats unavailable: TimeoutError" } }, { answer.status, answer.json })
    assert.same({ "auth failed: nats unavailable", "ERR-PYOCO-0003", "ERROR", "TimeoutError" },
      { lines[1].message, lines[1].err_id, lines[1].level, lines[1].exc_message })
  end)

  it("come in the header that the configuration names", function()
    open { api_key_header = "X-Mine" }
    local key = make_key(app.store)
    assert.equal(401, ask(key).status)
    assert.equal(404, ask(nil, { headers = { ["X-Mine"] = key } }).status)
  end)

  it("are asked for after the shape of the request, and not where all may look", function()
    assert.equal(422, app:simulate({ path = "/runs", json = {} }).status)
    assert.equal(401, app:simulate({ path = "/runs?cursor=%25" }).status)
    assert.equal(401, app:simulate({ path = "/workers" }).status)
    assert.equal(401, app:simulate({ path = "/metrics" }).status)
    assert.equal(200, app:simulate({ path = "/" }).status)
    open { metrics_public = true }
    app:replace("metrics", function() return response.text "counts" end)
    assert.equal(200, app:simulate({ path = "/metrics" }).status)
    assert.equal(401, app:simulate({ path = "/workers" }).status)
  end)

  it("make calls from other sites harmless: those are let in", function()
    local key = make_key(app.store)
    local opts = { json = { flow_name = "f" }, path = "/runs",
      headers = { origin = "http://other", ["X-API-Key"] = key } }
    assert.equal(200, app:simulate(opts).status)
    opts.headers["X-API-Key"] = nil
    assert.equal(401, app:simulate(opts).status)
    open { http_auth_mode = "none" }
    assert.equal(403, app:simulate(opts).status)
  end)

  it("stand in what their holder submits", function()
    local key, key_id = make_key(app.store, { tenant_id = "acme" })
    local answer = app:simulate { path = "/runs", json = { flow_name = "f" }, headers = { ["X-API-Key"] = key } }
    local snapshot = app.store.runs:get(answer.json.run_id)
    assert.same({ "acme", key_id }, { snapshot.tenant_id, snapshot.api_key_id })
    local job = json.decode(app.store.messages[1].data)
    assert.same({ "acme", key_id }, { job.tenant_id, job.api_key_id })
    answer = app:simulate { method = "POST", path = ("/runs/%s/cancel"):format(answer.json.run_id),
      headers = { ["X-API-Key"] = key } }
    assert.equal("api_key:" .. key_id, answer.json.cancel_requested_by)
  end)

  describe("that are wrong", function()
    local function try(n, opts)
      local answer
      for _ = 1, n do answer = ask("pyoco_abcdefgh.0123456789abcdef", opts) end
      return answer
    end

    it("are limited for each address; those known to be right pass", function()
      open { auth_failures_max = 3 }
      local known, fresh = make_key(app.store), make_key(app.store)
      assert.equal(404, ask(known).status)
      assert.equal(403, try(3).status)
      local answer = try(1)
      assert.same({ 429, { detail = "too many wrong api keys" } }, { answer.status, answer.json })
      local seconds = tonumber(answer.headers["retry-after"])
      assert.is_true(seconds >= 1 and seconds <= 60)
      assert.equal(429, ask(fresh).status)
      assert.equal(429, ask("nonsense").status)
      assert.equal(404, ask(known).status)
      assert.equal(404, ask(fresh, { remote_addr = "10.1.2.3" }).status)
      assert.equal(401, ask(nil).status)
      local limits = 0
      for _, line in ipairs(lines) do limits = limits + (line.message:find("^auth limited") and 1 or 0) end
      assert.equal(1, limits)
    end)

    it("count for the address that a trusted proxy names, and for no other's word", function()
      open { auth_failures_max = 2 }
      local function from(forwarded)
        return { headers = { ["X-API-Key"] = "x", ["x-forwarded-for"] = forwarded } }
      end
      for i = 1, 2 do assert.equal(403, try(1, from("9.9.9." .. i)).status) end
      assert.equal(429, try(1).status)
      open { auth_failures_max = 2, http_trusted_proxies = { "127.0.0.0/8" } }
      for i = 1, 5 do assert.equal(403, try(1, from("9.9.9." .. i)).status) end
      assert.equal(403, try(2, from "1.1.1.1, 8.8.8.8").status)
      assert.equal(429, try(1, from "2.2.2.2, 8.8.8.8").status)
    end)
  end)
end)

describe("the address of a request", function()
  local function of(forwarded, trusted, peer)
    return address.of({ remote_addr = peer or "10.0.0.1", headers = { ["x-forwarded-for"] = forwarded } }, trusted)
  end

  it("is the peer's unless that is a trusted proxy", function()
    assert.equal("10.0.0.1", of("1.2.3.4", nil))
    assert.equal("10.0.0.1", of("1.2.3.4", { "10.0.1.0/24" }))
    assert.equal("10.0.0.1", of(nil, { "10.0.0.0/8" }))
    assert.equal("::1", of("1.2.3.4", { "10.0.0.0/8" }, "::1"))
  end)

  it("is the last one that no trusted proxy has", function()
    local trusted = { "10.0.0.0/8", "192.168.1.1/32" }
    assert.equal("1.2.3.4", of("1.2.3.4", trusted))
    assert.equal("1.2.3.4", of("6.6.6.6, 1.2.3.4, 192.168.1.1,10.9.9.9", trusted))
    assert.equal("192.168.1.2", of("1.2.3.4, 192.168.1.2", trusted))
    assert.equal("10.0.0.7", of("10.0.0.7", trusted))
    assert.equal("2001:db8::1", of("1.2.3.4, 2001:db8::1", trusted))
    assert.equal("10.0.0.1", of(("x"):rep(65), trusted))
  end)
end)
