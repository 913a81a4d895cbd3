--- Wheels that another NATS client reads and writes in the bucket itself. Pending where npm cannot install it.
local crypto = require "host.crypto"
local http = require "host.http"
local other_client = require "spec.support.object_peer"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local tmp = require "spec.support.tmp"

describe("wheels and npm's nats", function()
  local server, gateway, dir, fault

  setup(function()
    fault = other_client.missing()
    server, dir = nats.start(), tmp.dir()
    gateway = gateways.start { nats_url = server.url, env = { PYOCO_HTTP_MAX_BODY_BYTES = "65536" } }
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
  end)
  teardown(function()
    gateway:stop()
    server:stop()
    tmp.remove(dir)
  end)

  local function peer(...) return other_client.run(server.url, "pyoco_wheels", ...) end

  local function upload(name, bytes, fields)
    local body, kind = http.multipart(fields, { { name = "wheel", filename = name, data = bytes } })
    return assert(gateway:fetch("/wheels", { method = "POST", body = body, headers = { ["content-type"] = kind } }))
  end

  it("what was uploaded is theirs, byte for byte", function()
    if fault then return pending(fault) end
    local bytes, name = crypto.random(1000003), "ours-1-lua54-none-any.whl"
    local wheel = upload(name, bytes, { { "tags", "hello,cpu" } })
    assert.equal(200, wheel.status, wheel.body)
    local info = peer("get", name, dir .. "/got")
    assert.is_true(tmp.read(dir .. "/got") == bytes)
    assert.same({ wheel.json.digest, wheel.json.nuid, 1000003 }, { info.digest, info.nuid, info.size })
  end)

  it("what they put is served, with its tags, and its version counts", function()
    if fault then return pending(fault) end
    local bytes, name = crypto.random(300000), "theirs-1.0-py3-none-any.whl"
    tmp.write(dir .. "/give", bytes)
    local info = peer("put", name, dir .. "/give")
    assert.is_true(assert(gateway:fetch("/wheels/" .. name)).body == bytes)
    for _, wheel in ipairs(gateway:fetch("/wheels").json) do
      if wheel.name == name then
        assert.same({ { "hello", "cpu" }, info.digest, crypto.sha256(bytes) },
          { wheel.tags, wheel.digest, wheel.sha256_hex })
      end
    end
    assert.equal(409, upload("theirs-0.9-py3-none-any.whl", "x", {}).status)
    assert.equal(200, gateway:fetch("/wheels/" .. name, { method = "DELETE" }).status)
    assert.is_true(peer("info", name) == nil or peer("info", name).deleted)
  end)
end)
