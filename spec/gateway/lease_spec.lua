--- One gateway does the periodic duties: real gateways on one NATS, ended in every way.
local json = require "host.json"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"

describe("the lease of the duties", function()
  local server, running

  setup(function() server = nats.start() end)
  teardown(function() server:stop() end)
  before_each(function() running = {} end)
  after_each(function()
    for _, one in ipairs(running) do one:stop() end
  end)

  local function start(ttl)
    local one = gateways.start { nats_url = server.url, env = { PYOCO_LEASE_TTL_SEC = tostring(ttl) } }
    running[#running + 1] = one
    return one
  end

  local function wait_leader(gateway, pid)
    return gateway:wait("/health", function(answer)
      local leader = answer.json.leader
      return type(leader) == "table" and leader.pid == pid and leader.here == (gateway.process.pid == pid)
    end, "the lease to be held by " .. pid).json.leader
  end

  it("is held by one, and everyone tells who", function()
    local a = start(300)
    local leader = wait_leader(a, a.process.pid)
    local b = start(300)
    assert.equal(leader.since, wait_leader(b, a.process.pid).since)
    assert.is_string(leader.host)
    -- an orderly stop gives it back: nobody waits 300 s
    a:stop()
    wait_leader(b, b.process.pid)
    b:stop()
    local c = start(300)
    wait_leader(c, c.process.pid)
  end)

  it("goes to another when its holder is killed, and stays there", function()
    local a = start(1)
    wait_leader(a, a.process.pid)
    local b = start(1)
    wait_leader(b, a.process.pid)
    a.process:kill "sigkill"
    wait_leader(b, b.process.pid)
    local c = start(1)
    wait_leader(c, b.process.pid)
  end)

  it("is given up by a holder that stops answering, and not taken back", function()
    local a = start(1)
    wait_leader(a, a.process.pid)
    local b = start(1)
    wait_leader(b, a.process.pid)
    a.process:kill "sigstop"
    wait_leader(b, b.process.pid)
    a.process:kill "sigcont"
    wait_leader(a, b.process.pid)
    wait_leader(b, b.process.pid)
  end)

  it("runs out while NATS is away, and is held again when it is back", function()
    local a = start(1)
    local since = wait_leader(a, a.process.pid).since
    server:kill()
    a:wait("/health", function(answer) return answer.json.leader == json.null end, "the lease to run out")
    server:restart()
    assert.is_true(wait_leader(a, a.process.pid).since >= since)
  end)
end)
