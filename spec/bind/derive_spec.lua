--- host.httpd: handlers that ask for PBKDF2 (src/httpd/derive.c). It holds no VM, and the same key is derived once.
local crypto = require "host.crypto"
local http = require "host.http"
local httpd = require "host.httpd"
local shared = require "host.shared"
local uv = require "luv"
local web = require "spec.support.web"

local APP = [[
local crypto, shared = require "host.crypto", require "host.shared"
local app = {}
local function derive(name, iterations, secret)
  return { derive = { secret = secret or "secret", salt = "salt", iterations = iterations, name = name } }
end
function app:handle(req)
  local path = req.path
  if path == "/plain" then return { body = "plain" } end
  if path == "/forever" then return derive("forever", 1) end
  if path == "/long" then return derive("long", 1, ("x"):rep(1025)) end
  if path == "/zero" then return derive("zero", 0) end
  local known = shared.get("spec.known" .. path)
  if known then return { body = known } end
  if not req.derived then
    shared.incr("spec.asked" .. path)
    return derive(path, tonumber(path:match("%d+$")))
  end
  shared.incr("spec.derived" .. path)
  shared.set("spec.known" .. path, crypto.hex_encode(req.derived))
  return { body = crypto.hex_encode(req.derived) }
end
return app
]]

describe("host.httpd", function()
  local server, remove, level

  setup(function()
    level = os.getenv "PYOCO_LOG_LEVEL"
    uv.os_setenv("PYOCO_LOG_LEVEL", "CRITICAL")
    local dir
    dir, remove = web.folder()
    web.write(dir .. "/app.lua", APP)
    server = assert(httpd.serve { script = dir .. "/app.lua", port = 0, threads = 16, vms = 1, service = false })
  end)
  teardown(function()
    http.close()
    server:stop(5)
    remove()
    for _, key in ipairs(shared.keys "spec.") do shared.delete(key) end
    if level then uv.os_setenv("PYOCO_LOG_LEVEL", level) else uv.os_unsetenv "PYOCO_LOG_LEVEL" end
  end)

  local function ask(path)
    return web.connect(server:port(), ("GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):format(path))
  end

  --- Status and body, when it has all come.
  local function answer(connection)
    connection:wait()
    connection:close()
    return connection.text:match "^HTTP/1.1 (%d+)", connection.text:match "\r\n\r\n(.*)$"
  end

  local function get(path) return answer(ask(path)) end

  it("derives what a handler asks for, and calls it again", function()
    local status, body = get "/a/1000"
    assert.equal("200", status)
    assert.equal(crypto.hex_encode(crypto.pbkdf2("secret", "salt", 1000, 32)), body)
  end)

  it("derives the same key once, however many ask", function()
    local connections = {}
    for i = 1, 8 do connections[i] = ask "/b/300000" end
    local expected = crypto.hex_encode(crypto.pbkdf2("secret", "salt", 300000, 32))
    for i = 1, 8 do assert.same({ "200", expected }, { answer(connections[i]) }) end
    assert.equal(1, shared.get "spec.derived/b/300000")
    assert.is_true(shared.get "spec.asked/b/300000" > 1) -- else nobody had to wait
  end)

  it("answers others meanwhile, with the only VM that there is", function()
    local slow = ask "/c/1500000"
    web.wait_for(function() return shared.get "spec.asked/c/1500000" end)
    assert.same({ "200", "plain" }, { get "/plain" })
    assert.equal("", slow.text)
    assert.equal("200", (answer(slow)))
  end)

  it("refuses a handler that asks without end, or for too much", function()
    assert.same({ "503", '{"detail":"busy: too many new keys at once, try again"}' }, { get "/forever" })
    assert.equal("500", (get "/long"))
    assert.equal("500", (get "/zero"))
    assert.same({ "200", "plain" }, { get "/plain" })
  end)
end)
