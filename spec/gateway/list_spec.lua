--- GET /runs of a real gateway on a real NATS: what lists show, and what they do while the read model is filled.
local crypto = require "host.crypto"
local json = require "host.json"
local uv = require "luv"
local config = require "pyoco.config"
local fixture = require "spec.support.fixture"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local store = require "pyoco.store.jetstream"

local function snapshot(run_id, fields)
  local value = { run_id = run_id, flow_name = "main", tag = "default", tags = json.array { "default" },
    tenant_id = json.null, api_key_id = json.null, status = "PENDING", params = {}, tasks = {}, task_records = {},
    start_time = json.null, end_time = json.null, heartbeat_at = 1.5, updated_at = 1.5, error = json.null }
  for key, field in pairs(fields or {}) do value[key] = field end
  return value
end

describe("GET /runs", function()
  local server, gateway, other -- other: a writer beside the gateway, as a worker is

  local function open()
    server = server or nats.start()
    gateway = gateways.start { nats_url = server.url }
    local cfg = assert(config.load { env = { PYOCO_NATS_URL = server.url }, cwd = "/nonexistent" })
    other = assert(store.connect(cfg, { name = "spec" }))
    assert(other:ensure())
  end

  after_each(function()
    if other then other:close() end
    if gateway then gateway:stop() end
    if server then server:stop() end
    server, gateway, other = nil, nil, nil
  end)

  local function put(run_id, fields)
    return assert(other.runs.kv:put(run_id, assert(json.encode(snapshot(run_id, fields), { ascii = true }))))
  end

  local function list(query)
    local answer = assert(gateway:fetch("/runs" .. (query or "")))
    assert.equal(200, answer.status, answer.body)
    return answer.json
  end

  local function ids(query)
    local found, answer = {}, list(query)
    for i, item in ipairs(answer.items or answer) do found[i] = item.run_id end
    return found
  end

  --- Waits until the gateway lists exactly these.
  local function settle(expected, query)
    local last
    local ok = pcall(process.wait_for, function()
      local answer = gateway:fetch("/runs" .. (query or ""))
      last = answer and answer.body
      if not answer or answer.status ~= 200 then return false end
      local found = {}
      for i, item in ipairs(answer.json.items or answer.json) do found[i] = item.run_id end
      return table.concat(found, " ") == table.concat(expected, " ")
    end, 10000, "the list")
    assert.is_true(ok, last)
  end

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
      local stored = item.run_id == full[1].run_id and full[1] or snapshot(item.run_id, item)
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
    server = nats.start()
    server:halt()
    gateway = gateways.start { nats_url = server.url }
    assert.equal(true, gateway:fetch("/health").json.warming)
    local cfg = assert(config.load { env = { PYOCO_NATS_URL = server.url }, cwd = "/nonexistent" })
    server:restart()
    other = assert(store.connect(cfg, { name = "spec" }))
    assert(other:ensure())
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
    server = nats.start()
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
    gateway = nil
    assert.same({}, folders())
    uv.fs_rmdir(dir)
  end)
end)
