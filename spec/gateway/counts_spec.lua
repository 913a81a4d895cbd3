--- GET /runs/counts on a real NATS.
local json = require "host.json"
local process = require "spec.support.process"
local runs = require "spec.support.runs"

describe("GET /runs/counts", function()
  local it_has

  before_each(function() it_has = runs.start() end)
  after_each(function() it_has:stop() end)

  local function expect(query, expected)
    local last
    local ok = pcall(process.wait_for, function()
      local answer = it_has.gateway:fetch("/runs/counts" .. query)
      last = answer and answer.body
      if not answer or answer.status ~= 200 then return false end
      local same = answer.json.total == expected.total
      for status, n in pairs(expected.counts) do same = same and answer.json.counts[status] == n end
      for status in pairs(answer.json.counts) do same = same and expected.counts[status] ~= nil end
      return same
    end, 5000)
    assert.is_true(ok, last)
  end

  it("counts by status, of a flow, of a tag, and follows changes", function()
    expect("", { counts = {}, total = 0 })
    it_has:put("a", { status = "RUNNING", flow_name = "etl", tag = "gpu" })
    it_has:put("b", { status = "FAILED", flow_name = "etl", tag = "cpu" })
    it_has:put("c", { status = "FAILED", flow_name = "other", tag = "gpu" })
    it_has:put("d", { status = json.null })
    expect("", { counts = { RUNNING = 1, FAILED = 2, UNKNOWN = 1 }, total = 4 })
    expect("?flow=etl", { counts = { RUNNING = 1, FAILED = 1 }, total = 2 })
    expect("?flow=etl&tag=gpu", { counts = { RUNNING = 1 }, total = 1 })
    expect("?tag=", { counts = { RUNNING = 1, FAILED = 2, UNKNOWN = 1 }, total = 4 })
    it_has:put("a", { status = "COMPLETED", flow_name = "etl", tag = "gpu" })
    expect("?flow=etl&tag=gpu", { counts = { COMPLETED = 1 }, total = 1 })
    assert(it_has.store.runs:delete "a")
    expect("?flow=etl&tag=gpu", { counts = {}, total = 0 })
  end)
end)
