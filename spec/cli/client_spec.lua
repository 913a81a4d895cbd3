--- client.lua as a user runs it: a process of its own against an HTTP server.
local host = require "host"
local http_server = require "spec.support.http_server"
local json = require "host.json"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local ARGUMENTS = "ERR-PYOCO-0018: CLI引数が不正です（入力形式を確認してください）\n"
local TYPED = host.exe:sub(#host.home + 2) .. " client.lua" -- as a user types it in the checkout
local server

--- Runs client.lua against the server.
local function client(...)
  return process.run { "client.lua", "--server", server and server.url or "http://127.0.0.1:1", ... }
end

--- Starts the server; it stops with the `it` that asked for it.
local function serve(handler)
  server = http_server.start(handler)
  finally(function()
    server.stop()
    server = nil
  end)
end

local RUN = '{"run_id":"r1","flow_name":"hello","status":"COMPLETED","params":{"名":"x"},"tasks":{"a":"SUCCEEDED"}}'

describe("client.lua arguments", function()
  local function refuses(reason, ...)
    local got = client(...)
    assert.equal(1, got.code)
    assert.equal("", got.stdout)
    assert.equal(ARGUMENTS, got.stderr:sub(1, #ARGUMENTS))
    assert.truthy(got.stderr:find("\n- reason: " .. reason, 1, true), got.stderr)
    assert.truthy(got.stderr:find("\n- hint: ", 1, true))
    assert.truthy(got.stderr:find("\n- usage: client.lua", 1, true))
  end

  it("name what is wrong and the nearest thing that exists", function()
    refuses("unknown command 'sumbit'; did you mean submit?", "sumbit")
    refuses("a command is required")
    refuses("unknown option '--flow'; did you mean", "submit", "--flow", "x")
    refuses("missing argument 'RUN_ID'", "watch")
    refuses("missing argument 'RUN_ID'", "cancel")
    refuses("argument 'RUN_ID' is empty", "get", "")
    refuses("argument '--run-id' is empty", "cancel", "--run-id", "")
    refuses("argument '--schedule-id' is empty", "schedule-delete", "--schedule-id", "")
    refuses("argument '--name' is empty", "wheel-delete", "--name", "")
    refuses("missing argument 'FILE'", "check")
    refuses("missing argument 'NAME'", "new", "flow")
    refuses("argument 'KIND' must be one of 'flow'", "new", "task", "x")
    refuses("missing option '--tag'", "submit-yaml", "--workflow-file", "x", "--flow-name", "y")
    refuses('--limit is "0": expected a whole number from 1 to 500', "workers", "--limit", "0")
    refuses("argument for option '--state' must be one of", "workers", "--state", "GONE")
  end)

  it("show help for the program and for a command", function()
    local got = client "--help"
    assert.equal(0, got.code)
    assert.truthy(got.stdout:find("Usage: client.lua", 1, true) and got.stdout:find("submit-yaml", 1, true))
    assert.truthy(client("watch", "--help").stdout:find("--until-terminal", 1, true))
  end)

  it("refuse an address that is none", function()
    local got = process.run({ "client.lua", "--server", "localhost", "workers" })
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('flag --server is "localhost": expected an address like', 1, true), got.stderr)
  end)
end)

describe("client.lua submit", function()
  it("sends flow, parameters and tags, and prints the answer on one line", function()
    serve(function() return { body = '{"run_id":"r1","status":"PENDING","bundle_hash":null}' } end)
    local got = client("submit", "--flow-name", "etl", "--param", "n=1", "--param", "s=x", "--tag", "gpu",
      "--tags", "a, b")
    assert.equal('{"run_id": "r1", "status": "PENDING", "bundle_hash": null}\n', got.stdout)
    assert.equal(0, got.code)
    local request = server.requests[1]
    assert.equal("POST /runs", request.method .. " " .. request.path)
    assert.equal("application/json", request.headers["content-type"])
    assert.same({ flow_name = "etl", params = { n = 1, s = "x" }, tag = "gpu", tags = { "a", "b" } },
      json.decode(request.body))
  end)

  it("sends the key in the header that was asked for", function()
    serve(function() return { body = "{}" } end)
    process.run({ "client.lua", "--server", server.url, "--api-key-header", "X-Mine", "submit" },
      { env = { PYOCO_API_KEY = "secret" } })
    assert.equal("secret", server.requests[1].headers["x-mine"])
    assert.equal("main", json.decode(server.requests[1].body).flow_name)
  end)

  it("shows status and body of a refusal, and what to do", function()
    serve(function() return { status = 503, body = '{"detail":"nats unavailable: TimeoutError"}' } end)
    local got = client("submit")
    assert.equal(1, got.code)
    assert.equal("ERR-PYOCO-HTTP: request failed\n"
      .. '- reason: HTTP 503 POST /runs: {"detail":"nats unavailable: TimeoutError"}\n'
      .. "- hint: NATS or the gateway is not ready; try again in a moment, and look at GET /ready\n", got.stderr)
  end)

  it("does not say 'try again' of what is too large for NATS", function()
    serve(function() return { status = 503, body = '{"detail":"nats unavailable: MaxPayloadError"}' } end)
    local got = client("submit")
    assert.truthy(got.stderr:find("- hint: it is more than NATS takes in one message", 1, true), got.stderr)
  end)

  it("says where the names are of what is not there", function()
    serve(function(request)
      return { status = 404, body = request.path:find "^/wheels" and '{"detail":"wheel not found"}'
        or request.path:find "^/schedules" and '{"detail":"schedule not found"}' or '{"detail":"Not Found"}' }
    end)
    for command, hint in pairs {
      ["wheel-delete --name x"] = "check the name; `" .. TYPED .. " wheels` lists them",
      ["schedule-delete --schedule-id x"] = "check the id; `" .. TYPED .. " schedules` lists them",
      ["get x"] = "check the id" } do
      local got = client(table.unpack((function(words)
        for word in command:gmatch "%S+" do words[#words + 1] = word end
        return words
      end) {}))
      assert.equal(1, got.code)
      assert.truthy(got.stderr:find("- hint: " .. hint .. "\n", 1, true), got.stderr)
    end
  end)

  it("says that nobody answers, and how to start a gateway", function()
    local got = client("submit")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-HTTP: connection error\n%- reason: "), got.stderr)
    assert.truthy(got.stderr:find("pyoco-host up.lua", 1, true))
  end)

  it("refuses parameters that are no object before asking anybody", function()
    local got = client("submit", "--params", "[1]")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("- reason: --params must be a JSON object", 1, true), got.stderr)
  end)
end)

describe("client.lua submit-yaml", function()
  local dir
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  it("sends fields, then the file", function()
    serve(function() return { body = '{"run_id":"r1"}' } end)
    local path = tmp.write(dir .. "/my.yaml", "flow: {graph: a}\n")
    local got = client("submit-yaml", "--workflow-file", path, "--flow-name", "f", "--tag", "t", "--param", "n=2")
    assert.equal(0, got.code)
    local body = server.requests[1].body
    assert.truthy(server.requests[1].headers["content-type"]:find("^multipart/form%-data; boundary="))
    assert.truthy(body:find('name="flow_name".-f.-name="tag".-t.-name="params".-{"n":2}.-name="workflow"'), body)
    assert.truthy(body:find('filename="flow.yaml"', 1, true) and body:find("application/x-yaml", 1, true))
    assert.truthy(body:find("flow: {graph: a}\n", 1, true))
  end)

  it("says which file cannot be read", function()
    local got = client("submit-yaml", "--workflow-file", dir .. "/none.yaml", "--flow-name", "f", "--tag", "t")
    assert.equal(1, got.code)
    assert.equal(("ERR-PYOCO-0018: file I/O error\n- reason: %s/none.yaml: No such file or directory\n"):format(dir)
      .. "- hint: check the path; it is taken from the current folder\n", got.stderr)
  end)

  it("lists every fault of a document as FILE:LINE:COLUMN", function()
    serve(function()
      return { status = 422, body = json.encode { detail = "invalid workflow yaml", errors = json.array {
        { line = 3, column = 9, message = "unknown task: fech", hint = "did you mean fetch?" },
        { line = 5, column = 1, message = "unclosed bracket" } } } }
    end)
    local path = tmp.write(dir .. "/bad.yaml", "x")
    local got = client("submit-yaml", "--workflow-file", path, "--flow-name", "f", "--tag", "t")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find(("- hint: %s:3:9: unknown task: fech (did you mean fetch?)\n"):format(path), 1, true))
    assert.truthy(got.stderr:find(("- hint: %s:5:1: unclosed bracket\n"):format(path), 1, true), got.stderr)
  end)
end)

describe("client.lua get, tasks, workers", function()
  it("print one line of JSON, ASCII only, in the server's order", function()
    serve(function() return { body = RUN } end)
    local got = client("get", "r 1/x", "--records")
    assert.equal('{"run_id": "r1", "flow_name": "hello", "status": "COMPLETED", "params": {"\\u540d": "x"}, '
      .. '"tasks": {"a": "SUCCEEDED"}}\n', got.stdout)
    assert.equal("/runs/r%201%2Fx?include=records", server.requests[1].path)
    client("tasks", "r1")
    assert.equal("/runs/r1/tasks", server.requests[2].path)
  end)

  it("say what to do about an unknown run", function()
    serve(function() return { status = 404, body = '{"detail":"run not found"}' } end)
    local got = client("get", "r1")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('- reason: HTTP 404 GET /runs/r1: {"detail":"run not found"}\n- hint: check the id',
      1, true), got.stderr)
  end)

  it("print workers as JSON, table or plugins", function()
    local wheels = {}
    for i = 1, 4 do wheels[i] = { package_name = "p" .. i, package_version = "1." .. i, wheel_name = "w" .. i } end
    serve(function()
      return { body = json.encode(json.array { { worker_id = "w1", state = "IDLE", tags = { "a", "b" } },
        { worker_id = "w2", state = "RUNNING", tags = json.array {}, wheel_sync = { installed_wheels = wheels } } }) }
    end)
    assert.equal("[", client("workers").stdout:sub(1, 1))
    assert.equal("/workers?scope=active", server.requests[1].path)
    local line = "%-9s  %-7s  %-4s  %-7s  %-23s\n"
    assert.equal(line:format("worker_id", "state", "tags", "plugins", "plugin_preview")
      .. line:format("w1", "IDLE", "a,b", "0", "-") .. line:format("w2", "RUNNING", "", "4", "p1@1.1,p2@1.2,p3@1.3,+1"),
      client("workers", "--scope", "all", "--state", "IDLE", "--include-hidden", "--limit", "5",
        "--output", "table").stdout)
    assert.equal("/workers?scope=all&state=IDLE&include_hidden=true&limit=5", server.requests[2].path)
    local plugins = client("workers", "--output", "plugins").stdout
    assert.truthy(plugins:find("w1 +IDLE +a,b +%- +%- +%-"), plugins)
    assert.truthy(plugins:find("w2 +RUNNING +p4 +1.4 +w4"), plugins)
  end)
end)

describe("client.lua watch", function()
  local function frame(event, data) return ("event: %s\ndata: %s\n\n"):format(event, data) end
  local RUNNING = '{"run_id":"r1","snapshot":{"status":"RUNNING","x":"é"},"ts":1795322158.5197442}'
  local ENDED = '{"run_id":"r1","snapshot":{"status":"COMPLETED"},"ts":2.5}'
  local BEAT = '{"run_id":"r1","ts":1795322159.25}'

  local function stream(...)
    local body = table.concat { ... }
    serve(function()
      return { headers = { ["content-type"] = "text/event-stream" }, stream = true, body = body }
    end)
  end

  it("prints a line for each event until the server ends the stream", function()
    stream(frame("snapshot", RUNNING), frame("heartbeat", BEAT), frame("snapshot", ENDED))
    local got = client("watch", "r1", "--records", "--since", "5.5", "--timeout-sec", "9")
    assert.equal(0, got.code)
    assert.equal('{"event": "snapshot", "data": {"run_id": "r1", "snapshot": {"status": "RUNNING", "x": "\\u00e9"}, '
      .. '"ts": 1795322158.5197442}}\n{"event": "heartbeat", "data": {"run_id": "r1", "ts": 1795322159.25}}\n'
      .. '{"event": "snapshot", "data": {"run_id": "r1", "snapshot": {"status": "COMPLETED"}, "ts": 2.5}}\n',
      got.stdout)
    assert.equal("/runs/r1/watch?include=records&since=5.5&timeout_sec=9", server.requests[1].path)
  end)

  it("prints the status form", function()
    stream(frame("snapshot", RUNNING), frame("heartbeat", BEAT))
    assert.equal("1795322158.5197442\tsnapshot\tRUNNING\tr1\n1795322159.25\theartbeat\t-\tr1\n",
      client("watch", "r1", "--output", "status").stdout)
  end)

  it("stops after --max-events, or at the end of the run with --until-terminal, though the stream goes on", function()
    serve(function()
      return { headers = { ["content-type"] = "text/event-stream" }, stream = true, stays_open = true,
        body = frame("snapshot", RUNNING) .. frame("snapshot", ENDED) .. frame("heartbeat", BEAT) }
    end)
    local first = client("watch", "r1", "--max-events", "1")
    assert.equal(0, first.code)
    assert.equal(1, select(2, first.stdout:gsub("\n", "")))
    local ended = client("watch", "r1", "--until-terminal")
    assert.equal(0, ended.code)
    assert.equal(2, select(2, ended.stdout:gsub("\n", "")))
  end)

  it("shows a refusal", function()
    serve(function() return { status = 404, body = '{"detail":"run not found"}' } end)
    local got = client("watch", "r1")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('HTTP 404 GET /runs/r1/watch: {"detail":"run not found"}', 1, true), got.stderr)
  end)

  it("ends with 130 on Ctrl-C, and as soon on SIGTERM and SIGHUP", function()
    serve(function()
      return { headers = { ["content-type"] = "text/event-stream" }, stream = true, stays_open = true,
        body = frame("snapshot", RUNNING) }
    end)
    for _, signal in ipairs { "sigint", "sigterm", "sighup" } do
      local child = process.host({ "client.lua", "--server", server.url, "watch", "r1" })
      process.wait_for(function() return child.stdout:find("RUNNING") end)
      child:kill(signal)
      assert.equal(130, (child:wait()))
      assert.equal("", child.stderr)
    end
  end)

  it("stops when nobody reads its lines any more", function()
    local open
    serve(function(request)
      open = request
      return { headers = { ["content-type"] = "text/event-stream" }, stream = true, stays_open = true,
        body = frame("snapshot", RUNNING) }
    end)
    local child = process.spawn("bash", { "-c",
      '"$0" client.lua --server "$1" watch r1 | head -1; echo "${PIPESTATUS[0]}"', require("host").exe, server.url })
    process.wait_for(function() return child.stdout:find("RUNNING") end)
    open.send(frame("heartbeat", BEAT))
    assert.equal(0, (child:wait()))
    assert.truthy(child.stdout:find("\n0\n$"), child.stdout)
    assert.equal("", child.stderr)
  end)
end)

describe("bytes that are no text", function()
  it("are refused as what they are", function()
    serve(function() return { body = "{}" } end)
    for _, arguments in ipairs { { "submit", "--param", "a=\xff" }, { "submit", "--flow-name", "a\xff" },
      { "approve", "r1", "--comment", "\xff" } } do
      local got = client(table.unpack(arguments))
      assert.equal(1, got.code)
      assert.truthy(got.stderr:find("^ERR%-PYOCO%-0018: .*UTF%-8"), got.stderr)
    end
    local got = client("--api-key", "a\nb", "list")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("flag --api-key is not usable: expected text without line", 1, true), got.stderr)
    assert.equal(0, #server.requests)
  end)
end)

describe("a value that begins with -", function()
  it("is one when it is a negative number, or several words", function()
    serve(function() return { body = '{"items":[],"next_cursor":null}' } end)
    assert.equal(0, client("list-vnext", "--updated-after", "-1.5", "--limit", "2").code)
    assert.equal("/runs?limit=2&updated_after=-1.5&cursor=", server.requests[1].path)
    assert.equal(0, client("reject", "r1", "--reason", "- not now").code)
    assert.equal('{"reason":"- not now"}', server.requests[2].body)
  end)

  it("is an option otherwise", function()
    assert.truthy(client("reject", "r1", "--reason", "-x").stderr:find("unknown option '-x'", 1, true))
  end)
end)

describe("client.lua cancel", function()
  it("prints the image that the gateway answers", function()
    serve(function() return { body = '{"run_id":"r1","status":"CANCELLING"}' } end)
    local got = client("cancel", "--run-id", "r1")
    assert.equal('{"run_id": "r1", "status": "CANCELLING"}\n', got.stdout)
    assert.equal("POST /runs/r1/cancel", server.requests[1].method .. " " .. server.requests[1].path)
  end)

  it("takes the run's id as an argument too, but not two of them", function()
    serve(function() return { body = '{"run_id":"r1","status":"CANCELLING"}' } end)
    assert.equal(0, client("cancel", "r1").code)
    assert.equal("/runs/r1/cancel", server.requests[1].path)
    assert.equal(0, client("cancel", "r1", "--run-id", "r1").code)
    local got = client("cancel", "r1", "--run-id", "r2")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("- reason: two runs are named: r1, and r2 by --run-id\n", 1, true), got.stderr)
    assert.equal(2, #server.requests)
  end)

  it("polls with --wait until the run has ended", function()
    local polls = 0
    serve(function(request)
      if request.method == "GET" then polls = polls + 1 end
      return { body = ('{"run_id":"r1","status":"%s"}'):format(polls == 2 and "CANCELLED" or "CANCELLING") }
    end)
    local got = client("cancel", "--run-id", "r1", "--wait")
    assert.equal('{"run_id": "r1", "status": "CANCELLED"}\n', got.stdout)
    assert.equal(2, polls)
  end)

  it("says when waiting took too long, and that the cancel stands", function()
    serve(function() return { body = '{"run_id":"r1","status":"CANCELLING"}' } end)
    local got = client("cancel", "--run-id", "r1", "--wait", "--timeout-sec", "0.3")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-CANCEL: wait timeout\n%- reason: cancel wait timeout for run_id=r1\n"),
      got.stderr)
  end)

  it("ends with 130 when interrupted while it waits", function()
    serve(function() return { body = '{"run_id":"r1","status":"CANCELLING"}' } end)
    local child = process.host({ "client.lua", "--server", server.url, "cancel", "--run-id", "r1", "--wait" })
    process.wait_for(function() return #server.requests > 1 end)
    child:kill "sigint"
    assert.equal(130, (child:wait()))
  end)
end)
