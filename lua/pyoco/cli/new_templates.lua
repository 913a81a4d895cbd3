--- What `client.lua new` writes: small flows that work, with comments that teach. {{name}} is the flow's name,
--- {{file}} and {{spec}} are the paths, {{module}} the module of tasks.
local M = {}

M.lua = [[
--- {{name}}: say here what this flow is for.
---
---     pyoco-host client.lua check {{file}}                   is it right? what does it look like?
---     pyoco-host client.lua run {{file}} --param count=5     run it here; --watch: again on every save
---     pyoco-host test.lua {{spec}}                 its spec
---     pyoco-host client.lua submit --flow-name {{name}}       run it on the workers
local pyoco = require "pyoco"
local task, flow = pyoco.task, pyoco.flow

-- A task is a function. Its parameters are wired by name: `ctx` is what it knows of its run, `count` is a parameter of
-- the run (its default stands at the end of this file), `list` further down is the output of the task list.
local list = task("list", function(ctx, count)
  ctx:log("making a list of %d", count)
  local items = {}
  for i = 1, count do items[i] = i end
  return items
end)

-- In a loop (see the graph below) `item` is the item. An attempt that fails, or takes longer than timeout_sec, is tried
-- again after 1 s, 2 s, 4 s; the last failure fails the run. `parallel` is how many iterations go on at once.
local work = task("work", function(ctx, item)
  ctx:log("item %d of %d", ctx.loop.index + 1, ctx.loop.count)
  ctx:sleep(0.1)
  return item * item
end, { retries = 3, retry_delay_sec = 1, timeout_sec = 30, parallel = 2 })

-- Of a task in a loop, the result is the list of all its outputs.
local sum = task("sum", function(work)
  local total = 0
  for _, value in ipairs(work) do total = total + value end
  return total
end)

-- The graph:  a >> b  b after a      a & b  side by side      a | b  whichever is first
--   x["$ctx.items as item"]  x for each item      x[3]  three times      x % "$node.x.output > 9"  until that holds
return flow("{{name}}", list >> work["$node.list.output as item"] >> sum, { defaults = { count = 3 } })
]]

M.yaml = [[
# yaml-language-server: $schema=.flow.schema.json
# {{name}}: say here what this flow is for.
#
#   pyoco-host client.lua check {{file}}                   is it right? what does it look like?
#   pyoco-host client.lua run {{file}} --param count=5     run it here; --watch: again on every save
#   pyoco-host test.lua {{spec}}                  its spec
#   pyoco-host client.lua submit-yaml --workflow-file {{file}} --flow-name {{name}} --tag default
version: 1

flow:
  # a >> b: b after a.   a & b: side by side.   a | b: whichever is first.
  # x["$ctx.items as item"]: x for each item.   x[3]: three times.   x % "$node.x.output > 9": until that holds.
  graph: |
    list >> work["$node.list.output as item"] >> sum
  defaults:
    count: 3                          # parameters of the run; submit may give others

tasks:
  list:
    callable: {{module}}:list
  work:
    callable: {{module}}:work
    retries: 3                        # a failed attempt is tried again, after 1 s, 2 s, 4 s
    retry_delay_sec: 1
    timeout_sec: 30                   # for each attempt
    parallel: 2                       # iterations of its loop that go on at once
  sum:
    callable: {{module}}:sum
    inputs:
      values: $node.work.output       # for a parameter that is not named after a task
]]

M.tasks = [[
--- Tasks of {{name}}.yaml: ordinary functions. Their parameters are wired by name: `ctx` is what a task knows of its
--- run, `count` is a parameter of the run, `item` the item of the loop around it.
local M = {}

--- Makes the list. What follows tells an editor with a Lua language server what `ctx` has.
---@param ctx pyoco.ctx
---@param count integer
function M.list(ctx, count)
  ctx:log("making a list of %d", count)
  local items = {}
  for i = 1, count do items[i] = i end
  return items
end

--- Runs once for each item.
---@param ctx pyoco.ctx
---@param item integer
function M.work(ctx, item)
  ctx:log("item %d of %d", ctx.loop.index + 1, ctx.loop.count)
  ctx:sleep(0.1)
  return item * item
end

--- `values` is named in the document's inputs: the list of all outputs of work.
function M.sum(values)
  local total = 0
  for _, value in ipairs(values) do total = total + value end
  return total
end

return M
]]

M.spec = [[
--- {{name}}: `pyoco-host test.lua {{spec}}`. The clock is virtual: waits and retries take no time.
local testing = require "pyoco.testing"

describe("{{name}}", function()
  local flow = testing.load("{{file}}")

  it("adds up what the loop gives", function()
    local result = testing.flow(flow, { params = { count = 4 } })
    assert.equal("COMPLETED", result.status, result.error)
    assert.same({ 1, 4, 9, 16 }, result.outputs.work)
    assert.equal(30, result.outputs.sum)
  end)

  it("tries again when an attempt fails", function()
    local attempts = 0
    local result = testing.flow(flow, { fakes = { work = function(item)
      attempts = attempts + 1
      if attempts == 1 then error("not this time") end
      return item
    end } })
    assert.equal("COMPLETED", result.status, result.error)
    assert.equal(4, attempts) -- three items, one of them twice
  end)
end)
]]

M.wheel = [[
--- What the wheel is called; `pyoco-host admin.lua wheel build {{folder}}` makes it. This file is data.
--- The modules and flows of this folder are the wheel's contents; README.md is its description; spec/ stays out.
return {
  name = "{{name}}",
  version = "0.1.0", -- each upload needs a greater one
  summary = "Flows of {{name}}.",
}
]]

M.wheel_readme = [[
# {{name}}

Say here what these flows are for, who may submit them, and which parameters they take: this text is shown
with the wheel.
]]

return M
