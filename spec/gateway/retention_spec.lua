--- Pruning with real processes: admin.lua, and the gateway that holds the lease; lists of all gateways follow.
local http = require "host.http"
local json = require "host.json"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local runs = require "spec.support.runs"
local web = require "spec.support.web"

local HOUR <const> = 3600

describe("pruning", function()
  local fleet

  setup(function()
    fleet = runs.start { bare = true }
    fleet:connect()
  end)

  teardown(function() fleet:stop() end)

  after_each(function() http.close() end)

  local function put(run_id, status, hours, fields)
    local it = { status = status, updated_at = fleet.store:now() - hours * HOUR }
    for name, value in pairs(fields or {}) do it[name] = value end
    fleet:put(run_id, it)
  end

  local function stored()
    local ids = {}
    for i, entry in ipairs(fleet.store.runs.kv:entries()) do ids[i] = entry.key end
    return table.concat(ids, " ")
  end

  local function prune(...)
    return process.run({ "admin.lua", "--nats-url", fleet.server.url, "runs", "prune", ... })
  end

  it("by hand says what it would take, takes it, and leaves the rest", function()
    put("a", "COMPLETED", 50)
    put("b", "FAILED", 50)
    put("c", "RUNNING", 50)
    put("d", "COMPLETED", 1)
    assert(fleet.store.data:put("a", "load", "output", "x"))
    local got = prune("--older-than", "2d", "--dry-run")
    assert.equal('{"dry_run": true, "runs": 2}\n', got.stdout, got.stderr)
    assert.equal("a b c d", stored())
    got = prune("--older-than", "2d", "--status", "COMPLETED")
    assert.equal(0, got.code, got.stderr)
    assert.equal('{"runs": 1, "objects": 1, "documents": 0, "relations": 0, "markers": 0, "orphans": 0, '
      .. '"uploads": 0}\n', got.stdout)
    assert.equal("b c d", stored())
    assert.equal("not_found", select(3, fleet.store.data:get("a", "load", "output", 10)))
    assert.equal(1, json.decode(prune("--older-than", "50h").stdout).runs) -- b
    assert.equal("c d", stored())
  end)

  it("by hand refuses what it does not understand, and says when NATS is away", function()
    local before = fleet.store.js:stream_info("KV_pyoco_runs").state.last_seq
    for reason, arguments in pairs {
      ["missing option '--older-than'"] = {}, ['--older-than is "soon": expected a length of time'] = { "--older-than",
      "soon" }, ["'--status' must be one of"] = { "--older-than", "1d", "--status", "RUNNING" },
    } do
      local got = prune(table.unpack(arguments))
      assert.equal(1, got.code)
      assert.truthy(got.stderr:find(reason, 1, true), got.stderr)
    end
    assert.equal(before, fleet.store.js:stream_info("KV_pyoco_runs").state.last_seq)
    local got = process.run { "admin.lua", "--nats-url", "nats://127.0.0.1:1", "runs", "prune", "--older-than", "1d" }
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("ERR-PYOCO-HTTP: connection error", 1, true), got.stderr)
  end)

  it("is done by the gateway that holds the lease, and every gateway's lists follow", function()
    for i = 1, 450 do put("old-" .. i, i % 2 == 0 and "COMPLETED" or "CANCELLED", 3) end
    assert(fleet.store.data:put("old-1", "load", "log", "x"))
    put("new", "FAILED", 0.5)
    local env = { PYOCO_RUNS_RETENTION_SEC = tostring(2 * HOUR) }
    fleet.gateway = gateways.start { nats_url = fleet.server.url, env = env }
    local second = gateways.start { nats_url = fleet.server.url, env = env }
    for _, gateway in ipairs { fleet.gateway, second } do
      gateway:wait("/runs?limit=200", function(answer)
        local ids = {}
        for i, item in ipairs(answer.json) do ids[i] = item.run_id end
        return table.concat(ids, " ") == "new d c"
      end, "the lists to forget the old runs")
    end
    second:stop()
    assert.equal("c d new", stored())
    assert.same({}, fleet.store.garbage.data:names())
    assert.equal(404, fleet.gateway:fetch("/runs/old-1").status)
    fleet.gateway:stop()
    fleet.gateway = nil
  end)

  it("is told of runs that vanish without a marker, and lists forget those that had ended", function()
    local dir, remove = web.folder()
    finally(remove)
    web.write(dir .. "/gateway.lua", [[require("pyoco.service.vanished").EVERY_SEC = 0.1
      local gateway = require "pyoco.gateway"
      return gateway.main(gateway.app(), ...)]])
    put("waits", "PENDING", 0.1)
    for i = 1, 3 do put("gone-" .. i, "COMPLETED", 0.2) end
    local options = { nats_url = fleet.server.url, script = dir .. "/gateway.lua" }
    fleet.gateway = gateways.start(options)
    local second = gateways.start(options)
    local function until_listed(gateway, wanted)
      gateway:wait("/runs?limit=200", function(answer)
        local ids = {}
        for _, item in ipairs(answer.json) do
          if item.run_id:find "^gone" or item.run_id == "waits" then ids[#ids + 1] = item.run_id end
        end
        table.sort(ids)
        return table.concat(ids, " ") == wanted
      end, wanted .. " in the list")
    end
    until_listed(fleet.gateway, "gone-1 gone-2 gone-3 waits")
    until_listed(second, "gone-1 gone-2 gone-3 waits")
    assert(fleet.store.js:purge("KV_pyoco_runs"))
    until_listed(fleet.gateway, "waits")
    until_listed(second, "waits")
    second:stop()
    fleet.gateway:stop()
    fleet.gateway = nil
  end)
end)
