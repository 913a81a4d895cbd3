--- host.metrics: histograms as Prometheus reads them.
local metrics = require "host.metrics"

local count = 0

--- A name that no other `it` has used.
local function fresh()
  count = count + 1
  return "spec_seconds_" .. count
end

--- Samples as { name{labels} = value text }.
local function samples(name)
  local found = {}
  for sample, value in metrics.text(name):gmatch "([^\n]-) ([^ \n]+)\n" do found[sample] = value end
  return found
end

describe("host.metrics", function()
  it("has no samples before the first observation", function()
    assert.equal("", metrics.text(fresh()))
  end)

  it("counts into buckets that add up, with sum and count", function()
    local name = fresh()
    for _, seconds in ipairs { 0.001, 0.0011, 3, 1e9 } do metrics.observe(name, 'k="v"', "", seconds) end
    local found = samples(name)
    assert.equal("1", found[name .. '_bucket{k="v",le="0.001"}'])
    assert.equal("2", found[name .. '_bucket{k="v",le="0.0025"}'])
    assert.equal("3", found[name .. '_bucket{k="v",le="5"}'])
    assert.equal("3", found[name .. '_bucket{k="v",le="14400"}'])
    assert.equal("4", found[name .. '_bucket{k="v",le="+Inf"}'])
    assert.equal("4", found[name .. '_count{k="v"}'])
    assert.is_true(math.abs(1e9 + 3 - tonumber(found[name .. '_sum{k="v"}'])) < 10)
  end)

  it("adds all labels up when asked to", function()
    local name = fresh()
    metrics.observe(name, 'k="a"', "", 1)
    metrics.observe(name, 'k="b"', "", 2)
    assert.equal(name .. "_sum 3", metrics.text(name, true):match "[^\n]*_sum[^\n]*")
    assert.same({ 2, 3 }, { metrics.total(name) })
    assert.equal("", metrics.text(fresh(), true))
  end)

  it("may go without labels", function()
    local name = fresh()
    metrics.observe(name, "", "", 2)
    assert.equal("1", samples(name)[name .. '_bucket{le="2.5"}'])
    assert.equal("2", samples(name)[name .. "_sum"])
  end)

  it("counts a time that is none as 0", function()
    local name = fresh()
    metrics.observe(name, "", "", -5)
    metrics.observe(name, "", "", 0 / 0)
    assert.equal("2", samples(name)[name .. '_bucket{le="0.001"}'])
    assert.equal("0", samples(name)[name .. "_sum"])
  end)

  it("keeps 200 sets of labels, and counts all others together", function()
    local name = fresh()
    for i = 1, 250 do metrics.observe(name, ('f="%d"'):format(i), 'f="other"', 1) end
    local found = samples(name)
    assert.equal("1", found[name .. '_count{f="200"}'])
    assert.is_nil(found[name .. '_count{f="201"}'])
    assert.equal("50", found[name .. '_count{f="other"}'])
  end)
end)
