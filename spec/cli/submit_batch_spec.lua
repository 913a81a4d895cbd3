--- client.lua submit-batch: what it reads, what it sends, what it prints.
local http_server = require "spec.support.http_server"
local json = require "host.json"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

describe("client.lua submit-batch", function()
  local server, dir

  --- Answers each run by its flow's name; "bad" ones are refused.
  local function answer_all(request)
    local results, refused = json.array {}, 0
    for i, run in ipairs(json.decode(request.body).runs) do
      if run.flow_name == "bad" then
        refused = refused + 1
        results[i] = { error = { code = "invalid", detail = json.array { { loc = json.array { "body", "runs", i - 1 },
          msg = "Field required" } } } }
      else
        results[i] = { run_id = "r" .. run.flow_name, status = "PENDING", bundle_hash = json.null }
      end
    end
    return { body = json.encode { results = results, accepted = #results - refused, refused = refused } }
  end

  before_each(function() dir = tmp.dir() end)

  after_each(function()
    if server then server.stop() end
    server = nil
    tmp.remove(dir)
  end)

  local function serve(handler) server = http_server.start(handler or answer_all) end

  --- Runs the command over a text; nil: its file does not exist, "-": given on standard input.
  local function batch(text, file)
    local path = file or dir .. "/runs.jsonl"
    if text and not file then
      local handle <close> = assert(io.open(path, "w"))
      handle:write(text)
    end
    local url = server and server.url or "http://127.0.0.1:1"
    return process.run({ "client.lua", "--server", url, "submit-batch", path }, { stdin = file == "-" and text or nil })
  end

  local LINES = '{"flow_name":"a","params":{"x":1.5,"list":[]},"idempotency_key":"k"}\n\n  {"flow_name":"b","tag":null}'
  local PRINTED = '{"run_id": "ra", "status": "PENDING", "bundle_hash": null}\n'
    .. '{"run_id": "rb", "status": "PENDING", "bundle_hash": null}\n'

  it("sends JSON Lines, a JSON array, or standard input, and prints a line for each run", function()
    serve()
    for _, case in ipairs { { LINES }, { '[{"flow_name":"a","params":{"x":1.5,"list":[]},"idempotency_key":"k"},'
      .. '{"flow_name":"b","tag":null}]' }, { LINES, "-" } } do
      local got = batch(case[1], case[2])
      assert.equal(PRINTED, got.stdout, got.stderr)
      assert.equal(0, got.code)
      local request = table.remove(server.requests)
      assert.equal("POST /runs/batch", request.method .. " " .. request.path)
      assert.same({ runs = { { flow_name = "a", params = { x = 1.5, list = {} }, idempotency_key = "k" },
        { flow_name = "b", tag = json.null } } }, json.decode(request.body))
    end
  end)

  it("ends with 1 when a run was refused, and prints why", function()
    serve()
    local got = batch '{"flow_name":"bad"}\n{"flow_name":"b"}\n'
    assert.equal(1, got.code)
    assert.equal('{"error": {"code": "invalid", "detail": [{"loc": ["body", "runs", 0], "msg": "Field required"}]}}\n'
      .. '{"run_id": "rb", "status": "PENDING", "bundle_hash": null}\n', got.stdout)
    assert.equal("", got.stderr)
  end)

  it("sends as many at once as the gateway takes, by number and by size", function()
    serve()
    local lines = {}
    for i = 1, 1001 do lines[i] = ('{"flow_name":"f%d"}'):format(i) end
    lines[1002] = ('{"flow_name":"big","params":{"x":"%s"}}'):format(("x"):rep(1499000))
    local got = batch(table.concat(lines, "\n"))
    assert.equal(0, got.code, got.stderr)
    local counts = {}
    for i, request in ipairs(server.requests) do counts[i] = #json.decode(request.body).runs end
    assert.same({ 1000, 2 }, counts)
    assert.equal(1002, select(2, got.stdout:gsub("\n", "")))
  end)

  it("says how far it came when the gateway fails", function()
    local answers = 0
    serve(function(request)
      answers = answers + 1
      return answers == 1 and answer_all(request) or { status = 503, body = '{"detail":"nats unavailable: gone"}' }
    end)
    local lines = {}
    for i = 1, 1001 do lines[i] = '{"flow_name":"f"}' end
    local got = batch(table.concat(lines, "\n"))
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-HTTP: request failed\n%- reason: HTTP 503"), got.stderr)
    assert.truthy(got.stderr:find("- hint: 1000 of 1001 runs were answered before", 1, true), got.stderr)
  end)

  it("names the line that is wrong, and sends nothing", function()
    serve()
    for text, reason in pairs {
      ['{"flow_name":"a"}\n{"flow_name":'] = "runs.jsonl, line 2: column 14",
      ['{"a":1}\n\n[1]'] = "runs.jsonl, line 3 is not",
      ['[{"flow_name":"a"},7]'] = "item 2 is not a JSON object", ['[{"flow_name":"a"}'] = "runs.jsonl: ",
    } do
      local got = batch(text)
      assert.equal(1, got.code)
      assert.truthy(got.stderr:find(reason, 1, true), got.stderr)
    end
    local got = batch(nil, dir .. "/nothing.jsonl")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("file I/O error", 1, true), got.stderr)
    assert.same({}, server.requests)
    assert.same({ 0, "" }, { batch("\n").code, batch("").stdout })
  end)

  it("has its key in the header for single submits", function()
    serve(function() return { body = '{"run_id":"r1","status":"PENDING","bundle_hash":null}' } end)
    process.run { "client.lua", "--server", server.url, "submit", "--idempotency-key", "k 1" }
    assert.equal("k 1", server.requests[1].headers["idempotency-key"])
  end)
end)
