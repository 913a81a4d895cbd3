--- Dead letters with a real worker, a real gateway and the client: from the failure to the run anew.
local http = require "host.http"
local json = require "host.json"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local workers = require "spec.support.worker"

describe("dead letters", function()
  local world, gateway

  setup(function()
    world = workers.world()
    world:write("demo.lua", "return { boom = function() error 'boom' end }")
    world:worker()
    gateway = gateways.start { nats_url = world.server.url }
  end)

  teardown(function()
    gateway:stop()
    world:stop()
  end)

  after_each(function() http.close() end)

  local function client(...) return process.run { "client.lua", "--server", gateway.url, ... } end

  local function letter_of(run_id)
    return process.wait_for(function()
      for _, item in ipairs(gateway:fetch("/dlq").json.items) do
        if item.run_id == run_id then return item end
      end
    end, 10000, "the dead letter")
  end

  it("are listed, shown and requeued, and the run anew may leave its own", function()
    local answer = gateway:submit(workers.yaml("a", { a = "demo:boom" }), { { "flow_name", "failing" } })
    local run_id = answer.json.run_id
    local letter = letter_of(run_id)
    assert.equal("execution_error", letter.reason)

    local list = client("dlq", "list", "--flow", "failing")
    assert.equal(0, list.code, list.stderr)
    assert.equal(run_id, json.decode(list.stdout).items[1].run_id)
    assert.truthy(list.stdout:find(', "next_before": null', 1, true), list.stdout) -- as the contract's lines are
    local tabled = client("dlq", "list", "--output", "table")
    assert.truthy(tabled.stdout:find("^seq  time +reason +flow_name  tag +run_id +error *\n"), tabled.stdout)
    assert.truthy(tabled.stdout:find(run_id, 1, true))
    assert.equal("(no items)\n", client("dlq", "list", "--output", "table", "--tag", "none").stdout)

    local requeued = client("dlq", "requeue", tostring(letter.seq))
    assert.equal(0, requeued.code, requeued.stderr)
    local anew = json.decode(requeued.stdout)
    assert.equal(run_id, anew.requeued_from)
    local second = letter_of(anew.run_id)
    assert.is_true(second.seq > letter.seq)
    assert.equal(anew.run_id, json.decode(client("dlq", "show", tostring(letter.seq)).stdout).requeued_to)
    local ended = gateway:fetch("/runs/" .. anew.run_id).json
    assert.same({ "FAILED", run_id }, { ended.status, ended.requeued_from }) -- a worker keeps the field
    assert.same({ anew.run_id, "FAILED" }, { json.decode(client("dlq", "requeue", tostring(letter.seq)).stdout).run_id,
      json.decode(client("dlq", "requeue", tostring(letter.seq)).stdout).status })
  end)

  it("say why they cannot be requeued", function()
    local seq = world.store.js:publish("pyoco.work.default", "not json").seq
    assert(seq)
    local letter = process.wait_for(function()
      return gateway:fetch("/dlq?reason=invalid_job").json.items[1]
    end, 10000, "the letter of what is no job")
    local shown = json.decode(client("dlq", "show", tostring(letter.seq)).stdout)
    assert.same({ "not json", "invalid_json" }, { shown.payload, shown.error })
    local got = client("dlq", "requeue", tostring(letter.seq))
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("HTTP 409 POST /dlq/%d+/requeue: .*about no run"), got.stderr)
    got = client("dlq", "show", "99999")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("dead letter not found", 1, true), got.stderr)
    assert.equal(1, client("dlq", "requeue", "x").code)
    assert.truthy(client("dlq", "lst").stderr:find("did you mean list?", 1, true))
  end)

  it("are 503 without NATS", function()
    world.server:kill()
    gateway:wait("/health", function(health) return health.json.nats ~= "connected" end, "the outage")
    assert.equal(503, gateway:fetch("/dlq").status)
    assert.equal(503, gateway:fetch("/dlq/1").status)
    assert.equal(503, gateway:fetch("/dlq/1/requeue", { method = "POST", body = "" }).status)
    world.server:restart()
    gateway:wait("/dlq", function(answer) return answer.status == 200 end, "NATS to be back")
  end)
end)
