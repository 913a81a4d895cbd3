--- Expressions: text to tree.
---
---   node = { op = "value", value = constant|nil, at, to }
---        | { op = "selector", selector = as from selector_read.read, at, to }
---        | { op = "list", node, ..., at, to }
---        | { op = "not" | "neg", node, at, to }
---        | { op = "or" | "and" | "==" | ... | "in" | "not in" | "+" | ..., left, right, at, to }
local short = require("pyoco.flow.selector_read").short
local tokens = require "pyoco.flow.expr_tokens"

local M = {}

local MAX_BYTES = 10000
local MAX_NESTING = 100
local NAMES = { "true", "false", "null", "and", "or", "not", "in" }


--- Words that people try, and what to write instead.
local FOREIGN = {
  is = "write == to compare", ["nil"] = "write null", ["if"] = "there is no choice here: use a switch",
  as = [[a loop over items is written x["$ctx.items as item"], the name in letters, digits and _]],
}

local advance, fail = tokens.advance, tokens.fail

--- How tightly each operator binds; `not` stands at 3, the sign of a number at 7.
local BINDS = { ["or"] = 1, ["and"] = 2, ["=="] = 4, ["!="] = 4, ["<"] = 4, ["<="] = 4, [">"] = 4, [">="] = 4,
  ["in"] = 4, ["not in"] = 4, ["+"] = 5, ["-"] = 5, ["*"] = 6, ["/"] = 6, ["//"] = 6, ["%"] = 6 }
local NOT, COMPARISON, SIGN = 3, 4, 7

--- The current token as an error names it.
local function got(s)
  if s.kind == "end" then return "the end" end
  return ("'%s'"):format(short(s.text:sub(s.at, s.to), 40))
end

--- Records that the current word means nothing here; returns nil.
local function unknown(s)
  local word, problem = s.value, { at = s.at, to = s.to }
  local shown = short(word, 40)
  if FOREIGN[word] then
    problem.message, problem.hint = ("'%s' is not part of expressions"):format(word), FOREIGN[word]
  elseif s.text:find("^%s*%(", s.pos) then
    problem.message = ("'%s' is a call: there are none in expressions"):format(shown)
    problem.hint = "compute it in a task"
  else
    problem.message, problem.got, problem.names = ("unknown name '%s'"):format(shown), word, NAMES
    problem.hint = ("write $ctx.%s for a parameter, '%s' for a text"):format(shown, shown)
  end
  return fail(s, problem)
end

--- Records that the current token cannot stand here; returns nil.
local function unexpected(s, expected, hint)
  if s.kind == "bad" then return nil end
  if s.kind == "word" then return unknown(s) end
  return fail(s, { message = ("expected %s, got %s"):format(expected, got(s)), at = s.at, to = s.to, hint = hint })
end

--- Counts one more level of nesting; nil, after an error, if it is too many.
local function enter(s)
  s.depth = s.depth + 1
  if s.depth > MAX_NESTING then
    return fail(s, { message = ("expressions are nested deeper than %d"):format(MAX_NESTING), at = s.at, to = s.to,
      hint = "compute it in a task" })
  end
  return true
end

local binary

--- `[a, b]`, the bracket being the current token.
local function list(s)
  local node = { op = "list", at = s.at }
  advance(s)
  while s.kind ~= "]" do
    local item = binary(s, 1)
    if not item then return nil end
    node[#node + 1] = item
    if s.kind == "," then advance(s) elseif s.kind ~= "]" then return unexpected(s, "',' or ']'") end
  end
  node.to = s.to
  advance(s)
  return node
end

--- `(a)`, the bracket being the current token.
local function bracketed(s)
  local at = s.at
  advance(s)
  local node = binary(s, 1)
  if not node then return nil end
  if s.kind ~= ")" then
    return unexpected(s, "an operator or ')'", s.kind == "," and "a list is written [a, b]" or nil)
  end
  node.at, node.to = at, s.to -- a message that quotes it shows the brackets too
  advance(s)
  return node
end

--- A constant, selector, list or bracketed expression.
local function primary(s)
  local node
  if s.kind == "value" then
    node = { op = "value", value = s.value, at = s.at, to = s.to }
  elseif s.kind == "selector" then
    local selector = s.value
    selector.at, selector.to = s.at, s.to
    s.reads[#s.reads + 1] = selector
    node = { op = "selector", selector = selector, at = s.at, to = s.to }
  elseif s.kind ~= "(" and s.kind ~= "[" then
    return unexpected(s, "a value", "a value is a $selector, a number, a 'text', true, false, null or a [list]")
  else
    if not enter(s) then return nil end
    node = (s.kind == "(" and bracketed or list)(s)
    s.depth = s.depth - 1
    return node
  end
  advance(s)
  return node
end

--- An operand with the `not` or `-` before it.
local function unary(s, min)
  local op = s.kind
  if op ~= "not" and op ~= "-" then return primary(s) end
  if op == "not" and min > NOT then
    return unexpected(s, "a value", "put brackets around it: (not ...)")
  end
  if not enter(s) then return nil end
  local node = { op = op == "-" and "neg" or op, false, at = s.at }
  advance(s)
  node[1] = binary(s, op == "-" and SIGN or NOT)
  s.depth = s.depth - 1
  if not node[1] then return nil end
  node.to = node[1].to
  return node
end

--- The operator that is the current token; `not in` is one. nil if it is none.
local function operator(s)
  if s.kind == "not" and s.text:find("^%s+in%f[^%w_]", s.pos) then
    local at = s.at
    advance(s)
    s.at, s.kind = at, "not in"
  end
  return BINDS[s.kind] and s.kind
end

--- Operands joined by operators that bind at least as tightly as `min`.
function binary(s, min)
  local left = unary(s, min)
  while left do
    local op = operator(s)
    if not op or BINDS[op] < min then return left end
    local binds = BINDS[op]
    advance(s)
    local right = binary(s, binds + 1)
    if not right then return nil end
    left = { op = op, left, right, at = left.at, to = right.to }
    if binds == COMPARISON and BINDS[operator(s)] == COMPARISON then
      return unexpected(s, "and, or, or the end", "comparisons do not chain: write a < b and b < c")
    end
  end
  return nil
end

--- Parses an expression.
---@param text string
---@return table|nil compiled { text, root = node, reads = the selectors in order of appearance, each with at, to }
---@return table|nil problem { message, at, to (bytes of the text), hint, got, names }
function M.parse(text)
  if #text > MAX_BYTES then
    return nil, { message = ("an expression has at most %d bytes, this has %d"):format(MAX_BYTES, #text), at = 1,
      to = #text, hint = "compute it in a task" }
  end
  local s = { text = text, pos = 1, depth = 0, reads = {} }
  advance(s)
  local root = binary(s, 1)
  if root and s.kind ~= "end" then
    unexpected(s, "an operator or the end", s.kind == "(" and "there are no calls in expressions"
      or s.kind == "[" and "only a selector has parts, written without a blank: $ctx.items[0]" or nil)
  end
  if s.problem then return nil, s.problem end
  return { text = text, root = root, reads = s.reads }
end

return M
