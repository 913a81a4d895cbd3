--- ctx:http: requests on the run's loop, beside other tasks; what it sends, what it gives back, and every way to fail.
local host = require "host"
local http = require "host.http"
local json = require "host.json"
local uv = require "luv"
local flow = require "spec.support.flow"
local http_server = require "spec.support.http_server"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

--- A listener that takes connections and never answers.
local function silent()
  local listener = uv.new_tcp()
  listener:bind("127.0.0.1", 0)
  listener:listen(8, function() end)
  return { url = "http://127.0.0.1:" .. math.tointeger(listener:getsockname().port), stop = function()
    listener:close()
    uv.run("nowait")
  end }
end

describe("ctx:http", function()
  --- An `it` with a server; nothing is left open after it.
  local function serves(name, handler, body)
    it(name, function()
      local server = http_server.start(function(asked)
        local answer = handler(asked)
        if answer then answer.headers = answer.headers or {} end
        return answer
      end)
      finally(function()
        server.stop()
        http.close()
        uv.run("nowait")
      end)
      body(server)
    end)
  end

  --- Runs one request in a task; returns its output, or nil and its error.
  local function request(spec, options)
    local record = flow.task(function(ctx)
      local answer = ctx:http(spec)
      return answer
    end, options)
    return record.output, record.error
  end

  local function fails_with(text, spec)
    local output, message = request(spec)
    assert.is_nil(output)
    assert.truthy(message:find(text, 1, true), ("%s\nis not in\n%s"):format(text, message))
    return message
  end

  serves("gets a page: status, headers, body", function()
    return { body = "hello", headers = { ["Content-Type"] = "text/plain", ["X-Two"] = "a" } }
  end, function(server)
    local got = request { url = server.url .. "/page?x=1" }
    assert.same({ 200, "hello", "text/plain", "a" },
      { got.status, got.body, got.headers["content-type"], got.headers["x-two"] })
    assert.is_true(got.ok)
    assert.is_nil(got.json)
    assert.same({ "GET", "/page?x=1" }, { server.requests[1].method, server.requests[1].path })
  end)

  serves("sends text, JSON, headers and a query, escaped and in order", function()
    return { body = '{"n": 3, "list": []}', headers = { ["content-type"] = "application/problem+json; charset=utf-8" } }
  end, function(server)
    local got = request { url = server.url .. "/a?z=0#part", json = { b = true },
      query = { q = "a b&c", n = 2, tags = { "x", "y" } }, headers = { ["X-Id"] = 7, ["X-Empty"] = "" } }
    assert.same({ n = 3, list = {} }, got.json)
    local sent = server.requests[1]
    assert.same({ "POST", "/a?z=0&n=2&q=a%20b%26c&tags=x&tags=y", '{"b":true}', "application/json", "7", "" },
      { sent.method, sent.path, sent.body, sent.headers["content-type"], sent.headers["x-id"],
        sent.headers["x-empty"] })
    request { url = server.url, method = "put", body = "text", headers = { ["content-type"] = "text/x" } }
    sent = server.requests[2]
    assert.same({ "PUT", "text", "text/x" }, { sent.method, sent.body, sent.headers["content-type"] })
    request { url = server.url, method = "DELETE" }
    assert.equal("DELETE", server.requests[3].method)
  end)

  serves("lets other tasks go on, and waits for several at once", function()
    return { stays_open = true, stream = true }
  end, function(server)
    local order = {}
    local function get(name)
      return function(ctx)
        order[#order + 1] = name .. " asks"
        local body = ctx:http({ url = server.url .. "/" .. name }).body
        order[#order + 1] = name .. " has " .. body
      end
    end
    local eng = flow.run({ { "a", get "a" }, { "b", get "b" }, { "c", function(ctx)
      while #server.requests < 2 do ctx:sleep(0.001) end -- both are being answered
      order[#order + 1] = "c"
      for i = 2, 1, -1 do -- the second first
        server.requests[i].send(server.requests[i].path)
        server.requests[i].finish()
        while #order < 6 - i do ctx:sleep(0.001) end
      end
    end } })
    assert.equal("COMPLETED", eng.status, eng.error)
    local last = server.requests[2].path:sub(2)
    local first = last == "a" and "b" or "a"
    assert.same({ "a asks", "b asks", "c", last .. " has /" .. last, first .. " has /" .. first }, order)
  end)

  serves("gets an answer while another task computes", function() return { body = "there" } end, function(server)
    local got
    local eng = flow.run {
      { "get", function(ctx) got = ctx:http({ url = server.url }).body end },
      { "compute", function() while not server.requests[1] do end end },
    }
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal("there", got)
  end)

  serves("raises on a status of 400 and more, unless told not to", function()
    return { status = 503, body = "try\nlater", headers = { ["content-type"] = "text/plain" } }
  end, function(server)
    local message = fails_with("GET " .. server.url .. "/x: answered 503: try later",
      { url = server.url:gsub("//", "//bob:secret@") .. "/x?token=abc" })
    assert.truthy(message:find("^spec/engine/http_spec.lua:%d+: "), message)
    assert.falsy(message:find("secret", 1, true) or message:find("abc", 1, true), message)
    local got = request { url = server.url, check = false }
    assert.same({ 503, false }, { got.status, got.ok })
  end)

  serves("follows redirects, but not for ever", function(asked)
    local status = asked.path == "/keep" and 307 or 302
    local where = ({ ["/loop"] = "/loop", ["/file"] = "file:///etc/passwd" })[asked.path]
    if asked.path == "/end" then return { body = asked.method } end
    return { status = status, headers = { location = where or "/end" } }
  end, function(server)
    assert.equal("GET", request({ url = server.url .. "/start", method = "POST", body = "x" }).body)
    assert.equal("POST", request({ url = server.url .. "/keep", method = "POST", body = "x" }).body)
    assert.equal(302, request({ url = server.url .. "/start", follow = false }).status)
    fails_with("Maximum (10) redirects followed", { url = server.url .. "/loop" })
    fails_with('Protocol "file" not supported', { url = server.url .. "/file" })
  end)

  serves("does not take a password along to another host", function(asked)
    if asked.path == "/end" then return { body = asked.headers.authorization or "none" } end
    local port = asked.headers.host:match(":(%d+)$")
    return { status = 302, headers = { location = "http://localhost:" .. port .. "/end" } }
  end, function(server)
    assert.equal("none", request({ url = server.url, headers = { Authorization = "Bearer x" } }).body)
    assert.equal("none", request({ url = server.url:gsub("//", "//bob:secret@") }).body)
    assert.equal("Basic Ym9iOnNlY3JldA==", request({ url = server.url:gsub("//", "//bob:secret@") .. "/end" }).body)
  end)

  serves("refuses an answer that is too large, or is no JSON though it says so", function(asked)
    if asked.path == "/json" then return { body = "{oops", headers = { ["content-type"] = "application/json" } } end
    return { body = ("x"):rep(5000), headers = {} }
  end, function(server)
    fails_with("the answer has more than 4999 bytes", { url = server.url, max_bytes = 4999 })
    assert.equal(5000, #request({ url = server.url, max_bytes = 5000 }).body)
    fails_with("answered with JSON that cannot be read: ", { url = server.url .. "/json" })
    assert.equal("{oops", request({ url = server.url .. "/json", check = false }).body)
  end)

  serves("counts answers that arrive as memory of the run", function() return { body = ("x"):rep(4 << 20) } end,
    function(server)
      local limit = math.ceil(collectgarbage "count") * 1024 + (12 << 20)
      local function get(ctx) return #ctx:http({ url = server.url }).body end
      local eng = flow.run({ { "a", get }, { "b", get }, { "c", get }, { "d", get } }, { memory_limit = limit })
      assert.equal("FAILED", eng.status)
      assert.truthy(eng.error:find("not enough memory for the answer (the limit is ", 1, true), eng.error)
    end)

  serves("says that the connection broke", function() return nil end, function(server)
    fails_with("GET " .. server.url .. ": Empty reply from server", { url = server.url })
  end)

  it("names the host that does not answer, that is unknown, or that refuses", function()
    local server = silent()
    finally(function()
      server.stop()
      http.close()
      uv.run("nowait")
    end)
    local address = server.url:match("//(.*)")
    fails_with("GET http://" .. address .. "/a: no answer within 0.05 s from " .. address,
      { url = "http://bob:secret@" .. address .. "/a?b", timeout_sec = 0.05 })
    fails_with("cannot connect: Connection refused", { url = "http://127.0.0.1:1/" })
    fails_with("Could not resolve host: no-such-host.invalid", { url = "http://no-such-host.invalid/" })
  end)

  it("ends at once when the run is cancelled", function()
    local server = silent()
    finally(function()
      server.stop()
      http.close()
      uv.run("nowait")
    end)
    local record, eng = flow.task(function(ctx)
      while true do pcall(ctx.http, ctx, { url = server.url, timeout_sec = 86400 }) end
    end, { on_start = function(eng)
      local timer = uv.new_timer()
      timer:start(5, 0, function()
        timer:close()
        eng:cancel()
      end)
    end })
    assert.same({ "CANCELLED", "CANCELLED", "run cancelled" }, { eng.status, record.state, record.error })
  end)

  it("checks certificates", function()
    local tls = host.home .. "/spec/support/tls/"
    local server = process.spawn("openssl", { "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", tls .. "cert.pem",
      "-key", tls .. "key.pem" })
    finally(function()
      server:stop(5000)
      http.close()
      uv.run("nowait")
    end)
    process.wait_for(function() return server.stdout:find("ACCEPT %S+:%d+") end, 10000, "openssl s_server")
    local port = server.stdout:match("ACCEPT %S+:(%d+)")
    fails_with("SSL certificate problem: self-signed certificate", { url = "https://localhost:" .. port })
    assert.equal(200, request({ url = "https://localhost:" .. port, ca_file = tls .. "cert.pem" }).status)
    fails_with("SSL", { url = "https://127.0.0.1:" .. port, ca_file = tls .. "other.pem" })
  end)

  it("says what is wrong with a request before it is made", function()
    local cases = {
      { "expected { url = \"http://...\" }, got a string", "http://x" },
      { "url is missing", {} },
      { "url: expected http://... or https://..., got 'localhost:80'", { url = "localhost:80" } },
      { "url: 'ftp:' is not supported, only http: and https: are", { url = "ftp://x/" } },
      { "url: 'file:' is not supported", { url = "file:///etc/passwd" } },
      { "url: it has no host", { url = "http://" } },
      { "url: it has no host", { url = "http://bob@/x" } },
      { "url: it holds a blank or a control character", { url = "http://x/a b" } },
      { "url: it holds a blank or a control character", { url = "http://x/\r\nHost: y" } },
      { "unknown field 'heders'; did you mean headers?", { url = "http://x", heders = {} } },
      { "headers.X: a value cannot have line breaks", { url = "http://x", headers = { X = "a\r\nY: b" } } },
      { "headers: 'X: a\nY' is no name of a header", { url = "http://x", headers = { ["X: a\nY"] = "b" } } },
      { "headers.X: expected text, got a table", { url = "http://x", headers = { X = {} } } },
      { "method: expected a word like GET", { url = "http://x", method = "GET / HTTP/1.1\r\nX: y" } },
      { "body: expected text, got a table; json = sends a value as JSON", { url = "http://x", body = {} } },
      { "body and json exclude each other", { url = "http://x", body = "a", json = 1 } },
      { "json: f: ", { url = "http://x", json = { f = print } } },
      { "query.q: expected text, a number, a boolean or a list of them, got a function",
        { url = "http://x", query = { q = print } } },
      { "timeout_sec: expected a number from 0.001 to", { url = "http://x", timeout_sec = 0 } },
      { "timeout_sec: expected a number from 0.001 to", { url = "http://x", timeout_sec = 0 / 0 } },
      { "max_bytes: expected a number from 1 to", { url = "http://x", max_bytes = -1 } },
    }
    for _, case in ipairs(cases) do fails_with("ctx:http: " .. case[1], case[2]) end
    fails_with("GET http://[::1: ", { url = "http://[::1" })
    http.close()
    uv.run("nowait")
  end)

  serves("ends with its VM, whatever it waits for", function(asked) return { body = asked.path } end, function(server)
    local hangs, script = silent(), os.tmpname()
    tmp.write(script, ([[
      local http, uv = require "host.http", require "luv"
      http.start({ url = %q }, function() print "never" end)
      http.start({ url = %q }, function(answer) print(answer.body) uv.stop() end)
      uv.run()
      uv.new_timer() -- left open too
    ]]):format(hangs.url, server.url .. "/x"))
    local got = process.host { script }
    got:wait(10000)
    hangs.stop()
    os.remove(script)
    assert.same({ 0, "/x\n", "" }, { got.code, got.stdout, got.stderr })
  end)

  serves("has requests in one task and loads the library once", function(asked) return { body = asked.path } end,
    function(server)
      local record = flow.task(function(ctx)
        local bodies = json.array {}
        for i = 1, 20 do bodies[i] = ctx:http({ url = server.url .. "/" .. i }).body end
        return bodies
      end)
      assert.equal("/1 /20", record.output[1] .. " " .. record.output[20], record.error)
    end)
end)
