--- First snapshots, jobs and ids of bundles' runs. Their fields are compared with the recorded ones in
--- spec/routes/bundles_spec.lua (roots) and spec/worker/bundle_spec.lua (children).
local json = require "host.json"
local bundle = require "pyoco.run.bundle"

describe("run.bundle", function()
  it("gives a child an id that follows from parent, task, iteration and attempt", function()
    local seen = {}
    for _, case in ipairs { { "p", "a", {}, 1 }, { "p", "a", {}, 2 }, { "p", "b", {}, 1 }, { "q", "a", {}, 1 },
        { "p", "a", { 0 }, 1 }, { "p", "a", { 1 }, 1 }, { "p", "a", { 0, 1 }, 1 }, { "p", "a", { 1, 0 }, 1 } } do
      local id = bundle.child_id(table.unpack(case))
      assert.truthy(id:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"), id)
      assert.equal(id, bundle.child_id(table.unpack(case)))
      assert.is_nil(seen[id])
      seen[id] = true
    end
  end)

  it("leaves what is empty out of the job", function()
    local first = bundle.root { run_id = "r", flow_name = "f", tag = "t", params = {}, bundle_hash = "ab",
      workflow_bundle_bytes = 3, now = 1, requires_approval = false, tenant_id = json.null, api_key_id = "k" }
    local job = bundle.job(first, "abc", 2)
    assert.same({ nil, "k", nil, nil, 0, 2 }, { job.tenant_id, job.api_key_id, job.parent_run_id,
      job.spawned_from_task, job.spawn_depth, job.submitted_at })
  end)

  it("keeps the root through the generations", function()
    local root = bundle.root { run_id = "r", flow_name = "f", tag = "t", params = {}, bundle_hash = "ab", now = 1,
      requires_approval = true, tenant_id = "x", api_key_id = json.null }
    local child = bundle.child(root, { run_id = "c", workflow = "g", task = "s", tag = "t", params = {}, now = 2 })
    assert.same({ "r", "r", 1, "x", "PENDING", "not_required", false }, { child.root_run_id, child.parent_run_id,
      child.spawn_depth, child.tenant_id, child.status, child.approval_status, child.approval_required })
    assert.equal("c", bundle.child(child, { run_id = "d", workflow = "g", task = "s", tag = "t", params = {},
      now = 3 }).parent_run_id)
  end)
end)
