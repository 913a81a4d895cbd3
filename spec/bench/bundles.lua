--- Child runs: what a spawn costs beside a task that does nothing, one after the other and side by side, on a worker of
--- one slot and of four.
local clock = require "host.clock"
local crypto = require "host.crypto"
local json = require "host.json"
local bundles = require "pyoco.flow.bundle"
local run_bundle = require "pyoco.run.bundle"
local workers = require "spec.support.worker"

local CHILDREN <const> = 200
local AT_ONCE <const> = 64
local ENV <const> = { PYOCO_SPAWN_MAX_CHILD_RUNS = "0", PYOCO_SPAWN_MAX_PARALLEL_CHILD_RUNS = "0" }
local TEXT <const> = [[
workflows:
  main: {flow: {graph: '%s'}, tasks: {a: {spawn: child%s}}}
  child: {flow: {graph: b}, tasks: {b: {callable: 'bench_tasks:nothing'}}}
submit: {entry_workflow: main, inputs: {}}
]]

--- Runs a parent and gives the seconds that it took.
local function time(world, text)
  local bundle = assert(bundles.read(text))
  local first = run_bundle.root { run_id = crypto.uuid4(), flow_name = "main", tag = "default", params = bundle.inputs,
    bundle_hash = bundle.sha256, workflow_bundle_bytes = #text, now = clock.wall(), requires_approval = false,
    tenant_id = json.null, api_key_id = json.null }
  assert(world.store.runs:create(first))
  assert(world.store.jobs:publish(run_bundle.job(first, text, clock.wall())))
  local ended = world:wait(first.run_id, "COMPLETED", 120000)
  return ended.end_time - ended.start_time
end

--- A parent whose children run `parallel` at a time.
local function side_by_side(parallel)
  local items = {}
  for i = 1, CHILDREN do items[i] = i end
  return (TEXT:format('a["$ctx.items as i"]', ", parallel: " .. parallel):gsub("inputs: {}",
    "inputs: {items: [" .. table.concat(items, ",") .. "]}"))
end

local function measure(world, out, slots)
  world:write("bench_tasks.lua", "return { nothing = function() return 1 end }")
  world:worker({ "--slots", tostring(slots) }, ENV)
  time(world, TEXT:format("a", "")) -- warm
  out.say("\n%d slot%s, %d child runs", slots, slots == 1 and "" or "s", CHILDREN)
  local series = time(world, TEXT:format(("a[%d]"):format(CHILDREN), ""))
  out.say("    one after the other: %.2f ms each", series / CHILDREN * 1e3)
  local parallel = time(world, side_by_side(AT_ONCE))
  out.say("    %d at a time: %.2f ms each, %.0f a second", AT_ONCE, parallel / CHILDREN * 1e3, CHILDREN / parallel)
end

--- Runs the part.
---@param out table say, row
return function(out)
  for _, slots in ipairs { 1, 4 } do
    local world = workers.world()
    local ok, problem = xpcall(measure, debug.traceback, world, out, slots)
    world:stop()
    if not ok then error(problem, 0) end
  end
end
