--- GET /metrics: what an operator needs beside the contract, valid for Prometheus.
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local support = require "spec.support.worker"

local FLOW = [[
local pyoco = require "pyoco"
return pyoco.flow("nap", pyoco.task("one", function(ctx, sec) ctx:sleep(sec) return 1 end))
]]

--- Splits the text into families { name, kind, help, samples = { {name, labels, value} } }; fails on any line out of
--- place, as promtool does.
local function parse(text)
  local families, by_name, last = {}, {}, nil
  assert.equal("\n", text:sub(-1))
  for line in text:gmatch "([^\n]*)\n" do
    local help_of, help = line:match "^# HELP ([%a_][%w_]*) (.+)$"
    local type_of, kind = line:match "^# TYPE ([%a_][%w_]*) (%l+)$"
    local name, labels, value = line:match "^([%a_][%w_]*)(%b{}) (%S+)$"
    if not name then name, value = line:match "^([%a_][%w_]*) (%S+)$" end
    if help_of then
      assert.is_nil(by_name[help_of], "two families " .. help_of)
      last = { name = help_of, help = help, samples = {} }
      families[#families + 1], by_name[help_of] = last, last
    elseif type_of then
      assert.equal(last.name, type_of)
      last.kind = kind
    elseif name then
      local stem = last.kind == "histogram" and name:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "") or name
      assert.equal(last.name, stem, line)
      assert.is_number(tonumber(value), line)
      last.samples[#last.samples + 1] = { name = name, labels = labels or "", value = tonumber(value) }
    else
      error("no line of the format: " .. line)
    end
  end
  return families, by_name
end

describe("GET /metrics for operators", function()
  local world, gateway

  before_each(function()
    world = support.world()
    world:write("nap.lua", FLOW)
    gateway = gateways.start { nats_url = world.server.url }
  end)
  after_each(function()
    gateway:stop()
    world:stop()
  end)

  --- The value of a sample once it satisfies a condition.
  local function sample(name, labels, fits)
    local seen
    local ok, value = pcall(process.wait_for, function()
      local answer = gateway:fetch "/metrics"
      seen = answer and answer.body
      if not answer or answer.status ~= 200 then return nil end
      local _, by_name = parse(answer.body)
      local family = by_name[name] or by_name[name:gsub("_count$", "")]
      for _, found in ipairs(family and family.samples or {}) do
        if found.name == name and found.labels == labels and fits(found.value) then return { found.value } end
      end
    end, 10000, name)
    assert.is_true(ok, ("%s%s is not there as expected in\n%s"):format(name, labels, tostring(seen)))
    return value[1]
  end

  it("tells of queues, slots, durations and requests while a run goes its way", function()
    local run_id = world:submit { flow_name = "nap", tag = "hello", params = { sec = 0.02 } }
    world:submit { flow_name = "nap", tag = "nobody", params = { sec = 0 } }
    sample("pyoco_queue_jobs", '{tag="nobody"}', function(n) return n == 1 end)
    sample("pyoco_queue_oldest_job_age_seconds", '{tag="nobody"}', function(n) return n >= 0 and n < 60 end)
    local worker = world:worker { "--tags", "hello" }
    finally(function() worker:stop() end)
    world:wait(run_id, "COMPLETED")
    local held = world:submit { flow_name = "nap", tag = "hello", params = { sec = 1000 } }
    sample("pyoco_queue_jobs_in_hand", '{tag="hello"}', function(n) return n == 1 end)
    sample("pyoco_worker_slots", '{worker="w1"}', function(n) return n >= 1 end)
    sample("pyoco_worker_slots_busy", '{worker="w1"}', function(n) return n == 1 end)
    sample("pyoco_worker_memory_bytes", '{worker="w1"}', function(n) return n > 1e6 end)
    world:cancel(held)
    world:wait(held, "CANCELLED")
    sample("pyoco_run_duration_seconds_count", "", function(n) return n == 2 end)
    sample("pyoco_run_dispatch_seconds_count", "", function(n) return n == 2 end)
    sample("pyoco_http_request_duration_seconds_count", '{route="metrics",code="200"}', function(n) return n > 1 end)
  end)

  it("is a text that Prometheus takes, with units in the names", function()
    local families = parse(gateway:fetch("/metrics").body)
    assert.is_true(#families > 15)
    for _, family in ipairs(families) do
      assert.truthy(family.kind == "gauge" or family.kind == "counter" or family.kind == "histogram", family.name)
      if family.kind == "counter" then assert.truthy(family.name:find "_total$", family.name) end
      if family.kind == "histogram" then assert.truthy(family.name:find "_seconds$", family.name) end
      local seen = {}
      for _, found in ipairs(family.samples) do
        assert.is_nil(seen[found.name .. found.labels], "twice: " .. found.name .. found.labels)
        seen[found.name .. found.labels] = true
      end
    end
  end)

  it("keeps names of flows out of the labels unless they are asked for", function()
    local telling = gateways.start { nats_url = world.server.url, env = { PYOCO_METRICS_FLOW_LABELS = "1" } }
    for _, one in ipairs { telling, gateway } do -- what they have seen before they were complete they do not count
      one:wait("/runs", function(answer) return answer.status == 200 end, "the list")
    end
    local worker = world:worker { "--tags", "hello" }
    finally(function()
      telling:stop()
      worker:stop()
    end)
    world:wait(world:submit { flow_name = "nap", tag = "hello", params = { sec = 0 } }, "COMPLETED")
    local function has(which, labels)
      process.wait_for(function()
        return which:fetch("/metrics").body:find("pyoco_run_duration_seconds_count" .. labels .. " 1\n", 1, true)
      end, 5000, labels)
    end
    has(telling, '{flow="nap"}')
    has(gateway, "")
    assert.is_nil(gateway:fetch("/metrics").body:find("nap", 1, true))
  end)
end)
