--- Records are encoded with their keys in the order that the reference writes.
local host = require "host"
local json = require "host.json"
local shape = require "spec.support.shape"
local tmp = require "spec.support.tmp"
local wire = require "pyoco.run.wire"

--- Recording -> the function that encodes its like, and the member that is the record.
local ENCODERS = {
  ["snapshot-initial-runs"] = { wire.snapshot }, ["snapshot-initial-yaml"] = { wire.snapshot },
  ["snapshot-initial-bundle_pending"] = { wire.snapshot }, ["snapshot-pending-approval"] = { wire.snapshot },
  ["snapshot-rejected"] = { wire.snapshot }, ["snapshot-approved-bundle"] = { wire.snapshot },
  ["snapshot-completed-yaml"] = { wire.snapshot }, ["snapshot-failed-yaml"] = { wire.snapshot },
  ["snapshot-flow-not-found"] = { wire.snapshot }, ["snapshot-completed-parent"] = { wire.snapshot },
  ["snapshot-completed-child"] = { wire.snapshot }, ["snapshot-cancelling-yaml"] = { wire.snapshot },
  ["job-runs"] = { wire.job, "body" }, ["job-yaml"] = { wire.job, "body" }, ["job-bundle-root"] = { wire.job, "body" },
  ["dlq-1-execution_error"] = { wire.letter, "body" }, ["dlq-2-flow_not_found"] = { wire.letter, "body" },
  ["dlq-3-invalid_job"] = { wire.letter, "body" }, ["dlq-4-invalid_job"] = { wire.letter, "body" },
  ["worker-record"] = { wire.worker },
}

describe("run.wire", function()
  for name, row in pairs(ENCODERS) do
    it("writes the keys of " .. name .. " in its order", function()
      local text = assert(tmp.read(("%s/spec/fixtures/%s.json"):format(host.home, name)))
      local value = assert(json.decode(text))
      if row[2] then value = value[row[2]] end
      assert.same(shape.keys(text, row[2]), shape.keys(assert(row[1](value))))
    end)
  end

  it("writes relations in their order", function()
    local text = assert(tmp.read(host.home .. "/spec/fixtures/relations.json"))
    for i, record in ipairs(json.decode(text)) do
      assert.same(shape.keys(text:match("^%s*%[(.*)%]")), shape.keys(assert(wire.relation(record))), i)
    end
  end)

  it("is ASCII, and names what JSON cannot carry", function()
    assert.equal([[{"reason":"x","error":"\u5931"}]], wire.letter { error = "失", reason = "x" })
    local none, message, code = wire.job { run_id = "r", params = { x = 0 / 0 } }
    assert.same({ nil, "invalid" }, { none, code })
    assert.truthy(message:find("params.x", 1, true))
  end)
end)
