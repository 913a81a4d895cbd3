--- The order in which tasks start that may start together: declaration order, then iteration.
local flow = require "spec.support.flow"
local queue = require "pyoco.engine.queue"

--- Runs rows and returns the order of their starts: "name" or "name/iteration".
local function starts(graph, rows, options)
  local order = {}
  options = options or {}
  options.graph = graph
  options.on_event = function(e)
    if e.state ~= "RUNNING" or e.type == "frame" then return end
    if e.type == "iteration" then order[#order + 1] = e.task .. table.concat(e.iteration, "/") end
    if e.type == "task" and not options.only_iterations then order[#order + 1] = e.task end
  end
  local eng = flow.virtual(rows, options)
  assert.equal("COMPLETED", eng.status, eng.error)
  return table.concat(order, " ")
end

local function nothing() end

local function sleeper(seconds) return function(ctx) ctx:sleep(seconds) end end

describe("tasks that are ready together", function()
  it("start in the order of their declaration, whatever the graph's text says", function()
    assert.equal("a b c d last", starts("d & c & (b & a) >> last",
      { { "a", nothing }, { "b", nothing }, { "c", nothing }, { "d", nothing }, { "last", nothing } }))
    assert.equal("b a", starts("a & b", { { "b", nothing }, { "a", nothing } }))
  end)

  it("do so in loops and switches too, beside tasks outside of them", function()
    assert.equal("a b0 c d e0", starts('e[1] & d & switch("1")["1" >> c] & b[1] & a', { { "a", nothing },
      { "b", nothing }, { "c", nothing }, { "d", nothing }, { "e", nothing } }):gsub("(%a) %1(%d)", "%1%2"))
  end)

  it("start by iteration when they are the same task, the outermost loop first", function()
    local order = starts('(a >> b["$ctx.ys as y"])["$ctx.xs as x"]',
      { { "a", function(ctx, x) ctx:sleep(x) end, options = { parallel = 3 } },
        { "b", sleeper(10), options = { parallel = 2 } } },
      { params = { xs = { 3, 1, 2 }, ys = { 1, 2 } }, max_parallel = 3, only_iterations = true })
    -- a place becomes free at 1, 2, 3, 11, 12 and 13 s; iteration 0 is ready at 3 s, and then comes first
    assert.equal("a0 a1 a2 b1/0 b1/1 b0/0 b0/1 b2/0 b2/1", order)
  end)

  it("start the same way every time", function()
    local rows, graph = {}, {}
    for i = 1, 30 do
      rows[i] = { "t" .. i, sleeper(i * 7 % 5), options = i % 3 == 1 and { parallel = 4 } or nil }
      graph[i] = i % 3 == 0 and ("t%d[2]"):format(i) or i % 3 == 1 and ('t%d["$ctx.xs as x"]'):format(i) or "t" .. i
    end
    local text = table.concat(graph, " & ", 1, 15) .. " >> (" .. table.concat(graph, " & ", 16) .. ")"
    local options = { params = { xs = { 1, 2, 3, 4, 5, 6 } }, max_parallel = 5 }
    local first = starts(text, rows, options)
    for _ = 1, 3 do assert.equal(first, starts(text, rows, options)) end
  end)

  it("do not lose what arrives while other answers are worked off", function()
    local engine = require "pyoco.engine"
    local rows, resumes, count = {}, {}, 0
    for i = 1, 40 do
      rows[i] = { "t" .. i, function()
        engine.await(function(resume)
          resumes[#resumes + 1] = resume
          if #resumes == 40 then
            for _, it in ipairs(resumes) do it() end -- all at once
          end
        end)
        for _ = 1, 3 do engine.await(function(resume) resume() end) end -- answered at once
        count = count + 1
      end }
    end
    assert.equal("COMPLETED", flow.virtual(rows).status)
    assert.equal(40, count)
  end)
end)

describe("the queue of ready tasks", function()
  it("gives them back sorted", function()
    local top = {}
    local ready, random = queue.ready(), 12345
    local nodes = {}
    for i = 1, 500 do
      random = random * 1103515245 + 12345 & 0x7fffffff
      local outer = { parent = top, index = random >> 8 & 3 }
      nodes[i] = { index = random >> 16 & 15, scope = { parent = outer, index = random >> 12 & 7 } }
      queue.push(ready, nodes[i])
    end
    local previous = queue.pop(ready)
    for _ = 2, 500 do
      local node = queue.pop(ready)
      local a = previous.index << 8 | previous.scope.parent.index << 4 | previous.scope.index
      local b = node.index << 8 | node.scope.parent.index << 4 | node.scope.index
      assert.is_true(a <= b)
      previous = node
    end
    assert.is_nil(queue.pop(ready))
  end)
end)
