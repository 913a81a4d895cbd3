--- What may be read where: outputs of what may have come before, over loops and switches; parameters and variables.
local graphs = require "spec.support.graph"

--- Problems of a graph text in which tasks read what `inputs` = { task = selector } says; "" if there are none.
local function judge(source, inputs, opts)
  local rows = {}
  for name, text in pairs(inputs or {}) do rows[name] = { inputs = { x = text } } end
  local settings = { rows = rows }
  for key, value in pairs(opts or {}) do settings[key] = value end
  local _, found = graphs.build(source, settings)
  return graphs.lines(found), found
end

describe("reads", function()
  it("are of what comes before, inside of a body and around it", function()
    for source, inputs in pairs {
      ["a >> b[2]"] = { b = "$node.a.output" },
      ["(a >> b)[2]"] = { b = "$node.a.output" },
      ["a >> (b >> c[2])[3]"] = { c = "$node.a.output" },
      ["a[2] >> b"] = { b = "$node.a.output.0" },                         -- the list of its outputs
      ["(a >> b[3])[2] >> c"] = { c = "$node.b.output[1][2]" },           -- a list of lists
      ['switch("$ctx.x")["A" >> a, "*" >> b] >> c'] = { c = "$node.a.output" }, -- nil if the branch was not taken
      ["(a | b) >> c[2]"] = { c = "$node.b.output" },
      ["((a >> b) & c)[2] >> d >> e[2]"] = { e = "$node.c.output" },
    } do
      assert.equal("", (judge(source, inputs)), source)
    end
  end)

  it("are refused of what does not come before", function()
    for source, case in pairs {
      ["(a & b)[2]"] = { { b = "$node.a.output" }, "'a' does not come before 'b'" },
      ["(b >> a)[2]"] = { { b = "$node.a.output" }, "'a' does not come before 'b'" },
      ["a[2]"] = { { a = "$node.a.output" }, "'a' does not come before 'a'" },
      ["b >> a[2]"] = { { b = "$node.a.output" }, "'a' does not come before 'b'" },
      ["a[2] & b[2]"] = { { b = "$node.a.output" }, "'a' does not come before 'b'" },
      ["(a >> (b >> c)[2])[3]"] = { { b = "$node.c.output" }, "'c' does not come before 'b'" },
    } do
      local line, name = judge(source, case[1]), next(case[1])
      assert.truthy(line:find("bad_selector " .. case[1][name] .. ": " .. case[2], 1, true), source .. ": " .. line)
    end
    local line, found = judge("(b & c)[2] & a", { a = "$node.b.output" })
    assert.equal("1:- bad_selector $node.b.output: 'b' does not come before 'a'", line)
    assert.equal("write (b ...)[2] >> a in the graph", found[1].hint)
  end)

  it("are refused of another branch of a switch", function()
    local line, found = judge('switch("$ctx.x")["A" >> a, "B" >> b]', { b = "$node.a.output" })
    assert.equal("2:- bad_selector $node.a.output: 'a' stands in another branch of switch(\"$ctx.x\") than 'b'", line)
    assert.equal("only one branch of a switch runs", found[1].hint)
    line = judge('switch("$ctx.x")["A" >> a, "B" >> b[2]]', { b = "$node.a.output" })
    assert.truthy(line:find("another branch", 1, true))
  end)

  it("of a condition may be of the loop's own body, and of what comes before the loop", function()
    assert.equal("", (judge 'a >> b % "$node.b.output > $node.a.output"'))
    assert.equal("", (judge '(a >> b[2]) % "$node.b.output[0] == 1"'))
    assert.equal("", (judge '(a >> (b >> c) % "$node.a.output == $node.c.output")[2]'))
    assert.equal("1:6 bad_selector $node.b.output: 'b' does not come before a % \"$node.b.output\"",
      (judge 'a % "$node.b.output" >> b'))
    assert.equal("1:11 bad_selector $node.b.output: 'b' does not come before a % \"1 == $node.b.output\"",
      (judge 'a % "1 == $node.b.output" & b[2]'))
  end)

  it("of counts, lists and switches are of what comes before the frame only", function()
    assert.equal("", (judge 'a >> b["$node.a.output"]'))
    assert.equal("", (judge 'a >> b["$node.a.output.list as i"]'))
    assert.equal("", (judge 'a >> switch("$node.a.output.kind")["A" >> b]'))
    assert.equal("", (judge '(a >> b["$node.a.output as i"])[2]'))
    for source, line in pairs {
      ['a["$node.a.output"]'] = "1:4 bad_selector $node.a.output: 'a' does not come before a[\"$node.a.output\"]",
      ['a["$node.b.output as i"] & b'] =
        "1:4 bad_selector $node.b.output: 'b' does not come before a[\"$node.b.output as i\"]",
      ['switch("$node.b.output")["A" >> b]'] =
        "1:9 bad_selector $node.b.output: 'b' does not come before switch(\"$node.b.output\")",
      ['a >> b["2 * $node.zz.output"]'] = "1:13 bad_selector $node.zz.output: unknown task 'zz'",
    } do
      assert.equal(line, (judge(source)))
    end
  end)

  it("of the environment are of what is exposed only", function()
    assert.equal("", (judge('a["$env.N as i"]', nil, { expose_env = { "N" } })))
    local line, found = judge 'a % "$env.MODE == 1"'
    assert.equal("1:6 bad_selector $env.MODE is not exposed", line)
    assert.equal("list MODE in runtime.expose_env", found[1].hint)
  end)

  it("of commands are checked like inputs", function()
    local function command(run, env) return { b = { command = { run = run, env = env or {} } } } end
    local rows = command({ "x", "$node.a.output", "a$b" }, { A = "$ctx.params.x" })
    assert.equal("", (judge("a >> b", nil, { rows = rows })))
    assert.equal("", (judge("a >> b", nil, { rows = command "echo $x" })))
    local line, found = judge("b >> a", nil, { rows = command { "x", "$node.a.output" } })
    assert.equal("2:- bad_selector $node.a.output: 'a' does not come before 'b'", line)
    assert.equal("tasks.b.run.2", found[1].path)
    line, found = judge("a >> b", nil, { rows = command({ "x" }, { A = "$nope" }) })
    assert.truthy(line:find("Invalid reference '$nope'", 1, true))
    assert.equal("tasks.b.env.A", found[1].path)
    assert.truthy((judge("b", nil, { rows = command { "x", "$1" } })):find("Invalid reference '$1'", 1, true))
  end)

  it("of commands are warned of inside of a text, where they are not replaced", function()
    local rows = { b = { command = { run = { "x", "--lr=$ctx.params.lr", "\\$ctx.x" }, env = { A = "a $env.B" } } } }
    local line, found = judge("b", nil, { rows = rows })
    assert.equal("2:- selector_inside task 'b': $env.B is not replaced inside of a text\n"
      .. "2:- selector_inside task 'b': $ctx.params.lr is not replaced inside of a text", line)
    assert.same({ "tasks.b.env.A", "make it the whole value", "tasks.b.run.2", "make it an item of its own" },
      { found[1].path, found[1].hint, found[2].path, found[2].hint })
  end)

  it("of parameters are warned of when they look like a slip", function()
    local defaults = { url = "x", limit = 3 }
    local function warned(source, inputs) return judge(source, inputs, { defaults = defaults }) end
    assert.equal("", (warned("a", { a = "$ctx.params.url" })))
    assert.equal("", (warned("a", { a = "$ctx.params.name" }))) -- comes with the run
    assert.equal("", (warned("a", { a = "$ctx.limit" })))
    assert.equal("", (warned("a", { a = "$ctx.loop.index" })))
    assert.equal("", (warned('a["$ctx.l as it"]', { a = "$ctx.it.name" })))
    assert.equal("", (warned('(a >> b[2])["$ctx.l as it"]', { b = "$ctx.it" })))
    local line, found = warned("a", { a = "$ctx.params.ulr" })
    assert.equal("1:- unknown_param $ctx.params.ulr: no parameter 'ulr' is among the defaults", line)
    assert.equal("did you mean url?", found[1].hint)
    assert.equal("1:4 unknown_param $ctx.limits: no parameter 'limits' is among the defaults",
      (warned 'a["$ctx.limits"]'))
    line, found = warned('a["$ctx.l as entry"]', { a = "$ctx.entri" })
    assert.equal("1:- unknown_param $ctx.entri: no parameter 'entri' is among the defaults", line)
    assert.equal("did you mean entry?", found[1].hint)
  end)

  it("of an item outside of its loop are of a parameter, and warned of", function()
    local line = judge('a["$ctx.l as it"] >> b', { b = "$ctx.it" })
    assert.equal("2:- unknown_param $ctx.it: 'it' is the item of a[\"$ctx.l as it\"], and this is outside of it; "
      .. "here it is a parameter of the run", line)
    assert.truthy((judge 'a["$ctx.it as it"]'):find("1:4 unknown_param", 1, true))
    assert.equal("", (judge('a["$ctx.l as it"] >> b', { b = "$ctx.it" }, { defaults = { it = 1 } })))
    assert.equal("", (judge('a["$ctx.l as it"] >> b', { b = "$ctx.params.it" })))
    assert.equal("", (judge '(a % "$ctx.it == 3")["$ctx.l as it"]'))
  end)

  it("are judged as a search of the edges judges them, in any graph", function()
    math.randomseed(1125)
    local count

    --- A random expression over tasks t1, t2, ...
    local function random(depth)
      local kind = math.random(11)
      if depth > 5 or kind <= 2 then
        count = count + 1
        return "t" .. count
      elseif kind <= 8 then
        return ("(%s %s %s)"):format(random(depth + 1), ({ ">>", ">>", "&", "|" })[math.random(4)], random(depth + 1))
      elseif kind == 9 then
        return random(depth + 1) .. "[2]"
      elseif kind == 10 then
        return ('(%s %% "$ctx.done")'):format(random(depth + 1))
      end
      return ('switch("$ctx.x")["A" >> %s, "*" >> %s]'):format(random(depth + 1), random(depth + 1))
    end

    --- Tells whether task `from` may come before task `by`: their holders in the scope that both share, by edges.
    local function comes_before(graph, from, by)
      local outer, befores = {}, {}
      for _, list in ipairs { graph.nodes, graph.frames } do
        for _, member in ipairs(list) do outer[member.id or member.name] = member.frame or "top" end
      end
      local function id(member) return type(member) == "table" and member.frame or member end
      for _, edge in ipairs(graph.edges) do
        local to = id(edge[2])
        befores[to] = befores[to] or {}
        table.insert(befores[to], id(edge[1]))
      end
      local holder_in = {}
      while by ~= "top" do holder_in[outer[by]], by = by, outer[by] end
      while not holder_in[outer[from]] do from = outer[from] end
      local stack, seen = { holder_in[outer[from]] }, {}
      while #stack > 0 do
        for _, before in ipairs(befores[table.remove(stack)] or {}) do
          if before == from then return true end
          if not seen[before] then
            seen[before] = true
            stack[#stack + 1] = before
          end
        end
      end
      return false
    end

    local said = { [true] = 0, [false] = 0 }
    for _ = 1, 60 do
      count = 0
      local source, names = random(1), {}
      for i = 1, count do names[i] = "t" .. i end
      local opts = { names = table.concat(names, " ") }
      local graph = assert(graphs.build(source, opts))
      for _ = 1, 10 do
        local from, by = names[math.random(count)], names[math.random(count)]
        opts.rows = { [by] = { inputs = { x = ("$node.%s.output"):format(from) } } }
        local expected = comes_before(graph, from, by)
        assert.equal(expected, graphs.build(source, opts) ~= nil, ("%s before %s in %s"):format(from, by, source))
        said[expected] = said[expected] + 1
      end
    end
    assert.is_true(said[true] > 50 and said[false] > 50)
  end)

  it("stay cheap when there are thousands, over scopes", function()
    local parts, names, rows = {}, {}, {}
    for i = 1, 2000 do
      parts[i], names[i] = ("t%d[2]"):format(i), "t" .. i
      if i > 1 then rows["t" .. i] = { inputs = { x = ("$node.t%d.output"):format(i // 2) } } end
    end
    local opts = { names = table.concat(names, " "), rows = rows }
    assert(graphs.build(table.concat(parts, " >> "), opts))
    rows.t7.inputs.x = "$node.t8.output"
    assert.equal("7:- bad_selector $node.t8.output: 't8' does not come before 't7'",
      (graphs.refuse(table.concat(parts, " >> "), opts)))
  end)
end)
