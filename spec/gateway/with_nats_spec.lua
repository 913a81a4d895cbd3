--- `gateway.lua --with-nats`: a NATS of its own, started first and stopped last.
local host = require "host"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

describe("gateway.lua --with-nats", function()
  local dir, gateway

  before_each(function() dir = tmp.dir() end)
  after_each(function()
    if gateway then gateway:stop() end
    gateway = nil
    tmp.remove(dir)
  end)

  local function start(env)
    gateway = gateways.start { env = env, args = { "--with-nats", "--nats-port", "14222", "--data-dir", dir
      .. "/data" } }
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
  end

  --- Where its NATS is.
  local function nats_url()
    return gateway.process.stdout:match("NATS is at (nats://127.0.0.1:%d+), store in " .. dir:gsub("%p", "%%%0")
      .. "/data/nats")
  end

  --- Process id of its NATS.
  local function nats_pid()
    local file <close> = assert(io.open(("/proc/%d/task/%d/children"):format(gateway.process.pid, gateway.process.pid)))
    return assert(math.tointeger(tonumber(file:read("a"):match("%d+"))))
  end

  it("serves with nothing else running, stops NATS last, and keeps the runs", function()
    start()
    assert.is_string(nats_url())
    local run = gateway:submit("version: 1\nflow: {graph: 'a'}\ntasks: {a: {callable: 'x:y'}}\n", { { "flow_name",
      "x" } })
    assert.equal(200, run.status, run.body)
    local pid = nats_pid()
    assert.equal(0, gateway:stop())
    assert.is_nil(uv.fs_stat("/proc/" .. pid))
    host.lock(dir .. "/data/nats.lock"):close()
    start()
    assert.equal(200, gateway:fetch("/runs/" .. run.json.run_id).status)
  end)

  it("ends with its NATS, and says so", function()
    start()
    uv.kill(nats_pid(), "sigkill")
    assert.equal(1, (gateway.process:wait()))
    assert.truthy(gateway.process.stdout:find("NATS was killed by signal 9; the gateway stops", 1, true))
  end)

  it("takes its NATS with it when it is killed", function()
    start()
    local pid = nats_pid()
    gateway.process:kill "sigkill"
    process.wait_for(function() return not io.open(("/proc/%d/stat"):format(pid)) end, 10000, "NATS to end")
  end)

  it("refuses a second one on the same data, and an address beside it", function()
    start()
    local again = process.run({ "gateway.lua", "--with-nats", "--port", "0", "--data-dir", dir .. "/data" })
    local text = "gateway.lua: gateway.lua is at work in %s/data already (process %d); stop it"
    assert.same({ 1, true }, { again.code, again.stderr:find(text:format(dir, gateway.process.pid), 1, true) ~= nil })
    local both = process.run { "gateway.lua", "--with-nats", "--nats-url", "nats://u:secret@127.0.0.1:1" }
    assert.equal(1, both.code)
    assert.equal("gateway.lua: --with-nats starts a NATS of its own, and flag --nats-url names nats://127.0.0.1:1; "
      .. "drop one of them\n", both.stderr)
  end)
end)
