--- The graph text parser: what it accepts, and where and how it says no.
local text = require "pyoco.flow.text"
local problem = require "pyoco.flow.problem"

--- The AST as an expression with every bracket written out.
local SYMBOLS = { seq = " >> ", all = " & ", any = " | ", switch = ", " }
local SUFFIXES = {
  times = function(node) return ("[%s]"):format(node.count.text) end,
  each = function(node) return ("[%s as %s]"):format(node.over.text, node.as) end,
  ["until"] = function(node) return (" %% (%s, %d)"):format(node.cond.text, node.max) end,
}
local function show(node)
  if not node.op then return node.name end
  local items = {}
  for i, item in ipairs(node) do items[i] = show(item) end
  if node.op == "case" then return node.label .. ": " .. items[1] end
  if node.op == "switch" then return ("switch %s {%s}"):format(node.on.text, table.concat(items, ", ")) end
  if SUFFIXES[node.op] then return items[1] .. SUFFIXES[node.op](node) end
  return "(" .. table.concat(items, SYMBOLS[node.op]) .. ")"
end

--- Statements of a graph text.
local function read(graph)
  local ast = assert(text.parse(graph))
  local statements = {}
  for i, node in ipairs(ast) do statements[i] = show(node) end
  return table.concat(statements, "; ")
end

--- The part of a text at which a node or an EXPR stands.
local function at(graph, node) return graph:sub(node.at, node.to) end

--- The first error of a graph text: "line:column code message".
local function refuse(graph)
  local ast, errors = text.parse(graph)
  assert.is_nil(ast)
  return ("%d:%d %s %s"):format(errors[1].line, errors[1].column, errors[1].code, errors[1].message), errors
end

describe("graph text", function()
  it("binds >> tighter than &, and & tighter than |", function()
    assert.equal("(a & (b >> c))", read "a & b >> c")
    assert.equal("((a & b) | (c >> d))", read "a & b | c >> d")
    assert.equal("(a >> (b & c) >> d)", read "a >> (b & c) >> d")
    assert.equal("((a | b) >> c)", read "(a | b) >> c")
  end)

  it("takes comments, blank lines, semicolons and several statements", function()
    assert.equal("(a >> b); c; d", read "# first\n\na >> b # then\n ; c;; d;\n")
    assert.equal("", read "")
    assert.equal("", read "  # nothing here")
  end)

  it("goes on after a backslash and inside brackets", function()
    assert.equal("(a >> b)", read "a >> \\\n  b")
    assert.equal("(a >> b)", read "a >> \\ \r\n  b\r\n")
    assert.equal("((a >> b) >> c)", read "(a >>\n # comment\n b\n) >> c")
  end)

  it("takes names bare and in both quotes", function()
    assert.equal("(my-task >> b c >> d'e)", read [["my-task" >> 'b c' >> 'd\'e']])
    assert.equal("(データ >> _x1)", read "データ >> _x1")
    assert.equal("(import >> for)", read "import >> for")
  end)

  it("keeps a leading flow for the compiler to judge", function()
    assert.equal("(flow >> a)", read "flow >> a")
  end)

  it("reads loops of a number, of items and until a condition, the tightest of all", function()
    assert.equal("(a >> b[3] >> c)", read "a >> b[3] >> c")
    assert.equal("((a >> b)[$ctx.n] & c)", read [[(a >> b)["$ctx.n"] & c]])
    assert.equal("a[$ctx.items as item]", read [[a["$ctx.items as item"] ]])
    assert.equal("(a % (x, 100) >> b % (y, 7))", read [[a % "x" >> b % ('y', 7)]])
    assert.equal("a[3][$ctx.items as i] % (x, 100)[2]", read [[(a[3]["$ctx.items as i"] % "x")[2] ]])
    assert.equal("a % (x, 100) % (y, 2)", read [[a % "x" % ("y", 2,)]])
    assert.equal("(my-task[2] | a)", read [["my-task"[2] | a]])
  end)

  it("reads switches, wherever a task name may stand", function()
    assert.equal("switch $ctx.m {A: x, *: y}", read [[switch("$ctx.m")["A" >> x, "*" >> y] ]])
    assert.equal("(a >> switch $ctx.m {A: (x >> (y & z)[2] >> w)}[3] >> b)",
      read [[a >> switch("$ctx.m")["A" >> x >> (y & z)[2] >> w][3] >> b]])
    assert.equal("switch $ctx.m {1: x, -2.5: y, 7: z, 1e3: w}",
      read [[switch("$ctx.m")[1 >> x, -2.5 >> y, 7.0 >> z, "1e3" >> w,] ]])
    assert.equal("switch a {A: switch b {B: x}, C: y}", read [[switch("a")["A" >> switch("b")["B" >> x], "C" >> y] ]])
  end)

  it("goes on over lines inside all brackets", function()
    assert.equal("switch $ctx.m {A: (x >> y), *: z[2]}; b % (c, 3)", read [[
      switch( # what
        "$ctx.m"
      )[
        "A" >> x >>
          y, # first

        "*" >> z[
          2
        ],
      ]
      b % (
        "c", 3
      )]])
  end)

  it("takes switch, flow and Python's words as task names", function()
    assert.equal("(switch >> a[2])", read "switch >> a[2]")
    assert.equal("(switch[2] & flow[3] & import % (x, 100))", read [[switch[2] & flow[3] & import % "x"]])
    assert.equal("switch; (b)", (read "switch\n(b & c)"):gsub("%(b & c%)", "(b)"))
    assert.equal("(switch >> in)", read [["switch" >> 'in']])
    assert.equal("switch x {if: in}", read [[switch("x")["if" >> in] ]])
  end)

  it("keeps the places of loops, switches, branches and their expressions", function()
    local graph = [[a >> b["$ctx.é as i"] % ("x", 3) & switch( 'y' )["A" >> c, 10 >> d[4] ] ]]
    local seq, switch = table.unpack(assert(text.parse(graph))[1])
    local loop = seq[2]
    assert.equal([[% ("x", 3)]], at(graph, loop))
    assert.equal("x", at(graph, loop.cond))
    assert.equal([=[["$ctx.é as i"]]=], at(graph, loop[1]))
    assert.equal("$ctx.é", at(graph, loop[1].over))
    assert.equal("switch", at(graph, switch))
    assert.equal("y", at(graph, switch.on))
    assert.equal('"A"', at(graph, switch[1]))
    assert.equal("10", at(graph, switch[2]))
    assert.equal("[4]", at(graph, switch[2][1]))
    assert.equal("4", at(graph, switch[2][1].count))
  end)

  it("says when an expression had escapes, and then keeps its place as a whole", function()
    local graph = [[a["$ctx[\"x\"] as i"] ]]
    local over = assert(text.parse(graph))[1].over
    assert.same({ text = '$ctx["x"]', is_escaped = true, at = 4, to = 19 }, over)
    assert.is_nil(assert(text.parse "a['b']")[1].count.is_escaped)
  end)

  it("finds the name after as only where one is meant", function()
    assert.equal("a[$ctx.as]", read "a['$ctx.as']")
    assert.equal("a[$ctx.alias]", read "a['$ctx.alias']")
    assert.equal("a['x' == ' as b']", read [[a["'x' == ' as b'"] ]])
    assert.equal("a[[1, 2] as n]", read "a['[1, 2]as n']")
    assert.equal("a[$ctx.as as as]", read "a['$ctx.as  as  as']")
    assert.equal("a[$ctx.数 as 値]", read "a['$ctx.数 as 値']")
  end)

  it("says what is wrong with a loop or a switch, with an example", function()
    for graph, expected in pairs {
      ["a[b]"] = { "1:3 syntax expected a number or a quoted text, got 'b'", [["$ctx.items as item"]] },
      ["a[]"] = { "1:3 syntax expected a number or a quoted text, got ']'", [["$ctx.items as item"]] },
      ["a[-1]"] = { "1:3 syntax expected a number or a quoted text, got '-'", [["$ctx.n"]] },
      ["a[1.5]"] = { "1:3 syntax expected a whole number of times, got '1.5'" },
      ["a[3x]"] = { "1:3 syntax expected a whole number of times, got '3x'" },
      ["a[' ']"] = { "1:3 syntax there is nothing between these quotes", [["$ctx.n"]] },
      ["a[1:2]"] = { "1:4 syntax expected ']', got ':'", "one number or one quoted text" },
      ["a['$ctx.x as i', 4]"] = { "1:16 syntax expected ']', got ','", "parallel is an option of a task in the loop" },
      ["a['$ctx.x as']"] = { "1:11 syntax expected a name after 'as'", [["$ctx.items as item"]] },
      ["a['$ctx.x as 3d']"] = { "1:11 syntax expected a name after 'as'", [["$ctx.items as item"]] },
      ["a['as i']"] = { "1:4 syntax expected a list before 'as'", [["$ctx.items as item"]] },
      ["a % b"] = { "1:5 syntax expected a quoted condition, got 'b'", [[x % "$ctx.done == true"]] },
      ["a % 3"] = { "1:5 syntax expected a quoted condition, got '3'", [[x % "$ctx.done == true"]] },
      ["a % ('x', 0)"] = { "1:11 syntax expected a whole number from 1, got '0'", "largest number of times" },
      ["a % ('x' 3)"] = { "1:10 syntax expected ',' or ')', got '3'", [[("$ctx.done == true", 10)]] },
      ["a % 'x'[3]"] = { "1:8 syntax a loop of a condition is not clear", [[(x % "cond")[3] ]] },
      ["switch(x)['a' >> b]"] = { "1:8 syntax expected a quoted expression, got 'x'", [[switch("$ctx.mode")]] },
      ["switch('x')"] = { "1:12 syntax expected '[' and the branches, got the end of the graph", [["*" >> y]] },
      ["switch('x')[]"] = { "1:13 syntax expected a label in quotes, got ']'", [["A" >> x]] },
      ["switch('x')[A >> b]"] = { "1:13 syntax expected a label in quotes, got 'A'", [["A" >> x]] },
      ["switch('x')[* >> b]"] = { "1:13 syntax expected a label in quotes, got '*'", [["*" for all others]] },
      ["switch('x')['A']"] = { "1:16 syntax expected '>>' after the label, got ']'", [["A" >> x]] },
      ["switch('x')['A': b]"] = { "1:16 syntax expected '>>' after the label, got ':'", [["A" >> x]] },
      ["switch('x')['A' >> b & c]"] = { "1:22 syntax expected '>>', ',' or ']', got '&'", [["A" >> (x & y)]] },
      ["switch('x')['A' >> b | c]"] = { "1:22 syntax expected '>>', ',' or ']', got '|'", [["A" >> (x | y)]] },
      ["a >> swich('x')['A' >> b]"] = { "1:11 unsupported_syntax a call is not part of the graph language: "
        .. "expected '>>', '&', '|' or the end of the line, got '('", "did you mean switch?" },
      ["a && b"] = { "1:4 syntax expected a task name or '(', got '&'", "write it once" },
      ["a -> b"] = { "1:3 unsupported_syntax an arrow is not part of the graph language: "
        .. "expected '>>', '&', '|' or the end of the line, got '->'", "write a >> b" },
      ["a[3"] = { "1:2 unclosed_bracket this bracket is never closed", "add the missing ]" },
      ["a % ('x', 3"] = { "1:5 unclosed_bracket this bracket is never closed", "add the missing )" },
      ["switch('x')['A' >> (b]"] = { "1:22 syntax expected '>>', '&', '|' or ')', got ']'" },
      ["a ]"] = { "1:3 syntax this ] closes nothing", "add the missing [" },
    } do
      local message, errors = refuse(graph)
      assert.equal(expected[1], message)
      assert.equal(1, #errors, graph)
      if expected[2] then assert.truthy(errors[1].hint:find(expected[2]:gsub(" $", ""), 1, true), errors[1].hint) end
    end
  end)

  it("goes on after an error: in the next branch, behind the bracket, in the next line", function()
    local _, errors = refuse [[
switch("x")[
  "A" >> b & c,
  D >> e,
  "F" >> >> g
] >> h >> (i >> >> j) >> k[l]
m >> >> n; o = p
q >> (r, s]
]]
    local places = {}
    for i, found in ipairs(errors) do places[i] = ("%d:%d"):format(found.line, found.column) end
    assert.equal("2:12 3:3 4:10 5:17 5:28 6:6 6:14 7:8", table.concat(places, " "))
  end)

  it("keeps what can be read of a wrong text", function()
    local ast, errors = text.read "a >> (b >> >> c) >> d[e]\nf >> >> g\nh"
    assert.equal("((a >> () >> d) & h)", show(ast))
    assert.equal(3, #errors)
  end)

  it("tells a bracket never closed from an operator that is missing", function()
    assert.equal("2:1 syntax expected '>>', '&', '|' or ')', got 'b'", (refuse "(a\nb)"))
    local message, errors = refuse "(a\nb >> >> c\nd >>"
    assert.equal("1:1 unclosed_bracket this bracket is never closed", message)
    assert.equal(3, #errors)
  end)

  it("says what it expected, and where", function()
    assert.equal("1:5 syntax expected a task name or '(', got the end of the line", (refuse "a >>\nb"))
    assert.equal("1:5 syntax expected a task name or '(', got the end of the graph", (refuse "a >>"))
    assert.equal("2:3 syntax expected '>>', '&', '|' or the end of the line, got 'c'", (refuse "a\nb c"))
    assert.equal("1:6 syntax expected a task name or '(', got '>>'", (refuse "a >> >> b"))
    assert.equal("1:6 syntax expected a task name or '(', got '&'", (refuse "a >> & b"))
    assert.equal("1:3 syntax this ) closes nothing", (refuse "a )"))
    assert.equal("1:2 syntax expected a task name or '(', got ')'", (refuse "()"))
    assert.equal("1:6 syntax this quote is never closed", (refuse "a >> 'b\n"))
  end)

  it("points at the bracket that is never closed", function()
    assert.equal("1:6 unclosed_bracket this bracket is never closed", (refuse "a >> (b & c"))
    assert.equal("1:1 unclosed_bracket this bracket is never closed", (refuse "(a >> b\nc >> d"))
    assert.equal("2:1 unclosed_bracket this bracket is never closed", (refuse "a\n(b; c"))
  end)

  it("refuses other Python, naming it at its place", function()
    for graph, place in pairs {
      ["x = a >> b"] = "1:3", ["a >> f(1)"] = "1:7", ["a.b"] = "1:2", ["a >> [b, c]"] = "1:6", ["(a, b)"] = "1:3",
      ["for t in tasks:\n  a >> t"] = "1:1", ["a\nimport os"] = "2:1", ["a if b else c"] = "1:3", ["not a"] = "1:1",
      ["lambda: a"] = "1:1", ["a << b"] = "1:3", ["a >>= b"] = "1:3", ["@a"] = "1:1", ["a >> 1"] = "1:6",
      ["a + b"] = "1:3", ["a == b"] = "1:3", ["a and b"] = "1:3", ["{a}"] = "1:1", ["a >> ~b"] = "1:6",
      ["a: b"] = "1:2", ["__import__('os').system('true')"] = "1:11",
    } do
      local message = refuse(graph)
      assert.truthy(message:find("^" .. place .. " unsupported_syntax"), graph .. " -> " .. message)
    end
  end)

  it("reports all errors at once, each with the line and a caret", function()
    local _, errors = refuse "a >>\nb = 1\nc\n(d"
    assert.equal(3, #errors)
    assert.same({ 1, 2, 4 }, { errors[1].line, errors[2].line, errors[3].line })
    assert.equal("b = 1\n  ^", errors[2].caret)
    assert.truthy(problem.text(errors, "x.yaml"):find("x.yaml:2:3: an assignment is not part of the graph", 1, true))
  end)

  it("counts columns in characters and keeps tabs under the caret", function()
    local _, errors = refuse "\tデータ >> >> b"
    assert.equal(9, errors[1].column)
    assert.equal("\tデータ >> >> b\n\t　　　    ^^", errors[1].caret) -- as wide as what stands above it
  end)

  it("shows a window of a long line", function()
    local _, errors = refuse(("a >> "):rep(10000) .. "= b" .. (" >> a"):rep(10000))
    assert.equal(50001, errors[1].column)
    assert.is_true(#errors[1].caret < 300)
    local line, carets = errors[1].caret:match("(.*)\n(.*)")
    assert.equal("=", line:sub(#carets, #carets))
  end)

  it("bounds nesting, and the number of errors", function()
    local message, errors = refuse(("("):rep(10000) .. "a" .. (")"):rep(10000))
    assert.equal("1:201 too_deep brackets are nested deeper than 200", message)
    assert.equal(1, #errors)
    for before, after in pairs { ["x["] = "]", ["("] = "]", ["a % ("] = ")", ["switch("] = ")" } do
      local _, found = refuse(before:rep(10000) .. "a" .. after:rep(10000))
      assert.is_true(#found <= 51)
    end
    assert.equal("1:3807 too_deep brackets are nested deeper than 200",
      (refuse(("switch('x')['A' >> "):rep(10000) .. "a" .. ("]"):rep(10000))))
    message, errors = refuse("a" .. ("[2]"):rep(10000))
    assert.equal("1:602 too_deep more than 200 loops around one part", message)
    assert.equal(1, #errors)
    errors = select(2, refuse("switch('x')[" .. ("'A' >> >> a, "):rep(50000) .. "]"))
    assert.equal(51, #errors)
    errors = select(2, refuse(("a b\n"):rep(100000)))
    assert.equal(51, #errors)
    assert.equal("too_many_errors", errors[51].code)
  end)

  it("reads long graphs of one line or of many", function()
    assert.equal(100000, #assert(text.parse(("a >> "):rep(99999) .. "a"))[1])
    assert.equal(10000, #assert(text.parse(("a >> b\n"):rep(10000))))
    assert.equal(50000, #assert(text.parse(("a[2] % 'x' >> "):rep(49999) .. "a"))[1])
    assert.equal(50000, #assert(text.parse("switch('x')[" .. ("'A' >> a, "):rep(50000) .. "]"))[1])
    for part, size in pairs { ["a b; ("] = 1e6, ["x["] = 1e6, ["(("] = 1e5, ["a >> ("] = 1e5, ["'"] = 1e5,
        ["a b "] = 1e5, ["#"] = 1e5, ["\\"] = 1e5, ["a]"] = 1e5, ["switch('x')[, "] = 1e5 } do
      local ast, errors = text.read(part:rep(size // #part))
      assert.is_true(#ast == 0 or #errors > 0)
    end
  end)

  it("gives an answer or errors for any bytes", function()
    local sample = "flow >> a >> (b & 'c d') \\\n | \"e\" # x\n; f\0\xff"
    for i = 1, #sample do
      for _, replacement in ipairs { "", "(", ")", "\\", "'", "\n", "\0", "\xe3", "[" } do
        local ast, errors = text.parse(sample:sub(1, i - 1) .. replacement .. sample:sub(i + 1))
        assert.is_true(ast ~= nil or #errors > 0)
        for _, found in ipairs(errors or {}) do assert.is_true(found.line >= 1 and found.column >= 1) end
      end
    end
  end)
end)
