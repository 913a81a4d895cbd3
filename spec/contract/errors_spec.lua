--- Every route with every kind of bad request, derived from the route table: the answers' shapes, and that no bad
--- request changes anything on NATS. Then NATS gone: 503 from all that need it.
local clock = require "host.clock"
local http = require "host.http"
local json = require "host.json"
local bad = require "spec.support.bad"
local fixture = require "spec.support.fixture"
local gateway_app = require "spec.support.gateway_app"
local runs = require "spec.support.runs"
local web = require "spec.support.web"

local MAX_BODY = 65536

--- Streams that change by themselves.
local RESTLESS = { KV_pyoco_leases = true }

describe("bad requests", function()
  local it_has, routes

  setup(function()
    routes = gateway_app.new():routes()
    it_has = runs.start { env = { PYOCO_HTTP_MAX_BODY_BYTES = tostring(MAX_BODY) } }
    it_has.gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    it_has:put("waits", { status = "PENDING_APPROVAL" })
    it_has:put("ordinary")
  end)
  teardown(function() it_has:stop() end)
  after_each(http.close)

  --- What NATS holds: stream -> { last sequence, messages }.
  local function state()
    local reply = assert(it_has.store.conn:request("$JS.API.STREAM.LIST", "{}", 5000))
    local found = {}
    for _, stream in ipairs(assert(json.decode(reply.data)).streams) do
      if not RESTLESS[stream.config.name] then
        found[stream.config.name] = { stream.state.last_seq, stream.state.messages }
      end
    end
    return found
  end

  local function fits(status, wanted)
    for _, one in ipairs(type(wanted) == "table" and wanted or { wanted }) do
      if one == status then return true end
    end
  end

  --- What is wrong with an answer, or nil.
  local function fault_of(case, answer)
    if not fits(answer.status, case.status) then return ("%d %s"):format(answer.status, answer.body:sub(1, 200)) end
    if answer.headers["content-type"] ~= "application/json" then return "no JSON: " .. answer.body:sub(1, 200) end
    if not answer.headers["x-request-id"] then return "no x-request-id" end
    local detail = answer.json.detail
    if type(detail) == "string" then
      return case.fault and "a text where items are due: " .. detail or nil
    end
    local seen = {}
    for _, item in ipairs(detail) do
      if type(item.loc) ~= "table" or type(item.msg) ~= "string" or item.input == nil then
        return "no pydantic item: " .. answer.body
      end
      seen[#seen + 1] = item.type .. " " .. table.concat(item.loc, ".")
      local where = not case.loc or table.concat(item.loc, "."):find(table.concat(case.loc, "."), 1, true) == 1
      if (not case.fault or item.type == case.fault) and where then return nil end
    end
    return ("no %s at %s, but %s"):format(case.fault, table.concat(case.loc or {}, "."), table.concat(seen, ", "))
  end

  it("are answered as the contract says, and change nothing", function()
    local cases, faults, before = bad.cases(routes), {}, state()
    assert.truthy(#cases > 80)
    for _, case in ipairs(cases) do
      local answer, message = it_has.gateway:fetch(case.path, case.request)
      local fault = answer and fault_of(case, answer) or not answer and message
      if fault then faults[#faults + 1] = case.name .. ": " .. fault end
    end
    assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
    assert.same(before, state())
  end)

  it("to ids that are not there, or cannot be, find nothing", function()
    local faults, before = {}, state()
    for _, route in ipairs(routes) do
      if route.path:find("/:", 1, true) then
        for _, id in ipairs { "nosuch", "a%20b", "%2e%2e", "%C3%A4", ("x"):rep(300) } do
          local answer = assert(it_has.gateway:fetch(bad.good(route, id)))
          if answer.status ~= 404 or type(answer.json.detail) ~= "string" then
            faults[#faults + 1] = ("%s %s with %s: %d %s"):format(route.method, route.path, id:sub(1, 20),
              answer.status, answer.body:sub(1, 100))
          end
        end
      end
    end
    assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
    assert.same(before, state())
  end)

  local HAS_HEAD = { ["/"] = true, ["/health"] = true, ["/ready"] = true } -- for probes; the API has none

  it("with another method are 405 and say which there are; a slash too many is 307; no path is 404", function()
    local methods, faults = {}, {}
    for _, route in ipairs(routes) do
      local path = bad.good(route)
      methods[path] = methods[path] or {}
      methods[path][route.method] = true
    end
    for path, known in pairs(methods) do
      local list = {}
      for name in pairs(known) do list[#list + 1] = name end
      table.sort(list)
      for _, method in ipairs { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS" } do
        if not known[method] and not (method == "HEAD" and HAS_HEAD[path]) then
          local answer = assert(it_has.gateway:fetch(path, { method = method }))
          local allow = answer.headers.allow
          if answer.status ~= 405 or allow ~= table.concat(list, ", ")
            or (method ~= "HEAD" and answer.body ~= '{"detail":"Method Not Allowed"}') then
            faults[#faults + 1] = ("%s %s: %d, allow %s, %s"):format(method, path, answer.status, tostring(allow),
              answer.body:sub(1, 80))
          end
        end
      end
      if path ~= "/" then
        local answer = assert(it_has.gateway:fetch(path .. "/?a=1", { method = list[1] }))
        if answer.status ~= 307 or answer.headers.location ~= path .. "?a=1" then
          faults[#faults + 1] = ("%s %s/: %d, location %s"):format(list[1], path, answer.status,
            tostring(answer.headers.location))
        end
      end
    end
    assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
    assert.equal("/health", it_has.gateway:fetch("/health/").headers.location)
    local answer = it_has.gateway:fetch "/nosuch"
    assert.same({ 404, '{"detail":"Not Found"}' }, { answer.status, answer.body })
  end)

  it("that are too large are 413, and change nothing", function()
    local faults, before = {}, state()
    for _, route in ipairs(routes) do
      if route.body or (route.form and route.name ~= "wheels.upload") then
        local path, request = bad.good(route)
        request.body = request.body .. (" "):rep(MAX_BODY)
        local answer = assert(it_has.gateway:fetch(path, request))
        if answer.status ~= 413 or type(answer.json and answer.json.detail) ~= "string" then
          faults[#faults + 1] = ("%s %s: %d %s"):format(route.method, route.path, answer.status, answer.body:sub(1, 80))
        end
      end
    end
    assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
    assert.same(before, state())
  end)

  --- Recorded error -> a request that meets it.
  local RECORDED = {
    ["no run"] = { "/runs/nosuch" }, ["bad cursor"] = { "/runs?cursor=x" }, ["bad scope"] = { "/workers?scope=x" },
    ["405"] = { "/runs", { method = "PUT" } }, ["404"] = { "/nosuch" },
    ["approve ordinary"] = { "/runs/ordinary/approve", { json = {} } },
    ["no schedule"] = { "/schedules/nosuch/runs" }, ["no wheel"] = { "/wheels/nosuch.whl" },
    ["bad yaml"] = function() return it_has.gateway:submit("flow: [", { { "flow_name", "f" } }) end,
  }

  for name, request in pairs(RECORDED) do
    it("are answered as recorded: " .. name, function()
      local answer = type(request) == "function" and request() or it_has.gateway:fetch(request[1], request[2])
      local theirs = fixture "http-errors"[name]
      assert.same({ theirs.status, theirs.body.detail }, { answer.status, answer.json.detail })
    end)
  end

  it("have a recording for each that was recorded", function()
    for name in pairs(fixture "http-errors") do assert.is_not_nil(RECORDED[name], name) end
  end)

  it("that are no HTTP do not change anything either", function()
    local before, port = state(), tonumber(it_has.gateway.url:match(":(%d+)$"))
    for _, bytes in ipairs { "POST /runs HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}",
      "POST /runs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 40\r\n"
        .. 'connection: close\r\n\r\n{"flow_name":"f"}', "NONSENSE\r\n\r\n", "\0\1\2\r\n\r\n" } do
      local connection = web.connect(port, bytes)
      connection:wait(function(c) return c.tcp:get_write_queue_size() == 0 and c.tcp:is_writable() end)
      connection:close() -- gone in the middle
    end
    assert.same(before, state())
    assert.equal(200, it_has.gateway:fetch("/health").status)
  end)
end)

describe("without NATS", function()
  --- Answers that need no NATS.
  local ALONE = { page = 200, version = 200, ["schemas.flow"] = 200, check = 200, openapi = 200, docs = 200,
    redoc = 307, events = false } -- events: a stream, which outlives NATS

  it("every route that needs it answers 503 within two seconds, and /health 200", function()
    local it_has = runs.start()
    local gateway = it_has.gateway
    finally(function()
      it_has:stop()
      http.close()
    end)
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    it_has.server:kill()
    gateway:wait("/ready", function(answer) return answer.status == 503 end, "the loss to be seen")
    local faults = {}
    for _, route in ipairs(gateway_app.new():routes()) do
      local path, request = bad.good(route)
      local before, wanted = clock.monotonic(), ALONE[route.name]
      if wanted == nil then wanted = 503 end
      local answer = wanted and assert(gateway:fetch(path, request))
      local took = clock.monotonic() - before
      if answer and (answer.status ~= wanted or took >= 2) then
        faults[#faults + 1] = ("%s %s: %d %s after %.1f s"):format(route.method, route.path, answer.status,
          answer.body:sub(1, 100), took)
      elseif answer and wanted == 503
        and (type(answer.json.detail) ~= "string" or not answer.headers["retry-after"]) then
        faults[#faults + 1] = ("%s %s: %s, retry-after %s"):format(route.method, route.path, answer.body:sub(1, 100),
          tostring(answer.headers["retry-after"]))
      end
    end
    assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
    assert.equal(200, gateway:fetch("/health").status)
  end)
end)
