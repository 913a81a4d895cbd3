--- Answers that are held back until a run has ended (response.wait), on a server and a NATS of this process.
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local served = require "spec.support.served"
local web = require "spec.support.web"

local APP = [[
local response = require "pyoco.http.response"
local app = require("pyoco.http.app").new {}
app:get("/wait/:id", function(_, req)
  local q = {}
  for name, values in pairs(req.query) do q[name] = values[1] end
  return response.wait { run_id = req.params.id, brief = not q.include, timeout_sec = tonumber(q.sec) or 60,
    tenant_id = q.tenant, answer = response.json({ queued = true }, 202, { ["x-more"] = "kept" }) }
end)
return app
]]

describe("response.wait", function()
  local here, server, bus, conn, bucket

  local function open(options)
    local all = { vms = 1, heartbeat_ms = 20 }
    for key, value in pairs(options or {}) do all[key] = value end
    here = served.start(APP, all)
    server, bus, conn, bucket = here.server, here.bus, here.conn, here.bucket
  end

  local function close() here:stop() end

  --- An `it` with a NATS server and ours, gone before the check for leaks.
  local function waits(name, body, options)
    it(name, function()
      finally(close)
      open(options)
      body()
    end)
  end

  local function put(status, more)
    local run = { run_id = "r1", status = status, updated_at = 1, task_records = { a = { output = "x" } } }
    for key, value in pairs(more or {}) do run[key] = value end
    return assert(bucket:put("r1", assert(json.encode(run))))
  end

  local function ask(path) return web.connect(server:port(), ("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path)) end

  --- Waits until the server has that many streams.
  local function streams(n)
    web.wait_for(function() return server:stats().streams == n end)
  end

  local function answered(c)
    assert.is_true(c:wait(function() return c.text:find("\r\n\r\n.+}$") end))
    local status, head, body = c.text:match("^HTTP/1.1 (%d+) [^\r]*\r\n(.-)\r\n\r\n(.*)$")
    assert.equal(#body, tonumber(head:match "content%-length: (%d+)"))
    return tonumber(status), json.decode(body), head
  end

  waits("gives the snapshot when the run ends in time, with the headers of the answer, and holds no VM", function()
    put "PENDING"
    local c = ask "/wait/r1"
    streams(1)
    assert.equal(0, server:stats().busy)
    put "RUNNING"
    put("COMPLETED", { error = json.null })
    local status, body, head = answered(c)
    assert.same({ 200, { run_id = "r1", status = "COMPLETED", updated_at = 1, error = json.null } }, { status, body })
    assert.truthy(head:find("x-more: kept", 1, true))
    assert.truthy(head:find("content-type: application/json", 1, true))
    streams(0)
    c.text = ""
    c:send "GET /wait/r1?include=records HTTP/1.1\r\nHost: a\r\n\r\n" -- the connection is as good as before
    status, body = answered(c)
    assert.same({ 200, "x" }, { status, body.task_records.a.output })
    c:close()
  end)

  waits("gives the answer itself after its time, for a run that is deleted or another tenant's", function()
    put "RUNNING"
    local c = ask "/wait/r1?sec=0.05"
    local status, body, head = answered(c)
    assert.same({ 202, { queued = true } }, { status, body })
    assert.truthy(head:find("x-more: kept", 1, true))
    c:close()
    put("FAILED", { tenant_id = "other" })
    c = ask "/wait/r1?sec=0.05&tenant=mine"
    assert.equal(202, (answered(c)))
    c:close()
    put("FAILED", { tenant_id = "mine" })
    c = ask "/wait/r1?tenant=mine"
    assert.equal(200, (answered(c)))
    c:close()
    put "RUNNING"
    c = ask "/wait/r1"
    streams(1)
    bucket:delete "r1"
    assert.equal(202, (answered(c)))
    c:close()
  end)

  waits("waits for a run that cannot be read yet", function()
    local c = ask "/wait/r1"
    streams(1)
    put "CANCELLED"
    assert.equal(200, (answered(c)))
    c:close()
  end)

  waits("misses no change before the server follows the bucket", function()
    local c = ask "/wait/r1"
    streams(1)
    bucket = assert(kv.new(jetstream.new(rpc.blocking(conn)), "later"))
    assert(bucket:ensure {})
    put "COMPLETED"
    assert.equal(200, (answered(c)))
    c:close()
  end, { runs_bucket = "later" })

  waits("is free of a client that has gone", function()
    put "RUNNING"
    local c = ask "/wait/r1?sec=600"
    streams(1)
    c:close()
    streams(0)
  end)

  waits("answers at once when too many streams are open", function()
    put "RUNNING"
    local open_ones = {}
    for i = 1, 4 do open_ones[i] = ask "/wait/r1" end
    streams(4)
    local c = ask "/wait/r1"
    assert.equal(202, (answered(c)))
    c:close()
    put "COMPLETED"
    for _, one in ipairs(open_ones) do
      assert.equal(200, (answered(one)))
      one:close()
    end
  end)

  waits("answers when the server stops", function()
    put "RUNNING"
    local c = ask "/wait/r1"
    streams(1)
    server:stop(5)
    here.server = nil
    assert.equal(202, (answered(c)))
    c:close()
  end)

  waits("outlives a restart of nats-server", function()
    put "RUNNING"
    local c = ask "/wait/r1"
    streams(1)
    bus:halt()
    bus:restart()
    web.wait_for(function() return bucket:put("r1", '{"status":"COMPLETED"}') end)
    assert.is_true(c:wait(function() return c.text:find "COMPLETED" end, 20000))
    c:close()
  end)
end)
