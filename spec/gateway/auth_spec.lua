--- Keys against real processes: admin.lua makes and revokes them, a gateway that runs asks for them.
local json = require "host.json"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local web = require "spec.support.web"

local PEPPER = "secret-pepper"
local OURS = { PYOCO_AUTH_PEPPER = PEPPER, PYOCO_LOAD_DOTENV = "0" }

describe("keys and a running gateway", function()
  local server, gateway, given

  --- Runs admin.lua on the spec's NATS.
  local function admin(...)
    local env = { PYOCO_NATS_URL = server.url }
    for name, value in pairs(OURS) do env[name] = value end
    return process.run({ "admin.lua", ... }, { env = env })
  end

  local function create(tenant)
    local got = admin("api-key", "create", "--tenant", tenant)
    assert.equal(0, got.code, got.stderr)
    given[#given + 1] = got.stdout:match '"api_key": "pyoco_[^.]+%.([^"]+)"'
    return json.decode(got.stdout), got.stdout
  end

  local function fetch(path, key, opts)
    opts = opts or {}
    opts.headers = { ["X-API-Key"] = key }
    return assert(gateway:fetch(path, opts))
  end

  setup(function()
    server, given = nats.start(), {}
    gateway = gateways.start { nats_url = server.url, env = { PYOCO_HTTP_AUTH_MODE = "api_key",
      PYOCO_AUTH_PEPPER = PEPPER, PYOCO_HTTP_VMS = "1" } }
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
  end)
  teardown(function()
    gateway:stop()
    server:stop()
  end)

  it("are made, listed and revoked as the contract prints it", function()
    assert.equal("[]\n", admin("api-key", "list").stdout)
    local first, line = create "acme"
    assert.truthy(line:find('^{"key_id": "%x+", "tenant_id": "acme", "api_key": "pyoco_%x+%.[%w_-]+", '
      .. '"created_at": [%d.]+}\n$'), line)
    local second = create "other"
    local list = admin("api-key", "list")
    assert.truthy(list.stdout:find('^%[{"key_id": "%x+", "tenant_id": "other", "created_at": [%d.]+, '
      .. '"revoked_at": null}, {"key_id": "%x+", "tenant_id": "acme"'), list.stdout)
    local revoked = admin("api-key", "revoke", "--key-id", second.key_id)
    assert.truthy(revoked.stdout:find('^{"key_id": "%x+", "revoked_at": [%d.]+}\n$'), revoked.stdout)
    assert.equal(0, revoked.code)
    assert.is_number(json.decode(admin("api-key", "list").stdout)[1].revoked_at)
    local shown = admin("api-key", "list", "--output", "table").stdout
    assert.truthy(shown:find("^key_id +tenant_id +created_at +revoked_at *\n"), shown)
    assert.equal(404, fetch("/runs/none", first.api_key).status)
    assert.equal(403, fetch("/runs/none", second.api_key).status)
  end)

  it("that do not exist cannot be revoked, and bad command lines are refused: exit code 1", function()
    local got = admin("api-key", "revoke", "--key-id", "nosuchkey")
    assert.same({ 1, '{"error": "not_found", "key_id": "nosuchkey"}\n', "" }, { got.code, got.stdout, got.stderr })
    got = admin("api-key", "create", "--tenant", "a b")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('tenant "a b": use 1 to 64 letters', 1, true), got.stderr)
    assert.equal(1, admin("api-key", "create").code)
    got = process.run({ "admin.lua", "--nats-url", "nats://u:hidden@127.0.0.1:1", "api-key", "list" }, { env = OURS })
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-HTTP: connection error\n%- reason: "), got.stderr)
    assert.falsy(got.stderr:find("hidden", 1, true), got.stderr)
  end)

  it("count at once, and no more from the moment they are revoked by another process", function()
    local made = create "acme"
    assert.equal(404, fetch("/runs/none", made.api_key).status)
    assert.equal(0, admin("api-key", "revoke", "--key-id", made.key_id).code)
    process.wait_for(function() return fetch("/runs/none", made.api_key).status == 403 end, 2000, "the revocation")
  end)

  it("that are new do not hold a VM while they are verified", function()
    local made, port = {}, tonumber(gateway.url:match ":(%d+)$")
    for i = 1, 4 do made[i] = create "acme" end
    local connections = {}
    for i, key in ipairs(made) do -- each twice: the second asks for what the first is deriving
      for k = 1, 2 do
        connections[2 * i + k - 2] = web.connect(port, ("GET /runs/none HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
          .. "Connection: close\r\n\r\n"):format(key.api_key))
      end
    end
    for _, connection in ipairs(connections) do
      connection:wait()
      connection:close()
      assert.truthy(connection.text:find("^HTTP/1.1 404 .*run not found"), connection.text)
    end
  end)

  it("guard what is not for all", function()
    local made = create "acme"
    for _, path in ipairs { "/", "/health", "/ready", "/version", "/static/app.js" } do
      assert.equal(200, gateway:fetch(path).status, path)
    end
    for _, path in ipairs { "/runs", "/workers", "/metrics", "/runs/x", "/runs/x/watch" } do
      assert.equal(401, gateway:fetch(path).status, path)
      assert.equal(403, fetch(path, "pyoco_abcdefgh.0123456789abcdef").status, path)
    end
    assert.equal(200, fetch("/metrics", made.api_key).status)
    assert.equal(200, fetch("/workers", made.api_key).status)
    assert.equal(404, fetch("/runs/x/watch", made.api_key).status)
    local client = process.run { "client.lua", "--server", gateway.url, "--api-key", made.api_key, "list" }
    assert.same({ 0, "[]\n" }, { client.code, client.stdout })
    client = process.run { "client.lua", "--server", gateway.url, "list" }
    assert.equal(1, client.code)
    assert.truthy(client.stderr:find("--api-key KEY", 1, true), client.stderr)
  end)

  it("are asked for again when NATS has gone, and its absence is no open door", function()
    local made = create "acme"
    assert.equal(404, fetch("/runs/none", made.api_key).status)
    server:kill()
    local unknown = "pyoco_abcdefgh.0123456789abcdef"
    process.wait_for(function() return fetch("/runs/none", unknown).status == 503 end, 10000, "503")
    assert.equal(503, fetch("/runs/none", made.api_key).status)
    server:restart()
    process.wait_for(function() return fetch("/runs/none", made.api_key).status == 404 end, 10000, "NATS again")
  end)

  it("never appear in a log, nor does the pepper", function()
    local out = gateway.process.stdout .. gateway.process.stderr
    assert.truthy(#given >= 8)
    assert.truthy(out:find("auth failed: api key mismatch/revoked", 1, true))
    for _, secret in ipairs { PEPPER, table.unpack(given) } do assert.falsy(out:find(secret, 1, true)) end
  end)
end)
