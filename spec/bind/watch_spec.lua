local http = require "host.http"
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local rpc = require "pyoco.nats.rpc"
local served = require "spec.support.served"
local web = require "spec.support.web"

local APP = [[
local response = require "pyoco.http.response"
local app = require("pyoco.http.app").new {}
app:get("/runs/:id/watch", function(_, req)
  local q = {}
  for name, values in pairs(req.query) do q[name] = values[1] end
  return response.watch { run_id = req.params.id, brief = not q.include, since = tonumber(q.since),
    timeout_sec = tonumber(q.timeout_sec), tenant_id = q.tenant, until_terminal = q["until"] == "terminal",
    last_event_id = tonumber(req.headers["last-event-id"]) }
end)
return app
]]

describe("event streams", function()
  local here, server, bus, conn, bucket

  local function start(options)
    here = served.start(APP, options)
    server, bus, conn, bucket = here.server, here.bus, here.conn, here.bucket
  end

  local function stop() here:stop() end

  --- An `it` with a NATS server and ours, gone before the check for leaks.
  local function streams(name, body, options)
    it(name, function()
      finally(stop)
      start(options)
      body()
    end)
  end

  local function snapshot(status, updated_at, more)
    local run = { run_id = "r1", status = status, updated_at = updated_at, task_records = { a = { output = "x" } },
      task_records_truncated = true, frame_records = { each1 = { state = "RUNNING" } }, failed_tasks = { "a" } }
    for key, value in pairs(more or {}) do run[key] = value end
    return json.encode(run)
  end

  local function watch(path, headers)
    return web.connect(server:port(), ("GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(path, headers or ""))
  end

  --- The events of a stream's text, without its chunk lines.
  local function events(text)
    local list = {}
    local body = text:gsub("^.-\r\n\r\n", ""):gsub("%x+\r\n(.-\n\n)\r\n", "%1")
    for block in body:gmatch("(.-)\n\n") do
      local data = block:match("data: ([^\n]+)")
      if data then
        list[#list + 1] = { id = block:match("id: (%d+)"), event = block:match("event: (%w+)"),
          data = json.decode(data) }
      end
    end
    return list
  end

  local function count(n) return function(c) return #events(c.text) >= n end end

  streams("send the run as it is, then each newest change, with ids", function()
    local first = assert(bucket:put("r1", snapshot("PENDING", 1)))
    local c = watch "/runs/r1/watch?timeout_sec=20"
    assert.is_true(c:wait(count(1)))
    assert.truthy(c.text:find("^HTTP/1.1 200 OK\r\n"))
    for _, line in ipairs { "content-type: text/event-stream; charset=utf-8", "cache-control: no-cache",
      "connection: keep-alive", "x-accel-buffering: no", "transfer-encoding: chunked" } do
      assert.truthy(c.text:find("\r\n" .. line .. "\r\n", 1, true), line)
    end
    local second = assert(bucket:put("r1", snapshot("RUNNING", 2)))
    assert.is_true(c:wait(count(2)))
    bucket:put("other", snapshot("RUNNING", 3))
    local third = assert(bucket:put("r1", snapshot("COMPLETED", 4)))
    assert.is_true(c:wait(count(3)))
    c:close()
    local seen = events(c.text)
    assert.same({ tostring(first), tostring(second), tostring(third) }, { seen[1].id, seen[2].id, seen[3].id })
    assert.same({ "snapshot", "r1", "PENDING" },
      { seen[1].event, seen[1].data.run_id, seen[1].data.snapshot.status })
    assert.is_nil(seen[1].data.snapshot.task_records)
    assert.is_nil(seen[1].data.snapshot.task_records_truncated)
    assert.is_nil(seen[1].data.snapshot.frame_records)
    assert.same({ "a" }, seen[1].data.snapshot.failed_tasks)
    assert.is_true(math.abs(seen[1].data.ts - os.time()) < 5)
    assert.equal("COMPLETED", seen[3].data.snapshot.status)
  end)

  streams("include the records when asked", function()
    bucket:put("r1", snapshot("PENDING", 1))
    local c = watch "/runs/r1/watch?include=records"
    c:wait(count(1))
    c:close()
    assert.equal("x", events(c.text)[1].data.snapshot.task_records.a.output)
  end)

  streams("end at the terminal status when asked, and leave the connection usable", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch?until=terminal"
    c:wait(count(1))
    bucket:put("r1", snapshot("FAILED", 2))
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end))
    c:send "GET /runs/nope/watch HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert.is_true(c:wait())
    c:close()
    assert.truthy(c.text:find('HTTP/1.1 404 Not Found.*{"detail":"run not found"}$'))
  end)

  streams("end at once for a run that has ended, when asked", function()
    bucket:put("r1", snapshot("CANCELLED", 1))
    local c = watch "/runs/r1/watch?until=terminal"
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end))
    c:close()
    assert.equal("CANCELLED", events(c.text)[1].data.snapshot.status)
  end)

  streams("end after timeout_sec, terminal or not", function()
    bucket:put("r1", snapshot("COMPLETED", 1))
    local c = watch "/runs/r1/watch?timeout_sec=0.05"
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end))
    c:close()
    assert.equal("COMPLETED", events(c.text)[1].data.snapshot.status)
  end)

  streams("send heartbeats while nothing changes", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch"
    assert.is_true(c:wait(count(4)))
    c:close()
    local beat = events(c.text)[3]
    assert.equal("heartbeat", beat.event)
    assert.equal("r1", beat.data.run_id)
    assert.is_nil(beat.id)
  end, { heartbeat_ms = 20 })

  streams("leave out what is older than since, and what the client has seen", function()
    local revision = assert(bucket:put("r1", snapshot("RUNNING", 10)))
    local since = watch "/runs/r1/watch?since=11"
    local seen = watch("/runs/r1/watch", "Last-Event-ID: " .. revision .. "\r\n")
    since:wait(function(c) return c.text:find("\r\n\r\n", 1, true) end)
    seen:wait(function(c) return c.text:find("\r\n\r\n", 1, true) end)
    bucket:put("r1", snapshot("RUNNING", 11))
    assert.is_true(since:wait(count(1)))
    assert.is_true(seen:wait(count(1)))
    since:close()
    seen:close()
    assert.equal(11, events(since.text)[1].data.snapshot.updated_at)
    assert.equal(11, events(seen.text)[1].data.snapshot.updated_at)
  end)

  streams("end silently when the key is deleted", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch"
    c:wait(count(1))
    bucket:delete("r1")
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end))
    c:close()
    assert.equal(1, #events(c.text))
  end)

  streams("end silently when what is stored is no run any more, as a GET of it is 404", function()
    for i, text in ipairs { "junk", "[1]", "null", "" } do
      local run_id = "r1." .. i
      bucket:put(run_id, snapshot("RUNNING", 1))
      local c = watch(("/runs/%s/watch"):format(run_id))
      c:wait(count(1))
      bucket:put(run_id, text)
      assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end), text)
      c:close()
      assert.equal(1, #events(c.text))
    end
  end)

  streams("make one line of a snapshot that another program wrote on several", function()
    bucket:put("r1", '{\n "run_id": "r1",\r\n "task_records": {"a": ["}", "\\"]"]},\n "status":\n"RUNNING" }\n')
    local c = watch "/runs/r1/watch"
    c:wait(count(1))
    c:close()
    assert.same({ run_id = "r1", status = "RUNNING" }, events(c.text)[1].data.snapshot)
  end)

  for text, expected in pairs { ["{}"] = {}, ['{"a":1,"task_records":[[]]}'] = { a = 1 } } do
    streams("send " .. text .. " as " .. json.encode(expected), function()
      bucket:put("r1", text)
      local c = watch "/runs/r1/watch"
      assert.is_true(c:wait(count(1)))
      c:close()
      assert.same(expected, events(c.text)[1].data.snapshot)
    end)
  end

  streams("are 404 for what is stored and is no run", function()
    for i, text in ipairs { "no json", "[1]", '{"a"', '{"a":1', '{"a":"\\', "{,}", '{"a":1}}', "" } do
      bucket:put("junk" .. i, text)
      local answer = web.raw(server:port(), ("GET /runs/junk%d/watch HTTP/1.1\r\nHost: a\r\n" ..
        "Connection: close\r\n\r\n"):format(i))
      assert.truthy(answer:find("^HTTP/1.1 404 "), text .. answer)
    end
  end)

  streams("are 404 for a run that does not exist, as JSON", function()
    for _, id in ipairs { "none", "a%20b", "..", "%00" } do
      local text = web.raw(server:port(), ("GET /runs/%s/watch HTTP/1.1\r\nHost: a\r\n" ..
        "Connection: close\r\n\r\n"):format(id))
      assert.truthy(text:find("^HTTP/1.1 404 "), text)
    end
  end)

  streams("show a run to its tenant only, and end when it is another's", function()
    local function of(tenant, status) assert(bucket:put("r1", snapshot(status, 1, { tenant_id = tenant }))) end
    of("a\"é", "PENDING")
    for tenant, status in pairs { ["a%22%C3%A9"] = 200, a = 404, ["a%22"] = 404, ["null"] = 404 } do
      local c = watch("/runs/r1/watch?tenant=" .. tenant)
      assert.is_true(c:wait(function() return c.text:find "\n\n" or c.text:find "detail" end))
      c:close()
      assert.equal(status, tonumber(c.text:match "^HTTP/1.1 (%d+)"), tenant)
      assert.equal(status == 404, c.text:find('{"detail":"run not found"}', 1, true) ~= nil)
    end
    bucket:put("r1", '{"tenant_id" : "a\\u0022\\u00e9" }') -- as Python writes it
    local c = watch "/runs/r1/watch?tenant=a%22%C3%A9"
    assert.is_true(c:wait(count(1)))
    of("b", "RUNNING")
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end))
    c:close()
    assert.equal(1, #events(c.text))
    of(json.null, "RUNNING")
    c = watch "/runs/r1/watch?tenant=null"
    assert.is_true(c:wait(function() return c.text:find "run not found" end))
    c:close()
  end)

  streams("wait for a client that does not read, then go on with whole frames and the newest state", function()
    local text, last = ("x"):rep(300000), 40
    bucket:put("r1", snapshot("RUNNING", 1, { text = text }))
    local c = watch "/runs/r1/watch?timeout_sec=60"
    assert.is_true(c:wait(function(s) return #s.text > #text end))
    for i = 2, last do -- 12 MB, and our loop stands still: more than the socket takes
      bucket:put("r1", snapshot(i == last and "COMPLETED" or "RUNNING", i, { text = text }))
    end
    assert.is_true(c:wait(function(s)
      return s.text:find('"COMPLETED"', -400000, true) and s.text:sub(-4) == "\n\n\r\n"
    end))
    c:close()
    local at, frames, status = select(2, c.text:find("\r\n\r\n", 1, true)) + 1, 0, nil
    while at <= #c.text do
      local size, from = c.text:match("^(%x+)\r\n()", at)
      local frame = c.text:sub(from, from + tonumber(size, 16) - 1)
      at = from + #frame + 2
      local run = json.decode(frame:match "data: ([^\n]+)\n\n$").snapshot
      if run then -- else it is a heartbeat
        assert.is_true(run.text == text)
        status, frames = run.status, frames + 1
      end
    end
    assert.equal("COMPLETED", status)
    assert.is_true(frames < last)
  end)

  streams("are capped: the rest of the threads serves other requests", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local open = {}
    for i = 1, 4 do
      open[i] = watch "/runs/r1/watch"
      assert.is_true(open[i]:wait(count(1)))
    end
    local answer = assert(http.request { url = ("http://127.0.0.1:%d/runs/r1/watch"):format(server:port()) })
    assert.equal(503, answer.status)
    assert.equal("1", answer.headers["retry-after"])
    assert.equal(4, server:stats().streams)
    for _, c in ipairs(open) do c:close() end
    web.wait_for(function() return server:stats().streams == 0 end)
  end, { heartbeat_ms = 20 })

  streams("hold no VM", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch"
    c:wait(count(1))
    assert.equal(0, server:stats().busy)
    c:close()
  end, { vms = 1 })

  streams("end when the server stops, within its drain time", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch"
    c:wait(count(1))
    server:stop(30)
    here.server = nil
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end))
    c:close()
  end)

  streams("are 503 while NATS is away, and /health says so; open ones go on afterwards", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch?timeout_sec=60"
    c:wait(count(1))
    bus:halt() -- not killed: it would lose what it has not written to its disk yet, and the run with it
    local url = ("http://127.0.0.1:%d"):format(server:port())
    web.wait_for(function()
      return http.request { url = url .. "/health" }.body:find('"nats":"reconnecting"', 1, true)
    end)
    local answer = assert(http.request { url = url .. "/runs/r1/watch" })
    assert.equal(503, answer.status)
    assert.truthy(answer.body:find('{"detail":"nats unavailable: ', 1, true))
    bus:restart()
    web.wait_for(function() return bucket:put("r1", snapshot("COMPLETED", 2)) end)
    assert.is_true(c:wait(function(s)
      local list = events(s.text)
      return list[#list].data.snapshot and list[#list].data.snapshot.status == "COMPLETED"
    end, 20000))
    c:close()
  end, { heartbeat_ms = 100 })

  streams("cost NATS nothing while nobody watches", function()
    local js = jetstream.new(rpc.blocking(conn))
    local function consumers() return assert(js:stream_info("KV_runs")).state.consumer_count end
    bucket:put("r1", snapshot("RUNNING", 1))
    assert.equal(0, consumers())
    for i = 1, 2 do
      local c = watch "/runs/r1/watch?timeout_sec=60"
      assert.is_true(c:wait(count(1)))
      web.wait_for(function() return consumers() == 1 end)
      bucket:put("r1", snapshot("RUNNING", 2 * i))
      assert.is_true(c:wait(count(2)))
      c:close()
      web.wait_for(function() -- what comes when nobody has watched for a while sends it to rest
        bucket:put("r1", snapshot("RUNNING", 2 * i + 1))
        return consumers() == 0
      end, 20000)
    end
    assert.truthy(http.request { url = ("http://127.0.0.1:%d/health"):format(server:port()) }.body
      :find('"runs_tail":"live"', 1, true))
  end, { heartbeat_ms = 100 })

  streams("end when the bucket was made anew without the run", function()
    bucket:put("r1", snapshot("RUNNING", 1))
    local c = watch "/runs/r1/watch?timeout_sec=60"
    c:wait(count(1))
    local js = jetstream.new(rpc.blocking(conn))
    assert(js:stream_delete("KV_runs"))
    assert(bucket:ensure {})
    assert.is_true(c:wait(function(s) return s.text:find("0\r\n\r\n$") end, 30000))
    c:close()
  end, { heartbeat_ms = 100 })
end)
