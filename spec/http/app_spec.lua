local json = require "host.json"
local shared = require "host.shared"
local application = require "pyoco.http.app"
local response = require "pyoco.http.response"

describe("pyoco.http.app", function()
  local app, lines

  before_each(function()
    lines = {}
    local log = { write = function(_, level, message, context, failure)
      if level == "ERROR" then lines[#lines + 1] = { message = message, context = context, failure = failure } end
    end }
    function log:error(...) self:write("ERROR", ...) end
    app = application.new { log = log, config = { x = 1 } }
    app:mount { prefix = "/runs",
      { "POST", "/", name = "runs.submit", doc = "Submit.", body = {
        { "flow_name", "string", required = true, min_length = 1 }, { "params", "object", default = {} } },
        run = function(_, req) return { name = req.body.flow_name, params = req.body.params } end },
      { "POST", "/yaml", name = "runs.yaml", doc = "Submit a document.",
        raw = { part = "workflow", types = { ["text/yaml"] = true } },
        form = { { "workflow", "file", required = true }, { "flow_name", "string", required = true } },
        run = function(_, req) return { data = req.body.workflow.data, flow = req.body.flow_name } end },
      { "GET", "/:id", name = "runs.get", doc = "One run.", query = { { "include", "string", list = true } },
        run = function(_, req)
          if req.params.id == "none" then return nil, "run not found", "not_found" end
          return { id = req.params.id, include = req.query.include and json.array(req.query.include) or nil }
        end },
    }
  end)

  local function ask(opts) return app:simulate(opts) end

  it("answers values as compact JSON", function()
    local answer = ask { path = "/runs/a%C3%A4?include=x&include=y" }
    assert.equal(200, answer.status)
    assert.equal("application/json", answer.headers["content-type"])
    assert.same({ id = "aä", include = { "x", "y" } }, answer.json)
    assert.truthy(answer.body:find('"aä"', 1, true))
  end)

  it("maps failures to status and detail", function()
    local answer = ask { path = "/runs/none" }
    assert.equal(404, answer.status)
    assert.same({ detail = "run not found" }, answer.json)
    for code, status in pairs { invalid = 422, conflict = 409, unavailable = 503, too_large = 413, forbidden = 403 } do
      app:replace("runs.get", function() return nil, "why", code, code == "invalid" and { { line = 1 } } or nil end)
      answer = ask { path = "/runs/1" }
      assert.equal(status, answer.status)
      assert.equal("why", answer.json.detail)
    end
    app:replace("runs.get", function() return nil, "why", "invalid", json.array { { line = 1 } } end)
    assert.same({ detail = "why", errors = { { line = 1 } } }, ask { path = "/runs/1" }.json)
    app:replace("runs.get", function() return nil, "why", "unavailable" end)
    assert.equal("1", ask { path = "/runs/1" }.headers["retry-after"])
  end)

  it("answers 404, 405 with allow, and sends trailing slashes on", function()
    assert.same({ 404, '{"detail":"Not Found"}' }, { ask { path = "/nope" }.status, ask { path = "/nope" }.body })
    for _, method in ipairs { "HEAD", "DELETE", "PUT" } do
      local answer = ask { path = "/runs/1", method = method }
      assert.equal(405, answer.status)
      assert.equal('{"detail":"Method Not Allowed"}', answer.body)
      assert.equal("GET", answer.headers.allow)
    end
    local answer = ask { path = "/runs/?a=1", method = "POST" }
    assert.equal(307, answer.status)
    assert.equal("/runs?a=1", answer.headers.location)
    assert.equal(404, ask { path = "/nope/" }.status)
  end)

  it("answers HEAD as GET for rows that say so; the server leaves the body out", function()
    app:get("/page/:name", function(_, req) return response.html(req.params.name) end, { head = true })
    assert.same({ 200, "x" }, { ask { path = "/page/x", method = "HEAD" }.status, ask { path = "/page/x",
      method = "HEAD" }.body })
    assert.equal(405, ask { path = "/runs/1", method = "HEAD" }.status)
    assert.equal(404, ask { path = "/nope", method = "HEAD" }.status)
  end)

  it("checks JSON bodies", function()
    local answer = ask { path = "/runs", json = { flow_name = "f", params = { a = json.array {} } } }
    assert.equal('{"name":"f","params":{"a":[]}}', json.encode(answer.json, { sort = true }))
    for body, kind in pairs { ["{"] = "json_invalid", ["[]"] = "model_attributes_type", ["{}"] = "missing",
      [""] = "missing", ["1"] = "model_attributes_type", ['{"flow_name":""}'] = "string_too_short",
      ["\xff"] = "json_invalid", [("["):rep(1000)] = "json_invalid", ['{"flow_name":NaN}'] = "json_invalid" } do
      answer = ask { path = "/runs", method = "POST", body = body, headers = { ["content-type"] = "application/json" } }
      assert.equal(422, answer.status, body)
      assert.equal(kind, answer.json.detail[1].type, body)
    end
    assert.equal(200, ask { path = "/runs", method = "POST", body = '{"flow_name":"f"}' }.status)
    assert.equal(200, ask { path = "/runs", method = "POST", body = '{"flow_name":"f"}',
      headers = { ["content-type"] = "application/vnd.x+json; charset=utf-8" } }.status)
    answer = ask { path = "/runs", method = "POST", body = "a=1",
      headers = { ["content-type"] = "application/x-www-form-urlencoded" } }
    assert.equal(415, answer.status)
    assert.truthy(answer.json.detail:find("send application/json", 1, true))
  end)

  it("checks forms, and takes the file alone where a row says so", function()
    local form = { { { "flow_name", "f" } }, { { name = "workflow", filename = "w", data = "x: 1" } } }
    assert.same({ data = "x: 1", flow = "f" }, ask { path = "/runs/yaml", form = form }.json)
    assert.same({ data = "x: 1", flow = "f" }, ask { path = "/runs/yaml?flow_name=f", method = "POST", body = "x: 1",
      headers = { ["content-type"] = "text/yaml; charset=utf-8" } }.json)
    assert.equal(2, #ask { path = "/runs/yaml", method = "POST" }.json.detail)
    local answer = ask { path = "/runs/yaml", json = {} }
    assert.equal(415, answer.status)
    assert.equal("content-type application/json is not taken here; send multipart/form-data, text/yaml",
      answer.json.detail)
    answer = ask { path = "/runs/yaml", method = "POST", body = "x",
      headers = { ["content-type"] = "multipart/form-data; boundary=b" } }
    assert.equal(422, answer.status)
    assert.truthy(answer.json.detail:find("boundary does not occur", 1, true))
  end)

  it("turns what a handler raises into 500 and logs it with its place", function()
    for _, fn in ipairs { function() error("kaboom") end, function() error({}) end, function() return nil end,
      function() return { x = 0 / 0 } end, function() return nil, "no such", "nonsense" end } do
      app:replace("runs.get", fn)
      local answer = ask { path = "/runs/1", headers = { ["X-Request-Id"] = "r-1" } }
      assert.equal(500, answer.status)
      assert.equal("Internal Server Error", answer.body)
      assert.equal("text/plain; charset=utf-8", answer.headers["content-type"])
      assert.equal("r-1", table.remove(lines).context.request_id)
    end
    app:replace("runs.get", function() error("kaboom") end)
    ask { path = "/runs/1" }
    assert.truthy(lines[1].failure.traceback:find("app_spec.lua:%d+: kaboom"))
  end)

  it("gives each answer an id, and keeps a sensible one of the client", function()
    local first, second = ask { path = "/nope" }.headers["x-request-id"], ask { path = "/x" }.headers["x-request-id"]
    assert.truthy(first:find("^%x+%-%x+$"))
    assert.not_equal(first, second)
    assert.equal("a.b-1", ask { path = "/nope", headers = { ["x-request-id"] = "a.b-1" } }.headers["x-request-id"])
    assert.not_equal("a b", ask { path = "/nope", headers = { ["x-request-id"] = "a b" } }.headers["x-request-id"])
  end)

  it("refuses what another site's page asks for, unless keys are on", function()
    local function post(origin)
      return ask { path = "/runs", json = { flow_name = "f" }, headers = { origin = origin, host = "me:8000" } }.status
    end
    assert.equal(200, post "http://me:8000")
    assert.equal(403, post "http://evil.example")
    assert.equal(403, post "null")
    assert.equal(403, post "http://me:8001")
    assert.equal(200, ask { path = "/runs/1", headers = { origin = "http://evil.example", host = "me" } }.status)
    app:authenticate(function() return true end)
    assert.equal(200, post "http://evil.example")
  end)

  it("asks for the key after the shape and before the handler", function()
    app:authenticate(function(_, req)
      if not req.headers["x-api-key"] then return nil, "api key required", "unauthorized" end
      req.caller = { tenant_id = "t" }
      return true
    end)
    app:get("/open", function() return "yes" end, { public = true })
    assert.equal(422, ask { path = "/runs", json = {} }.status)
    assert.equal(401, ask { path = "/runs", json = { flow_name = "f" } }.status)
    assert.equal(401, ask { path = "/runs/none" }.status)
    assert.equal(200, ask { path = "/open" }.status)
    app:replace("runs.get", function(_, req) return req.caller end)
    assert.same({ tenant_id = "t" }, ask { path = "/runs/1", headers = { ["X-API-Key"] = "k" } }.json)
  end)

  it("lets a script add, wrap and replace routes", function()
    app:get("/hello/:name", function(_, req) return { hello = req.params.name, q = req.query.q[1] } end)
    app:post("/raw", function(_, req) return { raw = req.body, decoded = (req:json()) } end)
    assert.same({ hello = "you", q = "1" }, ask { path = "/hello/you?q=1" }.json)
    assert.same({ raw = "[1]", decoded = { 1 } }, ask { path = "/raw", body = "[1]" }.json)
    app:wrap("runs.get", function(next, a, req)
      local value, message, code = next(a, req)
      if value then value.wrapped = true end
      return value, message, code
    end)
    assert.is_true(ask { path = "/runs/1" }.json.wrapped)
    assert.equal(404, ask { path = "/runs/none" }.status)
    local seen = {}
    app:wrap("*", function(next, a, req)
      seen[#seen + 1] = req.row.name
      return next(a, req)
    end)
    app:get("/later", function() return response.text("x") end)
    ask { path = "/later" }
    ask { path = "/runs/1" }
    assert.same({ "GET /later", "runs.get" }, seen)
  end)

  it("puts off what makes it until it is used, whatever the first use is", function()
    local uses = {
      function(a) a:mount { { "GET", "/b", name = "b", doc = "x", run = print } } end,
      function(a) a:get("/b", print) end, function(a) a:wrap("a", print) end, function(a) a:wrap("*", print) end,
      function(a) a:replace("a", print) end, function(a) a:every(1, "x", print) end,
      function(a) a:authenticate(print) end, function(a) a:run_duties() end, function(a) a:admit { path = "/a" } end,
      function(a) a:handle { method = "GET", path = "/a", raw_path = "/a", headers = {}, query_string = "" } end,
      function(a) a:routes() end,
    }
    for i, use in ipairs(uses) do
      local one, made = application.new {}, 0
      one:later(function()
        made = made + 1
        one:get("/a", function() return {} end, { name = "a" })
      end)
      assert.equal(0, made)
      use(one)
      assert.equal(1, made, "use " .. i)
      assert.equal("a", one:routes()[1].name)
      assert.equal(1, made)
    end
  end)

  it("stops at a row that is wrong", function()
    local function mount(row) return function() app:mount { row } end end
    local run = function() end
    assert.error_matches(mount { "GET", "/x", run = run }, "needs name and doc")
    assert.error_matches(mount { "GET", "/x", name = "runs.get", doc = "d", run = run },
      "two routes are called runs.get")
    assert.error_matches(mount { "GET", "/runs/:x", name = "n", doc = "d", run = run },
      "is there already, as /runs/:id")
    assert.error_matches(mount { "GET", "/x", name = "n", doc = "d" }, "run must be a function")
    assert.error_matches(mount { "GET", "/x", name = "n", doc = "d", run = run, boddy = {} }, "unknown field boddy")
    assert.error_matches(function() app:wrap("runs.gte", run) end, "did you mean runs.get?")
    assert.equal(3, #app:routes())
  end)

  it("describes streams", function()
    app:get("/w", function() return response.watch { run_id = "r", brief = true, timeout_sec = 5 } end)
    local answer = ask { path = "/w" }
    assert.same({ "watch", "r", true, 5 }, { answer.stream, answer.run_id, answer.brief, answer.timeout_sec })
  end)

  it("runs duties when they are due, and shows a failure", function()
    local n, fail = 0, true
    assert.is_nil(app:run_duties())
    app:every(1000, "spec", function(a)
      n = n + a.config.x
      if fail then error("tired") end
    end)
    local delay = app:run_duties()
    assert.is_true(delay > 990 and delay <= 1000)
    app:run_duties()
    assert.equal(1, n)
    assert.truthy(shared.get("health.duty.spec"):find("tired", 1, true))
    assert.truthy(lines[1].failure.traceback:find("tired", 1, true))
    fail = false
    app.duties[1].next_at = 0
    app:run_duties()
    assert.is_nil(shared.get("health.duty.spec"))
    assert.error_matches(function() app:every(0, "x", print) end, "sec must be above 0")
    app:every(1000, "sooner", function() return 5 end)
    app:every(1000, "not later", function() return 5000 end)
    delay = app:run_duties()
    assert.is_true(delay > 4 and delay <= 5)
    delay = app.duties[3].next_at - app.duties[2].next_at
    assert.is_true(delay > 990 and delay < 1000)
    local woken = 0
    app:every(1000, "woken", function() woken = woken + 1 end, { wakes = true })
    app:run_duties()
    app:run_duties()
    assert.equal(1, woken)
    app:run_duties(true)
    assert.same({ 2, 2 }, { woken, n })
  end)
end)
