--- The gateway's log (CONTRACT 14): for each failure one line, with its message, ids, level and context.
local http = require "host.http"
local json = require "host.json"
local uv = require "luv"
local logs = require "pyoco.log"
local gateway_app = require "spec.support.gateway_app"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"

local DOCUMENT = "version: 1\nflow:\n  graph: a\ntasks:\n  a:\n    callable: m:f\n"
local FIXED = { "ts", "service", "level", "logger", "message", "pathname", "lineno", "func", "process", "thread" }

local function form(document, fields)
  return gateway_app.form(document, fields or { flow_name = "hello" })
end

local function wheel(name, fields)
  local list = {}
  for key, value in pairs(fields or {}) do list[#list + 1] = { key, value } end
  return { list, { { name = "wheel", filename = name, data = "0123456789" } } }
end

--- A port that is free now.
local function free_port()
  local tcp = uv.new_tcp()
  tcp:bind("127.0.0.1", 0)
  local port = tcp:getsockname().port
  tcp:close()
  uv.run("nowait")
  return ("%d"):format(port)
end

--- What is asked, and what is logged: request of app:simulate, message, nn of the ids (false: none), level, context.
local INPUT = {
  { { path = "/runs/none" }, "run not found", 5, "INFO", { run_id = "none" } },
  { { path = "/runs/none/tasks" }, "run not found (tasks)", 5, "INFO", { run_id = "none" } },
  { { path = "/runs/none/cancel", method = "POST" }, "run not found (cancel)", 5, "INFO", { run_id = "none" } },
  { { path = "/runs/yaml", form = form(DOCUMENT, { flow_name = "f", tag = "a b" }) }, "submit yaml failed: invalid tag",
    2, "INFO", { flow_name = "f", tag = "a b" } },
  { { path = "/runs/yaml", form = form(DOCUMENT, { flow_name = " " }) }, "submit yaml failed: missing flow_name", 2,
    "INFO", {} },
  { { path = "/runs/yaml", form = form("flow: [", { flow_name = "f", tag = "t" }) },
    "submit yaml failed: invalid workflow yaml", 2, "INFO", { flow_name = "f", tag = "t", reason = "syntax" } },
  { { path = "/runs/yaml", form = form(("#"):rep(300000), { flow_name = "f" }) },
    "submit yaml failed: workflow too large", 16, "INFO", { size_bytes = 300000, max_bytes = 262144 } },
  { { path = "/runs?cursor=%25" }, "list_runs failed: invalid cursor", 17, "INFO", {} },
  { { path = "/workers?scope=some" }, "workers failed: invalid scope", 19, "INFO", { scope = "some" } },
  { { path = "/workers?state=GONE" }, "workers failed: invalid state filter", 19, "INFO", { state = "GONE" } },
  { { path = "/wheels", form = wheel "a b.whl" }, "upload wheel failed: invalid wheel name", 2, "INFO",
    { wheel_name = "a b.whl" } },
  { { path = "/wheels", form = wheel "a.whl" }, "upload wheel failed: invalid wheel filename", 2, "INFO",
    { wheel_name = "a.whl" } },
  { { path = "/wheels", form = wheel("demo-1.0-py3-none-any.whl", { tags = "a b" }) },
    "upload wheel failed: invalid wheel tags", 2, "INFO", {} },
  { { path = "/wheels", form = wheel "demo-1.0-py3-none-any.whl", config = { wheel_max_bytes = 5 } },
    "upload wheel failed: wheel too large", 2, "INFO", { size_bytes = 10, max_bytes = 5 } },
  { { path = "/wheels/history?wheel_name=a%20b" }, "wheel history failed: invalid wheel name filter", 2, "INFO", {} },
  { { path = "/wheels/history?action=x" }, "wheel history failed: invalid action filter", 2, "INFO",
    { action = "x" } },
  { { path = "/workers/w9", method = "PATCH", json = { hidden = true } }, "worker not found", 20, "INFO",
    { worker_id = "w9" } },
  { { path = "/runs/bundle", method = "POST", body = "workflows: {}\n", headers = { ["content-type"] = "text/yaml" } },
    "submit bundle failed: invalid workflow bundle", false, "INFO", {} },
  { { path = "/schedules/yaml", form = form(DOCUMENT, { flow_name = "f", tag = "a b" }) },
    "create schedule failed: invalid tag", false, "INFO", { tag = "a b" } },
  { { path = "/runs/none/graph" }, "run not found", 5, "INFO", { run_id = "none" } },
}

--- What is asked while the store fails, and the operation's name in the log.
local WITHOUT_NATS = {
  { { path = "/runs", json = { flow_name = "f", tag = "t" } }, "submit", { flow_name = "f", tag = "t" } },
  { { path = "/runs/yaml", form = form(DOCUMENT) }, "submit yaml", { flow_name = "hello" } },
  { { path = "/runs/r1" }, "get_run", { run_id = "r1" } },
  { { path = "/runs/r1/cancel", method = "POST" }, "cancel", { run_id = "r1" } },
  { { path = "/runs/r1/tasks" }, "get_tasks", { run_id = "r1" } },
  { { path = "/runs" }, "list_runs", {} },
  { { path = "/metrics" }, "metrics", {} },
  { { path = "/workers" }, "workers", {} },
  { { path = "/workers/w1", method = "PATCH", json = { hidden = true } }, "patch worker", { worker_id = "w1" } },
  { { path = "/wheels" }, "list wheels", {} },
  { { path = "/wheels", form = wheel "demo-1.0-py3-none-any.whl" }, "upload wheel",
    { wheel_name = "demo-1.0-py3-none-any.whl" } },
  { { path = "/wheels/demo-1.0-py3-none-any.whl", method = "DELETE" }, "delete wheel",
    { wheel_name = "demo-1.0-py3-none-any.whl" } },
  { { path = "/wheels/demo-1.0-py3-none-any.whl" }, "download wheel",
    { wheel_name = "demo-1.0-py3-none-any.whl" } },
  { { path = "/wheels/history" }, "wheel history", {} },
}

describe("the gateway's log", function()
  local lines

  local function open(settings)
    local app = gateway_app.new(settings)
    lines = {}
    app.log = logs.new { service = "pyoco-server:http", logger = "pyoco_server.http_api", config = settings,
      sink = function(line) lines[#lines + 1] = line end }
    return app
  end

  --- The only line, decoded; it has every fixed field, in the contract's order.
  local function only_line(what)
    assert.equal(1, #lines, what .. ": " .. table.concat(lines))
    local record, at = assert(json.decode(lines[1])), 0
    for _, name in ipairs(FIXED) do
      local found = lines[1]:find(('"%s":'):format(name), 1, true)
      assert.truthy(found and found > at, what .. ": " .. name)
      at = found
    end
    assert.same({ "pyoco-server:http", "pyoco_server.http_api" }, { record.service, record.logger })
    return record
  end

  local function has_ids(record, number)
    local nn = number and ("-PYOCO-%04d"):format(number) or nil
    assert.same({ nn and "ERR" .. nn, nn and "MSG" .. nn }, { record.err_id, record.msg_id }, record.message)
  end

  it("says what was wrong with a request, at INFO and without exception", function()
    for _, row in ipairs(INPUT) do
      local app = open(row[1].config)
      local answer, what = app:simulate(row[1]), row[1].path .. " " .. row[2]
      assert.is_true(answer.status >= 400 and answer.status < 500, what)
      local record = only_line(what)
      assert.same({ row[2], row[4] }, { record.message, record.level })
      has_ids(record, row[3])
      for name, value in pairs(row[5]) do assert.equal(value, record[name], what .. " " .. name) end
      assert.is_nil(record.exc_type)
      assert.truthy(record.pathname:find("routes/%l+%.lua$"), record.pathname)
      assert.is_true(record.lineno > 0)
      assert.truthy(record.func:find("^%l+%.%l+"), record.func)
    end
  end)

  it("says which operation found no NATS, at ERROR with what the store said and where", function()
    for _, row in ipairs(WITHOUT_NATS) do
      local app = open()
      local function fails() return nil, "TimeoutError", "timeout" end
      local broken = setmetatable({}, { __index = function() return fails end })
      for _, name in ipairs { "runs", "documents", "workers", "dlq", "wheels", "wheel_history" } do
        app.store[name] = broken
      end
      app.store.model = setmetatable({}, { __index = function() return fails end })
      app.store.status = function() return "reconnecting" end
      local answer = app:simulate(row[1])
      assert.equal(503, answer.status, row[2])
      local record = only_line(row[2])
      assert.same({ row[2] .. " failed: nats unavailable", "ERROR" }, { record.message, record.level })
      has_ids(record, 3)
      for name, value in pairs(row[3]) do assert.equal(value, record[name], row[2] .. " " .. name) end
      assert.truthy(record.exc_type == "timeout" or record.exc_type == "unavailable", record.exc_type)
      assert.truthy(#record.exc_message > 0)
      assert.is_string(record.exc_traceback)
      assert.is_string(record.exc_origin.file)
    end
  end)

  it("says nothing of what went well, of what does not exist and of malformed requests", function()
    local app = open()
    assert.equal(200, app:simulate({ path = "/runs", json = { flow_name = "f" } }).status)
    assert.equal(404, app:simulate({ path = "/nowhere" }).status)
    assert.equal(422, app:simulate({ path = "/runs", json = {} }).status)
    assert.equal(405, app:simulate({ path = "/runs", method = "DELETE" }).status)
    assert.same({}, lines)
  end)

  it("gives a fault of ours its traceback, unless told not to", function()
    for _, is_on in ipairs { true, false } do
      local app = open { log_include_traceback = is_on }
      app:replace("runs.get", function() error "oh" end)
      assert.equal(500, app:simulate({ path = "/runs/r1" }).status)
      local record = only_line "500"
      assert.same({ "ERROR", "request failed" }, { record.level, record.message })
      assert.truthy(record.exc_message:find("log_spec.lua:%d+: oh$"), record.exc_message)
      assert.equal(is_on, record.exc_traceback ~= nil)
      assert.equal(is_on and "spec/gateway/log_spec.lua" or nil, record.exc_origin and record.exc_origin.file)
    end
  end)

  describe("of a real process", function()
    local server, gateway

    setup(function()
      server = nats.start()
    end)
    after_each(function()
      if gateway then gateway:stop() end
      gateway = nil
    end)
    teardown(function() server:stop() end)

    local function start(env)
      gateway = gateways.start { nats_url = server.url, env = env }
      gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    end

    --- The line with a message, decoded, once it is there.
    local function line(message)
      return process.wait_for(function()
        for text in gateway.process.stdout:gmatch "[^\n]+" do
          local record = json.decode(text)
          if record and record.message == message then return record end
        end
      end, 10000, message)
    end

    it("has the same shape when C writes it", function()
      start()
      assert.equal(404, gateway:fetch("/runs/none/watch").status)
      local record = line "run not found (watch)"
      for _, name in ipairs(FIXED) do assert.truthy(record[name], name) end
      assert.same({ "INFO", "pyoco-server:http", "pyoco_server.http_api", "none" },
        { record.level, record.service, record.logger, record.run_id })
      has_ids(record, 5)
      assert.equal(404, gateway:fetch("/runs/no%20ne/watch").status)
      server:kill()
      process.wait_for(function() return gateway:fetch("/runs/r1/watch").status == 503 end, 10000, "503")
      assert.equal(503, gateway:fetch("/runs/r1").status)
      local trace = line("get_run failed: nats unavailable").exc_traceback
      for _, place in ipairs { "pyoco/nats/", "pyoco/store/", "pyoco/service/run.lua:" } do
        assert.truthy(trace:find(place, 1, true), trace)
      end
      record = line "watch failed: nats unavailable"
      assert.same({ "ERROR", "r1", "error" }, { record.level, record.run_id, record.exc_type })
      has_ids(record, 3)
      server:restart()
    end)

    it("may be text", function()
      start { PYOCO_LOG_FORMAT = "TEXT" }
      gateway:fetch "/runs/none"
      gateway:fetch "/runs/none/watch"
      gateway:fetch "/runs/a%0AERROR%20b/watch"
      process.wait_for(function() return gateway.process.stdout:find("run_id=a ERROR b)", 1, true) end, 10000,
        "the lines in\n" .. gateway.process.stdout)
      local out = gateway.process.stdout
      local ids = " %(err_id=ERR%-PYOCO%-0005, msg_id=MSG%-PYOCO%-0005, run_id=none%)\n"
      local start_of = "\nINFO pyoco%-server:http pyoco_server.http_api "
      assert.truthy(out:find(start_of .. "%S+runs.lua:%d+ runs.get %- run not found" .. ids), out)
      assert.truthy(out:find(start_of .. "%S+watch.c:%d+ not_found %- run not found %(watch%)" .. ids), out)
    end)

    it("has only what matters enough", function()
      local port = free_port()
      local quiet = process.host({ "gateway.lua", "--port", port }, { env = { PYOCO_NATS_URL = server.url,
        PYOCO_LOAD_DOTENV = "0", PYOCO_LOG_LEVEL = "WARNING" } })
      finally(function() quiet:stop() end)
      local function get(path) return http.request { url = ("http://127.0.0.1:%s%s"):format(port, path) } end
      process.wait_for(function() return (get "/ready" or {}).status == 200 end, 10000, "the gateway")
      assert.equal(404, get("/runs/none").status)
      assert.equal(404, get("/runs/none/watch").status)
      http.close()
      quiet:kill "sigterm"
      assert.equal(0, (quiet:wait()))
      assert.equal("", quiet.stdout)
    end)

    it("may carry local time, from both sides", function()
      start { PYOCO_LOG_UTC = "0", TZ = "Asia/Tokyo" }
      gateway:fetch "/runs/none"
      gateway:fetch "/runs/none/watch"
      assert.truthy(line("run not found").ts:find("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%+0900$"))
      assert.truthy(line("run not found (watch)").ts:find("%+0900$"))
    end)
  end)
end)
