--- What tasks share and keep, on a real worker: scratch, save paths, artifacts, and that the next run has none of it.
local crypto = require "host.crypto"
local support = require "spec.support.worker"
local tmp = require "spec.support.tmp"

local FLOW = [[
local pyoco = require "pyoco"
local task = pyoco.task

local first = task("first", function(ctx)
  local before = ctx:get("scratch.count", 0)
  ctx:set("scratch.count", before + 1)
  ctx:set("scratch.by.name", { 1, 2 })
  return { before = before, run = ctx.run.run_id, delivery = ctx.run.attempt, tag = ctx.run.tag, tags = ctx.run.tags }
end, { outputs = { "results.kept.first", "params.taken" } })

local each = task("each", function(ctx, item)
  ctx:set({ "scratch", "seen", "n." .. item }, ctx.loop.index)
  ctx:save_artifact("item-" .. item, { item = item })
  ctx:save_artifact("file-" .. item, { bytes = "bytes of " .. item })
  return item
end)

local last = task("last", function(ctx, kept, taken, deep)
  local names = {}
  for name in pairs(ctx.scratch.seen) do names[#names + 1] = name end
  table.sort(names)
  return { count = ctx.scratch.count, names = names, kept = kept.first.before, taken = taken.before, deep = deep,
    results = ctx.results.each, artifact = ctx.artifacts["item-b"].item, scratch = ctx:get("scratch").by }
end, { inputs = { deep = "$ctx.scratch.by.name[1]" } })

local typo = task("typo", function(ctx) ctx:slep(1) end, { fail_policy = "isolate" })

return pyoco.flow("main", first >> (each["$ctx.list as item"] >> last & typo), { defaults = { list = { "a", "b" } } })
]]

describe("a worker", function()
  local world

  before_each(function() world = support.world() end)
  after_each(function() world:stop() end)

  it("gives the tasks of a run what they share, and none of it to the next run", function()
    world:write("main.lua", FLOW)
    world:worker()
    for _ = 1, 2 do
      local run_id = world:submit { tag = "default" }
      local run = world:wait(run_id, "COMPLETED")
      local records = run.task_records
      assert.same({ before = 0, run = run_id, delivery = 1, tag = "default", tags = { "default" } },
        records.first.output)
      assert.same({ count = 1, names = { "n.a", "n.b" }, kept = 0, taken = 0, deep = 2, results = { "a", "b" },
        artifact = "b", scratch = { name = { 1, 2 } } }, records.last.output)
      local artifacts = records.each.artifacts
      assert.same({ item = "a" }, artifacts["item-a"])
      local path = ("%s/artifacts/%s/each/file-b"):format(world.flows, run_id)
      assert.same({ path = path, size = 10, sha256 = crypto.sha256("bytes of b") }, artifacts["file-b"])
      assert.equal("bytes of b", tmp.read(path))
      assert.same({ "typo" }, run.failed_tasks)
      assert.truthy(records.typo.error:find("main.lua:%d+: attempt to call a nil value %(method 'slep'%); "
        .. "ctx has no 'slep': did you mean ctx:sleep%?"), records.typo.error)
    end
  end)
end)
