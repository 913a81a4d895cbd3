local http = require "host.http"
local httpd = require "host.httpd"
local shared = require "host.shared"
local uv = require "luv"
local web = require "spec.support.web"

local APP = [[
local host, shared = require "host", require "host.shared"
local app = { duties = {} }
function app:handle(req)
  if req.path == "/boom" then error("kaboom") end
  if req.path == "/headers" then
    return { headers = { ["X-A"] = "1", ["set-cookie"] = { "a=1", "b=2" } }, body = req.headers["x-in"] or "" }
  end
  if req.path == "/block" then
    shared.incr("spec.blocked")
    while not shared.get("spec.release") do end
    return { body = "released" }
  end
  if req.path == "/bad" then return { headers = { x = "a\r\nb" } } end
  if req.path == "/none" then return nil end
  if req.path == "/204" then return { status = 204 } end
  return { status = 200, headers = { ["content-type"] = "text/plain" }, body = table.concat({ req.method, req.path,
    req.raw_path, req.query_string, req.remote_addr, req.scheme, #req.body, host.role }, " ") }
end
return app
]]

-- What an endless loop does: nothing, but ThreadSanitizer delivers signals only at calls of the C library.
local LOOP = require("host").exe:find("/tsan/", 1, true) and 'local _ = ("x"):rep(200)' or ""

describe("host.httpd", function()
  local server, script, remove

  local function serve(text, options)
    local dir
    dir, remove = web.folder()
    script = dir .. "/app.lua"
    web.write(script, text or APP)
    local all = { script = script, port = 0, threads = 8, service = false }
    for k, v in pairs(options or {}) do all[k] = v end
    local message, code
    server, message, code = httpd.serve(all)
    return server, message, code
  end

  local function fetch(path, options)
    local all = { url = ("http://127.0.0.1:%d%s"):format(server:port(), path) }
    for k, v in pairs(options or {}) do all[k] = v end
    return assert(http.request(all))
  end

  local level = os.getenv "PYOCO_LOG_LEVEL"
  setup(function() uv.os_setenv("PYOCO_LOG_LEVEL", "CRITICAL") end)
  teardown(function()
    if level then uv.os_setenv("PYOCO_LOG_LEVEL", level) else uv.os_unsetenv "PYOCO_LOG_LEVEL" end
  end)

  local function cleanup()
    http.close()
    if server then server:stop(5) end
    if remove then remove() end
    server, remove = nil, nil
    for _, key in ipairs(shared.keys("spec.")) do shared.delete(key) end
  end

  --- An `it` whose server is gone before the check for leaks.
  local function serves(name, body)
    it(name, function()
      finally(cleanup)
      body()
    end)
  end

  serves("hands the request over and the response back", function()
    assert(serve())
    local answer = fetch("/a%2Fb?q=1&r=%20", { method = "PUT", body = "12345" })
    assert.equal(200, answer.status)
    assert.equal("PUT /a/b /a%2Fb q=1&r=%20 127.0.0.1 http 5 http", answer.body)
    assert.equal("text/plain", answer.headers["content-type"])
    answer = fetch("/headers", { headers = { ["X-In"] = "seen" } })
    assert.equal("seen", answer.body)
    assert.equal("1", answer.headers["x-a"])
    assert.equal("a=1, b=2", answer.headers["set-cookie"])
    local text = web.raw(server:port(), "GET /headers HTTP/1.1\r\nHost: a\r\nX-In:  a b  \r\nX-In: c \r\n" ..
      "Connection: close\r\n\r\n")
    assert.equal("a b, c", text:match("\r\n\r\n(.*)"), text)
  end)

  serves("keeps connections alive and answers pipelined requests in order", function()
    assert(serve())
    local text = web.raw(server:port(), "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" ..
      "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert.truthy(text:find("GET /1.*connection: close.*GET /2"), text)
  end)

  serves("has no body in 204 and in answers to HEAD", function()
    assert(serve())
    assert.equal("", fetch("/204").body)
    local text = web.raw(server:port(), "HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert.truthy(text:find("content%-length: %d+\r\n\r\n$"), text)
  end)

  serves("takes GET and HEAD only for /health", function()
    assert(serve())
    local head = web.raw(server:port(), "HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert.truthy(head:find "^HTTP/1.1 200 OK\r\n.*content%-length: %d+\r\n.*\r\n\r\n$", head)
    for _, method in ipairs { "POST", "DELETE" } do
      local text = web.raw(server:port(), method .. " /health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
      assert.truthy(text:find "^HTTP/1.1 405 Method Not Allowed\r\n", text)
      assert.truthy(text:find("allow: GET\r\n", 1, true), text)
    end
  end)

  serves("answers 500 for a raising handler and for responses that are none, and goes on", function()
    assert(serve())
    for _, path in ipairs { "/boom", "/bad", "/none" } do
      local answer = fetch(path)
      assert.equal(500, answer.status, path)
      assert.equal("Internal Server Error", answer.body)
      assert.equal("text/plain; charset=utf-8", answer.headers["content-type"])
    end
    assert.equal(200, fetch("/x").status)
  end)

  serves("limits bodies, declared or chunked", function()
    assert(serve(nil, { max_body_bytes = 1000 }))
    assert.equal(200, fetch("/x", { body = ("x"):rep(1000) }).status)
    local answer = fetch("/x", { body = ("x"):rep(1001) })
    assert.equal(413, answer.status)
    assert.equal('{"detail":"body too large, the limit is 1000 bytes"}', answer.body)
    local chunk = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" ..
      "%s\r\n0\r\n\r\n"
    local function chunked(n) return chunk:format(("%x\r\n%s"):format(n, ("x"):rep(n))) end
    assert.truthy(web.raw(server:port(), chunked(1000)):find("x 1000 http", 1, true) or
      web.raw(server:port(), chunked(1000)):find(" 1000 http", 1, true))
    assert.truthy(web.raw(server:port(), chunked(1001)):find("HTTP/1.1 413", 1, true))
  end)

  serves("takes a body that is much larger than its buffers", function()
    assert(serve())
    assert.truthy(fetch("/x", { body = ("x"):rep(5000000) }).body:find(" 5000000 ", 1, true))
    assert.equal(413, fetch("/x", { body = ("x"):rep(9000000) }).status)
  end)

  serves("answers Expect: 100-continue before it reads the body", function()
    assert(serve(nil, { max_body_bytes = 100 }))
    local head = "POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    local text = web.raw(server:port(), head:format(5), function(t) return t:find("\r\n\r\n", 1, true) end)
    assert.equal("HTTP/1.1 100 Continue\r\n\r\n", text)
    text = web.raw(server:port(), head:format(500))
    assert.truthy(text:find("^HTTP/1.1 413 "), text)
  end)

  serves("answers 408 when a body stalls", function()
    assert(serve(nil, { request_timeout_ms = 200 }))
    local text = web.raw(server:port(), "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123")
    assert.truthy(text:find("^HTTP/1.1 408 "), text)
    assert.truthy(text:find('{"detail":"body incomplete', 1, true), text)
  end)

  serves("closes a connection that sends nothing", function()
    assert(serve(nil, { request_timeout_ms = 200 }))
    local _, closed = web.raw(server:port(), "GET /x HT")
    assert.is_true(closed)
  end)

  for what, case in pairs {
    ["two content-lengths"] = { "POST", "Content-Length: 1\r\nContent-Length: 2\r\n", "400" },
    ["content-length and transfer-encoding"] = { "POST", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "400" },
    ["an unknown transfer-encoding"] = { "POST", "Transfer-Encoding: gzip\r\n", "400" },
    ["a second host"] = { "GET", "Host: b\r\n", "400" },
    ["too many headers"] = { "GET", ("X-H: 1\r\n"):rep(70), "431" },
    ["a header of 20 KB"] = { "GET", "X-H: " .. ("a"):rep(20000) .. "\r\n", "400" },
    ["a negative content-length"] = { "POST", "Content-Length: -1\r\n", "411" },
    ["an unknown method"] = { "BREW", "", "400" },
  } do
    serves("refuses " .. what, function()
      assert(serve())
      local text = web.raw(server:port(), ("%s /x HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(case[1], case[2]))
      assert.truthy(text:find("^HTTP/1.1 " .. case[3] .. " "), text)
      assert.truthy(text:find('\r\n\r\n{"detail":"[^"]+"}$'), text)
    end)
  end

  serves("refuses a request without Host", function()
    assert(serve())
    assert.truthy(web.raw(server:port(), "GET /x HTTP/1.1\r\n\r\n"):find("^HTTP/1.1 400 "))
    assert.truthy(web.raw(server:port(), "GET /x HTTP/1.0\r\n\r\n"):find("^HTTP/1.1 200 "))
  end)

  serves("answers 503 when no VM is free for a second, and /health meanwhile", function()
    assert(serve(nil, { vms = 1 }))
    local blocked = uv.new_tcp()
    blocked:connect("127.0.0.1", server:port(), function() blocked:write("GET /block HTTP/1.1\r\nHost: a\r\n\r\n") end)
    web.wait_for(function() return shared.get("spec.blocked") end)
    local answer = fetch("/x")
    assert.equal(503, answer.status)
    assert.equal("1", answer.headers["retry-after"])
    assert.truthy(fetch("/health").body:find('"vms_busy":1', 1, true))
    assert.equal(1, server:stats().refused)
    shared.set("spec.release", true)
    blocked:close()
    uv.run("nowait")
    assert.equal(200, fetch("/x").status)
  end)

  serves("cuts a handler that runs for ever, pcall or not, and goes on", function()
    assert(serve(([[return { handle = function(_, req)
      if req.path == "/fine" then return { body = "fine" } end
      while true do pcall(function() while true do LOOP end end) end
    end }]]):gsub("LOOP", LOOP), { vms = 1, handler_timeout_ms = 100 }))
    for _ = 1, 3 do
      assert.equal(500, fetch("/loop").status)
      assert.equal("fine", fetch("/fine").body)
    end
  end)

  serves("stops though a duty runs for ever", function()
    assert(serve(([[return { handle = function() end, run_duties = function()
      require("host.shared").set("spec.duty", true)
      while true do LOOP end
    end }]]):gsub("LOOP", LOOP), { service = true }))
    web.wait_for(function() return shared.get("spec.duty") end)
    server:stop(0.05)
    server = nil
  end)

  serves("lets requests end within the drain time, and cuts them after it", function()
    for drain, status in pairs { [30] = "200", [0.05] = "500" } do
      assert(serve())
      shared.delete("spec.release")
      shared.set("spec.blocked", 0)
      local c = web.connect(server:port(), "GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
      c:wait(function() return shared.get("spec.blocked") == 1 end)
      if drain == 30 then shared.set("spec.release", true) end
      server:stop(drain)
      server = nil
      remove()
      assert.is_true(c:wait(function() return c.text:find("^HTTP/1.1 " .. status) end))
      c:close()
    end
    remove = nil
  end)

  serves("shows shared health.* keys and the reload error on /health", function()
    assert(serve())
    shared.set("health.spec", '{"a":[1]}')
    local body = fetch("/health").body
    shared.delete("health.spec")
    assert.truthy(body:find('^{"status":"ok",'), body)
    assert.truthy(body:find('"reload_error":null', 1, true), body)
    assert.truthy(body:find('"spec":{"a":[1]}', 1, true), body)
  end)

  serves("serves static files and nothing outside their folder", function()
    local dir = web.folder()
    assert(serve(nil, { static_dir = dir }))
    web.write(dir .. "/a.css", "body {}")
    web.write(dir .. "/.hidden", "secret")
    local answer = fetch("/static/a.css")
    assert.equal("body {}", answer.body)
    assert.truthy(answer.headers["content-type"]:find("text/css", 1, true))
    assert.equal(304, fetch("/static/a.css", { headers = { ["If-None-Match"] = answer.headers.etag } }).status)
    local head = fetch("/static/a.css", { method = "HEAD" })
    assert.same({ 200, "", answer.headers.etag }, { head.status, head.body, head.headers.etag })
    assert.same({ 404, "" }, { fetch("/static/b.css", { method = "HEAD" }).status,
      fetch("/static/b.css", { method = "HEAD" }).body })
    local post = fetch("/static/a.css", { method = "POST", body = "" })
    assert.same({ 405, "GET, HEAD", '{"detail":"Method Not Allowed"}' }, { post.status, post.headers.allow, post.body })
    for _, path in ipairs { "", "b.css", ".hidden", "../app.lua", "%2e%2e/app.lua", "a/../../x", "/etc/passwd" } do
      local text = web.raw(server:port(), ("GET /static/%s HTTP/1.1\r\nHost: a\r\n" ..
        "Connection: close\r\n\r\n"):format(path))
      assert.truthy(text:find("^HTTP/1.1 404 "), path .. "\n" .. text)
    end
    os.remove(dir .. "/a.css")
    os.remove(dir .. "/.hidden")
    os.remove(dir)
  end)

  describe("hot reload", function()
    local function app_saying(text)
      return ('return { handle = function() return { body = %q } end }'):format(text)
    end

    serves("makes a saved edit live for the next request", function()
      assert(serve(app_saying "1"))
      for i = 2, 20 do
        web.write(script, app_saying(tostring(i)))
        assert.equal(tostring(i), fetch("/").body)
      end
    end)

    serves("takes an edit that is saved by rename", function()
      assert(serve(app_saying "old"))
      web.write(script .. ".tmp", app_saying "new")
      os.rename(script .. ".tmp", script)
      assert.equal("new", fetch("/").body)
    end)

    serves("follows required modules, also those required late", function()
      serve([[
        package.path = debug.getinfo(1, "S").source:match("^@(.*/)") .. "?.lua;" .. package.path
        local at_load = require "at_load"
        return { handle = function() return { body = at_load .. require "late" } end }]])
      -- the modules do not exist yet: the first start fails and says so
      assert.is_nil(server)
      local dir = script:match("^(.*/)")
      web.write(dir .. "at_load.lua", 'return "a1"')
      web.write(dir .. "late.lua", 'return "l1"')
      server = assert(httpd.serve { script = script, port = 0, threads = 8, service = false })
      assert.equal("a1l1", fetch("/").body)
      web.write(dir .. "at_load.lua", 'return "a2"')
      assert.equal("a2l1", fetch("/").body)
      web.write(dir .. "late.lua", 'return "l2"')
      assert.equal("a2l2", fetch("/").body)
    end)

    serves("keeps the last good version when an edit is broken, and says where", function()
      assert(serve(app_saying "good"))
      for text, message in pairs {
        ["x = = 1"] = ":1: unexpected symbol near '='",
        ["\nerror('no')"] = ":2: no",
        ["return 1"] = "the script must return its app",
        ["return require 'nope_at_all'"] = "module 'nope_at_all' not found",
      } do
        web.write(script, text)
        assert.equal("good", fetch("/").body)
        local health = fetch("/health").body
        assert.truthy(health:find(message, 1, true), health)
        assert.truthy(server:stats().reload_error:find(message, 1, true))
      end
      web.write(script, app_saying "better")
      assert.equal("better", fetch("/").body)
      assert.is_nil(server:stats().reload_error)
      assert.equal(2, server:stats().script_version)
    end)

    serves("lets requests that arrive during a build wait for it", function()
      assert(serve(app_saying "1"))
      web.write(script, [[
        local uv = require "luv"
        local t = uv.hrtime()
        while uv.hrtime() - t < 150e6 do end
        return { handle = function() return { body = "slow to build" } end }]])
      assert.equal("slow to build", fetch("/").body)
    end)
  end)

  serves("runs duties in exactly one service VM, reloaded with the script", function()
    local text = [[
      local host, shared = require "host", require "host.shared"
      return { handle = function() return { body = host.role } end,
        run_duties = function() shared.incr("spec.duty.%s." .. host.role); return 0.001 end }]]
    assert(serve(text:format("a"), { service = true }))
    web.wait_for(function() return (shared.get("spec.duty.a.service") or 0) > 3 end)
    web.write(script, text:format("b"))
    fetch("/")
    web.wait_for(function() return (shared.get("spec.duty.b.service") or 0) > 3 end)
    local a = shared.get("spec.duty.a.service")
    web.wait_for(function() return shared.get("spec.duty.b.service") > 20 end)
    assert.equal(a, shared.get("spec.duty.a.service"))
    assert.is_nil(shared.get("spec.duty.b.http"))
  end)

  serves("wakes the duties when what they wait for has happened", function()
    local guard = require "host.guard"
    assert(serve([[
      local shared = require "host.shared"
      return { handle = function() return { body = "" } end, run_duties = function(_, is_woken)
        shared.incr(is_woken and "spec.duty.woken" or "spec.duty.timed")
        return 1000
      end }]], { service = true }))
    web.wait_for(function() return shared.get("spec.duty.timed") end)
    for i = 1, 3 do
      guard.see("spec", '{"status":"CANCELLING"}')
      guard.see("spec", '{"status":"RUNNING"}')
      web.wait_for(function() return shared.get("spec.duty.woken") == i end)
    end
    guard.clear()
    assert.equal(1, shared.get("spec.duty.timed"))
  end)

  serves("says what to do when the port is in use or the address is not ours", function()
    assert(serve())
    local other, message, code = httpd.serve { script = script, port = server:port() }
    assert.is_nil(other)
    assert.equal("conflict", code)
    assert.truthy(message:find("in use by another program.*choose another with %-%-port"), message)
    local cases = { ["no.such.host"] = "is no IPv4 address", ["192.0.2.1"] = "has no address 192.0.2.1" }
    for host, expected in pairs(cases) do
      other, message, code = httpd.serve { script = script, port = 0, host = host }
      assert.is_nil(other)
      assert.equal("invalid", code)
      assert.truthy(message:find(expected, 1, true), message)
    end
  end)

  serves("says so when there is no folder for uploads", function()
    local other, message, code = httpd.serve { script = script, port = 0, spool_dir = "/nowhere" }
    assert.same({ nil, "invalid" }, { other, code })
    assert.truthy(message:find("PYOCO_HTTP_SPOOL_DIR is /nowhere: No such file or directory; name a folder", 1, true))
  end)

  serves("says file and line when the script does not load at the start", function()
    local _, message, code = serve("\n\nx = = 1")
    assert.is_nil(server)
    assert.equal("invalid", code)
    assert.truthy(message:find("app.lua:3: unexpected symbol near '='", 1, true), message)
  end)

  serves("raises for bad options", function()
    assert.error_matches(function() httpd.serve { port = 0 } end, "script is missing")
    assert.error_matches(function() httpd.serve { script = "x", prot = 0 } end, "unknown option 'prot'")
    assert.error_matches(function() httpd.serve { script = "x", port = 70000 } end,
      "port must be an integer from 0 to 65535")
  end)

  serves("can be stopped twice, and says that it is stopped", function()
    local s = assert(serve())
    s:stop()
    s:stop()
    assert.error_matches(function() s:port() end, "attempt to use a stopped HTTP server")
    assert.equal("host.httpd.server (stopped)", tostring(s))
  end)
end)
