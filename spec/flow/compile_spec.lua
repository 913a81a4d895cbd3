--- The compiler: what a graph means, and what it refuses.
local text = require "pyoco.flow.text"
local compile = require "pyoco.flow.compile"
local problem = require "pyoco.flow.problem"

--- Task rows named by the words of `names`; `inputs` = { task = { parameter = value } }.
local function rows_of(names, inputs)
  local rows = {}
  for name in names:gmatch("%S+") do
    rows[#rows + 1] = { name = name, callable = "m:" .. name, inputs = inputs and inputs[name], line = #rows + 1 }
  end
  return rows
end

--- A condition as text: all(a,any(b,c)).
local function show(cond)
  if type(cond) ~= "table" then return cond end
  local op = cond.all and "all" or "any"
  local items = {}
  for i, item in ipairs(cond[op]) do items[i] = show(item) end
  return op .. "(" .. table.concat(items, ",") .. ")"
end

--- Compiles; returns the graph and { task = condition as text }.
local function build(source, names, inputs, opts)
  local graph, problems = compile.graph(assert(text.parse(source)), rows_of(names or "a b c d e f", inputs),
    opts or { name = "t" })
  if not graph then return nil, problem.finish(problems, problem.source(source)) end
  local needs = {}
  for _, node in ipairs(graph.nodes) do needs[node.name] = show(node.needs) end
  return graph, needs, problem.finish(problems, problem.source(source))
end

--- The conditions of a graph text.
local function needs(...)
  return (select(2, build(...)))
end

--- The errors of a graph text, one line each: "line:column code message".
local function refuse(...)
  local graph, errors = build(...)
  assert.is_nil(graph)
  local lines = {}
  for i, found in ipairs(errors) do
    lines[i] = ("%d:%s %s %s"):format(found.line, found.column or "-", found.code, found.message)
  end
  return table.concat(lines, "\n"), errors
end

describe("compile", function()
  it("puts b after a", function()
    assert.same({ b = "a" }, needs "a >> b")
    assert.same({ b = "a", c = "b" }, needs "a >> b >> c")
  end)

  it("runs branches in parallel and joins them", function()
    assert.same({ b = "a", c = "a", d = "all(b,c)" }, needs "a >> (b & c) >> d")
    assert.same({ b = "a", c = "all(b,d)", e = "all(b,d)" }, needs "(a >> b & d) >> (c & e)")
  end)

  it("lets the first of an any-of go on", function()
    assert.same({ c = "any(a,b)" }, needs "(a | b) >> c")
    assert.same({ d = "all(any(a,b),c)" }, needs "((a | b) & c) >> d")
    assert.same({ d = "any(all(a,b),c)" }, needs "(a & b | c) >> d")
    assert.same({ d = "any(a,b,c)" }, needs "((a | b) | c) >> d")
  end)

  it("names the branches of each any-of", function()
    local graph = build "(a >> b | c | (d | e)) >> f"
    assert.same({ { { "a", "b" }, { "c" }, { "d" }, { "e" } } }, graph.any_of)
    graph = build "(a & (b | c)) | d"
    assert.same({ { { "b" }, { "c" } }, { { "a", "b", "c" }, { "d" } } }, graph.any_of)
  end)

  it("adds up what several statements say of a task", function()
    assert.same({ b = "a", c = "a", d = "all(b,c)" }, needs "a >> b; a >> c\nb >> d\nc >> d")
    assert.same({ c = "all(any(a,b),d)" }, needs "(a | b) >> c\nd >> c")
  end)

  it("ignores a leading flow unless a task is called so", function()
    assert.same({ b = "a" }, needs "flow >> a >> b")
    assert.same({}, needs "flow >> (a & b)")
    assert.same({ a = "flow" }, needs("flow >> a", "flow a"))
  end)

  it("lists nodes in declaration order and edges with them", function()
    local graph = build("c >> b >> a", "a b c")
    assert.same({ "a", "b", "c" }, { graph.nodes[1].name, graph.nodes[2].name, graph.nodes[3].name })
    assert.same({ { "b", "a" }, { "c", "b" } }, graph.edges)
    assert.equal(1, graph.version)
    assert.same({}, graph.frames)
  end)

  it("keeps only what the graph names, or all of a document", function()
    assert.equal(2, #build("a >> b").nodes)
    local graph, conditions, warnings = build("a >> b", "a b c", nil, { name = "t", run_all = true })
    assert.equal(3, #graph.nodes)
    assert.same({ b = "a" }, conditions)
    assert.equal("the graph does not name 'c': it runs, and waits for nothing", warnings[1].message)
  end)

  it("warns of an edge that is written twice", function()
    local _, _, warnings = build "a >> b\nb >> c; a >> b"
    assert.equal(1, #warnings)
    assert.equal("duplicate_edge", warnings[1].code)
    assert.same({ 2, 14 }, { warnings[1].line, warnings[1].column })
  end)

  it("refuses unknown tasks, all of them, with the nearest name", function()
    local lines, errors = refuse("fetch >> prase\nstat & fetch", "fetch parse stats")
    assert.equal("1:10 unknown_task unknown task 'prase'\n2:1 unknown_task unknown task 'stat'", lines)
    assert.equal("did you mean parse?", errors[1].hint)
    assert.equal("did you mean stats?", errors[2].hint)
    assert.equal("fetch >> prase\n         ^^^^^", errors[1].caret)
  end)

  it("refuses cycles, each with its path", function()
    assert.equal("1:11 cycle cycle: a >> b >> a", (refuse "a >> b >> a"))
    assert.equal("1:6 cycle cycle: a >> a", (refuse "a >> a"))
    assert.equal("2:6 cycle cycle: a >> b >> c >> a\n3:11 cycle cycle: d >> e >> d",
      (refuse "a >> b >> c >> f\nc >> a\nd >> e >> d"))
    assert.equal("1:17 cycle cycle: a >> c >> a", (refuse "(a | b) >> c >> a"))
  end)

  it("refuses to wait for a task and for a choice that has it", function()
    assert.truthy((refuse "(a | b) >> c\na >> c"):find("2:6 contradiction 'c' waits for 'a'", 1, true))
    assert.truthy((refuse "(a & (a | b)) >> c"):find("contradiction", 1, true))
  end)

  it("refuses a selector that is wrong, unknown, or of a task that does not come before", function()
    local function input(value) return { b = { x = value } } end
    assert.truthy(build("a >> b", "a b", input "$node.a.output.list.0"))
    assert.truthy(build("a >> c >> b", "a b c", input "$node.a.output"))
    assert.truthy(build("(a | c) >> b", "a b c", input "$node.c.output"))
    assert.truthy(build("a >> b", "a b", input "$ctx.params.x.y"))
    assert.truthy(build("a >> b", "a b", input "plain text, 100 $"))
    assert.truthy(build("a >> b", "a b", input "$env.HOME", { name = "t", expose_env = { "HOME" } }))
    for value, message in pairs {
      ["$node.c.output"] = "$node.c.output: 'c' does not come before 'b'",
      ["$node.b.output"] = "$node.b.output: 'b' does not come before 'b'",
      ["$node.zz.output"] = "$node.zz.output: unknown task 'zz'",
      ["$env.HOME"] = "$env.HOME is not exposed",
      ["$node.a"] = "Invalid reference '$node.a': expected $node.TASK.output[.PATH], "
        .. 'a name with other signs as $node["name"].output',
      ["$foo"] = "Invalid reference '$foo': expected $ctx.NAME, $node.TASK.output, $flow.NAME or $env.NAME",
    } do
      assert.equal("2:- bad_selector " .. message, (refuse("a >> b >> c", "a b c", input(value))))
    end
  end)

  it("checks thousands of selectors against a long chain", function()
    local names, inputs = {}, {}
    for i = 1, 3000 do
      names[i] = "t" .. i
      if i > 2 then inputs["t" .. i] = { x = ("$node.t%d.output"):format(i // 2) } end
    end
    assert.equal(3000, #build(table.concat(names, " >> "), table.concat(names, " "), inputs).nodes)
    inputs.t7 = { x = "$node.t8.output" }
    assert.equal("7:- bad_selector $node.t8.output: 't8' does not come before 't7'",
      (refuse(table.concat(names, " >> "), table.concat(names, " "), inputs)))
  end)

  it("bounds the number of edges", function()
    local left, right = {}, {}
    for i = 1, 1000 do left[i], right[i] = "l" .. i, "r" .. i end
    local names = table.concat(left, " ") .. " " .. table.concat(right, " ")
    local source = ("(%s) >> (%s)"):format(table.concat(left, " & "), table.concat(right, " & "))
    local line, errors = refuse(source, names)
    assert.truthy(line:find("too_large the graph has more than 200000 edges", 1, true))
    assert.equal("put one task between the two groups", errors[1].hint)
  end)

  it("compiles what is sure of a text that has gaps", function()
    local ast = text.read("a >> b >>\nc >> x\nb >> a >> b")
    local graph, errors = compile.graph(ast, rows_of "a b c", { name = "t", partial = true })
    assert.is_nil(graph)
    assert.same({ "unknown_task", "cycle" }, { errors[1].code, errors[2].code })
  end)
end)
