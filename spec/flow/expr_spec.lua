--- Expressions: what they mean, what they refuse and where, and what one evaluation may cost.
local json = require "host.json"
local expr = require "pyoco.flow.expr"

local params = {
  n = 3, zero = 0, s = "abc", yes = true, no = false, nothing = json.null, empty = json.array {},
  items = { "a", 2, { k = "v" } }, user = { name = "ann", tags = { "x", "y" }, ["full name"] = "Ann B" },
}
local outputs = { fetch = { done = false, pages = { 1, 2 } }, ["my-task"] = 7, text = "t" }
local sources = {
  ctx = function(name)
    if name == "params" then return params end
    return params[name]
  end,
  node = function(task) return outputs[task] end,
  flow = { name = "etl", tag = "gpu" },
  env = { HOME = "/root" },
}

--- The value of an expression; raises when there is none.
local function value(text)
  local compiled, problem = expr.parse(text)
  assert(compiled, problem and text .. " -> " .. problem.message)
  local result, message = expr.eval(compiled, sources)
  assert(message == nil, message)
  return result
end

--- The message of an evaluation that fails.
local function failure(text)
  local compiled, problem = expr.parse(text)
  assert(compiled, problem and text .. " -> " .. problem.message)
  local result, message = expr.eval(compiled, sources)
  assert.is_nil(result, text)
  return message
end

--- What is wrong with a text: "at-to message", the problem.
local function refuse(text)
  local compiled, problem = expr.parse(text)
  assert.is_nil(compiled, text)
  return ("%d-%d %s"):format(problem.at, problem.to, problem.message), problem
end

describe("an expression", function()
  it("computes with numbers as Python does", function()
    for text, expected in pairs {
      ["1 + 2 * 3"] = 7, ["(1 + 2) * 3"] = 9, ["7 / 2"] = 3.5, ["7 // 2"] = 3, ["-7 // 2"] = -4, ["-7 % 3"] = 2,
      ["2 - 3 - 4"] = -5, ["8 / 2 / 2"] = 2.0, ["- - 3"] = 3, ["-$ctx.n + 1"] = -2, ["1.5e2"] = 150.0, ["2 * -3"] = -6,
      ["10 % 4 * 2"] = 4,
    } do
      assert.equal(expected, value(text), text)
      assert.equal(math.type(expected), math.type(value(text)), text)
    end
  end)

  it("compares numbers and texts, and tells equal things from others", function()
    for _, text in ipairs { "1 < 2", "2 <= 2", "3 > 2.5", "'a' < 'b'", "1 == 1.0", "'a' != 'b'", "$ctx.n >= 3",
        "1 + 1 == 2", "[1, [2, 'x']] == [1, [2, 'x']]", "[1] != [2]", "[] == $ctx.empty", "null == $ctx.nothing",
        "$ctx.user == $ctx.user", "true != 1", "$ctx.n != null", "[1, 2] != [1]", "[1] != [1, 2]",
        "[null] == [None]" } do
      assert.is_true(value(text), text)
    end
    for _, text in ipairs { "2 < 1", "1 == 2", "'a' == 'b'", "[1] == [1, 2]", "null == false", "$ctx.user == []" } do
      assert.is_false(value(text), text)
    end
  end)

  it("looks for items, keys and parts of texts", function()
    for _, text in ipairs { "2 in [1, 2]", "'a' in $ctx.items", "'k' in $ctx.items[2]", "'bc' in $ctx.s",
        "3 not in [1, 2]", "'zz' not in 'abc'", "not 3 in [1, 2]", "[1] in [[1], 2]", "null in [null]", "'' in 'a'",
        "('a' in ['a']) == true" } do
      assert.is_true(value(text), text)
    end
    assert.is_false(value "'3' in [3]")
    assert.is_false(value "1 in $ctx.user")
  end)

  it("decides with and, or, not; null is false, and or gives a default", function()
    for text, expected in pairs {
      ["true and not false"] = true, ["false or true and false"] = false, ["not true or true"] = true,
      ["not not true"] = true, ["not 1 == 2"] = true, ["not null"] = true, ["null and true"] = false,
      ["$ctx.missing or 5"] = 5, ["$ctx.n or 5"] = 3, ["$ctx.zero or 5"] = 0, ["$ctx.yes and $ctx.n == 3"] = true,
      ["True and not False"] = true,
    } do
      assert.equal(expected, value(text), text)
    end
    assert.is_nil(value "null or None")
  end)

  it("does not look at what it does not need", function()
    assert.is_false(value "$ctx.no and 1 / 0 > 1")
    assert.is_true(value "$ctx.yes or 1 / 0 > 1")
  end)

  it("takes texts in both quotes with escapes", function()
    assert.equal("a'b", value [["a'b"]])
    assert.equal([[a"b\]], value [['a"b\\']])
    assert.equal("a\n\t'\\q", value [['a\n\t\'\q']])
    assert.equal("abcd", value "'ab' + \"cd\"")
    assert.equal("データ", value "'データ'")
  end)

  it("joins and makes lists", function()
    assert.same({ 1, 2, "x" }, value "[1, 2] + ['x',]")
    assert.equal("[]", json.encode(value "[]"))
    assert.equal('[null,"ann"]', json.encode(value "[$ctx.missing, $ctx.user.name]"))
  end)

  it("reads selectors: what is not there is null, what has no parts is not", function()
    assert.equal("ann", value "$ctx.params.user.name")
    assert.equal("y", value "$ctx.user.tags[1]")
    assert.equal("Ann B", value [[$ctx.user["full name"] ]])
    assert.equal("v", value "$ctx.items.2.k")
    assert.equal(6, value "$node.my-task.output - 1")
    assert.equal(2, value "$node.fetch.output.pages[1]")
    assert.equal("etl/root", value "$flow.name + $env.HOME")
    assert.is_nil(value "$ctx.missing")
    assert.is_nil(value "$ctx.nothing")
    assert.is_nil(value "$ctx.user.age")
    assert.is_nil(value "$node.later.output")
    assert.is_nil(value "$env.NOPE")
    assert.is_nil(value "$flow.run_id")
    assert.equal("$ctx.missing.x: there is no 'x' in 'missing', which is null", failure "$ctx.missing.x == 1")
    assert.equal("$node.later.output.x: there is no 'x' in the output of later, which is null",
      failure "$node.later.output.x")
    assert.equal("$node.text.output.x.y: there is no 'x' in the output of text, which is a text",
      failure "$node.text.output.x.y")
    assert.equal("$ctx.user.name.x: there is no 'x' in 'user.name', which is a text", failure "$ctx.user.name.x")
  end)

  it("lists what it reads, with places", function()
    local text = "$ctx.n > 1 and $node['a b'].output.x in [$env.HOME, $ctx.user.tags[0]]"
    local found = {}
    for i, read in ipairs(expr.parse(text).reads) do
      assert.equal(read.text, text:sub(read.at, read.to))
      found[i] = read.root .. ":" .. (read.node or table.concat(read.path, "."))
    end
    assert.same({ "ctx:n", "node:a b", "env:HOME", "ctx:user.tags.0" }, found)
  end)

  it("says which operand is of the wrong kind", function()
    for text, message in pairs {
      ["$ctx.n < 'a'"] = "'<' needs two numbers or two texts: $ctx.n is a number (3), 'a' is a text",
      ["$ctx.missing > 3"] = "'>' needs two numbers or two texts: $ctx.missing is null, 3 is a number",
      ["$ctx.n == '3'"] = "'==' needs two of one kind, and a number is never a text: $ctx.n is a number (3), "
        .. "'3' is a text",
      ["'3' != 3"] = "'!=' needs two of one kind, and a number is never a text: '3' is a text, 3 is a number",
      ["$ctx.s + 1"] = "'+' needs two numbers, two texts or two lists: $ctx.s is a text ('abc'), 1 is a number",
      ["$ctx.s * 3"] = "'*' needs two numbers: $ctx.s is a text ('abc'), 3 is a number",
      ["-$ctx.s"] = "'-' needs a number: $ctx.s is a text ('abc')",
      ["$ctx.n and true"] = "'and' needs true or false: $ctx.n is a number (3)",
      ["true and $ctx.s"] = "'and' needs true or false: $ctx.s is a text ('abc')",
      ["not $ctx.items"] = "'not' needs true or false: $ctx.items is a list",
      ["1 in $ctx.n"] = "'in' needs a list, a mapping or a text on its right: 1 is a number, $ctx.n is a number (3)",
      ["1 in 'abc'"] = "'in' needs a text on its left, to look for in a text: 1 is a number, 'abc' is a text",
      ["1 not in null"] = "'not in' needs a list, a mapping or a text on its right: 1 is a number, null is null",
      ["true < false"] = "'<' needs two numbers or two texts: true is a boolean, false is a boolean",
      ["$ctx.items < [1]"] = "'<' needs two numbers or two texts: $ctx.items is a list, [1] is a list",
      ["1 / $ctx.zero"] = "division by zero: $ctx.zero is a number (0)",
      ["1 // 0"] = "division by zero: 0 is a number", ["1 % 0.0"] = "division by zero: 0.0 is a number",
    } do
      assert.equal(message, failure(text))
    end
  end)

  it("refuses results that do not fit a number", function()
    for _, text in ipairs { "9223372036854775807 + 1", "-9223372036854775807 - 2", "3037000500 * 3037000500",
        "4611686018427387904 * 2", "4611686018427387904 * -3", "(-9223372036854775807 - 1) // -1", "1e308 * 10",
        "1e308 + 1e308", "9223372036854775807 * 9223372036854775807" } do
      assert.truthy(failure(text):find("is too large", 1, true), text)
    end
    assert.equal("the result of '-' is too large", failure "-(-9223372036854775807 - 1)")
    assert.equal(math.mininteger, value "-9223372036854775807 - 1")
    assert.equal(math.maxinteger, value "9223372036854775806 + 1")
    assert.equal(9223372030926249001, value "3037000499 * 3037000499")
    assert.equal(-4611686018427387904 * 2, value "-4611686018427387904 * 2")
    assert.equal(-9223372036854775807, value "9223372036854775807 * -1")
  end)

  it("says what it expected and where, with a hint", function()
    for text, expected in pairs {
      [""] = { "1-1 expected a value, got the end", "a $selector" },
      ["1 +"] = { "4-4 expected a value, got the end", "a $selector" },
      ["* 2"] = { "1-1 expected a value, got '*'", "a $selector" },
      ["1 2"] = { "3-3 expected an operator or the end, got '2'" },
      ["(1"] = { "3-3 expected an operator or ')', got the end" },
      ["(1, 2)"] = { "3-3 expected an operator or ')', got ','", "a list is written [a, b]" },
      ["[1, 2"] = { "6-6 expected ',' or ']', got the end" },
      ["1 < 2 < 3"] = { "7-7 expected and, or, or the end, got '<'", "write a < b and b < c" },
      ["1 + not true"] = { "5-7 expected a value, got 'not'", "put brackets around it" },
      ["n == 1"] = { "1-1 unknown name 'n'", "write $ctx.n for a parameter, 'n' for a text" },
      ["len($ctx.s)"] = { "1-3 'len' is a call: there are none in expressions" },
      ["$ctx.s(1)"] = { "7-7 expected an operator or the end, got '('", "there are no calls" },
      ["$ctx.items [0]"] = { "12-12 expected an operator or the end, got '['", "written without a blank" },
      ["1 = 1"] = { "3-3 '=' is not part of expressions", "write ==" },
      ["1 === 1"] = { "3-5 '===' is not part of expressions", "write ==" },
      ["1 ~= 1"] = { "3-4 '~=' is not part of expressions", "write !=" },
      ["1 <> 1"] = { "3-4 '<>' is not part of expressions", "write !=" },
      ["1 && 1"] = { "3-4 '&&' is not part of expressions", "write and" },
      ["1 || 1"] = { "3-4 '||' is not part of expressions", "write or" },
      ["!true"] = { "1-1 '!' is not part of expressions", "write not" },
      ["2 ** 3"] = { "3-4 '**' is not part of expressions", "no powers" },
      ["'a' .. 'b'"] = { "5-6 '..' is not part of expressions", "write +" },
      ["1 is 1"] = { "3-4 'is' is not part of expressions", "write ==" },
      ["1 == nil"] = { "6-8 'nil' is not part of expressions", "write null" },
      ["true ? 1 : 2"] = { "6-6 '?' is not part of expressions", "use a switch" },
      ["{}"] = { "1-1 '{' is not part of expressions", "no mappings" },
      ["3x + 1"] = { "1-2 '3x' is not a number" },
      ["1.2.3"] = { "1-5 '1.2.3' is not a number" },
      ["9223372036854775808"] = { "1-19 this number is too large" },
      ["1e999"] = { "1-5 this number is too large" },
      ["1 == 'abc"] = { "6-6 this quote is never closed", "add the missing '" },
      ["$cxt.n > 1"] = { "1-4 unknown selector '$cxt'", "$ctx.NAME" },
      ["1 < $flow.nam"] = { "5-13 expected one of $flow.name, $flow.run_id, $flow.tag, $flow.started_at, "
        .. "got '$flow.nam'" },
      ["$ctx > 1"] = { '1-4 expected $ctx.NAME[.PATH], a key with other signs as $ctx["key"], got \'$ctx\'' },
      ["$ctx.a..b"] = { '1-9 expected $ctx.NAME[.PATH], a key with other signs as $ctx["key"], got \'$ctx.a..b\'' },
      ["$node.x > 1"] = { "1-7 expected $node.TASK.output[.PATH], a name with other signs as "
        .. '$node["name"].output, got \'$node.x\'' },
      ["$ctx.x[-1]"] = { '1-6 expected $ctx.NAME[.PATH], a key with other signs as $ctx["key"], got \'$ctx.x\'' },
      ["1 + \1"] = { "5-5 expected a value, got '\1'" },
    } do
      local message, problem = refuse(text)
      assert.equal(expected[1], message)
      local hint = problem.hint or "no hint"
      if expected[2] then assert.truthy(hint:find(expected[2], 1, true), text .. ": " .. hint) end
    end
  end)

  it("cuts what it shows to whole characters", function()
    local long = ("データ"):rep(50)
    for _, text in ipairs { long, "3" .. long, "$ctx.x '" .. long .. "'", "$ctx.a..b" .. long } do
      local message, problem = refuse(text)
      assert.is_true(#message < 400)
      assert.truthy(utf8.len(message) and utf8.len(problem.hint or ""))
    end
    local message = failure(("$ctx.%s > 1"):format(long))
    assert.truthy(message:find("デ... is null", 1, true) or message:find("ー... is null", 1, true)
      or message:find("タ... is null", 1, true))
    assert.equal("'>' needs two numbers or two texts: $ctx.数 is null, 1 is a number", failure "$ctx.数 > 1")
  end)

  it("names what an unknown word may have been meant for", function()
    for text, name in pairs { ["ture and 1"] = "true", ["nul == 1"] = "null", ["$nod.a.output"] = "node" } do
      local _, problem = refuse(text)
      local near = require("pyoco.nearest").name(problem.got, problem.names)
      assert.equal(name, near)
    end
    local _, problem = refuse "$flow.nam"
    assert.same({ "nam", "name" }, { problem.got, problem.names[1] })
  end)

  it("bounds length, nesting and what an evaluation costs", function()
    assert.truthy(refuse(("1+"):rep(5001)):find("at most 10000 bytes, this has 10002", 1, true))
    assert.truthy(refuse(("("):rep(5000)):find("^101%-101 expressions are nested deeper than 100"))
    assert.truthy(refuse(("["):rep(5000)):find("^101%-101 expressions are nested deeper"))
    assert.truthy(refuse(("-"):rep(5000) .. "1"):find("^101%-101 expressions are nested deeper"))
    assert.truthy(refuse(("not "):rep(2000) .. "1"):find("expressions are nested deeper"))
    assert.equal(2000, value(("1 + "):rep(1999) .. "1"))

    local big, many = ("ab"):rep(500000), {}
    for i = 1, 1000000 do many[i] = i end
    params.big, params.many, params.needle = big, many, ("ab"):rep(250000) .. "c"
    assert.equal("a text of more than 65536 bytes: compute it in a task", failure "$ctx.big + $ctx.big")
    for _, text in ipairs { "-1 in $ctx.many", "$ctx.many + $ctx.many", "$ctx.many == [1] + $ctx.many",
        "$ctx.needle in $ctx.big", ("$ctx.s in $ctx.big or "):rep(400) .. "true" } do
      if text:find "^%$ctx.s" then text = text:gsub("%$ctx.s", "'abc'") end
      assert.equal("this is too much work for an expression: compute it in a task", failure(text))
    end
    assert.is_true(value "1000 in $ctx.many")
    assert.is_true(value "'ba' in $ctx.big")
    assert.equal(64, #value(("'" .. ("x"):rep(32) .. "' + ") .. "'" .. ("x"):rep(32) .. "'"))
    params.big, params.many, params.needle = nil, nil, nil
  end)

  it("is equal to no end of nested values only as deep as there is room", function()
    local deep, other = {}, {}
    for _ = 1, 1000 do deep, other = { deep }, { other } end
    params.deep, params.other = deep, other
    assert.equal("this is too much work for an expression: compute it in a task", failure "$ctx.deep == $ctx.other")
    params.deep, params.other = nil, nil
  end)
end)

describe("an expression's use", function()
  --- expr[use] of a text: the value, or the message.
  local function use(name, text)
    local result, message = expr[name](assert(expr.parse(text)), sources)
    return message or result
  end

  it("as a condition is true or false", function()
    assert.is_true(use("condition", "$ctx.n == 3"))
    assert.is_false(use("condition", "not $ctx.yes"))
    assert.equal("a condition must be true or false: $ctx.missing is null", use("condition", "$ctx.missing"))
    assert.equal("a condition must be true or false: $ctx.n + 1 is a number (4)", use("condition", " $ctx.n + 1 "))
    assert.equal("division by zero: 0 is a number", use("condition", "1 / 0 > 1"))
  end)

  it("as a number of times is a whole number from 0", function()
    assert.equal(3, use("count", "$ctx.n"))
    assert.equal("integer", math.type(use("count", "6 / 2")))
    assert.equal(0, use("count", "0"))
    local message = "a number of times must be a whole number from 0: "
    assert.equal(message .. "$ctx.s is a text ('abc')", use("count", "$ctx.s"))
    assert.equal(message .. "$ctx.missing is null", use("count", "$ctx.missing"))
    assert.equal(message .. "-1 is a number (-1)", use("count", "-1"))
    assert.equal(message .. "1.5 is a number", use("count", "1.5"))
    assert.equal(message .. "$ctx.items is a list (once for each item is x[\"$ctx.items as item\"])",
      use("count", "$ctx.items"))
  end)

  it("as items is a list", function()
    assert.equal(params.items, use("items", "$ctx.items"))
    assert.same({ 1, 2 }, use("items", "[1, 2]"))
    assert.equal(0, #use("items", "$ctx.empty"))
    local message = "a loop over items needs a list: "
    assert.equal(message .. "$ctx.missing is null", use("items", "$ctx.missing"))
    assert.equal(message .. "$ctx.user is a mapping", use("items", "$ctx.user"))
    assert.equal(message .. "$ctx.s is a text ('abc')", use("items", "$ctx.s"))
    assert.equal(message .. "$ctx.n is a number (3)", use("items", "$ctx.n"))
  end)

  it("as a switch is compared as text", function()
    for text, label in pairs { ["$ctx.s"] = "abc", ["$ctx.n"] = "3", ["6 / 2"] = "3", ["2.5"] = "2.5",
        ["true"] = "true", ["$ctx.missing"] = "null", ["$ctx.nothing"] = "null", ["-1"] = "-1" } do
      assert.equal(label, use("label", text))
    end
    local message = "a switch needs a text, a number, true, false or null: "
    assert.equal(message .. "$ctx.items is a list", use("label", "$ctx.items"))
    assert.equal(message .. "$ctx.user is a mapping", use("label", "$ctx.user"))
  end)
end)
