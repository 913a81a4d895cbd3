--- The registry of wheels on a memory store: answers, order of checks, history.
local crypto = require "host.crypto"
local json = require "host.json"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"
local tmp = require "spec.support.tmp"
local service = require "pyoco.service.wheel"
local builder = require "pyoco.wheel.build"

local NAME = "demo_ext-0.1.0-py3-none-any.whl"

describe("routes.wheels", function()
  local app

  before_each(function() app = gateway_app.new() end)

  local function upload(name, opts)
    opts = opts or {}
    return app:simulate { path = "/wheels", headers = opts.headers, form = { opts.fields or {}, {
      { name = "wheel", filename = name, content_type = "application/octet-stream", data = opts.data or "bytes" } } } }
  end

  local function names()
    local list = {}
    for i, wheel in ipairs(app:simulate({ path = "/wheels" }).json) do list[i] = wheel.name end
    return list
  end

  --- Everything that is stored, to see that nothing changed.
  local function state()
    return assert(json.encode({ app.store.wheels:list(), app.store.wheel_history:list() }, { sort = true }))
  end

  local function detail(answer) return { answer.status, answer.json.detail } end

  it("answers as the reference does, and with the specification's fields", function()
    local bytes = ("w"):rep(1151)
    local answer = upload(NAME, { data = bytes, fields = { { "replace", "true" }, { "tags", " hello,cpu,,hello " } } })
    assert.equal(200, answer.status, answer.body)
    local recorded = fixture "http-wheel-upload"
    for key, value in pairs(recorded) do assert.equal(type(value), type(answer.json[key]), key) end
    assert.same({ "hello", "cpu" }, answer.json.tags)
    assert.equal(crypto.sha256(bytes), answer.json.sha256_hex)
    assert.equal("SHA-256=" .. answer.json.sha256_b64, answer.json.digest)
    assert.equal("pyoco_wheels", answer.json.bucket)
    assert.is_true(math.abs(answer.json.modified - os.time()) < 60)
    assert.truthy(answer.json.mtime:find("^%d+%-%d%d%-%d%dT[%d:.]+%+00:00$"))
    assert.is_true(json.is_array(answer.json.warnings))

    local list = app:simulate { path = "/wheels" }
    for key in pairs(fixture("http-wheels")[1]) do assert.not_nil(list.json[1][key], key) end
    answer.json.warnings = nil
    assert.same({ answer.json }, list.json)
  end)

  it("keeps the content type of the part, if it is one", function()
    local objects = app.store.backend.objects(app.config.wheels_bucket)
    for given, kept in pairs { ["application/zip"] = "application/zip", [""] = "application/octet-stream",
        ["a\255"] = "application/octet-stream" } do
      local body, header = require("host.http").multipart({}, {
        { name = "wheel", filename = NAME, content_type = "TYPE", data = "bytes" } })
      assert.equal(200, app:simulate({ path = "/wheels", body = body:gsub("TYPE", given),
        headers = { ["content-type"] = header } }).status)
      assert.equal(kept, objects:info(NAME).headers["content-type"])
      app:simulate { method = "DELETE", path = "/wheels/" .. NAME }
    end
  end)

  it("is empty arrays at first", function()
    for _, path in ipairs { "/wheels", "/wheels/history" } do
      local answer = app:simulate { path = path }
      assert.same({ 200, "[]" }, { answer.status, answer.body })
    end
  end)

  it("checks name, filename, tags, size, versions, in this order", function()
    app.config.wheel_max_bytes = 10
    assert.equal(200, upload(NAME).status)
    local before = state()
    local long, bad_tags = ("x"):rep(11), { { "tags", "a b" } }
    for _, case in ipairs {
      { "demo ext.whl", long, bad_tags, 422, "invalid wheel name" },
      { "../demo-1-py3-none-any.whl", "", {}, 422, "invalid wheel name" },
      { "", "", {}, 422, "invalid wheel name" },
      { "demo.whl", long, bad_tags, 422, "invalid wheel filename" },
      { NAME, long, bad_tags, 422, "invalid wheel tags" },
      { NAME, long, {}, 413, "wheel too large" },
      { NAME, "0123456789", {}, 409, "wheel version already exists; bump version" },
      { NAME, "", { { "replace", "false" } }, 409, "wheel version already exists; bump version" },
      { "Demo.Ext-0.1-1-lua54-none-any.whl", "", {}, 409, "wheel version already exists; bump version" },
      { "demo_ext-0.1rc1-py3-none-any.whl", "", {}, 409,
        "wheel version must be greater than existing latest version" },
    } do
      assert.same({ case[4], case[5] }, detail(upload(case[1], { data = case[2], fields = case[3] })), case[1])
    end
    for _, fields in ipairs { { { "replace", "maybe" } } } do
      assert.equal(422, upload("demo_ext-0.2.0-py3-none-any.whl", { fields = fields }).status)
    end
    local missing = app:simulate { path = "/wheels", form = { { { "tags", "a" } }, {} } }
    assert.same({ 422, "missing", { "body", "wheel" } },
      { missing.status, missing.json.detail[1].type, missing.json.detail[1].loc })
    assert.equal(before, state())
  end)

  it("takes any bytes, and any size when there is no limit", function()
    app.config.wheel_max_bytes = 0
    local answer = upload(NAME, { data = "" })
    assert.same({ 200, 0 }, { answer.status, answer.json.size_bytes })
  end)

  it("takes rising versions of a package only, others beside it, and a deleted one again", function()
    for _, name in ipairs { "a-1.0rc1-py3-none-any.whl", "a-1.0-py3-none-any.whl", "A-1.0+l1-py3-none-any.whl",
      "a-1.0.post1-py3-none-any.whl", "b-0.1-py3-none-any.whl" } do
      assert.equal(200, upload(name).status, name)
    end
    assert.equal(409, upload("a-1.0.post1-lua54-none-any.whl").status)
    local gone = app:simulate { method = "DELETE", path = "/wheels/a-1.0.post1-py3-none-any.whl" }
    assert.same({ name = "a-1.0.post1-py3-none-any.whl", deleted = true }, gone.json)
    assert.equal(200, upload("a-1.0.post1-lua54-none-any.whl").status)
    assert.same({ "A-1.0+l1-py3-none-any.whl", "a-1.0-py3-none-any.whl", "a-1.0.post1-lua54-none-any.whl",
      "a-1.0rc1-py3-none-any.whl", "b-0.1-py3-none-any.whl" }, names())
  end)

  describe("warnings", function()
    local function warnings(name, data)
      local answer = upload(name, { data = data })
      assert.equal(200, answer.status, answer.body)
      assert.is_true(json.is_array(answer.json.warnings))
      return answer.json.warnings
    end

    it("are none for a wheel that our workers install", function()
      local dir = tmp.dir()
      finally(function() tmp.remove(dir) end)
      tmp.write(dir .. "/etl_tools.lua", "return {}")
      local built = assert(builder.build(dir, { out = dir, name = "etl-tools", version = "1.0" }))
      assert.same({}, warnings(built.path:match "[^/]*$", tmp.read(built.path)))
      -- the same bytes under another version
      local other = warnings("etl_tools-1.1-lua54-none-any.whl", tmp.read(built.path))
      assert.truthy(other[1]:find("^our workers refuse it: .*1%.1"), other[1])
    end)

    it("name what is not for them, and what they refuse; it is stored all the same", function()
      assert.same({ "our workers skip it: its tags (py3-none-any) are not lua54-none-any or lua54-none-<system>" },
        warnings("demo-1-py3-none-any.whl", "no zip"))
      for i, bytes in ipairs { "", "no zip", "PK\3\4" .. ("\0"):rep(100) } do
        local list = warnings(("demo-2.%d-lua54-none-any.whl"):format(i), bytes)
        assert.truthy(#list > 0 and list[1]:find("^our workers refuse it: "), list[1])
      end
      assert.equal(4, #names())
    end)

    it("say so when there was no place to look into it", function()
      app.config.http_spool_dir = "/proc/nowhere"
      assert.truthy(warnings("demo-1-lua54-none-any.whl", "x")[1]:find("was not looked into", 1, true))
    end)
  end)

  it("is not disturbed by objects that are no wheels", function()
    local objects = app.store.backend.objects(app.config.wheels_bucket)
    assert(objects:put("notes about demo.txt", "x"))
    assert(objects:put("demo_ext.whl", "x"))
    assert.equal(200, upload(NAME).status)
    assert.same({ NAME, "demo_ext.whl" }, names())
    assert.same({ 404, "wheel not found" },
      detail(app:simulate { method = "DELETE", path = "/wheels/notes%20about%20demo.txt" }))
    assert.equal(200, app:simulate({ method = "DELETE", path = "/wheels/demo_ext.whl" }).status)
  end)

  it("knows what is not there", function()
    for _, name in ipairs { NAME, "..%2f..%2fetc", "%00", "a%20b.whl" } do
      local answer = app:simulate { method = "DELETE", path = "/wheels/" .. name }
      assert.same({ 404, "wheel not found" }, detail(answer), name)
    end
  end)

  describe("when two gateways take files of one package at once", function()
    --- Stores a wheel as another gateway would, between our look at the versions and our storing.
    local function meanwhile(name)
      local wheels = app.store.wheels
      local create = wheels.create
      function wheels:create(...)
        wheels.create = nil
        assert(create(self, name, "other", { tags = {}, sha256 = crypto.sha256 "other" }))
        return create(self, ...)
      end
    end

    it("the later of one version is refused, whatever its file is called", function()
      for _, mine in ipairs { NAME, "demo_ext-0.1.0-lua54-none-any.whl" } do
        app = gateway_app.new()
        meanwhile(NAME)
        assert.same({ 409, "wheel version already exists; bump version" }, detail(upload(mine)))
        assert.same({ NAME }, names())
        assert.equal("[]", app:simulate({ path = "/wheels/history" }).body)
      end
    end)

    it("the later of a lower version is refused, of a higher one not", function()
      meanwhile "demo_ext-0.2.0-py3-none-any.whl"
      assert.same({ 409, "wheel version must be greater than existing latest version" }, detail(upload(NAME)))
      assert.same({ "demo_ext-0.2.0-py3-none-any.whl" }, names())
      meanwhile "demo_ext-0.3.0-py3-none-any.whl"
      assert.equal(200, upload("demo_ext-0.4.0-py3-none-any.whl").status)
    end)

    it("the earlier one stays", function()
      local wheels = app.store.wheels
      local create = wheels.create
      function wheels:create(...)
        wheels.create = nil
        local made = create(self, ...)
        assert(create(self, "demo_ext-0.1.0-lua54-none-any.whl", "other", { tags = {}, sha256 = crypto.sha256 "" }))
        return made
      end
      assert.equal(200, upload(NAME).status)
    end)
  end)

  it("is not stored when the file is no more what arrived, or cannot be read", function()
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    local path = tmp.write(dir .. "/spooled", "other bytes")
    for _, case in ipairs { path, dir, dir .. "/missing" } do
      local done, message, code = service.upload(app, {}, { replace = true, source = {},
        file = { filename = NAME, size = 9, path = case, sha256 = crypto.sha256 "the bytes" } })
      assert.is_nil(done)
      assert.equal("internal", code, message)
    end
    assert.same({}, names())
    assert.equal("[]", app:simulate({ path = "/wheels/history" }).body)
  end)

  describe("history", function()
    local function history(query)
      local answer = app:simulate { path = "/wheels/history" .. (query or "") }
      assert.equal(200, answer.status, answer.body)
      local list = {}
      for i, event in ipairs(answer.json) do list[i] = event.action .. " " .. event.wheel_name:match("^[^-]+") end
      return list, answer.json
    end

    it("tells who did what, newest first", function()
      local headers = { ["user-agent"] = "spec/1", ["x-forwarded-for"] = "10.0.0.1, 10.0.0.2", host = "wheels:8000" }
      assert.equal(200, upload(NAME, { headers = headers, fields = { { "tags", "hello,cpu" } } }).status)
      app:simulate { method = "DELETE", path = "/wheels/" .. NAME }
      upload("b-1-py3-none-any.whl", { fields = { { "replace", "0" } } })
      local list, events = history()
      assert.same({ "upload b", "delete demo_ext", "upload demo_ext" }, list)
      local first, recorded = events[3], fixture("http-wheel-history")[1]
      for key, value in pairs(recorded) do assert.equal(type(value), type(first[key]), key) end
      assert.same({ "hello", "cpu" }, first.tags)
      assert.same({ true, json.null, false }, { first.replace, events[2].replace, events[1].replace })
      assert.same({ tenant_id = json.null, api_key_id = json.null }, first.actor)
      assert.same({ remote_addr = "127.0.0.1", x_forwarded_for = "10.0.0.1, 10.0.0.2", x_real_ip = json.null,
        user_agent = "spec/1", host = "wheels:8000", scheme = "http" }, first.source)
      assert.same({ first.size_bytes, first.sha256_hex, first.tags },
        { events[2].size_bytes, events[2].sha256_hex, events[2].tags })
      assert.truthy(first.event_id:find("^" .. ("%x"):rep(32) .. "$"))
    end)

    it("is filtered", function()
      for i = 1, 3 do upload(("a-%d-py3-none-any.whl"):format(i)) end
      app:simulate { method = "DELETE", path = "/wheels/a-1-py3-none-any.whl" }
      assert.same({ "delete a" }, (history "?action=DELETE"))
      assert.same({ "delete a", "upload a" }, (history "?wheel_name=a-1-py3-none-any.whl"))
      assert.same({ "delete a", "upload a" }, (history "?limit=2"))
      assert.same({}, (history "?wheel_name=x.whl"))
      assert.same({ "delete a" }, (history "?action=%20delete%20&wheel_name="))
      assert.equal(4, #history "?action=&wheel_name=%20")
      for query, text in pairs { ["?wheel_name=a%20b"] = "invalid wheel name", ["?action=look"] = "invalid action",
        ["?action=look&wheel_name=x"] = "invalid wheel name" } do
        assert.same({ 422, text }, detail(app:simulate { path = "/wheels/history" .. query }))
      end
      for _, limit in ipairs { "0", "501", "x" } do
        assert.equal(422, app:simulate({ path = "/wheels/history?limit=" .. limit }).status)
      end
    end)

    it("names the caller of a gateway with keys", function()
      app:authenticate(function(_, req)
        req.caller = { tenant_id = "t1", api_key_id = "k1" }
        return true
      end)
      upload(NAME)
      assert.same({ tenant_id = "t1", api_key_id = "k1" }, select(2, history())[1].actor)
    end)

    it("that cannot be written fails nothing, and is logged", function()
      local lines = {}
      local function log(_, text, context) lines[#lines + 1] = { text, context.wheel_name } end
      app.log = setmetatable({ error = log }, { __index = app.log })
      app.store.wheel_history.append = function() return nil, "no", "unavailable" end
      assert.equal(200, upload(NAME).status)
      assert.same({ { "append wheel history failed", NAME } }, lines)
    end)
  end)

  it("says so when NATS is away", function()
    for _, part in ipairs { "wheels", "wheel_history" } do
      for _, verb in ipairs { "list", "info", "create", "delete" } do
        app.store[part][verb] = function() return nil, "not connected", "unavailable" end
      end
    end
    for _, request in ipairs { { path = "/wheels" }, { path = "/wheels/history" },
      { method = "DELETE", path = "/wheels/" .. NAME } } do
      assert.same({ 503, "nats unavailable: not connected" }, detail(app:simulate(request)))
    end
    assert.same({ 503, "nats unavailable: not connected" }, detail(upload(NAME)))
  end)
end)
