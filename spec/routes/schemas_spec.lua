--- Routes of schemas.
local gateway_app = require "spec.support.gateway_app"
local schema = require "pyoco.flow.schema"

describe("GET /schemas/flow.json", function()
  it("serves the schema, also to who has no key", function()
    local app = gateway_app.new()
    local answer = app:simulate { method = "GET", path = "/schemas/flow.json" }
    assert.equal(200, answer.status)
    assert.equal("application/schema+json", answer.headers["content-type"])
    assert.equal(schema.text(), answer.body)
    for _, row in ipairs(require "pyoco.routes.schemas") do assert.is_true(row.public) end
  end)
end)
