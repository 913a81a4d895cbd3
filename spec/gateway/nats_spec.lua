--- The gateway and a NATS that is missing, plain, restarted or empty.
local clock = require "host.clock"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"

describe("the gateway's NATS", function()
  local gateway, server

  after_each(function()
    if gateway then gateway:stop() end
    if server then server:stop() end
    gateway, server = nil, nil
  end)

  local function is_ready(answer) return answer.status == 200 end

  it("may be missing at the start: 503 with the reason at once, and all well when it comes", function()
    server = nats.start()
    server:halt()
    gateway = gateways.start { nats_url = server.url }
    local health = gateway:fetch "/health"
    assert.same({ 200, require("host.json").null }, { health.status, health.json.clock_skew_sec })
    local answer = gateway:fetch "/ready"
    assert.equal(503, answer.status)
    assert.truthy(answer.json.detail:find("NATS", 1, true), answer.body)
    local before = clock.monotonic()
    answer = gateway:fetch("/runs", { json = { flow_name = "f" } })
    assert.equal(503, answer.status)
    assert.equal("nats unavailable: ConnectionError", answer.json.detail) -- not where NATS is
    assert.is_true(clock.monotonic() - before < 2) -- the contract's promise
    server:restart()
    gateway:wait("/ready", is_ready, "the gateway to be ready")
    assert.equal(200, gateway:fetch("/runs", { json = { flow_name = "f" } }).status)
    gateway:wait("/health", function(got)
      local skew = got.json.clock_skew_sec -- one machine: the same clock
      return type(skew) == "number" and math.abs(skew) < 1
    end, "the clocks to be compared")
  end)

  it("must have JetStream: the answer says how", function()
    server = nats.start { jetstream = false }
    gateway = gateways.start { nats_url = server.url }
    local answer = gateway:wait("/ready", function(answer) return answer.json.detail:find "JetStream" end, "the reason")
    assert.equal(503, answer.status)
    assert.truthy(answer.json.detail:find("nats-server -js", 1, true))
    assert.equal(503, gateway:fetch("/runs", { json = { flow_name = "f" } }).status)
    answer = gateway:fetch "/health"
    assert.equal(200, answer.status)
    assert.truthy(answer.json.nats_problem:find("nats-server -js", 1, true), answer.body)
  end)

  it("hides the password of its address", function()
    gateway = gateways.start { nats_url = "nats://bob:pass@word@127.0.0.1:9" }
    local answers = gateway:fetch("/ready").body .. gateway:fetch("/health").body
      .. gateway:fetch("/runs", { json = { flow_name = "f" } }).body .. gateway.process.stdout
    assert.truthy(answers:find("nats://127.0.0.1:9", 1, true), answers)
    assert.falsy(answers:find("word", 1, true), answers)
  end)

  it("may be restarted and come back empty", function()
    server = nats.start()
    gateway = gateways.start { nats_url = server.url }
    local run_id = gateway:fetch("/runs", { json = { flow_name = "f" } }).json.run_id
    server:kill()
    process.wait_for(function() return gateway:fetch("/ready").status == 503 end, 10000, "the loss to be seen")
    local before = clock.monotonic()
    assert.equal(503, gateway:fetch("/runs/" .. run_id).status)
    assert.is_true(clock.monotonic() - before < 2)
    server:restart()
    gateway:wait("/ready", is_ready, "the gateway to be ready")
    assert.equal("PENDING", gateway:fetch("/runs/" .. run_id).json.status)
    server:halt()
    require("luv").fs_rename(server.dir .. "/jetstream", server.dir .. "/jetstream.old")
    server:restart()
    process.wait_for(function() return gateway:fetch("/runs", { json = { flow_name = "f" } }).status == 200 end,
      10000, "a run on the empty NATS")
    assert.equal(404, gateway:fetch("/runs/" .. run_id).status)
  end)
end)
