--- host.yaml: values as PyYAML's safe_load has them, places of all entries, errors with place and hint.
local yaml = require "host.yaml"
local json = require "host.json"

--- The document as JSON with sorted keys.
local function as_json(text, options)
  local value, marks = yaml.decode(text, options)
  assert(value ~= nil, marks)
  return json.encode(value, { sort = true })
end

--- The errors as a list of "line:column code path".
local function faults(text, options)
  local value, message, code, errors = yaml.decode(text, options)
  assert.is_nil(value)
  assert.equal("invalid", code)
  assert.truthy(message:find("^line %d+ column %d+: ."), message)
  local list = {}
  for i, e in ipairs(errors) do
    assert.truthy(#e.message > 0)
    list[i] = ("%d:%d %s %s"):format(e.line, e.column, e.code, e.path)
  end
  return list, errors
end

describe("yaml.decode", function()
  it("reads scalars by the rules of YAML 1.1", function()
    local rows = {
      ["yes"] = "true", ["on"] = "true", ["True"] = "true", ["NO"] = "false", ["off"] = "false", ["y"] = '"y"',
      ["~"] = "null", ["null"] = "null", [""] = "null", ["nUll"] = '"nUll"', ["12"] = "12", ["-12"] = "-12",
      ["+1_000"] = "1000", ["0x1F"] = "31", ["-0b11"] = "-3", ["010"] = "8", ["08"] = '"08"', ["0o17"] = '"0o17"',
      ["1:30"] = "90", ["1:30:00"] = "5400", ["1:75"] = '"1:75"', ["9223372036854775807"] = "9223372036854775807",
      ["-9223372036854775808"] = "-9223372036854775808", ["1.5"] = "1.5", ["1."] = "1.0", ["1.5e+3"] = "1500.0",
      [".5"] = "0.5", ["-.5"] = '"-.5"', ["1e5"] = '"1e5"', ["1.0e5"] = '"1.0e5"', ["1:30.5"] = "90.5", ["0_"] = "0",
      ["0x_"] = '"0x_"', ["_1"] = '"_1"', ["1.2.3"] = '"1.2.3"', ["-"] = "[null]", ["+"] = '"+"', ["."] = '"."',
      ['"12"'] = '"12"', ["'yes'"] = '"yes"', ["!!str 12"] = '"12"', ["! 12"] = '"12"', ['!!int "12"'] = "12",
      ["!!float 1"] = "1.0", ["!!bool 'no'"] = "false", ["!!null ''"] = "null", ["!!seq []"] = "[]",
      ["!!map {}"] = "{}",
      ["="] = '"="', ["a b"] = '"a b"', ['"\\0\\u00e9"'] = '"\\u0000é"', ["1_0.5_0"] = "10.5",
      ["0"] = "0", ["-0"] = "0",
    }
    for text, expected in pairs(rows) do assert.equal(expected, as_json(text), text) end
  end)

  it("turns dates into their ISO text", function()
    local rows = {
      ["2024-01-02"] = "2024-01-02", ["2001-12-14t21:59:43.10-05:00"] = "2001-12-14T21:59:43.100000-05:00",
      ["2001-12-15 2:59:43"] = "2001-12-15T02:59:43", ["2001-1-5 02:59:43 Z"] = "2001-01-05T02:59:43+00:00",
      ["2001-12-14 21:59:43.123456789 +9"] = "2001-12-14T21:59:43.123456+09:00", ["2024-1-2"] = "2024-1-2",
      ["2024-02-29"] = "2024-02-29", ["2024-01-02x"] = "2024-01-02x",
    }
    for text, expected in pairs(rows) do assert.equal(expected, (yaml.decode(text)), text) end
  end)

  it("makes tables, marked arrays and nulls", function()
    local v = yaml.decode "a: [1, {b: ~}]\nc: []\nd: {}\ne:\n"
    assert.is_true(json.is_array(v.c))
    assert.is_false(json.is_array(v.d))
    assert.equal(json.null, v.e)
    assert.equal('{"a":[1,{"b":null}],"c":[],"d":{},"e":null}', as_json "a: [1, {b: ~}]\nc: []\nd: {}\ne:\n")
    assert.equal(json.null, (yaml.decode ""))
    assert.equal(json.null, (yaml.decode "# nothing\n"))
  end)

  it("takes keys as they are written", function()
    assert.equal('{"1":1,"1.50":2,"null":4,"on":3}', as_json "1: 1\n1.50: 2\non: 3\nnull: 4\n")
    assert.equal('{"x":"x"}', as_json "{!!str x: x}")
    assert.equal('[{"k":1},"k"]', as_json "[{&a k: 1}, *a]")
    assert.equal('["k",{"k":1}]', as_json "[&a k, {*a : 1}]")
  end)

  it("reads block scalars, flow, tabs in values and other line ends", function()
    assert.equal('{"f":"a b\\nc\\n","l":"a\\n\\n  b"}', as_json "l: |-\n  a\n\n    b\nf: >\n  a\n  b\n\n  c\n")
    assert.equal('{"a":1,"b":"x"}', as_json "a: 1\r\nb:\t'x'\r\n")
    assert.equal('{"a":1,"b":2}', as_json "\xEF\xBB\xBFa: 1\nb: 2\n")
  end)
end)

describe("yaml anchors", function()
  it("are the same table, alias by alias", function()
    local v = yaml.decode "a: &x {p: 1}\nb: *x\nc: &f false\nd: *f\ne: &n\nf: *n"
    assert.equal(v.a, v.b)
    assert.is_false(v.d)
    assert.equal(json.null, v.f)
  end)

  it("merge: own keys win, then the later <<, in a list the earlier map", function()
    local head = "x: &x {a: 1, b: 1, c: 1}\ny: &y {a: 2, b: 2, d: 2}\n"
    assert.equal('{"a":1,"b":9,"c":1}', json.encode(yaml.decode(head .. "z: {<<: *x, b: 9}").z, { sort = true }))
    assert.equal('{"a":1,"b":9,"c":1,"d":2}',
      json.encode(yaml.decode(head .. "z:\n  b: 9\n  <<: [*x, *y]").z, { sort = true }))
    assert.equal('{"a":2,"b":2,"c":1,"d":2}',
      json.encode(yaml.decode(head .. "z: {<<: *x, <<: *y}").z, { sort = true }))
    assert.equal('{"<<":1}', as_json '{"<<": 1}')
    assert.same({ "1:6 merge <<" }, (faults "{<<: 1}"))
    assert.same({ "1:6 merge <<" }, (faults "{<<: [{}, 1]}"))
  end)

  it("refuses an unknown alias and one inside its own anchor", function()
    assert.same({ "1:4 alias a" }, (faults "a: *b"))
    assert.same({ "1:5 alias [1]" }, (faults "&a [*a]"))
    assert.same({ "1:8 alias b" }, (faults "&a {b: *a}"))
    assert.same({ "1:10 merge <<" }, (faults "&a { <<: 1 }"))
  end)

  it("is not blown up by bombs", function()
    local lines = { "a0: &a0 [x,x,x,x,x,x,x,x,x]" }
    for i = 1, 9 do
      lines[#lines + 1] = ("a%d: &a%d [%s]"):format(i, i, (("*a%d,"):format(i - 1)):rep(9))
    end
    local list, errors = faults(table.concat(lines, "\n"))
    assert.equal(1, #list)
    assert.equal("limit", errors[1].code)
    lines = { "m0: &m0 {k: 1}" }
    for i = 1, 40 do lines[#lines + 1] = ("m%d: &m%d {<<: *m%d, a%d: *m%d}"):format(i, i, i - 1, i, i - 1) end
    assert.equal("limit", select(2, faults(table.concat(lines, "\n")))[1].code)
    lines = {}
    for i = 1, 1000 do lines[i] = ("%%TAG !t%d! x"):format(i) end
    assert.equal("limit", select(2, faults(table.concat(lines, "\n") .. "\n--- 1"))[1].code)
    lines = { "d0: &d0 [1]" }
    for i = 1, 99 do lines[#lines + 1] = ("d%d: &d%d [*d%d]"):format(i, i, i - 1) end
    assert.equal("limit", select(2, faults(table.concat(lines, "\n")))[1].code)
  end)
end)

describe("yaml errors", function()
  it("come all at once, each with its place", function()
    local list, errors = faults "a: 1\na: 2\nb: [.nan, !!set {x}, *q, 9223372036854775808]\n? [1]\n: 3\nd: 2024-02-30\n"
    assert.same({ "2:1 duplicate_key a", "3:5 unsupported_value b[1]", "3:11 unsupported_tag b[2]", "3:22 alias b[3]",
      "3:26 unsupported_value b[4]", "4:3 invalid_key ", "6:4 unsupported_value d" }, list)
    assert.equal("the key 'a' stands here a second time (first on line 1)", errors[1].message)
    assert.equal("remove one of the two, or rename it", errors[1].hint)
  end)

  it("count the others in the message", function()
    assert.equal("line 2 column 1: the key 'a' stands here a second time (first on line 1) (and 1 more)",
      (select(2, yaml.decode "a: 1\na: 2\nb: .inf")))
  end)

  local rows = {
    { "a: b: c", "1:5 syntax ", "quotes" }, { "x:\n  a: [1,\n  b: 2", "2:6 syntax ", "bracket" },
    { "a:\n\t- b", "2:1 syntax ", "tabs" }, { "a: @x", "1:4 syntax ", "quotes" },
    { "\n'abc", "2:1 syntax ", "close the quote" },
    { "a: 1\nb", "2:1 syntax ", "key: value" }, { "a: 1\n  b: 2", "2:4 syntax ", "indentation" },
    { "é: \xff", "1:4 syntax ", "UTF-8" }, { "a: \1", "1:4 syntax ", "remove" },
    { "\xff\xfea\0", "1:1 syntax ", "UTF-8" }, { "--- 1\n--- 2", "2:1 documents ", "one document" },
    { "{a: !!binary aGk=}", "1:5 unsupported_tag a", "tag" }, { "!foo 1", "1:1 unsupported_tag ", "tag" },
    { "!!python/object:os.system x", "1:1 unsupported_tag ", "tag" }, { "!!int x", "1:1 unsupported_value ", "tag" },
    { "[1.0e+999]", "1:2 unsupported_value [1]", "quotes" }, { "{? : 1}", "1:4 invalid_key ", "before the colon" },
    { "2024-01-02 25:00:00", "1:1 unsupported_value ", "quotes" }, { "{!!int x: 1}", "1:2 unsupported_value ", "tag" },
    { ("["):rep(101), "1:101 limit " .. ("[1]"):rep(100), "less deeply" }, { "%YAML 3.0\n--- 1", "1:1 syntax ", nil },
  }
  for _, row in ipairs(rows) do
    it("refuses " .. ("%q"):format(row[1]:sub(1, 24)), function()
      local list, errors = faults(row[1])
      assert.same({ row[2] }, list)
      assert.truthy(not row[3] or errors[1].hint:find(row[3], 1, true), errors[1].hint)
    end)
  end

  it("are UTF-8 wherever a long name is cut", function()
    for n = 0, 3 do
      local key = ("a"):rep(n) .. ("日本"):rep(200)
      local _, errors = faults(("%s: {%s: .nan, x: !!int %s}\n%s: 1"):format(key, key, key, key))
      assert.equal(3, #errors)
      for _, e in ipairs(errors) do assert.truthy(utf8.len(e.message) and utf8.len(e.path)) end
    end
  end)

  it("stop at fifty", function()
    assert.equal(50, #faults(("- .nan\n"):rep(1000)))
  end)

  it("obey the limits", function()
    local _, message, code, errors = yaml.decode("a: 1", { max_bytes = 3 })
    assert.equal("too_large", code)
    assert.equal("line 1 column 1: the document has 4 bytes, allowed are 3", message)
    assert.equal("limit", errors[1].code)
    assert.same({ "1:5 limit [2]" }, (faults("[1, 2]", { max_nodes = 2 })))
    assert.truthy(yaml.decode(("["):rep(400) .. ("]"):rep(400), { max_depth = 400 }))
    assert.has_error(function() yaml.decode("", { max_depth = 401 }) end)
    assert.has_error(function() yaml.decode("", { duplicate = "first" }) end)
    assert.has_error(function() yaml.decode() end)
  end)

  it("let the last of two keys win when asked", function()
    local value, marks = yaml.decode("a: 1\na: 2\n", { duplicate = "last" })
    assert.equal(2, value.a)
    assert.equal(2, marks(value, "a").line)
  end)
end)

describe("yaml marks", function()
  local text = table.concat({
    "# é", "flow:", "  graph: |", "    a >> b", "  folded: &f !!str >-", "", "      text", "  list: [x, 'é', *f]",
    "  tabbed: |2", "      four", "base: &b {p: 1}", "é: {<<: *b, q: &z", "  !!str", "  |", "   x}",
  }, "\n", 1, 11) .. "\nm:\n  <<: *b\n  q: &z\n    !!str # why\n    |\n     x\n"

  it("tell key, value, style and indentation", function()
    local v, marks = assert(yaml.decode(text))
    assert.same({ line = 2, column = 1, value_line = 3, value_column = 3, style = "block" }, marks(v, "flow"))
    assert.same({ line = 3, column = 3, value_line = 3, value_column = 10, style = "literal", indent = 4 },
      marks(v.flow, "graph"))
    assert.same({ line = 5, column = 3, value_line = 5, value_column = 20, style = "folded", indent = 6 },
      marks(v.flow, "folded"))
    assert.equal(4, marks(v.flow, "tabbed").indent)
    assert.equal("flow", marks(v.flow, "list").style)
    assert.same({ line = 8, column = 13, value_line = 8, value_column = 13, style = "single" }, marks(v.flow.list, 2))
    assert.same({ line = 8, column = 18, value_line = 8, value_column = 18, style = "alias" }, marks(v.flow.list, 3))
    assert.same({ line = 14, column = 3, value_line = 16, value_column = 5, style = "literal", indent = 5 },
      marks(v.m, "q"))
    assert.same(marks(v.base, "p"), marks(v.m, "p"))
    assert.equal(11, marks(v.m, "p").line)
    assert.same({ line = 2, column = 1, value_line = 2, value_column = 1, style = "block" }, marks())
  end)

  it("know nothing of other tables and keys", function()
    local v, marks = yaml.decode "a: 1"
    assert.is_nil((marks(v, "b")))
    assert.is_nil((marks({}, "a")))
    assert.is_nil((marks(v)))
    assert.is_nil((marks("x", 1)))
  end)
end)

describe("yaml under mutation", function()
  local documents = {
    "version: 1\nflow:\n  graph: |\n    a >> b\n  defaults: {x: 1, d: 2024-01-02 01:02:03 +9}\ntasks:\n"
      .. "  a: &a\n    inputs: ['$ctx.x', \"\\u00e9\"]\n  b:\n    <<: *a\n    é: >-\n      x\n",
    "- !!str 1:30\n- &x {? a : b, <<: {c: 0x1F}}\n- *x\n- [1.5e+3, ~, on]\n",
  }
  it("answers or explains after the loss, change or doubling of any byte", function()
    for _, text in ipairs(documents) do
      assert(yaml.decode(text))
      for i = 1, #text do
        local head, tail = text:sub(1, i - 1), text:sub(i + 1)
        for _, middle in ipairs { "", "\0", "\xff", "\t", "\n", ":", "'", "[", "&", "*", "|", text:sub(i, i):rep(2) } do
          local value, marks, code, errors = yaml.decode(head .. middle .. tail)
          if value == nil then
            assert.equal("invalid", code)
            assert.truthy(#errors >= 1 and errors[1].line >= 1 and errors[1].column >= 1)
          else
            assert(json.encode(value))
            assert.equal("table", type(marks()))
          end
        end
        yaml.decode(head)
      end
    end
  end)
end)
