--- admin.lua doctor as an operator runs it: each check, well and ill. It must change nothing and never hang.
local host_nats = require "host.nats"
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local rpc = require "pyoco.nats.rpc"
local uv = require "luv"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local worlds = require "spec.support.worker"

describe("admin.lua doctor", function()
  local world, dir, cleanups

  --- Has something done after the `it`, the last asked for first.
  local function later(fn) table.insert(cleanups, 1, fn) end

  before_each(function() dir, cleanups = tmp.dir(), {} end)
  after_each(function()
    for _, clean in ipairs(cleanups) do clean() end
    tmp.remove(dir)
  end)

  --- Runs it in a folder of its own; what it finds by the name of the check, as "status message → remedy" texts.
  local function doctor(env, arguments)
    local all = { PYOCO_LOAD_DOTENV = "0", PYOCO_SERVER_URL = "http://127.0.0.1:1" }
    for name, value in pairs(env or {}) do all[name] = value end
    local got = process.run({ "admin.lua", "doctor", "--output", "json", table.unpack(arguments or {}) },
      { cwd = dir, env = all })
    local answer = assert(json.decode(got.stdout), got.stdout .. got.stderr)
    local by_name = {}
    for _, it in ipairs(answer.checks) do
      local text = it.status .. " " .. it.message .. (it.remedy ~= json.null and " → " .. it.remedy or "")
      by_name[it.name] = (by_name[it.name] and by_name[it.name] .. "\n" or "") .. text
    end
    return by_name, got.code, answer.status
  end

  local function start_world(cfg)
    world = worlds.world { cfg = cfg }
    later(function() world:stop() end)
    return world
  end

  local function start_gateway(env)
    local gateway = gateways.start { nats_url = world.server.url, env = env }
    later(function() gateway:stop() end)
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    return gateway
  end

  local function has(text, part) assert.truthy(text and text:find(part, 1, true), tostring(text)) end

  describe("while NATS is away", function()
    it("says so and what to do, looks at the rest, and fails", function()
      local found, code, status = doctor { PYOCO_NATS_URL = "nats://me:secret@127.0.0.1:1" }
      assert.same({ 1, "fail" }, { code, status })
      has(found.NATS, "fail cannot connect to NATS at nats://127.0.0.1:1")
      has(found.NATS, "→ start it (")
      for _, name in ipairs { "JetStream", "resources", "consumers", "workers", "DLQ", "retention" } do
        has(found[name], "skip ")
      end
      has(found.gateway, "fail no gateway at http://127.0.0.1:1: ")
      for _, name in ipairs { "ready", "clock", "keys", "flow files" } do has(found[name], "skip ") end
      has(found.options, "ok options are understood; NATS at nats://127.0.0.1:1 (environment PYOCO_NATS_URL)")
      has(found["open files"], "ok a gateway started from this shell may open ")
    end)

    it("does not hang when it is frozen", function()
      local server = nats.start()
      later(function() server:stop() end)
      server:freeze()
      local started = uv.hrtime()
      local found = doctor { PYOCO_NATS_URL = server.url }
      server:thaw()
      has(found.NATS, "fail ")
      assert.is_true(uv.hrtime() - started < 20e9) -- no figure of speed: it ends at all
    end)

    it("tells a NATS without JetStream", function()
      local server = nats.start { jetstream = false }
      later(function() server:stop() end)
      local found = doctor { PYOCO_NATS_URL = server.url }
      has(found.NATS, "ok NATS 2.")
      has(found.JetStream, "fail this NATS server has no JetStream")
      has(found.resources, "skip JetStream cannot be used")
    end)

    it("tells a NATS that asks for a user", function()
      local server = nats.start { args = { "--user", "a", "--pass", "b" } }
      later(function() server:stop() end)
      has(doctor { PYOCO_NATS_URL = server.url }.NATS, "→ set PYOCO_NATS_USER and PYOCO_NATS_PASSWORD")
    end)
  end)

  it("finds nothing where all is well, and exits with 0", function()
    start_world()
    world:worker()
    local gateway = start_gateway()
    local found, code, status = doctor { PYOCO_NATS_URL = world.server.url, PYOCO_SERVER_URL = gateway.url }
    assert.same({ 0, "ok" }, { code, status }, json.encode(found, { sort = true }))
    has(found.NATS, "ok NATS 2.")
    has(found.JetStream, "ok JetStream is on; ")
    has(found.resources, "streams and buckets are there, as we make them")
    has(found.consumers, "ok 1 consumer, as configured")
    has(found.workers, "ok 1 worker; by tag: default 1")
    has(found.DLQ, "ok no dead letters")
    has(found.retention, "ok 0 runs, kept for ever")
    has(found.gateway, "ok gateway ")
    has(found.ready, "ok runs can be submitted")
    has(found.clock, "ok the gateway's clock is ")
    has(found.keys, "ok no keys asked for; only this machine reaches it")
    has(found["open files"], "ok the gateway may open ")
    has(found.flows, "skip no folder flows here")
  end)

  it("changes nothing: what is missing stays so", function()
    local server = nats.start()
    later(function() server:stop() end)
    local found = doctor { PYOCO_NATS_URL = server.url }
    has(found.resources, "warn not there yet: PYOCO_WORK, PYOCO_DLQ, pyoco_runs, ")
    has(found.workers, "warn no worker is there")
    has(doctor({ PYOCO_NATS_URL = server.url }).resources, "warn not there yet: PYOCO_WORK, ")
  end)

  it("names settings that are not ours, full buckets, and what they mean", function()
    start_world()
    local js = world.store.js
    local config = js:stream_info("KV_pyoco_workers").config
    config.max_age, config.duplicate_window = 15000000000, 15000000000
    assert(js:stream_update(config))
    config = js:stream_info("OBJ_pyoco_wheels").config
    config.max_bytes = 1000
    assert(js:stream_update(config))
    for i = 1, 4 do assert(js:publish("$O.pyoco_wheels.C.x" .. i, ("x"):rep(200))) end
    assert(js:consumer_create("PYOCO_WORK", { durable_name = "pyoco_workers_gpu", filter_subject = "pyoco.work.gpu",
      ack_policy = "explicit", ack_wait = 60000000000, max_deliver = 3, max_ack_pending = 1 }))
    local found, code = doctor { PYOCO_NATS_URL = world.server.url }
    assert.equal(1, code)
    has(found.resources, "warn bucket pyoco_workers: max_age is 15s, ours is none → ")
    has(found.resources, "`nats stream edit KV_pyoco_workers` changes it")
    has(found.resources, "warn object store pyoco_wheels: max_bytes is 1000, ours is none")
    has(found.resources, "object store pyoco_wheels: 0 MB of 0 MB are used; when it is full, writes are refused")
    has(found.consumers, "warn consumer pyoco_workers_gpu: ack_wait is 1m 00s, the configuration here says 30s")
    has(found.consumers, "max_deliver is 3, the configuration here says 20")
    has(found.consumers, "`nats consumer edit PYOCO_WORK pyoco_workers_gpu` changes it")
  end)

  it("names a work stream with which nothing can work", function()
    local server = nats.start()
    later(function() server:stop() end)
    local conn <close> = assert(host_nats.connect { url = server.url })
    assert(jetstream.new(rpc.blocking(conn)):stream_create { name = "PYOCO_WORK", subjects = { "pyoco.work.>" },
      retention = "limits", storage = "file" })
    has(doctor({ PYOCO_NATS_URL = server.url }).resources,
      "fail stream PYOCO_WORK: retention is limits, ours is workqueue")
    has(doctor({ PYOCO_NATS_URL = server.url, PYOCO_WORK_SUBJECT_PREFIX = "other.work" }).resources,
      "fail stream PYOCO_WORK: subjects is pyoco.work.>, ours is other.work.>")
  end)

  it("names tags whose jobs nobody takes, consumers that give out no more, dead letters", function()
    start_world()
    local js = world.store.js
    for _ = 1, 2 do assert(js:publish("pyoco.work.gpu", "{}")) end
    assert(js:publish("pyoco.dlq.gpu", "{}"))
    assert(js:consumer_create("PYOCO_WORK", { durable_name = "pyoco_workers_gpu", filter_subject = "pyoco.work.gpu",
      ack_policy = "explicit", ack_wait = 30000000000, max_deliver = 20, max_ack_pending = 1 }))
    assert(world.store.conn:request("$JS.API.CONSUMER.MSG.NEXT.PYOCO_WORK.pyoco_workers_gpu", '{"batch":1}'))
    local found, code = doctor { PYOCO_NATS_URL = world.server.url, PYOCO_CONSUMER_MAX_ACK_PENDING = "1" }
    assert.equal(1, code)
    has(found.workers, "fail 2 jobs of tag gpu wait, and no worker takes that tag → start one: `")
    has(found.workers, "worker.lua --tags gpu`")
    has(found.consumers, "fail tag gpu: 1 runs in hand, as many as its consumer allows: no further job is given out")
    has(found.consumers, "PYOCO_SPAWN_CHILD_TAG")
    has(found.DLQ, "warn 1 dead letter: jobs that could not be run → `")
  end)

  it("names a worker that does not get its wheels", function()
    start_world()
    local at = world.store:now()
    assert(world.store.workers.kv:put("w1", json.encode { worker_id = "w1", tags = { "gpu" }, state = "IDLE",
      last_seen_at = at, heartbeat_at = at, wheel_sync = { enabled = true, last_error = "its SHA-256 is another",
        failed_wheels = { { wheel_name = "a-1-lua54-none-any.whl" } } } }))
    has(doctor({ PYOCO_NATS_URL = world.server.url }).workers,
      "warn worker w1 does not get its wheels (a-1-lua54-none-any.whl): its SHA-256 is another")
  end)

  it("looks at the gateway: its script, its keys, its files, who can reach it", function()
    start_world()
    tmp.write(dir .. "/gateway.lua", tmp.read(require("host").home .. "/lua/gateway.lua"))
    local gateway = gateways.start { nats_url = world.server.url, script = dir .. "/gateway.lua",
      env = { PYOCO_HTTP_AUTH_MODE = "api_key" } }
    later(function() gateway:stop() end)
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    local env = { PYOCO_NATS_URL = world.server.url, PYOCO_SERVER_URL = gateway.url }
    has(doctor(env).keys, "warn the gateway asks for a key, and none is set here → `")
    env.PYOCO_API_KEY = "pyoco_00.nonsense"
    has(doctor(env).keys, "fail the gateway refuses our key (403)")
    local made = process.run({ "admin.lua", "api-key", "create", "--tenant", "t" }, { env = env })
    env.PYOCO_API_KEY = json.decode(made.stdout).api_key
    has(doctor(env).keys, "ok the gateway asks for a key, and takes ours")
    tmp.write(dir .. "/gateway.lua", "broken(")
    gateway:wait("/health", function(answer) return answer.json.reload_error ~= json.null end, "the broken edit")
    has(doctor(env).ready, "fail gateway.lua does not load; the last good version serves: ")
    world.server:kill()
    process.wait_for(function() return (doctor(env).ready or ""):find("fail the gateway is not ready: ", 1, true) end)
  end)

  it("warns of a gateway that anybody reaches, and of a key that nobody asks for", function()
    start_world()
    local gateway = start_gateway()
    local env = { PYOCO_NATS_URL = world.server.url, PYOCO_SERVER_URL = gateway.url, PYOCO_HTTP_HOST = "0.0.0.0" }
    local text = "warn no keys asked for, and it listens on 0.0.0.0: whoever reaches the port may do everything"
    has(doctor(env).keys, text)
    env.PYOCO_API_KEY = "x"
    has(doctor(env).keys, "warn a key is set here, and the gateway asks for none")
  end)

  it("names what this machine lacks: options, flows, files", function()
    assert(uv.fs_mkdir(dir .. "/mine", 493))
    tmp.write(dir .. "/mine/good.lua", "local p = require 'pyoco' return p.flow('good', p.task('a', function() end))")
    tmp.write(dir .. "/mine/bad.lua", "return function(")
    local found, code = doctor { PYOCO_TASK_PATH = "mine", PYOCO_WORKER_SLOT = "2", PYOCO_HTTP_THREADS = "4096",
      PYOCO_HTTP_SPOOL_DIR = dir .. "/none" }
    assert.equal(1, code)
    has(found.options, "warn PYOCO_WORKER_SLOT (environment) is not an option")
    has(found.flows, "ok 1 Lua flow loads from mine")
    has(found.flows, "fail mine/bad.lua:1: ")
    has(found.disk, "warn the folder for large uploads, " .. dir .. "/none, is missing")
    has(doctor({ PYOCO_TASK_PATH = "nowhere" }).flows, "fail nowhere: task root nowhere: no such folder")
    local limited = process.spawn("sh", { "-c", "ulimit -n 300; exec \"$0\" admin.lua doctor", require("host").exe },
      { cwd = dir, env = { PYOCO_SERVER_URL = "http://127.0.0.1:1", PYOCO_NATS_URL = "nats://127.0.0.1:1" } })
    limited:wait()
    has(limited.stdout, "may open 300 files, and 256 connections (PYOCO_HTTP_THREADS) need 512")
    has(limited.stdout, "→ `ulimit -n 512` before it is started, LimitNOFILE=512 in its unit, or fewer threads")
    has(limited.stdout, "to mend, ")
  end)
end)

describe("a check of the doctor", function()
  local doctor = require "pyoco.cli.doctor"

  --- What a check finds in a view made up, as "status message".
  local function found(name, view)
    local list = {}
    for _, row in ipairs(doctor.checks()) do
      if row[1] == name then
        for i, it in ipairs(row.run(view)) do
          list[i] = it.status .. " " .. it.message
          assert.truthy(it.remedy or it.status == "ok" or it.status == "skip", it.message)
        end
      end
    end
    return table.concat(list, "\n")
  end

  local function of_account(used, limit)
    local survey = { account = { storage = used << 20, limits = { max_storage = limit << 20 } } }
    return found("JetStream", { store = { survey = function() return survey end } })
  end

  it("says how full the account is", function()
    assert.equal("ok JetStream is on; 10 MB stored of 100 MB allowed", of_account(10, 100))
    assert.equal("warn JetStream uses 85 MB of the 100 MB that this account may", of_account(85, 100))
    assert.equal("fail JetStream uses 99 MB of the 100 MB that this account may", of_account(99, 100))
  end)

  it("says when runs are kept for ever and are many", function()
    local view = { config = { runs_bucket = "runs", runs_retention_sec = 0 },
      survey = { resources = { { name = "runs", state = { messages = 600000 } } } } }
    assert.equal("warn 600000 runs, kept for ever", found("retention", view))
    view.config.runs_retention_sec = 86400
    assert.equal("ok 600000 runs; ended ones go after 24h 00m", found("retention", view))
  end)

  it("says when clocks differ, by how much and which way", function()
    assert.equal("skip the gateway does not know the NATS server's clock yet",
      found("clock", { gateway = { clock_skew_sec = json.null } }))
    assert.equal("warn the gateway's clock is 12.5 s behind the NATS server's",
      found("clock", { gateway = { clock_skew_sec = -12.5 } }))
  end)

  it("names the flow files that a worker cannot load", function()
    assert.equal("warn worker w1 cannot load flows/x.lua:3", found("flow files",
      { gateway = { flow_errors = { { worker_id = "w1", file = "flows/x.lua", line = 3 } } } }))
    assert.equal("ok the workers load their flow files", found("flow files", { gateway = { flow_errors = json.null } }))
  end)
end)
