--- Bundles end to end: the client, two gateways, a worker of one slot, and what happens when parts of it are gone.
local host = require "host"
local http = require "host.http"
local json = require "host.json"
local fixture = require "spec.support.fixture"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local workers = require "spec.support.worker"

local TASKS = [[
local M = {}
function M.add_one(x) return x + 1 end
function M.to_text(add_one) return "v=" .. add_one end
function M.child_summary_text(run_child) return run_child.status .. ":" .. run_child.outputs.to_text end
function M.wait_for(ctx, file)
  while not io.open(file) do ctx:sleep(0.01) end
  return "seen"
end
return M
]]

local STUDY = fixture("job-bundle-root").body.workflow_bundle:gsub("pyoco_server._workflow_test_tasks", "tasks")

--- A parent whose child waits for a file.
local WAITS = [[
workflows:
  main: {flow: {graph: run_child}, tasks: {run_child: {spawn: trial}}}
  trial: {flow: {graph: wait}, tasks: {wait: {callable: 'tasks:wait_for'}}}
submit: {entry_workflow: main, inputs: {file: FILE}}
]]

describe("bundles", function()
  local world, one, two

  lazy_setup(function()
    world = workers.world()
    world:write("tasks.lua", TASKS)
    world:write("study.yaml", STUDY)
    one, two = gateways.start { nats_url = world.server.url }, gateways.start { nats_url = world.server.url }
    world:worker()
  end)

  after_each(function() http.close() end)

  lazy_teardown(function()
    one:stop()
    two:stop()
    world:stop()
  end)

  local function client(gateway, ...)
    local got = process.run { "client.lua", "--server", gateway.url, ... }
    return got.code, got.code == 0 and json.decode(got.stdout) or got.stderr
  end

  local function submit(text)
    local answer = assert(one:fetch("/runs/bundle", { method = "POST", body = text,
      headers = { ["content-type"] = "application/yaml" } }))
    assert.equal(200, answer.status, answer.body)
    return answer.json.run_id
  end

  local function approve(gateway, run_id)
    return gateway:fetch("/runs/" .. run_id .. "/approve", { method = "POST" })
  end

  --- A parent that waits for its child, which runs; and the file that lets it go on.
  local function waiting()
    local gate = world.flows .. "/gate-" .. tostring({}):match("0x(%x+)")
    local run_id = submit((WAITS:gsub("FILE", gate)))
    assert.equal(200, approve(one, run_id).status)
    local child_id = world:wait(run_id, function(s) return s.child_run_ids[1] end).child_run_ids[1]
    world:wait(child_id, "RUNNING")
    return run_id, child_id, function() world:write(gate:match("[^/]+$"), "") end
  end

  it("run from the client: submitted, approved, finished by one slot, and shown with their children", function()
    local code, answer = client(one, "submit-bundle", "--bundle-file", world.flows .. "/study.yaml", "--param", "x=4")
    assert.same({ 0, "PENDING_APPROVAL", "study" }, { code, answer.status, answer.entry_workflow })
    local run_id = answer.run_id
    code, answer = client(two, "approve", run_id, "--comment", "fine")
    assert.same({ 0, "approved", "fine" }, { code, answer.approval_status, answer.approval_comment })
    local parent = world:wait(run_id, "COMPLETED")
    assert.equal("COMPLETED:v=6", parent.task_records.summarize.output)
    local _, family = client(one, "relations", run_id)
    assert.same({ parent.child_run_ids[1], "COMPLETED", "run_child" },
      { family.children[1].run_id, family.children[1].status, family.children[1].spawned_from_task })
    code, answer = client(one, "approve", run_id)
    assert.equal(1, code)
    assert.truthy(answer:find("run is not pending approval", 1, true), answer)
  end)

  it("run the example: a training run for each learning rate, and the best of them", function()
    local text = assert(tmp.read(host.home .. "/flows/study.yaml"))
    world:write("study_tasks.lua", assert(tmp.read(host.home .. "/flows/study_tasks.lua")))
    local run_id = submit(text)
    assert.equal(200, approve(one, run_id).status)
    local best = world:wait(run_id, "COMPLETED").task_records.best.output
    assert.equal(0.4, best.rate)
    assert.equal(0.4, world:run(best.run_id).params.rate)
  end)

  it("are rejected from the client, with the reason; a broken one is told by its lines", function()
    local run_id = submit(STUDY)
    local _, answer = client(one, "reject", run_id, "--reason", "too dear")
    assert.same({ "CANCELLED", "rejected", "too dear" }, { answer.status, answer.approval_status,
      answer.rejection_reason })
    world:write("broken.yaml", (STUDY:gsub("spawn: trial", "spawn: trail")))
    local code, text = client(one, "submit-bundle", "--bundle-file", world.flows .. "/broken.yaml")
    assert.equal(1, code)
    assert.truthy(text:find("broken.yaml:8:16: no workflow is called 'trail' (did you mean trial?)", 1, true), text)
  end)

  it("are queued once, however many approve at once on two gateways", function()
    local run_id = submit(STUDY)
    local last = world.store.js:stream_info(world.cfg.work_stream).state.last_seq
    local clients = {}
    for i = 1, 6 do
      clients[i] = process.host { "client.lua", "--server", (i % 2 == 0 and one or two).url, "approve", run_id }
    end
    local codes = {}
    for i, each in ipairs(clients) do codes[i] = each:wait() end
    table.sort(codes)
    assert.same({ 0, 1, 1, 1, 1, 1 }, codes)
    world:wait(run_id, "COMPLETED")
    assert.equal(last + 2, world.store.js:stream_info(world.cfg.work_stream).state.last_seq) -- parent and child
  end)

  it("are cancelled with their children through a gateway", function()
    local run_id, child_id = waiting()
    local answer = one:fetch("/runs/" .. run_id .. "/cancel", { method = "POST" })
    assert.equal("CANCELLING", answer.json.status)
    world:wait(run_id, "CANCELLED")
    world:wait(child_id, "CANCELLED")
    world:wait_settled()
  end)

  it("go on when NATS comes back", function()
    local run_id, child_id, open = waiting()
    world.server:kill()
    local answer = one:fetch("/runs/bundle", { method = "POST", body = STUDY,
      headers = { ["content-type"] = "application/yaml" } })
    assert.equal(503, answer.status)
    assert.equal(503, approve(two, run_id).status)
    open()
    world.server:restart()
    world:connect()
    for _, gateway in ipairs { one, two } do
      gateway:wait("/ready", function(a) return a.status == 200 end, "a gateway to be ready again")
    end
    world:wait(child_id, "COMPLETED")
    assert.equal("seen", world:wait(run_id, "COMPLETED").task_records.run_child.output.outputs.wait)
  end)

  it("lose their children to a cancel though the whole worker is gone", function()
    local run_id, child_id = waiting()
    local worker = world.workers[1]
    worker:kill "sigkill"
    worker:wait()
    local answer = one:fetch("/runs/" .. run_id .. "/cancel", { method = "POST" })
    assert.equal(200, answer.status, answer.body)
    assert.equal("CANCELLING", world:run(child_id).status)
  end)
end)

