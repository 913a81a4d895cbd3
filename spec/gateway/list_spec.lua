--- GET /runs of a real gateway on a real NATS: what lists show, and what they do while the read model is filled.
local crypto = require "host.crypto"
local json = require "host.json"
local uv = require "luv"
local fixture = require "spec.support.fixture"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local runs = require "spec.support.runs"

describe("GET /runs", function()
  local it_has, server, gateway, other -- other: a writer beside the gateway, as a worker is

  local function open(opts)
    it_has = runs.start(opts)
    server, gateway, other = it_has.server, it_has.gateway, it_has.store
  end

  after_each(function() it_has:stop() end)

  local function put(run_id, fields) return it_has:put(run_id, fields) end
  local function list(query) return it_has:list(query) end
  local function ids(query) return (it_has:ids(query)) end
  local function settle(expected, query) it_has:settle(expected, query) end

  it("is empty on an empty bucket, in both forms", function()
    open()
    settle {}
    assert.equal("[]", gateway:fetch("/runs").body)
    assert.equal('{"items":[],"next_cursor":null}', gateway:fetch("/runs?updated_after=0").body)
    assert.equal('{"items":[],"next_cursor":null}', gateway:fetch("/runs?cursor=").body)
    assert.equal("[]", gateway:fetch("/runs?schedule_id=x").body)
  end)

  it("answers the recorded lists, field by field", function()
    open()
    local recorded, full = fixture "http-list", fixture "http-list-full"
    for _, item in ipairs(recorded) do
      local stored = item.run_id == full[1].run_id and full[1] or runs.snapshot(item.run_id, item)
      assert(other.runs:create(stored))
    end
    settle({ recorded[1].run_id, recorded[2].run_id, recorded[3].run_id })
    assert.same(recorded, list())
    assert.same(full, list "?limit=1&include=full")
    assert.same(full, list "?limit=1&include=records&include=all")
    assert.same({ recorded[1] }, list "?limit=1&include=records")
    local envelope, answer = fixture "http-list-envelope", list "?limit=2&updated_after=0"
    assert.same(envelope.items, answer.items)
    local function key(cursor)
      local value = json.decode(crypto.base64url_decode(cursor))
      return { u = value.u, r = value.r }
    end
    assert.same(key(envelope.next_cursor), key(answer.next_cursor))
    -- a cursor that a gateway of the reference has given is as good
    assert.same({ recorded[3] }, list("?limit=2&cursor=" .. envelope.next_cursor).items)
  end)

  it("shows a run's text as it is, whatever its escapes", function()
    open()
    local text = "日本 \u{1F600} \" \\ / \b \n \t \u{7f} é"
    put("odd", { error = text, flow_name = text, worker_id = "w" })
    settle { "odd" }
    local item = list()[1]
    assert.equal(text, item.error)
    assert.equal(text, item.flow_name)
    assert.equal("w", item.worker_id)
    assert.truthy(gateway:fetch("/runs").body:find("日本", 1, true))
    assert.same({ "odd" }, ids("?flow=" .. text:gsub("[^%w]", function(c) return ("%%%02X"):format(c:byte()) end)))
  end)

  it("takes its own writes at once, others' within moments, and drops what is deleted", function()
    open()
    settle {}
    local expected = {}
    for i = 1, 20 do
      local run_id = gateway:fetch("/runs", { json = { flow_name = "f" } }).json.run_id
      expected[i] = run_id
      assert.equal(i, #ids "?limit=200")
      assert.equal(run_id, ids "?limit=1"[1])
    end
    local cancelled = gateway:fetch("/runs/" .. expected[1] .. "/cancel", { method = "POST" })
    assert.equal(200, cancelled.status)
    assert.same({ expected[1] }, ids "?status=CANCELLED")
    put(expected[2], { status = "COMPLETED", updated_at = 2e9 })
    settle({ expected[2] }, "?status=COMPLETED")
    assert.equal(18, #ids "?status=PENDING")
    assert(other.runs:delete(expected[2]))
    settle({}, "?status=COMPLETED")
    assert.equal(19, #ids())
    assert(other.runs.kv:purge(expected[3]))
    process.wait_for(function() return #ids() == 18 end, 10000, "the purged run to go")
  end)

  it("leaves out what is no snapshot", function()
    open()
    put("good")
    settle { "good" }
    assert(other.runs.kv:put("bad", "no JSON"))
    assert(other.runs.kv:put("worse", "[1,2"))
    put("later", { updated_at = 2.5 })
    settle { "later", "good" }
    assert(other.runs.kv:put("later", "{"))
    settle { "good" }
  end)

  it("goes on after a restart of nats-server, and says 503 meanwhile", function()
    open()
    put("one")
    settle { "one" }
    server:kill()
    process.wait_for(function() return gateway:fetch("/runs").status == 503 end, 10000, "503")
    local answer = gateway:fetch("/runs")
    assert.truthy(answer.status == 503 and answer.json.detail:find "^nats unavailable", answer.body)
    server:restart()
    process.wait_for(function() return other:status() == "connected" end, 10000, "the connection")
    put("two", { updated_at = 2.5 })
    settle { "two", "one" }
  end)

  it("is rebuilt when the bucket is made anew", function()
    open()
    for i = 1, 5 do put("old" .. i, { updated_at = i + 0.5 }) end
    settle { "old5", "old4", "old3", "old2", "old1" }
    assert(other.js:stream_delete("KV_pyoco_runs"))
    assert(other:ensure())
    put("new", { updated_at = 0.5 })
    settle { "new" }
    put("new", { updated_at = 0.75, status = "RUNNING" })
    settle({ "new" }, "?status=RUNNING")
  end)

  it("waits for a model that is warming, then says so; never a partial list", function()
    open { bare = true }
    server:halt()
    gateway = gateways.start { nats_url = server.url }
    it_has.gateway = gateway
    assert.equal(true, gateway:fetch("/health").json.warming)
    server:restart()
    it_has:connect()
    other = it_has.store
    settle {}
    assert.equal(false, gateway:fetch("/health").json.warming)
    process.wait_for(function() return gateway.process.stdout:find("read model is complete", 1, true) end, 10000,
      "the log line")
    assert(other.js:stream_delete("KV_pyoco_runs"))
    process.wait_for(function() -- the tail cannot follow a bucket that is not there
      local answer = gateway:fetch("/runs")
      return answer.status == 503 and answer.json.detail == "warming"
    end, 20000, "warming")
  end)

  it("leaves nothing behind in the folder for temporary files", function()
    open { bare = true }
    local dir = assert(uv.fs_mkdtemp("/tmp/pyoco-spec-XXXXXX"))
    local function folders()
      local names, scan = {}, uv.fs_scandir(dir)
      for name in function() return uv.fs_scandir_next(scan) end do names[#names + 1] = name end
      return names
    end
    gateway = gateways.start { nats_url = server.url, env = { TMPDIR = dir } }
    assert.equal(1, #folders())
    gateway.process:kill "sigkill"
    gateway.process:wait()
    assert.equal(1, #folders())
    gateway = gateways.start { nats_url = server.url, env = { TMPDIR = dir } }
    assert.equal(1, #folders())
    gateway:stop()
    assert.same({}, folders())
    uv.fs_rmdir(dir)
  end)
end)
