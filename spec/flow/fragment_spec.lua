--- The operators of the Lua front end: what they build, and what they say of anything else.
local pyoco = require "pyoco"
local graphs = require "spec.support.graph"

local switch = pyoco.switch

--- A task that does nothing.
local function task(name, options) return (pyoco.task(name, function() end, options)) end

--- The members of a flow, one line.
local function shape(expr) return graphs.describe(pyoco.flow("f", expr).graph) end

--- A frame of a flow.
local function frame_of(expr) return pyoco.flow("f", expr).graph.frames[1] end

--- Runs fn, which must raise at a line of this file; returns the message.
local function refuse(fn)
  local ok, message = pcall(fn)
  assert.is_false(ok)
  assert.truthy(message:find("^spec/flow/fragment_spec.lua:%d+: "), message)
  return (message:gsub("^[^:]*:%d+: ", ""))
end

--- The errors of an expression that a flow refuses, without the flow's own line.
local function errors_of(expr)
  local message = refuse(function() pyoco.flow("f", expr) end)
  return (message:gsub("^flow 'f' is wrong:\n", ""):gsub("spec/flow/fragment_spec.lua:%d+: ", "HERE: "))
end

describe("operators", function()
  local a, b, c, d
  before_each(function() a, b, c, d = task "a", task "b", task "c", task "d" end)

  it("make loops and switches of tasks", function()
    assert.equal("times1 after a; a; b in times1; c after times1", shape(a >> b[3] >> c))
    assert.equal("each1 after a; a; b in each1; c in each1 after b; d after each1",
      shape(a >> (b >> c)["$ctx.items as item"] >> d))
    assert.equal("until1; a in until1; b after until1", shape(a % "$node.a.output > 3" >> b))
    assert.equal("switch1 after a; case1 in switch1; case2 in switch1; a; b in case1; c in case2; d in case2 after c",
      shape(a >> switch "$ctx.mode" { x = b, ["*"] = c >> d }))
  end)

  it("keep what a loop runs by, and where it stands", function()
    local frame = frame_of(a["$ctx.n + 1"])
    assert.same({ "times", "$ctx.n + 1" }, { frame.kind, frame.count })
    frame = frame_of(a[3.0])
    assert.same({ "times", "3" }, { frame.kind, frame.count })
    frame = frame_of(a["$ctx.items.as as one"])
    assert.same({ "each", "$ctx.items.as", "one", 1 }, { frame.kind, frame.over, frame.as, frame.parallel })
    frame = frame_of(a:each("$ctx.items", "one", { parallel = 4 }))
    assert.same({ "$ctx.items", "one", 4 }, { frame.over, frame.as, frame.parallel })
    frame = frame_of(a:each("[1, 2]"))
    assert.same({ "[1, 2]", "item" }, { frame.over, frame.as })
    frame = frame_of(a % "$node.a.output")
    assert.same({ "$node.a.output", 100 }, { frame.cond, frame.max })
    frame = frame_of(a % { "$node.a.output", 10 })
    assert.equal(10, frame.max)
    local line = debug.getinfo(1, "l").currentline
    frame = frame_of((a >> b)[2])
    assert.same({ line + 1, "spec/flow/fragment_spec.lua" }, { frame.line, frame.file })
  end)

  it("bind as in Lua", function()
    assert.equal("until1 after a; times1 after until1; a; b in until1; c in times1",
      shape(a >> b % "$node.b.output" >> c[2]))
    assert.equal("times1; times2 in times1; a in times2", shape(a[2][3]))
  end)

  it("make one loop of one that is used twice", function()
    local loop = (a >> b)[2]
    assert.equal("times1; a in times1; b in times1 after a; c after times1; d after times1",
      shape { loop >> c, loop >> d })
    local message = errors_of { (a >> b)[2] >> c, (a >> b)[2] >> d }
    assert.truthy(message:find("task 'a' stands in (a ...)[2] and, at spec/flow/fragment_spec.lua:", 1, true), message)
    assert.truthy(errors_of(loop & a):find("HERE: task 'a' stands outside of every loop and, at ", 1, true))
    assert.equal("HERE: cycle: a[2] >> b >> a[2]\n  a task cannot wait for itself",
      errors_of((function() local x = a[2] return x >> b >> x end)()))
  end)

  it("take labels of any kind, and order them", function()
    local graph = pyoco.flow("f", switch "$ctx.x" { a, [true] = b, [2.5] = c, ["*"] = d }).graph
    local labels = {}
    for i, frame in ipairs(graph.frames) do labels[i] = frame.label or "" end
    assert.same({ "", "1", "2.5", "true", "*" }, labels)
    assert.truthy(errors_of(switch "$ctx.x" { a, ["1"] = b }):find('the label "1" is there twice', 1, true))
  end)

  it("say what is wrong in an expression, with carets below it", function()
    assert.equal('HERE: the condition of a % "$ctx.x >": expected a value, got the end\n  $ctx.x >\n          ^\n'
      .. "  a value is a $selector, a number, a 'text', true, false, null or a [list]", errors_of(a % "$ctx.x >"))
    assert.equal("HERE: $node.b.output: 'b' does not come before a[\"$node.b.output\"]\n  $node.b.output\n  "
      .. "^^^^^^^^^^^^^^\n  write b >> a[\"$node.b.output\"] in the graph", errors_of { a["$node.b.output"], b })
    assert.equal("HERE: the count of a[-1] must be a whole number that is not negative, got -1\n  -1\n  ^^",
      errors_of(a[-1]))
    assert.truthy(errors_of(a["$ctx.x as ctx"]):find("HERE: a[\"$ctx.x as ctx\"]: 'ctx' is a name of ctx", 1, true))
    assert.truthy(errors_of(a % { "true", 0 }):find("most iterations of a % \"true\" must be a whole number from 1", 1,
      true))
    assert.truthy(errors_of(a:each("$ctx.x", "i", { parallel = 1000 })):find(
      "parallel of a[\"$ctx.x as i\"] must be a whole number from 1 to 256, got 1000", 1, true))
    local four = task("four", { parallel = 4 })
    assert.truthy(errors_of(four:each("$ctx.x", "i", { parallel = 2 })):find(
      "task 'four' has parallel = 4, but its loop has 2", 1, true))
    assert.truthy(errors_of(a % "1 == \xff"):find("HERE: ", 1, true)) -- no caret, but no crash
    local long = errors_of(a % (("1 + "):rep(500) .. "'é' * )"))
    assert.truthy(#long < 1000 and long:find("1 + 'é' * )\n", 1, true), long)
    assert.truthy(long:find("\n +%^\n"))
  end)

  it("say what stands wrongly beside them", function()
    for message, call in pairs {
      [">> joins tasks, got a string ('b'): write the task's variable, not its name"] =
        function() return a >> "b" end,
      ["& joins tasks, got a nil: is the variable declared above, and spelled like this?"] =
        function() return nil & a end,
      ["| joins tasks, got a function: make it a task with pyoco.task(\"name\", fn)"] =
        function() return a | print end,
      [">> joins tasks, got a list: write (a & b) for tasks side by side"] = function() return a >> { b, c } end,
      [">> joins tasks, got a switch without branches: write pyoco.switch \"...\" { A = x, [\"*\"] = y }"] =
        function() return a >> switch "$ctx.x" end,
      ["& joins tasks, got a switch without branches"] = function() return switch "$ctx.x" & a end,
      [">> joins tasks, got a number"] = function() return 3 >> a end,
    } do
      local got = refuse(call)
      assert.equal(message, got:sub(1, #message))
    end
  end)

  it("say what a loop takes", function()
    local until_text = 'x % condition: expected a text such as "$node.x.output > 3", or { text, most iterations }, got '
    for message, call in pairs {
      [until_text .. "a function: the condition is a text that is read when the loop runs"] =
        function() return a % function() return true end end,
      [until_text .. "a blank text"] = function() return a % " " end,
      [until_text .. "a number"] = function() return a % 3 end,
      [until_text .. "tasks"] = function() return a % b end,
      [until_text .. "a nil"] = function() return a % {} end,
      ["x % { condition, max }: the most iterations must be a whole number, got 1.5"] =
        function() return a % { "true", 1.5 } end,
      ["x % condition: the tasks stand before the %, got a string ('x'): write the task's variable, "
        .. "not its name"] = function() return "x" % a end,
      ["x[\"$ctx.x as \"]: expected a name after 'as'; write x[\"$ctx.items as item\"]"] =
        function() return a["$ctx.x as "] end,
      ["tasks have no 'output'; a loop is x[3], x[\"$ctx.n\"], x[\"$ctx.items as item\"] or x:each(...)"] =
        function() return a.output end,
      ["x[...] takes a whole number, or a text such as \"$ctx.items as item\", got 1.5"] =
        function() return a[1.5] end,
      ["x[...] takes a whole number, or a text such as \"$ctx.items as item\", got a table"] =
        function() return a[{}] end,
      ["x:each: expected a list as text, such as \"$ctx.items\", got a table"] = function() a:each {} end,
      ["x:each: the item's name must be a text, got a number"] = function() a:each("$ctx.x", 3) end,
      ["x:each: options must be a table such as { parallel = 4 }, got a number"] =
        function() a:each("$ctx.x", "i", 3) end,
      ["x:each: unknown option 'max'; known: parallel"] = function() a:each("$ctx.x", "i", { max = 3 }) end,
      ["each is a method of tasks: x:each(...), got a string"] = function() a.each("$ctx.x") end,
      ["switch: expected an expression such as \"$ctx.mode\", got a nil"] = function() switch() end,
      ["switch: expected an expression such as \"$ctx.mode\", got a blank text"] = function() switch "" end,
      ["switch \"$ctx.x\": expected branches such as { A = x, [\"*\"] = y }, got none"] =
        function() switch "$ctx.x" {} end,
      ["switch \"$ctx.x\": expected branches such as { A = x, [\"*\"] = y }, got tasks"] =
        function() switch "$ctx.x"(a) end,
      ["switch \"$ctx.x\": the branch \"A\" must be tasks joined by >> & |, got a string ('a'): write the task's "
        .. "variable, not its name"] = function() switch "$ctx.x" { A = "a" } end,
      ["switch \"$ctx.x\": a label must be a text, got a table"] = function() switch "$ctx.x" { [{}] = a } end,
    } do
      assert.equal(message, (refuse(call)))
    end
  end)

  it("bound what loops of loops can ask of the compiler", function()
    local x = a
    for _ = 1, 40 do x = x[2] end
    assert.truthy(errors_of(x):find("loops and switches are nested deeper than 32", 1, true))
  end)
end)
