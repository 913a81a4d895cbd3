--- Requests that come before the read model is complete: they wait on their own threads, not in a VM.
local http = require "host.http"
local httpd = require "host.httpd"
local nats = require "host.nats"
local readmodel = require "host.readmodel"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local support = require "spec.support.nats"
local web = require "spec.support.web"

local APP = [[
local readmodel = require "pyoco.store.readmodel"
local app = require("pyoco.http.app").new {}
local model, calls = readmodel.new(), 0
local function count()
  calls = calls + 1
  local rows, message, code = model:counts(1)
  if not rows then return nil, message, code end
  return { statuses = #rows, calls = calls }
end
app:get("/count", count)
app:post("/count", count)
app:get("/other", function() return { calls = calls } end)
return app
]]

describe("while the read model is warming", function()
  local bus, conn, model, server, remove

  before_each(function()
    bus = support.start()
    conn = assert(nats.connect { url = bus.url })
    nats.share(conn)
    model = assert(readmodel.start { bucket = "runs" }) -- which is not there yet
    local dir
    dir, remove = web.folder()
    web.write(dir .. "/app.lua", APP)
    server = assert(httpd.serve { script = dir .. "/app.lua", port = 0, threads = 8, vms = 1, service = false })
  end)

  after_each(function()
    http.close()
    server:stop(5)
    model:stop()
    nats.share(nil)
    conn:close()
    bus:stop()
    remove()
  end)

  local function ask(method)
    return web.connect(server:port(), method .. " /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
  end

  local function fetch(path, method)
    return http.request { url = ("http://127.0.0.1:%d%s"):format(server:port(), path), method = method }
  end

  it("lists wait, hold no VM, and are answered when it is complete", function()
    local waiting = {}
    for i = 1, 4 do waiting[i] = ask "GET" end
    web.wait_for(function() return server:stats().streams == 4 end)
    assert.equal('{"calls":4}', fetch("/other").body) -- the one VM is free
    local bucket = assert(kv.new(jetstream.new(rpc.blocking(conn)), "runs"))
    assert(bucket:ensure {})
    for _, c in ipairs(waiting) do
      assert.is_true(c:wait())
      assert.truthy(c.text:find '^HTTP/1.1 200 .*{"calls":%d,"statuses":0}$', c.text)
      c:close()
    end
    assert.equal('{"calls":8}', fetch("/other").body)
  end)

  it("are told so after two seconds, and others at once", function()
    local answer = fetch("/count", "POST") -- a change is not made twice
    assert.same({ 503, '{"detail":"warming"}', "1" }, { answer.status, answer.body, answer.headers["retry-after"] })
    local open = {}
    for i = 1, 4 do open[i] = ask "GET" end
    web.wait_for(function() return server:stats().streams == 4 end)
    assert.equal(503, fetch("/count").status) -- no place left to wait
    assert.equal('{"calls":6}', fetch("/other").body)
    for _, c in ipairs(open) do
      assert.is_true(c:wait())
      assert.truthy(c.text:find '^HTTP/1.1 503 .*{"detail":"warming"}$', c.text)
      c:close()
    end
    assert.equal('{"calls":10}', fetch("/other").body) -- each was asked once more
  end)
end)
