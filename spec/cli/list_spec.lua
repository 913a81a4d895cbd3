--- client.lua list, list-vnext, metrics, against a real gateway on a real NATS.
local json = require "host.json"
local process = require "spec.support.process"
local runs = require "spec.support.runs"

describe("client.lua", function()
  local it_has

  setup(function()
    it_has = runs.start()
    it_has:put("run-a", { status = "FAILED", flow_name = "日本", updated_at = 1795322158.5197442, error = "x" })
    it_has:put("b", { updated_at = 2.5, tag = "gpu", workflow_yaml_sha256 = ("ab"):rep(32) })
    it_has:put("c", { updated_at = json.null, flow_name = json.null })
    it_has:settle { "run-a", "b", "c" }
  end)
  teardown(function() it_has:stop() end)

  local function client(...)
    local got = process.run { "client.lua", "--server", it_has.gateway.url, ... }
    assert.same({ 0, "" }, { got.code, got.stderr })
    return got.stdout
  end

  it("list prints one line of JSON, ASCII only, or a table", function()
    local text = client "list"
    assert.truthy(text:find('^%[{"run_id": "run%-a", "flow_name": "\\u65e5\\u672c", .*}%]\n$'), text)
    assert.equal("run-a", json.decode(text)[1].run_id)
    assert.equal("run_id  status   flow_name  tag      updated_at        \n"
      .. "run-a   FAILED   日本         default  1795322158.5197442\n"
      .. "b       PENDING  main       gpu      2.5               \n"
      .. "c       PENDING  None       default  None              \n", client("list", "--output", "table"))
    assert.equal("(no items)\n", client("list", "--status", "RUNNING", "--output", "table"))
    assert.equal("[]\n", client("list", "--status", "RUNNING"))
  end)

  it("list passes its filters on", function()
    assert.equal("b", json.decode(client("list", "--tag", "gpu"))[1].run_id)
    assert.equal(1, #json.decode(client("list", "--flow", "日本", "--limit", "5")))
    assert.equal(1, #json.decode(client("list", "--limit", "1")))
    assert.same({}, json.decode(client("list", "--full", "--limit", "1"))[1].task_records)
  end)

  it("list-vnext always prints an object, and goes on with its cursor", function()
    local bare = json.decode(client("list-vnext", "--limit", "1"))
    assert.equal("run-a", bare.items[1].run_id)
    assert.equal("b", json.decode(client("list-vnext", "--limit", "1", "--cursor", bare.next_cursor)).items[1].run_id)
    local first = json.decode(client("list-vnext", "--limit", "1", "--updated-after", "1.5"))
    local text = client("list-vnext", "--limit", "1", "--updated-after", "1.5", "--cursor", first.next_cursor)
    assert.truthy(text:find('^{"items": %[{"run_id": "b", .*}%], "next_cursor": null}\n$'), text)
    text = client("list-vnext", "--workflow-yaml-sha256", ("ab"):rep(32), "--output", "table")
    assert.truthy(text:find("\nb  .*\nnext_cursor: None\n$"), text)
    text = client("list-vnext", "--limit", "1", "--updated-after", "1.5", "--output", "table")
    assert.truthy(text:find("\nnext_cursor: " .. first.next_cursor .. "\n", 1, true), text)
  end)

  it("metrics prints the text as it comes", function()
    local text = client "metrics"
    assert.truthy(text:find('^# HELP pyoco_runs_total .*\npyoco_runs_total{status="FAILED"} 1\n.*\n$'), text)
  end)

  it("says what is wrong with a cursor", function()
    local got = process.run { "client.lua", "--server", it_has.gateway.url, "list-vnext", "--cursor", "x" }
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('- reason: HTTP 422 GET /runs: {"detail":"invalid list query"}', 1, true), got.stderr)
  end)
end)
