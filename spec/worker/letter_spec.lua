--- Dead letters against recordings of the reference.
local json = require "host.json"
local letter = require "pyoco.worker.letter"
local fixture = require "spec.support.fixture"

describe("worker.letter", function()
  it("has the reference's fields for a run that failed", function()
    for _, name in ipairs { "1-execution_error", "2-flow_not_found" } do
      local recorded = fixture("dlq-" .. name)
      local body = recorded.body
      local fields = { error = body.error, run_id = body.run_id, flow_name = body.flow_name, tag = body.tag,
        tags = body.tags, tenant_id = json.null }
      assert.same(body, letter.make(body.reason, { subject = "pyoco.work.x" }, fields, "w1", body.timestamp))
      assert.equal(recorded.subject, "pyoco.dlq." .. letter.token(body.reason, { subject = "pyoco.work.x" }, fields))
    end
  end)

  it("has the reference's fields for a message that is no job", function()
    for _, name in ipairs { "3-invalid_job", "4-invalid_job" } do
      local recorded = fixture("dlq-" .. name)
      local body = recorded.body
      local job = { subject = body.subject, delivery = body.num_delivered, data = body.payload }
      assert.same(body, letter.make("invalid_job", job, { error = body.error }, "w1", body.timestamp))
      assert.equal(recorded.subject, "pyoco.dlq." .. letter.token("invalid_job", job, {}))
    end
  end)

  it("carries at most 4096 bytes of the message, as text", function()
    local job = { subject = "s.t", delivery = 1, data = "a\xff\xfe" .. ("é"):rep(4000) }
    local payload = letter.make("invalid_job", job, {}, "w", 1).payload
    assert.truthy(utf8.len(payload))
    assert.equal(1, (payload:find("a\u{FFFD}\u{FFFD}é", 1, true)))
    assert.is_true(#payload < 4110)
  end)

  it("goes to the message's tag when the job's own cannot be a subject token", function()
    assert.equal("t", letter.token("execution_error", { subject = "s.t" }, { tag = "a b.c" }))
    assert.equal("t", letter.token("execution_error", { subject = "s.t" }, {}))
  end)
end)
