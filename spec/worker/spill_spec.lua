--- What goes out of a snapshot that is over its cap, on a store that may fail.
local json = require "host.json"
local spills = require "pyoco.worker.spill"

describe("worker.spill", function()
  local puts, fault, spill, data

  before_each(function()
    puts, fault = {}, nil
    data = {
      put = function(_, run_id, task, kind, bytes)
        if fault then return nil, fault, "unavailable" end
        puts[#puts + 1] = ("%s/%s/%s %d"):format(run_id, task, kind, #bytes)
        return { name = task, size = #bytes }
      end,
    }
    spill = spills.new(data, "r")
  end)

  local function record(output, more)
    local one = { state = "SUCCEEDED", ended_at = 1.5, inputs = {}, output = output }
    for key, value in pairs(more or {}) do one[key] = value end
    return one
  end

  it("takes outputs over a sixteenth of the cap, once", function()
    local big = ("x"):rep(1000)
    local function records() return { big = record(big), small = record(("x"):rep(900)), none = record(json.null) } end
    assert.is_true(spill:take(records(), 16000))
    assert.same({ "r/big/output 1002" }, puts)
    local now = records()
    spill:apply(now)
    assert.same({ json.null, { name = "big", size = 1002 } }, { now.big.output, now.big.output_ref })
    assert.equal(900, #now.small.output)
    assert.is_false(spill:take(now, 16000))
    assert.equal(1, #puts)
  end)

  it("leaves a task alone that has not ended, and takes what a later attempt made", function()
    local list = { ("x"):rep(1000) }
    assert.is_false(spill:take({ t = record(list, { state = "RUNNING" }) }, 1000))
    assert.is_true(spill:take({ t = record(list) }, 1000))
    list[2] = "y"
    local later = { t = record(list, { ended_at = 2.5 }) }
    spill:apply(later)
    assert.is_nil(later.t.output_ref)
    assert.is_true(spill:take(later, 1000))
    assert.equal(2, #puts)
  end)

  it("tries again when the store could not be reached", function()
    fault = "no NATS"
    local records = { t = record { ("x"):rep(1000) } }
    assert.is_false(spill:take(records, 1000))
    spill:apply(records)
    assert.is_nil(records.t.output_ref)
    fault = nil
    assert.is_true(spill:take(records, 1000))
  end)

  it("leaves out inputs that are big", function()
    local records = { t = record(1, { inputs = { a = ("x"):rep(1000) } }), u = record(1, { inputs = { a = 1 } }) }
    assert.is_true(spill:take(records, 1000))
    spill:apply(records)
    assert.same({ {}, true, { a = 1 } }, { records.t.inputs, records.t.inputs_truncated, records.u.inputs })
    assert.is_nil(records.u.inputs_truncated)
    assert.is_false(spill:take(records, 1000))
  end)

  it("leaves values alone that JSON cannot carry: the run is told by whoever prints it", function()
    local records = { t = record { 0 / 0, ("x"):rep(1000) } }
    assert.is_false(spill:take(records, 1000))
    assert.same({}, puts)
  end)
end)
