--- The gateway as a process: how it starts, refuses to start, and ends.
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"

describe("gateway.lua", function()
  local server

  setup(function() server = nats.start() end)
  teardown(function() server:stop() end)

  it("serves pages, version and errors of the contract, and ends at SIGTERM", function()
    local gateway = gateways.start { nats_url = server.url, env = { PYOCO_DASHBOARD_LANG = "ja_JP" } }
    local page = gateway:fetch "/"
    assert.truthy(page.body:find('<html lang="ja" data-key-header="X-API-Key">', 1, true))
    assert.truthy(page.headers["content-security-policy"]:find("default-src 'none'", 1, true))
    for _, name in ipairs { "app.js", "lib/i18n.js", "views/runs.js", "styles.css" } do
      assert.equal(200, gateway:fetch("/static/" .. name).status)
    end
    assert.equal("pyoco-host", gateway:fetch("/version").json.name)
    assert.same({ 404, "Not Found" }, { gateway:fetch("/nope").status, gateway:fetch("/nope").json.detail })
    assert.equal(405, gateway:fetch("/runs", { method = "PUT" }).status)
    assert.equal(0, gateway:stop())
  end)

  it("ends what follows a bucket before the connection that it follows it on", function()
    for _ = 1, 3 do
      local gateway = gateways.start { nats_url = server.url, env = { PYOCO_HTTP_AUTH_MODE = "api_key" } }
      gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
      assert.equal(0, gateway:stop())
    end
  end)

  it("names the port that is in use and what to do", function()
    local gateway = gateways.start { nats_url = server.url }
    local second = process.run({ "gateway.lua", "--port", gateway.url:match ":(%d+)$" },
      { env = { PYOCO_NATS_URL = server.url } })
    gateway:stop()
    assert.equal(1, second.code)
    assert.truthy(second.stderr:find("in use", 1, true), second.stderr)
  end)

  it("refuses bad options and values, and shows its help", function()
    local bad = process.run { "gateway.lua", "--prot", "1" }
    assert.equal(1, bad.code)
    assert.truthy(bad.stderr:find("--port", 1, true), bad.stderr)
    bad = process.run({ "gateway.lua" }, { env = { PYOCO_HTTP_PORT = "99999" } })
    assert.equal(1, bad.code)
    assert.truthy(bad.stderr:find("PYOCO_HTTP_PORT.*99999.*65535"), bad.stderr)
    local help = process.run { "gateway.lua", "--help" }
    assert.equal(0, help.code)
    assert.truthy(help.stdout:find("--port", 1, true))
  end)

  it("ends at Ctrl-C with 130", function()
    local gateway = gateways.start { nats_url = server.url }
    gateway.process:kill "sigint"
    assert.equal(130, (gateway.process:wait()))
    gateway:stop()
  end)
end)
