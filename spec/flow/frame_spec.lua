--- Loops and switches in a graph: what the compiler makes of them, and each way in which they are refused.
local graphs = require "spec.support.graph"

local refuse = graphs.refuse

--- A graph text as one line per member.
local function shape(source, opts)
  local graph, errors = graphs.build(source, opts)
  return graph and graphs.describe(graph) or graphs.lines(errors)
end

--- A frame of a graph text, without what every frame has.
local function frame_of(source, id)
  local graph, errors = graphs.build(source)
  assert(graph, not graph and graphs.lines(errors))
  for _, frame in ipairs(graph.frames) do
    if frame.id == id then return frame end
  end
end

describe("frames", function()
  it("stand in the graph with a body of their own, and others wait for the whole of them", function()
    assert.equal("times1 after a; a; b in times1; c after times1; d; e; f", shape("a >> b[3] >> c", { run_all = true }))
    assert.equal("each1 after a; a; b in each1; c in each1 after b; d after each1",
      shape 'a >> (b >> c)["$ctx.items as item"] >> d')
    assert.equal("until1; a in until1; b in until1; c after until1", shape '(a & b) % ("$node.a.output", 5) >> c')
    assert.equal("times1; a in times1; b after all(times1,c); c", shape "(a[2] & c) >> b")
    assert.equal("times1; a in times1; b after any(times1,c); c", shape "(a[2] | c) >> b")
  end)

  it("carry what they run by", function()
    local frame = frame_of("a[3]", "times1")
    assert.same({ "times", "3", "a[3]" }, { frame.kind, frame.count, frame.title })
    frame = frame_of('a["$ctx.n"]', "times1")
    assert.same({ "$ctx.n", 'a["$ctx.n"]' }, { frame.count, frame.title })
    frame = frame_of('a["$ctx.items as one"]', "each1")
    assert.same({ "each", "$ctx.items", "one", 1 }, { frame.kind, frame.over, frame.as, frame.parallel })
    frame = frame_of('a % "$node.a.output > 3"', "until1")
    assert.same({ "until", "$node.a.output > 3", 100 }, { frame.kind, frame.cond, frame.max })
    assert.equal(7, frame_of('a % ("$node.a.output", 7)', "until1").max)
    frame = frame_of('switch("$ctx.x")["A" >> a]', "switch1")
    assert.same({ "switch", "$ctx.x" }, { frame.kind, frame.on })
    assert.equal("A", frame_of('switch("$ctx.x")["A" >> a]', "case1").label)
  end)

  it("nest in any way", function()
    assert.equal("times1; until1 in times1; each1 in until1 after a; a in until1; b in each1; c in times1 after until1",
      shape '((a >> b["$ctx.l as i"]) % "$node.a.output" >> c)[2]')
    assert.equal("times1; times2 in times1; a in times2", shape "a[2][3]")
    assert.equal("each1; switch1 in each1 after a; case1 in switch1; times1 in case1; case2 in switch1; "
      .. "a in each1; b in times1; c in case2; d in case2 after c",
      shape '(a >> switch("$ctx.i")["x" >> b[2], "y" >> c >> d])["$ctx.l as i"]')
  end)

  it("have branches in the order of their labels, the default last, however they are written", function()
    local graph = assert(graphs.build 'switch("$ctx.x")["*" >> a, "b" >> b, 10 >> c, "A" >> d]')
    local labels = {}
    for _, frame in ipairs(graph.frames) do labels[#labels + 1] = frame.id .. " " .. (frame.label or frame.on) end
    assert.same({ "switch1 $ctx.x", "case1 10", "case2 A", "case3 b", "case4 *" }, labels)
  end)

  it("are one table wherever the graph mentions them", function()
    local graph = assert(graphs.build("a[2] >> (b & c) >> d[2]; e | f[2]"))
    local needs = {}
    for _, node in ipairs(graph.nodes) do needs[node.name] = node.needs end
    assert.equal(needs.b, needs.c)
    assert.equal("times1", needs.b.frame)
    assert.equal(needs.b, graph.edges[1][1])
    assert.equal("times2", graph.edges[3][2].frame)
    assert.same({ { { "e" }, { { frame = "times3" } } } }, graph.any_of)
  end)

  it("keep the branches of an any-of within their scope", function()
    local graph = assert(graphs.build "a[2] | (b >> (c | d))[3] | e")
    assert.same({
      { { "c" }, { "d" } },
      { { { frame = "times1" } }, { { frame = "times2" } }, { "e" } },
    }, graph.any_of)
  end)

  it("tell where they stand", function()
    local graph = graphs.build("a[2]", { place = function(at) return 1, at + 10 end })
    assert.same({ 1, 12 }, { graph.frames[1].line, graph.frames[1].column })
  end)

  it("hold each task once: in two, or inside and outside of one, is an error that names both places", function()
    local line, errors = refuse "a[2] >> b\na >> c"
    assert.equal("2:1 two_frames task 'a' stands outside of every loop and, at 1:1, in a[2]", line)
    assert.equal("let what comes before or after it wait for the whole loop, or put it into the loop as well",
      errors[1].hint)
    line, errors = refuse "a[2]; (b >> a)[3]"
    assert.equal("1:13 two_frames task 'a' stands in (b ...)[3] and, at 1:1, in a[2]", line)
    assert.equal("give each loop a task of its own", errors[1].hint)
    assert.equal("1:9 two_frames task 'a' stands in a[2] and, at 1:1, outside of every loop", (refuse "a >> b; a[2]"))
    assert.equal('1:40 two_frames task \'a\' stands in the branch "B" and, at 1:25, in the branch "A"',
      (refuse 'switch("$ctx.x")["A" >> a, "B" >> b >> a]'))
    assert.equal("1:9 two_frames task 'a' stands in (a[3] ...)[2] and, at 1:2, in a[3]", (refuse "(a[3] & a)[2]"))
  end)

  it("are refused when they hold no task", function()
    assert.equal("1:5 empty_frame flow[2] holds no task", (refuse "flow[2]"))
    assert.equal('1:18 empty_frame the branch "A" holds no task', (refuse 'switch("$ctx.x")["A" >> flow]'))
    assert.equal("1:1 unknown_task unknown task 'zz'", (refuse "zz[2]")) -- not twice
  end)

  it("are refused with counts that cannot be", function()
    assert.equal("1:4 bad_expression the count of a[-1] must be a whole number that is not negative, got -1",
      (refuse 'a["-1"]'))
    assert.equal("1:3 bad_expression the count of a[10000001] must be at most 10000000 (PYOCO_FLOW_MAX_ITERATIONS), "
      .. "got 10000001", (refuse "a[10000001]"))
    assert.equal("1:3 bad_expression the count of a[11] must be at most 10 (PYOCO_FLOW_MAX_ITERATIONS), got 11",
      (refuse("a[11]", { max_iterations = 10 })))
    assert.truthy((refuse 'a["1.5"]'):find("must be a whole number that is not negative, got 1.5", 1, true))
    assert.truthy((refuse "a[\"'x'\"]"):find("must be a whole number that is not negative, got 'x'", 1, true))
    assert.truthy((refuse 'a["null"]'):find("must be a whole number that is not negative, got nothing", 1, true))
    assert.truthy(graphs.build "a[0]")
    assert.truthy(graphs.build 'a["2 * 3"]')
  end)

  it("are refused with constants of the wrong kind", function()
    assert.equal("1:6 bad_expression the condition of a % \"3\" must be true or false, got 3", (refuse 'a % "3"'))
    assert.equal('1:4 bad_expression the list of a["3 as i"] must be a list, got 3', (refuse 'a["3 as i"]'))
    assert.equal('1:9 bad_expression the value of switch("[1]") must be a text, a number or a boolean, got a list',
      (refuse 'switch("[1]")["A" >> a]'))
    assert.truthy((refuse [[a % "1 < 'x'"]]):find("1:6 bad_expression the condition of a", 1, true))
    assert.truthy(graphs.build 'a["[1, 2] as i"]')
    assert.truthy(graphs.build 'a % "true"')
  end)

  it("show what is wrong in an expression at its byte", function()
    local line, errors = refuse 'a >> b % "$node.b.output > "'
    assert.truthy(line:find("^1:2%d bad_expression the condition of b %% \"$node.b.output > \": "), line)
    assert.truthy(errors[1].hint)
    line = refuse 'a["$ctx.n +"]\nb["$ctx.n as i"] % "$nod.b"'
    assert.truthy(line:find("^1:12 bad_expression the count of a.-\n2:21 bad_expression the condition of b"), line)
    line, errors = refuse 'a % "\\"x\\" =="' -- escaped: the text is shown as a whole
    assert.truthy(line:find("^1:6 bad_expression"), line)
    assert.equal('a % "\\"x\\" =="\n     ^^^^^^^^', errors[1].caret)
  end)

  it("are refused with aliases that no task could use", function()
    for alias, message in pairs {
      ctx = "'ctx' is a name of ctx itself", params = "'params' is a name of ctx itself",
      log = "'log' is a name of ctx itself", ["end"] = "'end' is a word of Lua, so that no parameter can be called so",
    } do
      local line, errors = refuse(('a["$ctx.l as %s"]'):format(alias))
      assert.equal(('1:2 bad_alias a["$ctx.l as %s"]: %s'):format(alias, message), line)
      assert.equal("call it item", errors[1].hint)
    end
    assert.equal('1:3 bad_alias a["$ctx.l as i"]: the loop around it, at 1:24, calls its item \'i\' as well',
      (refuse '(a["$ctx.l as i"] >> b)["$ctx.m as i"]'))
    assert.truthy(graphs.build 'a["$ctx.l as i"] >> b["$ctx.l as i"]')
    assert.truthy(graphs.build 'a["$ctx.l as 品"]')
  end)

  it("are refused with labels that are there twice, and without branch", function()
    local line, errors = refuse 'switch("$ctx.x")["A" >> a, "A" >> b, "*" >> c, "*" >> d]'
    assert.equal('1:28 duplicate_label the label "A" is there twice; the first is at 1:18\n'
      .. '1:48 duplicate_label the label "*" is there twice; the first is at 1:38', line)
    assert.equal("put what both do into one branch: a & b", errors[1].hint)
    assert.truthy((refuse 'switch("$ctx.x")[1 >> a, "1" >> b]'):find('the label "1" is there twice', 1, true))
  end)

  it("are refused when they are nested too deeply", function()
    assert.truthy(graphs.build("a" .. ("[1]"):rep(32)))
    local line, errors = refuse("a" .. ("[1]"):rep(40))
    assert.equal(1, #errors)
    assert.truthy(line:find("too_deep loops and switches are nested deeper than 32", 1, true), line)
  end)

  it("are refused with cycles and contradictions, as tasks are", function()
    local compile = require "pyoco.flow.compile"
    local problem = require "pyoco.flow.problem"
    --- Errors of an AST that Lua operators could build, in which one loop is mentioned twice.
    local function errors_of(ast)
      local graph, errors = compile.graph(ast, graphs.rows "a b c", { name = "t" })
      assert.is_nil(graph)
      return graphs.lines(problem.finish(errors))
    end
    local a, b, c = { name = "a", line = 1 }, { name = "b", line = 2 }, { name = "c", line = 3 }
    local loop = { op = "times", a, count = { text = "2" }, file = "f.lua", line = 4 }
    assert.equal("4:- cycle cycle: a[2] >> b >> a[2]", errors_of { op = "seq", loop, b, loop })
    assert.equal("4:- cycle cycle: a[2] >> a[2]", errors_of { op = "seq", loop, loop })
    assert.equal("3:- contradiction 'c' waits for a[2], and also for the first of a choice that has a[2] in it",
      errors_of { op = "all", { op = "seq", { op = "any", loop, b }, c }, { op = "seq", loop, c } })
    assert.equal("1:13 cycle cycle: a >> b >> a", (refuse "((a >> b >> a) & c)[2]"))
  end)

  it("are one frame when one node is mentioned twice", function()
    local compile = require "pyoco.flow.compile"
    local a, b, c = { name = "a" }, { name = "b" }, { name = "c" }
    local loop = { op = "times", a, count = { text = "2" }, file = "f.lua", line = 4 }
    local graph = assert(compile.graph({ op = "all", { op = "seq", loop, b }, { op = "seq", loop, c } },
      graphs.rows "a b c", { name = "t" }))
    assert.equal("times1; a in times1; b after times1; c after times1", graphs.describe(graph))
    local outer = { op = "times", { op = "all", loop, b }, count = { text = "3" }, file = "f.lua", line = 5 }
    local _, errors = compile.graph({ op = "all", loop, outer }, graphs.rows "a b c", { name = "t" })
    local found = require("pyoco.flow.problem").finish(errors)
    assert.equal("5:- two_frames a[2] stands in (a[2] ...)[3] and, at f.lua:4, outside of every loop",
      graphs.lines(found))
  end)

  it("run as many items at once as the tasks of the loop ask for", function()
    local function parallel(source, rows)
      local graph, found = graphs.build(source, { rows = rows })
      if not graph then return graphs.lines(found), found end
      return graph.frames[1] and graph.frames[1].parallel, graphs.lines(found)
    end
    local four, two = { options = { parallel = 4 } }, { options = { parallel = 2 } }
    assert.equal(4, parallel('(a >> b)["$ctx.l as i"]', { b = four }))
    assert.equal(4, parallel('(a >> switch("$ctx.i")["x" >> b])["$ctx.l as i"]', { b = four }))
    assert.equal("2:- bad_parallel task 'b' has parallel = 2, but task 'a' of the same loop has 4",
      (parallel('(a >> b)["$ctx.l as i"]', { a = four, b = two })))
    local line, found = parallel("a[3]", { a = four })
    assert.equal("1:- bad_parallel task 'a' has parallel, but a[3] runs its iterations one after the other", line)
    assert.truthy(found[1].hint:find("$ctx.items as item", 1, true))
    assert.equal("1:- no_effect task 'a' has parallel, but stands in no loop", (select(2, parallel("a", { a = four }))))
  end)
end)
