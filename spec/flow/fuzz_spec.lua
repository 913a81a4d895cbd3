--- Graph texts and expressions made at random (always the same ones): what is printed from an AST is read back as that
--- AST, and what is broken in some place gives errors with places inside the text, never a crash.
local compile = require "pyoco.flow.compile"
local expr = require "pyoco.flow.expr"
local problem = require "pyoco.flow.problem"
local text = require "pyoco.flow.text"

local state = 1

--- A whole number from 1 to `limit`, of a sequence that is the same in every run.
local function random(limit)
  state = (state * 6364136223846793005 + 1442695040888963407)
  return ((state >> 33) % limit) + 1
end

local function one_of(list) return list[random(#list)] end

local NAMES = { "a", "b", "load_data", "_x", "データ", "my-task", "it's", 'say "hi"', "switch", "flow", "for",
  "back\\slash", "1st" }
local TEXTS = { "$ctx.n", "$ctx.mode == 'a'", '$ctx["k"] > 3', "$node.a.output.done", "[1, 2]", "\\" }
local LABELS = { "A", "*", "a b", '"', "1", "-2.5", "if" }

--- A random AST. Groups of one kind never stand directly in each other, as brackets would be needed to keep them apart.
local function make(depth, outer)
  local kind = depth == 0 and 1 or random(9)
  if kind <= 2 then return { name = one_of(NAMES) } end
  local node
  if kind == 3 then
    node = { op = "times", make(depth - 1), count = random(2) == 1 and tostring(random(20)) or one_of(TEXTS) }
  elseif kind == 4 then
    node = { op = "each", make(depth - 1), over = one_of(TEXTS), as = one_of { "item", "_i", "as", "項" } }
  elseif kind == 5 then
    node = { op = "until", make(depth - 1), cond = one_of(TEXTS), max = one_of { 1, 7, 100 } }
  elseif kind == 6 then
    node = { op = "switch", on = one_of(TEXTS) }
    for i = 1, random(3) do node[i] = { op = "case", make(depth - 1, "case"), label = one_of(LABELS) } end
  else
    local ops = {}
    for _, op in ipairs { "seq", "all", "any" } do
      if op ~= outer then ops[#ops + 1] = op end
    end
    node = { op = one_of(ops) }
    for i = 1, random(3) + 1 do node[i] = make(depth - 1, node.op) end
  end
  return node
end

--- A text in quotes, the escapes written out.
local function quote(value)
  local mark = one_of { '"', "'" }
  return mark .. value:gsub("[\\" .. mark .. "]", "\\%0") .. mark
end

--- Blanks that may stand between tokens, and inside brackets also line ends and comments.
local function blank(is_inside)
  if is_inside then return one_of { "", " ", "\n", " # note ( [ ' \n", "\t", "\\\n" } end
  return one_of { "", " ", "  ", "\\\n " }
end

local LOOSENESS = { any = 1, all = 2, seq = 3 }
local SIGNS = { any = "|", all = "&", seq = ">>" }

local print_node

--- A node in brackets of its own if it binds more loosely than `least`.
local function print_part(node, least, is_inside)
  if (LOOSENESS[node.op] or 9) >= least then return print_node(node, is_inside) end
  return "(" .. blank(true) .. print_node(node, true) .. blank(true) .. ")"
end

local PRINT = {
  times = function(node, is_inside)
    local count = node.count:find("^%d+$") and node.count or quote(node.count)
    return print_part(node[1], 8, is_inside) .. "[" .. blank(true) .. count .. blank(true) .. "]"
  end,
  each = function(node, is_inside)
    return print_part(node[1], 8, is_inside) .. "[" .. quote(node.over .. " as " .. node.as) .. "]"
  end,
  ["until"] = function(node, is_inside)
    local cond, body = quote(node.cond), print_part(node[1], 8, is_inside)
    if node.max == 100 and random(2) == 1 then return ("(%s %% %s)"):format(body, cond) end
    return ("%s %% (%s%s,%d)"):format(body, cond, blank(true), node.max)
  end,
  switch = function(node)
    local cases = {}
    for i, case in ipairs(node) do
      local label = case.label:find("^%-?%d") and case.label or quote(case.label)
      cases[i] = label .. blank(true) .. ">>" .. blank(true) .. print_part(case[1], 3, true)
    end
    return ("switch%s(%s)[%s%s]"):format(one_of { "", " " }, quote(node.on), table.concat(cases, "," .. blank(true)),
      one_of { "", ",", ",\n" })
  end,
}

--- Graph text for an AST.
function print_node(node, is_inside)
  if node.name then
    if node.name:find("^[%a_\x80-\xff][%w_\x80-\xff]*$") and (random(3) > 1) then return node.name end
    return quote(node.name)
  end
  if PRINT[node.op] then return PRINT[node.op](node, is_inside) end
  local items = {}
  for i, item in ipairs(node) do items[i] = print_part(item, LOOSENESS[node.op] + 1, is_inside) end
  return table.concat(items, blank(is_inside) .. SIGNS[node.op] .. blank(is_inside))
end

--- An AST without places, as a text.
local function shape(node)
  if node.name then return ("%q"):format(node.name) end
  local parts = { node.op }
  for _, field in ipairs { "count", "over", "cond", "on", "as", "max", "label" } do
    local value = node[field]
    if value then parts[#parts + 1] = field .. "=" .. (type(value) == "table" and value.text or tostring(value)) end
  end
  for _, item in ipairs(node) do parts[#parts + 1] = shape(item) end
  return "{" .. table.concat(parts, " ") .. "}"
end

--- Fails unless all places of an AST are inside the text and its names are what stands there.
local function check_places(node, source)
  for _, place in ipairs { node, node.count, node.over, node.cond, node.on } do
    if place.at then assert.is_true(place.at >= 1 and place.at <= place.to and place.to <= #source) end
  end
  if node.name and node.bare then assert.equal(node.name, source:sub(node.at, node.to)) end
  if node.name and not node.bare then assert.truthy(source:sub(node.at, node.to):find("^([\"']).*%1$")) end
  for _, item in ipairs(node) do check_places(item, source) end
end

local PIECES = { "(", ")", "[", "]", "%", ">>", "&", "|", ",", ";", "\n", "'", '"', "\\", "#", "$", "switch", "a", "1",
  " as ", "\0", "\xe3", "=", ".", "-", "in", "not ", "==" }

--- The text with one piece of it taken out, put in, doubled or moved.
local function mutate(source)
  local from = random(#source + 1)
  local to = math.min(#source, from + random(4) - 2)
  local kind = random(4)
  if kind == 1 then return source:sub(1, from - 1) .. source:sub(to + 1) end
  if kind == 2 then return source:sub(1, from - 1) .. one_of(PIECES) .. source:sub(from) end
  if kind == 3 then return source:sub(1, to) .. source:sub(from) end
  local other = random(#source + 1)
  return source:sub(1, from - 1) .. source:sub(other, other + random(8)) .. source:sub(to + 1)
end

--- Reads a broken text: errors that say where, or an AST that the compiler takes or refuses.
local function check_broken(source, rows)
  local ast, errors = text.read(source)
  for _, found in ipairs(errors) do
    assert.is_true(found.at >= 1 and found.at <= #source + 1 and found.to <= #source + 1, source)
    assert.is_true(#found.message > 0 and found.code ~= nil)
  end
  if #errors == 0 then check_places({ op = "all", table.unpack(ast) }, source) end
  local graph, problems = compile.graph(ast, rows, { name = "fuzz", run_all = true, partial = #errors > 0 })
  if graph then return end
  for _, found in ipairs(problems) do errors[#errors + 1] = found end
  for _, found in ipairs(problem.finish(errors, problem.source(source))) do
    assert.is_true(found.line >= 1 and found.column >= 1, source)
  end
end

describe("graph text at random", function()
  it("is read back as the AST that it was printed from", function()
    for _ = 1, 1500 do
      local node = make(random(4))
      local source = print_node(node, false)
      local ast, errors = text.read(source)
      assert.equal(0, #errors, source)
      assert.equal(shape(node), shape(ast[1]), source)
      assert.equal(1, #ast, source)
      check_places(ast[1], source)
    end
  end)

  it("gives an AST or errors with places when something in it is broken", function()
    local rows = {}
    for i, name in ipairs(NAMES) do rows[i] = { name = name, line = 1, column = 1 } end
    for _ = 1, 1200 do
      local source = print_node(make(random(4)), false)
      for _ = 1, random(3) do source = mutate(source) end
      check_broken(source, rows)
    end
  end)
end)

describe("an expression at random", function()
  local GOOD = {
    "$ctx.n > 3 and $ctx.mode in ['a', 'b'] or not $ctx.done", "1 + 2 * (3 - -4) // 5 % 6 / 7 <= 2.5e1",
    [[$node["my task"].output.pages[0] == "it's \"x\""]], "$flow.name != 'x' and $env.HOME not in $ctx.items[2].k",
    "[1, [2, null], 'x' + 'y'] == $ctx.params.list and True", "$ctx.n or $ctx.m or 9223372036854775807 * -1",
  }
  local params = { n = 3, mode = "a", items = { 1, 2, { k = "v" } }, list = {} }
  local sources = {
    ctx = function(name) return name == "params" and params or params[name] end,
    node = function(name) return ({ ["my task"] = { pages = { 1 } } })[name] end,
    flow = { name = "etl" }, env = { HOME = "/" },
  }

  it("gives a value or a message, or says what is wrong and where", function()
    local values, wrong = 0, 0
    for _ = 1, 8000 do
      local source = one_of(GOOD)
      for _ = 1, random(3) do source = mutate(source) end
      local compiled, found = expr.parse(source)
      if compiled then
        for _, read in ipairs(compiled.reads) do assert.equal(read.text, source:sub(read.at, read.to)) end
        local value, message = expr.eval(compiled, sources)
        assert.is_true(message == nil or value == nil and type(message) == "string", source)
        values = values + 1
      else
        assert.is_true(found.at >= 1 and found.at <= found.to and found.to <= #source + 1, source)
        assert.is_true(#found.message > 0)
        wrong = wrong + 1
      end
    end
    assert.is_true(values > 500 and wrong > 500) -- else the texts are too much or too little broken to tell anything
  end)
end)
