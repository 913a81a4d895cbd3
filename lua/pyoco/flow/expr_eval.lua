--- Expressions: what a tree (flow/expr_parse.lua) gives. A value and no message, or nil and a message; nil alone
--- is null. One evaluation does a bounded amount of work, whatever the values are.
local json = require "host.json"
local selector = require "pyoco.flow.selector"

local M = {}

local MAX_WORK = 200000      -- items compared or copied, and bytes / 64, in one evaluation
local MAX_TEXT = 65536       -- bytes of a text that is put together
local MAX_EQUAL_DEPTH = 100
local SHOWN = 60             -- bytes of an operand that a message shows

local null, is_array, kind = json.null, json.is_array, selector.kind
local type, math_type = type, math.type

local left = 0 -- work that may still be done

local function work(amount)
  left = left - amount
  return left >= 0
end

local TOO_MUCH = "this is too much work for an expression: compute it in a task"

--- An operand and its value in words: `$ctx.n is a text ('abc')`.
local function describe(node, value, source)
  local shown = require("pyoco.flow.selector_read").short(source:sub(node.at, node.to), SHOWN)
  if node.op == "value" then return ("%s is %s"):format(shown, kind(value)) end
  local detail = ""
  if type(value) == "number" or type(value) == "boolean" then
    detail = (" (%s)"):format(value)
  elseif type(value) == "string" and #value <= 40 then
    detail = (" ('%s')"):format(value)
  end
  return ("%s is %s%s"):format(shown, kind(value), detail)
end

--- The message for operands that an operator does not take.
local function mismatch(node, needs, a, b, source)
  local message = ("'%s' needs %s: %s"):format(node.op == "neg" and "-" or node.op, needs, describe(node[1], a, source))
  if not node[2] then return nil, message end
  return nil, ("%s, %s"):format(message, describe(node[2], b, source))
end

--- Tells whether two values are equal in kind and content. nil when that is too much work.
local function equal(a, b, depth)
  if a == null then a = nil end
  if b == null then b = nil end
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  if depth > MAX_EQUAL_DEPTH then return nil end
  for key, item in next, a do
    if not work(1) then return nil end
    local same = equal(item, b[key], depth + 1)
    if not same then return same end
  end
  for key, item in next, b do
    if not work(1) then return nil end
    if a[key] == nil and item ~= null then return false end
  end
  return is_array(a) == is_array(b) or next(a) == nil
end

--- `==`: values of different kinds differ, but a number beside a text is a mistake.
local function equals(node, a, b, source)
  local kind_a, kind_b = type(a), type(b)
  if kind_a == "number" and kind_b == "string" or kind_a == "string" and kind_b == "number" then
    return mismatch(node, "two of one kind, and a number is never a text", a, b, source)
  end
  local same = equal(a, b, 0)
  if same == nil then return nil, TOO_MUCH end
  return same
end

--- Makes the evaluator of an ordering.
local function ordering(compare)
  return function(node, a, b, source)
    local kind_a = type(a)
    if kind_a ~= type(b) or kind_a ~= "number" and kind_a ~= "string" then
      return mismatch(node, "two numbers or two texts", a, b, source)
    end
    return compare(a, b)
  end
end

--- Makes the evaluator of an operator on numbers; `exact` tells whether a result of two integers is not cut off.
local function arithmetic(compute, exact)
  return function(node, a, b, source)
    if type(a) ~= "number" or type(b) ~= "number" then return mismatch(node, "two numbers", a, b, source) end
    local result = compute(a, b)
    if math_type(result) == "integer" and not exact(a, b, result) or result - result ~= 0 then
      return nil, ("the result of '%s' is too large: %s, %s"):format(node.op, describe(node[1], a, source),
        describe(node[2], b, source))
    end
    return result
  end
end

--- Makes the evaluator of a division.
local function division(compute)
  local divide = arithmetic(compute, function(a, b) return a ~= math.mininteger or b ~= -1 end)
  return function(node, a, b, source)
    if b == 0 and type(a) == "number" then
      return nil, ("division by zero: %s"):format(describe(node[2], b, source))
    end
    return divide(node, a, b, source)
  end
end

local add = arithmetic(function(a, b) return a + b end, function(a, b, sum)
  return (a >= 0) ~= (b >= 0) or (sum >= 0) == (a >= 0)
end)

--- Two lists as one.
local function joined(a, b)
  if not work(#a + #b) then return nil, TOO_MUCH end
  local list = table.move(a, 1, #a, 1, {})
  return json.array(table.move(b, 1, #b, #a + 1, list))
end

--- `+`: numbers, texts, lists.
local function plus(node, a, b, source)
  if type(a) == "string" and type(b) == "string" then
    if #a + #b > MAX_TEXT then return nil, ("a text of more than %d bytes: compute it in a task"):format(MAX_TEXT) end
    if not work((#a + #b) // 64) then return nil, TOO_MUCH end
    return a .. b
  elseif type(a) == "table" and type(b) == "table" and is_array(a) and is_array(b) then
    return joined(a, b)
  elseif type(a) ~= "number" or type(b) ~= "number" then
    return mismatch(node, "two numbers, two texts or two lists", a, b, source)
  end
  return add(node, a, b, source)
end

--- `in`: an item of a list, a key of a mapping, a part of a text.
local function contains(node, a, b, source)
  if type(b) == "string" and type(a) == "string" then
    -- The search compares at each place as far as the two agree.
    if not work(#b // 64 + math.max(0, #b - #a) * #a // 4096) then return nil, TOO_MUCH end
    return b:find(a, 1, true) ~= nil
  elseif type(b) ~= "table" then
    return mismatch(node, type(b) == "string" and "a text on its left, to look for in a text"
      or "a list, a mapping or a text on its right", a, b, source)
  elseif not is_array(b) then
    return type(a) == "string" and b[a] ~= nil
  end
  for i = 1, #b do
    local same = work(1) and equal(a, b[i], 0)
    if same then return true end
    if same == nil or left < 0 then return nil, TOO_MUCH end
  end
  return false
end

--- Operators with two operands that are both needed. `!=` and `not in` are the opposites of others.
local BINARY = {
  ["=="] = equals, ["in"] = contains, ["+"] = plus,
  ["<"] = ordering(function(a, b) return a < b end), ["<="] = ordering(function(a, b) return a <= b end),
  [">"] = ordering(function(a, b) return a > b end), [">="] = ordering(function(a, b) return a >= b end),
  ["-"] = arithmetic(function(a, b) return a - b end, function(a, b, difference)
    return (a >= 0) == (b >= 0) or (difference >= 0) == (a >= 0)
  end),
  ["*"] = arithmetic(function(a, b) return a * b end, function(a, b, product)
    return a == 0 or product // a == b and product % a == 0 and not (a == -1 and b == math.mininteger)
  end),
  ["/"] = division(function(a, b) return a / b end), ["//"] = division(function(a, b) return a // b end),
  ["%"] = division(function(a, b) return a % b end),
}

--- Makes the opposite of an evaluator.
local function opposite(evaluate)
  return function(...)
    local value, message = evaluate(...)
    if message then return nil, message end
    return not value
  end
end

BINARY["!="], BINARY["not in"] = opposite(equals), opposite(contains)

local walk

--- Operators that do not need all operands, and operands.
local EVAL = {
  value = function(node) return node.value end,

  selector = function(node, sources)
    local value, message = selector.find(node.selector, sources)
    if value == null then return nil end
    return value, message
  end,

  list = function(node, sources, source)
    local list = {}
    for i = 1, #node do
      local value, message = walk(node[i], sources, source)
      if message then return nil, message end
      list[i] = value == nil and null or value
    end
    return json.array(list)
  end,

  ["not"] = function(node, sources, source)
    local value, message = walk(node[1], sources, source)
    if message then return nil, message end
    if value ~= nil and type(value) ~= "boolean" then return mismatch(node, "true or false", value, nil, source) end
    return not value
  end,

  neg = function(node, sources, source)
    local value, message = walk(node[1], sources, source)
    if message then return nil, message end
    if type(value) ~= "number" then return mismatch(node, "a number", value, nil, source) end
    if value == math.mininteger then return nil, "the result of '-' is too large" end
    return -value
  end,

  ["and"] = function(node, sources, source)
    local value, message
    for i = 1, 2 do
      value, message = walk(node[i], sources, source)
      if message then return nil, message end
      if value ~= nil and type(value) ~= "boolean" then
        return nil, ("'and' needs true or false: %s"):format(describe(node[i], value, source))
      end
      if not value then return false end
    end
    return true
  end,

  ["or"] = function(node, sources, source)
    local value, message = walk(node[1], sources, source)
    if message or value then return value, message end
    return walk(node[2], sources, source)
  end,
}

function walk(node, sources, source)
  local special = EVAL[node.op]
  if special then return special(node, sources, source) end
  local a, b, message
  a, message = walk(node[1], sources, source)
  if message then return nil, message end
  b, message = walk(node[2], sources, source)
  if message then return nil, message end
  return BINARY[node.op](node, a, b, source)
end

--- Evaluates.
---@param compiled table from expr_parse.parse
---@param sources table see selector.resolve
---@return any value nil for null and for what is not there; not a copy: not to be changed
---@return string|nil message why it cannot be evaluated
function M.eval(compiled, sources)
  left = MAX_WORK
  return walk(compiled.root, sources, compiled.text)
end

--- The whole expression and its value, in words: `$ctx.done is a text ('yes')`.
---@param compiled table
---@param value any
---@return string
function M.describe(compiled, value)
  local root = compiled.root
  local text = compiled.text:match("^%s*(.-)%s*$")
  return describe({ op = root.op, at = 1, to = #text }, value, text)
end

return M
