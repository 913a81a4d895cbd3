--- Bundles of workflows: what they mean, and every way in which they can be wrong.
local json = require "host.json"
local bundle = require "pyoco.flow.bundle"
local canonical = require "pyoco.flow.canonical"
local fixture = require "spec.support.fixture"

local GOOD = [[
version: 1
workflows:
  study:
    tasks:
      prepare: {callable: m:prepare}
      run_child: {spawn: trial, inputs: {x: $node.prepare.output}, fail_on: [FAILED]}
    flow:
      graph: prepare >> run_child
  trial:
    tasks: {a: {callable: m:a}, b: {run: [echo, hi]}}
    flow: {graph: a >> b}
    runtime: {expose_env: [HOME]}
submit:
  entry_workflow: study
  inputs: {x: 1}
]]

--- The errors of a bundle, "line:column code path" each.
local function refuse(text, opts)
  local read, message, code, errors = bundle.read(text, opts)
  assert.is_nil(read)
  assert.equal("invalid workflow bundle", message)
  assert.equal("invalid", code)
  local lines = {}
  for i, found in ipairs(errors) do
    lines[i] = ("%d:%d %s %s"):format(found.line, found.column, found.code, found.path or "")
    assert.is_true(#found.message > 0)
  end
  return lines, errors
end

--- GOOD with one part replaced.
local function with(from, to)
  local text, count = GOOD:gsub(from, (to:gsub("%%", "%%%%")))
  assert(count == 1, from)
  return text
end

describe("bundle", function()
  it("reads workflows, in the order in which they are written, and what a submit starts", function()
    local read = assert(bundle.read(GOOD))
    assert.same({ "study", "trial" }, read.names)
    assert.equal("study", read.entry_workflow)
    assert.same({ x = 1 }, read.inputs)
    assert.equal(require("host.crypto").sha256(GOOD), read.sha256)
    assert.is_true(read.workflows.study.spawns)
    assert.is_false(read.workflows.trial.spawns)
    assert.same({ "HOME" }, { table.unpack(read.workflows.trial.expose_env) })
    assert.same({ line = 6, column = 26 }, read.place_of("study", "run_child", "spawn"))
    local graph = json.decode(canonical.encode(read.workflows.study.graph))
    assert.equal("study", graph.name)
    assert.same({ { "prepare", "run_child" } }, graph.edges)
    assert.same({ workflow = "trial", fail_on = { "FAILED" } }, graph.nodes[2].spawn)
    assert.same({}, read.warnings)
  end)

  it("reads what the reference's gateway has sent to a worker", function()
    local job = fixture("job-bundle-root").body
    local read = assert(bundle.read(job.workflow_bundle))
    assert.equal(job.bundle_hash, read.sha256)
    assert.equal(job.entry_workflow, read.entry_workflow)
    assert.same(job.params, read.inputs)
  end)

  it("names each mistake at its place, with the reference's reason", function()
    for _, case in ipairs {
      { "version: 1", "version: x", "1:10 invalid_version version" },
      { "version: 1\n", "other: 1\n", "1:1 unknown_bundle_top_level_keys other" },
      { "entry_workflow: study", "entry_workflow: studi", "14:19 missing_entry_workflow submit.entry_workflow" },
      { "entry_workflow: study", "entry_workflow: 3", "14:19 invalid_entry_workflow submit.entry_workflow" },
      { "  entry_workflow: study\n", "", "14:3 invalid_entry_workflow submit.entry_workflow" },
      { "inputs: {x: 1}", "inputs: 3", "15:11 invalid_bundle_submit_inputs submit.inputs" },
      { "inputs: {x: 1}", "input: {x: 1}", "15:3 unknown_bundle_submit_keys submit.input" },
      { "submit:.*$", "submit: 1\n", "13:9 invalid_bundle_submit submit" },
      { "submit:.*$", "", "1:1 invalid_bundle_submit submit" },
      { "spawn: trial", "spawn: trail", "6:26 unknown_spawn_target workflows.study.tasks.run_child.spawn" },
      { "spawn: trial", "spawn: 3", "6:26 invalid_task_spawn workflows.study.tasks.run_child.spawn" },
      { "spawn: trial", "spawn: trial, callable: 'm:f'", "6:7 invalid_task_kind workflows.study.tasks.run_child" },
      { "spawn: trial, inputs: {x: $node.prepare.output}, fail_on: %[FAILED%]", "",
        "6:7 invalid_task_kind workflows.study.tasks.run_child" },
      { "%[FAILED%]", "[COMPLETED]", "6:77 invalid_task_fail_on workflows.study.tasks.run_child.fail_on" },
      { "callable: m:a", "callable: m:a, fail_on: [FAILED]",
        "10:32 invalid_task_fail_on workflows.trial.tasks.a.fail_on" },
      { "callable: m:a", "callable: ma", "10:27 invalid_task_callable workflows.trial.tasks.a.callable" },
      { "callable: m:a", "callabel: m:a", "10:13 invalid_task_kind workflows.trial.tasks.a" },
      { "flow: {graph: a >> b}", "flow: 3", "11:11 invalid_bundle_flow workflows.trial.flow" },
      { "    flow: {graph: a >> b}\n", "", "10:5 invalid_bundle_flow workflows.trial.flow" },
      { "graph: a >> b", "graph: ''", "11:19 missing_flow_graph workflows.trial.flow.graph" },
      { "a >> b", "a >> c", "11:24 unknown_task workflows.trial.flow.graph" },
      { "prepare >> run_child", "prepare >> >> run_child", "8:25 syntax workflows.study.flow.graph" },
      { "runtime:", "run_time:", "12:5 unknown_bundle_workflow_keys workflows.trial.run_time" },
      { "%[HOME%]", "3", "12:27 invalid_runtime_expose_env workflows.trial.runtime.expose_env" },
      { "  trial:\n.-\nsubmit", "  trial: 3\nsubmit", "9:10 invalid_bundle_workflow workflows.trial" },
      { "  trial:", "  trial:\n    flow: {graph: a}", "12:5 duplicate_key workflows.trial.flow" },
    } do
      local lines = refuse(with(case[1], case[2]))
      assert.truthy((" " .. table.concat(lines, " ") .. " "):find(" " .. case[3] .. " ", 1, true),
        case[3] .. " not in " .. table.concat(lines, "; "))
    end
    assert.same({ "1:12 invalid_bundle_workflows workflows" }, refuse "workflows: {}\nsubmit: {entry_workflow: a}")
    assert.same({ "1:1 invalid_yaml_root " }, refuse "[1]")
    assert.same({ "1:1 invalid_bundle_submit submit", "1:1 invalid_bundle_workflows workflows" }, refuse "version: 1")
  end)

  it("tells all mistakes at once, of all workflows, each with its line and what was meant", function()
    local text = with("a >> b", "a >> bb"):gsub("prepare >> run_child", "prepare >> run_chold")
      :gsub("spawn: trial", "spawn: trail")
    local lines, errors = refuse(text)
    assert.same({ "6:26 unknown_spawn_target workflows.study.tasks.run_child.spawn",
      "6:45 bad_selector workflows.study.tasks.run_child.inputs.x", "8:25 unknown_task workflows.study.flow.graph",
      "11:24 unknown_task workflows.trial.flow.graph" }, lines)
    assert.same({ "did you mean trial?", "did you mean run_child?", "did you mean b?" },
      { errors[1].hint, errors[3].hint, errors[4].hint })
    assert.equal("    flow: {graph: a >> bb}\n                       ^^", errors[4].caret)
  end)

  it("warns of what is not what it looks like", function()
    local function warnings(text)
      local list = {}
      for i, found in ipairs(assert(bundle.read(text)).warnings) do
        list[i] = ("%d:%d %s %s"):format(found.line, found.column, found.code, found.path)
      end
      return list
    end
    assert.same({ "11:27 unused_defaults workflows.trial.flow.defaults" },
      warnings(with("graph: a >> b", "graph: a >> b, defaults: {x: 1}")))
    assert.same({ "10:33 not_in_graph workflows.trial.flow.graph" },
      warnings(with("graph: a >> b", "graph: a")))
    assert.same({ "9:3 child_respawn_not_allowed workflows.trial.tasks" },
      warnings(with("callable: m:a", "spawn: study")))
  end)

  it("looks into one workflow only when told to, as a worker does", function()
    local text = with("a >> b", "a >> c")
    local read = assert(bundle.read(text, { only = "study" }))
    assert.is_nil(read.workflows.trial)
    assert.is_true(read.workflows.study.spawns)
    assert.same({ "11:24 unknown_task workflows.trial.flow.graph" }, refuse(text, { only = "trial" }))
    assert.same({ "3:3 missing_entry_workflow workflows" }, refuse(GOOD, { only = "nobody" }))
  end)

  it("tells a bundle from a document", function()
    assert.is_true(bundle.is_bundle(GOOD))
    assert.is_true(bundle.is_bundle "{workflows: {}}")
    assert.is_false(bundle.is_bundle "flow: {graph: workflows}\ntasks: {workflows: {}}")
    assert.is_false(bundle.is_bundle "a: [workflows")
  end)

  it("takes hostile documents without harm: many workflows, all wrong", function()
    local parts = { "workflows:\n" }
    for i = 1, 3000 do
      parts[#parts + 1] = ("  w%d: {flow: {graph: 'a >> b%d'}, tasks: {a: {spawn: x%d}}}\n"):format(i, i, i)
    end
    local _, errors = refuse(table.concat(parts))
    assert.equal(101, #errors)
    assert.equal("too_many_errors", errors[101].code)
  end)
end)
