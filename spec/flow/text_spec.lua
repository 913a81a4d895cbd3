--- The graph text parser: what it accepts, and where and how it says no.
local text = require "pyoco.flow.text"
local problem = require "pyoco.flow.problem"

--- The AST as an expression with every bracket written out.
local function show(node)
  if not node.op then return node.name end
  local symbols = { seq = ">>", all = "&", any = "|" }
  local items = {}
  for i, item in ipairs(node) do items[i] = show(item) end
  return "(" .. table.concat(items, " " .. symbols[node.op] .. " ") .. ")"
end

--- Statements of a graph text.
local function read(graph)
  local ast = assert(text.parse(graph))
  local statements = {}
  for i, node in ipairs(ast) do statements[i] = show(node) end
  return table.concat(statements, "; ")
end

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
    assert.equal("\tデータ >> >> b\n\t       ^^", errors[1].caret)
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
    errors = select(2, refuse(("a b\n"):rep(100000)))
    assert.equal(51, #errors)
    assert.equal("too_many_errors", errors[51].code)
  end)

  it("reads long graphs of one line or of many", function()
    assert.equal(100000, #assert(text.parse(("a >> "):rep(99999) .. "a"))[1])
    assert.equal(10000, #assert(text.parse(("a >> b\n"):rep(10000))))
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
