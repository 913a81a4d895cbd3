--- GET /metrics of a real gateway on a real NATS.
local json = require "host.json"
local process = require "spec.support.process"
local runs = require "spec.support.runs"

local CONTRACT = { pyoco_runs_total = true, pyoco_runs_today_total = true, pyoco_workers_alive_total = true,
  pyoco_dlq_messages_total = true }

describe("GET /metrics", function()
  local it_has

  before_each(function() it_has = runs.start() end)
  after_each(function() it_has:stop() end)

  --- Samples of the families that the contract names.
  local function samples(text)
    local lines = {}
    for line in text:gmatch "[^\n]+" do
      local name = line:match "^[%l_]+"
      if name and CONTRACT[name] then lines[#lines + 1] = line end
    end
    return lines
  end

  local function expect(expected)
    local last
    local ok = pcall(process.wait_for, function()
      local answer = it_has.gateway:fetch "/metrics"
      last = answer and answer.body
      return answer and answer.status == 200
        and table.concat(samples(answer.body), "\n") == table.concat(expected, "\n")
    end, 10000, "the metrics")
    assert.is_true(ok, last)
  end

  it("has the recorded families, in order, with no samples on an empty NATS", function()
    expect { "pyoco_workers_alive_total 0", "pyoco_dlq_messages_total 0" }
    local answer = it_has.gateway:fetch "/metrics"
    assert.equal("text/plain; version=0.0.4; charset=utf-8", answer.headers["content-type"])
    local file <close> = assert(io.open "spec/fixtures/http-metrics.txt")
    local function families(text)
      local list = {}
      for line in text:gmatch "[^\n]+" do
        list[#list + 1] = line:match "^# TYPE .*$" or line:match "^# HELP [%w_]+"
      end
      return list
    end
    local recorded = families(file:read "a")
    assert.same(recorded, table.move(families(answer.body), 1, #recorded, 1, {}))
  end)

  it("counts runs by status, through changes and deletions, today's apart", function()
    local now = os.time()
    it_has:put("a", { status = "RUNNING", updated_at = now + 0.5 })
    it_has:put("b", { status = "RUNNING", updated_at = now - 3 * 86400 + 0.5 })
    it_has:put("c", { status = "COMPLETED", updated_at = now + 0.5 })
    it_has:put("d", { status = json.null, updated_at = json.null })
    it_has:put("e", { status = 'o"d\\d\n', updated_at = 5.5 })
    local workers, dlq = "pyoco_workers_alive_total 2", "pyoco_dlq_messages_total 1"
    for id, fields in pairs { idle = { state = "IDLE", hidden = true }, busy = { state = "RUNNING" },
      gone = { state = "STOPPED_GRACEFUL" } } do
      fields.worker_id = id
      assert(it_has.store.workers:put(fields))
    end
    assert(it_has.store.dlq:publish("default", { reason = "invalid_job" }))
    expect { 'pyoco_runs_total{status="COMPLETED"} 1', 'pyoco_runs_total{status="RUNNING"} 2',
      'pyoco_runs_total{status="UNKNOWN"} 1', 'pyoco_runs_total{status="o\\"d\\\\d\\n"} 1',
      'pyoco_runs_today_total{status="COMPLETED"} 1', 'pyoco_runs_today_total{status="RUNNING"} 1', workers, dlq }
    it_has:put("b", { status = "COMPLETED", updated_at = now + 1.5 })
    it_has:put("a", { status = "COMPLETED", updated_at = now + 1.5 })
    assert(it_has.store.runs:delete("c"))
    assert(it_has.store.runs:delete("d"))
    assert(it_has.store.runs.kv:put("e", "no JSON"))
    expect { 'pyoco_runs_total{status="COMPLETED"} 2', 'pyoco_runs_today_total{status="COMPLETED"} 2', workers, dlq }
    -- the same counts out of a model that is filled from the start
    assert.equal(0, it_has.gateway:stop())
    it_has.gateway = require("spec.support.gateway").start { nats_url = it_has.server.url }
    expect { 'pyoco_runs_total{status="COMPLETED"} 2', 'pyoco_runs_today_total{status="COMPLETED"} 2', workers, dlq }
  end)

  it("leaves a sample out when the stream of dead letters cannot be read, and is 503 without NATS", function()
    expect { "pyoco_workers_alive_total 0", "pyoco_dlq_messages_total 0" }
    assert(it_has.store.js:stream_delete "PYOCO_DLQ")
    expect { "pyoco_workers_alive_total 0" }
    it_has.server:kill()
    process.wait_for(function() return it_has.gateway:fetch("/metrics").status == 503 end, 10000, "503")
    it_has.server:restart()
  end)
end)
