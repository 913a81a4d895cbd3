--- The result of a bundle's run.
local json = require "host.json"
local fixture = require "spec.support.fixture"
local summary = require "pyoco.run.summary"

local function text(value) return json.encode(value, { sort = true }) end

describe("run.summary", function()
  it("is what the reference makes of the same run", function()
    for _, name in ipairs { "snapshot-completed-parent", "snapshot-completed-child" } do
      local snapshot = fixture(name)
      local recorded = snapshot.result_summary
      snapshot.result_summary = json.null
      assert.equal(text(recorded), text(summary.of(snapshot)))
    end
  end)

  it("has numbers of outputs and of their fields, and artifacts, in the order of the tasks", function()
    local made = summary.make({ run_id = "r", status = "FAILED", error = "e" }, {
      b = { output = { loss = 0.5, epochs = 3, ok = true, name = "n" }, artifacts = { model = { path = "p" }, a = 1 } },
      a = { output = 2, artifacts = { z = "v" } }, list = { output = json.array { 1, 2 } }, none = {},
    })
    assert.equal('{"a":2.0,"b.epochs":3.0,"b.loss":0.5}', text(made.summary_metrics))
    assert.same({ { task = "a", name = "z", value = "v" }, { task = "b", name = "a", value = 1 },
      { task = "b", name = "model", value = { path = "p" } } }, made.artifacts)
    assert.same({ json.null, "FAILED", "e" }, { made.outputs.none, made.status, made.error_summary })
  end)

  it("is the stored one of a run that has it", function()
    assert.equal("x", summary.of({ run_id = "r", result_summary = { run_id = "r", status = "x" } }).status)
    local made = summary.of { run_id = "r", status = "CANCELLED", task_records = json.null, error = json.null }
    assert.same({ "CANCELLED", {}, json.null }, { made.status, made.outputs, made.error_summary })
  end)
end)
