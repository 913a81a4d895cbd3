--- Reading job messages: what a reference gateway sends, and what is no job.
local json = require "host.json"
local job = require "pyoco.run.job"
local fixture = require "spec.support.fixture"

describe("run.job", function()
  for _, name in ipairs { "runs", "yaml", "bundle-root" } do
    it("reads what a reference gateway sends: " .. name, function()
      local body = fixture("job-" .. name).body
      assert.same(body, job.read((assert(json.encode(body)))))
    end)
  end

  it("tells from the text whether a run may spawn others", function()
    local root = fixture("job-bundle-root").body
    assert.is_true(job.may_spawn((assert(json.encode(root)))))
    assert.is_false(job.may_spawn((assert(json.encode(fixture("job-yaml").body)))))
    root.workflow_bundle = 'x: \'"spawn_depth":1\''
    assert.is_true(job.may_spawn((assert(json.encode(root)))))
    root.spawn_depth = 1
    assert.is_false(job.may_spawn((assert(json.encode(root)))))
    local by_name = { run_id = "r", flow_name = "study", workflow_yaml = json.null }
    assert.same({ false, true }, { job.may_spawn((json.encode(by_name))), job.may_spawn((json.encode(by_name)), true) })
    by_name.spawn_depth = 1
    assert.is_false(job.may_spawn((json.encode(by_name)), true))
    assert.is_false(job.may_spawn((assert(json.encode(fixture("job-yaml").body))), true))
  end)

  it("fills in what is missing, null or empty", function()
    local read = assert(job.read('{"run_id":"r","flow_name":"f","tag":"","tags":null,"params":[],"submitted_at":null,'
      .. '"spawn_depth":null}'))
    assert.equal(0, read.spawn_depth)
    assert.equal("default", read.tag)
    assert.is_true(json.is_array(read.tags))
    assert.same({}, read.params)
    assert.equal(0, read.submitted_at)
  end)

  it("takes numbers that are texts", function()
    local read = assert(job.read '{"run_id":"r","flow_name":"f","submitted_at":"1.5","spawn_depth":"1"}')
    assert.same({ 1.5, 1 }, { read.submitted_at, read.spawn_depth })
  end)

  local CASES = {
    { "nonsense", "not json", "invalid_json" },
    { "nothing", "", "invalid_json" },
    { "bad UTF-8", '{"run_id":"\xff"}', "invalid_json" },
    { "an array", "[]", "invalid_schema" },
    { "a text", '"x"', "invalid_schema" },
    { "no flow name", '{"run_id":"r"}', "missing_fields", "r" },
    { "no run id", '{"flow_name":"f"}', "missing_fields" },
    { "a number as run id", '{"run_id":1,"flow_name":"f"}', "run_id: expected string" },
    { "a number as flow name", '{"run_id":"r","flow_name":1}', "flow_name: expected string", "r" },
    { "params that are a list", '{"run_id":"r","flow_name":"f","params":[1]}', "params: expected object", "r" },
    { "a time that is none", '{"run_id":"r","flow_name":"f","submitted_at":"soon"}', "submitted_at: expected number",
      "r" },
    { "tags that are an object", '{"run_id":"r","flow_name":"f","tags":{"a":1}}', "tags: expected array", "r" },
  }
  for _, case in ipairs(CASES) do
    it("turns away " .. case[1], function()
      local read, reason, run_id = job.read(case[2])
      assert.is_nil(read)
      assert.equal(case[3], reason)
      assert.equal(case[4], run_id)
    end)
  end
end)
