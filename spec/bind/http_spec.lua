local http = require "host.http"
local httpd = require "host.httpd"
local multipart = require "pyoco.http.multipart"
local tmp = require "spec.support.tmp"
local web = require "spec.support.web"

local APP = [[
return { handle = function(_, req)
  if req.path == "/big" then return { body = ("x"):rep(300000) } end
  if req.path == "/redirect" then return { status = 307, headers = { location = "/there" } } end
  if req.path == "/hang" then while true do end end
  return { status = 201, headers = { ["X-Method"] = req.method, ["X-Type"] = req.headers["content-type"] or "none" },
    body = req.path .. "|" .. req.body }
end }
]]

describe("host.http", function()
  local server, url, remove

  local function start()
    local dir
    dir, remove = web.folder()
    web.write(dir .. "/app.lua", APP)
    server = assert(httpd.serve { script = dir .. "/app.lua", port = 0, threads = 8, service = false })
    url = "http://127.0.0.1:" .. server:port()
  end

  local listener
  --- Address of something that takes connections and never answers; until the end of the `it`.
  local function silent_url()
    listener = require("luv").new_tcp()
    listener:bind("127.0.0.1", 0)
    listener:listen(8, function() end)
    return "http://127.0.0.1:" .. math.tointeger(listener:getsockname().port)
  end

  local function stop()
    http.close()
    if listener then listener:close() end
    listener = nil
    require("luv").run("nowait")
    server:stop(0)
    remove()
  end

  --- An `it` with a server that is gone before the check for leaks.
  local function serves(name, body)
    it(name, function()
      start()
      finally(stop)
      body()
    end)
  end

  serves("sends a form, its file read from disk meanwhile", function()
    local dir = tmp.dir()
    finally(function()
      tmp.remove(dir)
      stop()
    end)
    local path = tmp.write(dir .. "/f", ("f"):rep(2000000) .. "end")
    local most = 0
    local answer = assert(http.request { url = url .. "/form", form = { { "a", "x\0y" },
      { name = "file", path = path, filename = 'b".bin', content_type = "x/y" } },
      on_idle = function(sent) most = math.max(most, sent) end, stall_sec = 30 })
    local boundary = answer.headers["x-type"]:match("^multipart/form%-data; boundary=(.+)$")
    local parts = assert(multipart.parse(answer.body:sub(#"/form|" + 1), "multipart/form-data; boundary=" .. boundary))
    assert.same({ name = "a", data = "x\0y" }, parts[1])
    assert.same({ "file", 'b".bin', "x/y" }, { parts[2].name, parts[2].filename, parts[2].content_type })
    assert.is_true(parts[2].data == tmp.read(path))
    assert.is_true(most > 0)
    answer = assert(http.request { url = url .. "/a", body = "again" }) -- nothing of the form stays
    assert.equal("/a|again", answer.body)
    for _, form in ipairs { { { name = "f", path = dir .. "/missing", filename = "f", content_type = "x" } },
      { { name = "f", path = path } }, { { "a" } } } do
      assert.is_false(pcall(http.request, { url = url, form = form }))
    end
    assert.equal("/a|", assert(http.request { url = url .. "/a" }).body)
  end)

  serves("gets, posts and sends any method", function()
    local answer = assert(http.request { url = url .. "/a" })
    assert.same({ 201, "/a|", "GET" }, { answer.status, answer.body, answer.headers["x-method"] })
    answer = assert(http.request { url = url .. "/a", body = "x\0y", headers = { ["content-type"] = "text/x" } })
    assert.same({ "/a|x\0y", "POST", "text/x" }, { answer.body, answer.headers["x-method"], answer.headers["x-type"] })
    for _, method in ipairs { "DELETE", "PATCH", "PUT" } do
      assert.equal(method, assert(http.request { url = url, method = method, body = "{}" }).headers["x-method"])
    end
    assert.equal("", assert(http.request { url = url, method = "HEAD" }).body)
    assert.equal("POST", assert(http.request { url = url, method = "POST" }).headers["x-method"])
  end)

  serves("uses its connection again", function()
    assert(http.request { url = url })
    local before = server:stats().requests
    for _ = 1, 50 do assert(http.request { url = url }) end
    assert.equal(before + 50, server:stats().requests)
  end)

  serves("hands chunks over and stops when told to", function()
    local n = 0
    local answer = assert(http.request { url = url .. "/big", on_data = function(chunk) n = n + #chunk end })
    assert.equal(300000, n)
    assert.equal("", answer.body)
    local status
    answer = assert(http.request { url = url .. "/big", on_data = function() return false end,
      on_headers = function(code, headers) status = code .. " " .. headers["content-length"] end })
    assert.is_true(answer.stopped)
    assert.equal("200 300000", status)
  end)

  serves("calls on_idle while nothing arrives, and stops when it says so", function()
    local calls = 0
    local answer = assert(http.request { url = silent_url(), idle_ms = 5,
      timeout_sec = 10, on_idle = function()
        calls = calls + 1
        return calls < 3
      end })
    assert.is_true(answer.stopped)
    assert.equal(3, calls)
  end)

  serves("raises what a callback raised, and works afterwards", function()
    assert.error_matches(function()
      http.request { url = url .. "/big", on_data = function() error("mine") end }
    end, "mine")
    assert.error_matches(function()
      http.request { url = url .. "/big", on_data = function() http.request { url = url } end }
    end, "called from a callback")
    assert.equal(201, assert(http.request { url = url }).status)
  end)

  serves("does not follow redirects unless asked", function()
    assert.equal(307, assert(http.request { url = url .. "/redirect" }).status)
    assert.equal("/there|", assert(http.request { url = url .. "/redirect", follow = true }).body)
  end)

  serves("says unavailable, timeout, invalid and too_large", function()
    local function code_of(options) return select(3, http.request(options)) end
    assert.equal("unavailable", code_of { url = "http://127.0.0.1:1/" })
    assert.equal("invalid", code_of { url = "http://" })
    assert.equal("invalid", code_of { url = "file:///etc/passwd" })
    assert.equal("too_large", code_of { url = url .. "/big", max_bytes = 1000 })
    assert.equal("timeout", code_of { url = silent_url(), timeout_sec = 0.05 })
  end)

  serves("starts requests on the loop: each ends once, one that is stopped never", function()
    local uv = require "luv"
    local ended = {}
    local function done(name)
      return function(answer, _, code) ended[#ended + 1] = name .. " " .. (answer and answer.body or code) end
    end
    http.start({ url = url .. "/a" }, done "a")
    http.start({ url = "http://127.0.0.1:1/" }, done "refused")
    local stopped = http.start({ url = silent_url() }, done "stopped")
    http.start({ url = url .. "/b" }, function(answer)
      done "b"(answer)
      http.start({ url = url .. "/c" }, done "c") -- from a callback
      stopped:stop()
      stopped:stop()
    end)
    assert.error_matches(function() http.close() end, "while requests run")
    assert.same({}, ended)
    while #ended < 4 do uv.run("once") end
    table.sort(ended)
    assert.same({ "a /a|", "b /b|", "c /c|", "refused unavailable" }, ended)
    uv.run("nowait")
    listener:close()
    listener = nil
    uv.run("nowait")
    assert.is_false(uv.loop_alive())
    assert.error_matches(function() http.start({ url = url, method = "A B" }, print) end, "expected a word like GET")
    assert.error_matches(function() http.start({ url = url }) end, "function expected")
  end)

  serves("ends the loop's turn with each answer, on a connection that is used again", function()
    local uv = require "luv"
    silent_url() -- another handle that the loop could wait for
    local before = server:stats().requests
    for i = 1, 300 do
      local got
      http.start({ url = url .. "/" .. i }, function(answer) got = answer.body end)
      while not got do uv.run("once") end
      assert.equal(("/%d|"):format(i), got)
    end
    assert.equal(before + 300, server:stats().requests)
    local code
    http.start({ url = "http://[::1" }, function(_, _, why) code = why end) -- fails before the loop has waited once
    while not code do uv.run("once") end
    assert.equal("invalid", code)
  end)

  it("hands over what has come of an answer that is still coming", function()
    local uv = require "luv"
    local open
    local other = require("spec.support.http_server").start(function(request)
      open = request
      return { stays_open = true, stream = true, headers = { ["x-a"] = "b", ["content-length"] = "6" }, body = "one" }
    end)
    finally(function()
      http.close()
      other.stop()
    end)
    local got
    local transfer = http.start({ url = other.url }, function(answer) got = answer end)
    assert.same({ "", 0, {} }, { transfer:take() })
    local chunk, status, headers = "", nil, nil
    while chunk == "" do
      uv.run("once")
      chunk, status, headers = transfer:take()
    end
    assert.same({ "one", 200, "b" }, { chunk, status, headers["x-a"] })
    assert.equal("", (transfer:take()))
    open.send "two"
    while not got do uv.run("once") end
    assert.equal("two", got.body)
    assert.is_nil(transfer:take())
  end)

  serves("names the option that is wrong", function()
    assert.error_matches(function() http.request {} end, "url is missing")
    assert.error_matches(function() http.request { url = url, body = {} } end, "body must be text, got table")
    assert.error_matches(function() http.request { url = url, on_data = 1 } end, "on_data must be a function")
    assert.error_matches(function() http.request { url = url, headers = { a = "x\r\ny" } } end, "holds a line break")
    assert.equal(201, assert(http.request { url = url }).status)
  end)

  serves("makes multipart bodies: fields, then files", function()
    local body, content_type = http.multipart({ { "flow_name", "train" } },
      { { name = "workflow", filename = 'a"b.yaml', content_type = "application/x-yaml", data = "x: 1\r\n\0" } })
    local boundary = content_type:match("^multipart/form%-data; boundary=(.+)$")
    assert.equal(("--%s\r\nContent-Disposition: form-data; name=\"flow_name\"\r\n\r\ntrain\r\n" ..
      "--%s\r\nContent-Disposition: form-data; name=\"workflow\"; filename=\"a%%22b.yaml\"\r\n" ..
      "Content-Type: application/x-yaml\r\n\r\nx: 1\r\n\0\r\n--%s--\r\n"):format(boundary, boundary, boundary), body)
    assert.error_matches(function() http.multipart({ { "a" } }) end, "value must be a string, got nil")
  end)
end)
