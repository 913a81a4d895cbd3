--- The registry of wheels through real gateways on a real NATS: large files both ways, two gateways, failures.
local crypto = require "host.crypto"
local http = require "host.http"
local json = require "host.json"
local fixture = require "spec.support.fixture"
local gateways = require "spec.support.gateway"
local make_key = require("spec.support.keys").make
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local web = require "spec.support.web"
local jetstream = require "pyoco.store.jetstream"
local metas = require "pyoco.nats.object_meta"

local NAME = "demo_ext-0.1.0-lua54-none-any.whl"
local MAX = 3000000
local ENV = { PYOCO_HTTP_MAX_BODY_BYTES = "65536", PYOCO_WHEEL_MAX_BYTES = tostring(MAX) }

describe("wheels", function()
  local server, gateway, other, store

  setup(function()
    server = nats.start()
    gateway = gateways.start { nats_url = server.url, env = ENV }
    other = gateways.start { nats_url = server.url, env = ENV }
    for _, one in ipairs { gateway, other } do
      one:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    end
    local cfg = assert(require("pyoco.config").load { env = { PYOCO_NATS_URL = server.url }, cwd = "/nonexistent" })
    store = assert(jetstream.connect(cfg, { name = "spec" }))
  end)
  teardown(function()
    store:close()
    other:stop()
    gateway:stop()
    server:stop()
  end)
  before_each(function()
    for _, wheel in ipairs(assert(store.wheels:list())) do assert(store.wheels:delete(wheel.name)) end
  end)

  after_each(http.close)

  local function upload(name, bytes, fields, at)
    local body, kind = http.multipart(fields or { { "replace", "true" } }, { { name = "wheel", filename = name,
      content_type = "application/octet-stream", data = bytes } })
    return assert((at or gateway):fetch("/wheels", { method = "POST", body = body,
      headers = { ["content-type"] = kind } }))
  end

  local function names()
    local list = {}
    for i, wheel in ipairs(gateway:fetch("/wheels").json) do list[i] = wheel.name end
    return list
  end

  --- How many bytes' worth of chunks the bucket holds, to see that nothing is left behind.
  local function chunks()
    local info = assert(store.js:stream_info("OBJ_pyoco_wheels", { subjects_filter = "$O.pyoco_wheels.C.>" }))
    local count = 0
    for _, n in pairs(info.state.subjects or {}) do count = count + n end
    return count
  end

  it("come back as they went in, whatever their size", function()
    for i, size in ipairs { 0, 1000, 131072, 1000000, MAX } do -- from memory and by disk, one chunk and many
      local bytes = size > 0 and crypto.random(math.min(size, 1048576)):rep(3):sub(1, size) or ""
      local name = ("demo-%d-lua54-none-any.whl"):format(i)
      local answer = upload(name, bytes, { { "tags", "cpu, gpu" } })
      assert.equal(200, answer.status, answer.body)
      assert.equal(crypto.sha256(bytes), answer.json.sha256_hex)
      assert.same({ "cpu", "gpu" }, answer.json.tags)
      assert.equal(size, answer.json.size_bytes)
      local back = assert(gateway:fetch("/wheels/" .. name))
      assert.equal(200, back.status)
      assert.is_true(back.body == bytes)
      assert.equal("application/octet-stream", back.headers["content-type"])
      assert.equal(('attachment; filename="%s"'):format(name), back.headers["content-disposition"])
      assert.equal(tostring(size), back.headers["content-length"])
    end
    local dir = tmp.dir()
    assert(store.wheels:get_file("demo-5-lua54-none-any.whl", dir .. "/w"))
    tmp.remove(dir)
  end)

  it("are stored as the reference stores them", function()
    upload("demo_ext-0.1.0-py3-none-any.whl", ("x"):rep(1151), { { "replace", "true" }, { "tags", "hello,cpu" } })
    local recorded = fixture "object-meta"
    local msg = assert(store.js:last_msg("OBJ_pyoco_wheels", recorded.subject))
    local meta = assert(json.decode(msg.data))
    for key, value in pairs(recorded.body) do assert.equal(type(value), type(meta[key]), key) end
    recorded.body.headers.sha256 = crypto.sha256(("x"):rep(1151))
    assert.same(recorded.body.headers, meta.headers)
    assert.same(recorded.body.options, meta.options)
  end)

  it("of other clients are served: tags in lists, buckets that allow no direct reads", function()
    local bytes = crypto.random(300000)
    local objects = store.backend.objects "pyoco_wheels"
    assert(objects:put(NAME, bytes, { headers = { sha256 = crypto.sha256(bytes) } }))
    local info = assert(objects:info(NAME))
    info.stored.headers = { ["X-Pyoco-Wheel-Tags"] = json.array { "a", "b" } }
    assert(store.js:publish(metas.subject("pyoco_wheels", NAME), assert(metas.encode(info.stored)),
      { headers = { ["Nats-Rollup"] = "sub" } }))
    assert.same({ "a", "b" }, gateway:fetch("/wheels").json[1].tags)
    for _, chunk_size in ipairs { 1, 700, 900000 } do
      local piece = bytes:sub(1, chunk_size == 1 and 100 or nil):rep(chunk_size > 700 and 8 or 1)
      assert(objects:put("chunks.whl", piece, { chunk_size = chunk_size }))
      assert.is_true(gateway:fetch("/wheels/chunks.whl").body == piece)
    end
    local n = 0
    assert(objects:put("chunks.whl", function() -- chunks of others stand between its own
      n = n + 1
      for i = 1, n % 3 do assert(objects:put(("other%d.whl"):format(i), "x")) end
      return n <= 60 and ("%04d"):format(n) or nil
    end, { chunk_size = 4 }))
    local interleaved = gateway:fetch("/wheels/chunks.whl").body
    assert.equal(240, #interleaved)
    for i = 1, 60 do assert.equal(("%04d"):format(i), interleaved:sub(4 * i - 3, 4 * i)) end
    for _, name in ipairs { "chunks.whl", "other1.whl", "other2.whl" } do assert(objects:delete(name)) end

    local config = assert(store.js:stream_info("OBJ_pyoco_wheels")).config
    config.allow_direct = false
    assert(store.js:stream_update(config))
    local third = gateways.start { nats_url = server.url, env = ENV } -- the others know the bucket already
    third:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    local back = assert(third:fetch("/wheels/" .. NAME))
    third:stop()
    config.allow_direct = true
    assert(store.js:stream_update(config))
    assert.is_true(back.body == bytes)
  end)

  it("that are too large, badly named or old change nothing, and leave nothing on the disk or in the store", function()
    upload(NAME, "x")
    local kept = chunks()
    for _, case in ipairs {
      { NAME, MAX + 1, 413, "wheel too large" }, { NAME, MAX + 2000000, 413, "wheel too large" },
      { "a b.whl", 100000, 422, "invalid wheel name" }, { "demo.whl", 100000, 422, "invalid wheel filename" },
      { NAME, 100000, 409, "wheel version already exists; bump version" },
      { "Demo.Ext-0.0.9-lua54-none-any.whl", 100000, 409,
        "wheel version must be greater than existing latest version" },
    } do
      local answer = upload(case[1], ("x"):rep(case[2]))
      assert.same({ case[3], case[4] }, { answer.status, answer.json.detail })
    end
    assert.same({ NAME }, names())
    assert.equal(kept, chunks())
    assert.equal(1, #gateway:fetch("/wheels/history?wheel_name=" .. NAME .. "&action=upload").json)
  end)

  it("uploaded to two gateways at once: one file of a version stays, the other is 409", function()
    for round = 1, 5 do
      local answers, open = {}, {}
      for i, tag in ipairs { "lua54-none-any", "py3-none-any", "lua54-none-any", "cp310-none-any" } do
        local body, kind = http.multipart({}, { { name = "wheel",
          filename = ("race-%d-%s.whl"):format(round, tag), data = crypto.random(100000) } })
        local at = i % 2 == 0 and other or gateway
        open[i] = web.connect(tonumber(at.url:match(":(%d+)$")), ("POST /wheels HTTP/1.1\r\nHost: a\r\n"
          .. "Content-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"):format(kind, #body, body))
      end
      for i, c in ipairs(open) do
        c:wait()
        answers[i] = c.text:match("^HTTP/1.1 (%d+)")
        c:close()
      end
      local count = { ["200"] = 0, ["409"] = 0 }
      for _, status in ipairs(answers) do count[status] = count[status] + 1 end
      assert.same({ ["200"] = 1, ["409"] = 3 }, count)
      assert.equal(round, #names())
    end
    assert.equal(5, chunks())
  end)

  it("need a key before anything of them is read, where keys are asked for", function()
    local env = { PYOCO_HTTP_AUTH_MODE = "api_key" }
    for name, value in pairs(ENV) do env[name] = value end
    local locked = gateways.start { nats_url = server.url, env = env }
    finally(function() locked:stop() end)
    locked:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    local key, key_id = make_key(store)
    local function try(headers, bytes)
      local body, kind = http.multipart({}, { { name = "wheel", filename = NAME, data = bytes } })
      headers["content-type"] = kind
      return assert(locked:fetch("/wheels", { method = "POST", body = body, headers = headers }))
    end
    local large = ("x"):rep(500000)
    assert.equal(401, try({}, large).status)
    assert.equal(403, try({ ["x-api-key"] = key .. "x" }, large).status)
    assert.equal(401, locked:fetch("/wheels/" .. NAME).status)
    -- not a byte of the body was asked for: this client sends it only when told to
    local text = web.raw(tonumber(locked.url:match(":(%d+)$")), "POST /wheels HTTP/1.1\r\nHost: a\r\nContent-Length: "
      .. "500000\r\nContent-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n\r\n")
    assert.truthy(text:find("^HTTP/1.1 401 Unauthorized"), text)
    local answer = try({ ["x-api-key"] = key }, large)
    assert.equal(200, answer.status, answer.body)
    local event = locked:fetch("/wheels/history?limit=1", { headers = { ["x-api-key"] = key } }).json[1]
    assert.same({ tenant_id = "acme", api_key_id = key_id }, event.actor)
  end)

  it("that do not fit into the bucket are 503 and leave nothing behind", function()
    local config = assert(store.js:stream_info("OBJ_pyoco_wheels")).config
    config.max_bytes = 300000
    assert(store.js:stream_update(config))
    local answer = upload(NAME, crypto.random(500000))
    config.max_bytes = -1
    assert(store.js:stream_update(config))
    assert.equal(503, answer.status)
    assert.truthy(answer.json.detail:find("maximum bytes exceeded", 1, true), answer.body)
    assert.equal(0, chunks())
    assert.same({}, names())
  end)

  it("are gone after DELETE, and say who did it", function()
    upload(NAME, ("x"):rep(200000))
    local answer = gateway:fetch("/wheels/" .. NAME, { method = "DELETE", headers = { ["user-agent"] = "spec/2" } })
    assert.same({ 200, { name = NAME, deleted = true } }, { answer.status, answer.json })
    for _, method in ipairs { "GET", "DELETE" } do
      answer = gateway:fetch("/wheels/" .. NAME, { method = method })
      assert.same({ 404, "wheel not found" }, { answer.status, answer.json.detail })
    end
    assert.equal(0, chunks())
    local event = gateway:fetch("/wheels/history?limit=1").json[1]
    assert.same({ "delete", NAME, "spec/2", "127.0.0.1", 200000 },
      { event.action, event.wheel_name, event.source.user_agent, event.source.remote_addr, event.size_bytes })
  end)

  it("that are damaged are not passed off as whole", function()
    local objects = store.backend.objects "pyoco_wheels"
    assert(objects:put(NAME, crypto.random(500000)))
    local stored = assert(objects:info(NAME)).stored
    local function rewrite(fields)
      for key, value in pairs(fields) do stored[key] = value end
      assert(store.js:publish(metas.subject("pyoco_wheels", NAME), assert(metas.encode(stored)),
        { headers = { ["Nats-Rollup"] = "sub" } }))
    end
    rewrite { digest = metas.digest(crypto.sha256_bytes "other") }
    local answer, message = gateway:fetch("/wheels/" .. NAME)
    assert.is_nil(answer)
    assert.truthy(message:find("transfer closed", 1, true), message)
    rewrite { size = 400000 }
    assert.is_nil((gateway:fetch("/wheels/" .. NAME)))
    rewrite { size = 600000, chunks = 5 }
    assert.is_nil((gateway:fetch("/wheels/" .. NAME)))
    rewrite { nuid = "gone" }
    answer = gateway:fetch("/wheels/" .. NAME)
    assert.same({ 409, "it was replaced or deleted meanwhile; ask again" }, { answer.status, answer.json.detail })
  end)

  it("that a client stops reading hold nothing up", function()
    upload(NAME, crypto.random(1000000):rep(3))
    local port = tonumber(gateway.url:match(":(%d+)$"))
    for _ = 1, 5 do
      local c = web.connect(port, ("GET /wheels/%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(NAME))
      assert.is_true(c:wait(function() return #c.text > 0 end))
      c:close()
    end
    assert.equal(3000000, #gateway:fetch("/wheels/" .. NAME).body)
    gateway:wait("/health", function(answer) return answer.json.streams == 0 end,
      "the streams to end")
  end)

  it("end in the middle, not as if whole, when NATS goes away during a download; then all is 503", function()
    local piece, left = crypto.random(131072), 300
    assert(store.backend.objects("pyoco_wheels"):put(NAME, function() -- more than the sockets hold
      left = left - 1
      return left >= 0 and piece or nil
    end))
    local c = web.connect(tonumber(gateway.url:match(":(%d+)$")),
      ("GET /wheels/%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(NAME))
    assert.is_true(c:wait(function() return #c.text > 0 end))
    c.tcp:read_stop()
    server:kill()
    gateway:wait("/health", function(answer) return answer.json.nats ~= "connected" end, "NATS to be missed")
    local got, is_closed = #c.text, false
    c.tcp:read_start(function(_, chunk)
      got, is_closed = got + #(chunk or ""), not chunk
    end)
    process.wait_for(function() return is_closed end, 10000, "the connection to end")
    c:close()
    assert.is_true(got < 300 * 131072)
    for _, request in ipairs { { "/wheels" }, { "/wheels/history" }, { "/wheels/" .. NAME },
      { "/wheels/" .. NAME, "DELETE" } } do
      local answer = assert(gateway:fetch(request[1], { method = request[2] }))
      assert.equal(503, answer.status)
      assert.truthy(answer.json.detail:find("^nats unavailable: "), answer.body)
      assert.truthy(answer.headers["retry-after"])
    end
    assert.equal(503, upload("demo_ext-0.2.0-lua54-none-any.whl", ("x"):rep(100000)).status)
    server:restart()
    gateway:wait("/wheels", function(answer) return answer.status == 200 end, "NATS to be back")
  end)
end)
