--- Loops and switches in graph text: their syntax, and the nodes of the AST that flow/text.lua describes. Their
--- expressions are not read here. Loaded when a text has any.
local brackets = require "pyoco.flow.text_brackets"
local tokens = require "pyoco.flow.text_tokens"

local M = {}

local MAX_LOOPS = 200 -- around one operand
local MAX_TIMES = 100 -- of `x % "cond"`

local advance = tokens.advance
local open, close, fail, unexpected = brackets.open, brackets.close, brackets.fail, brackets.unexpected

--- An example of what stands at a place of the grammar.
local function hint_at(place) return require("pyoco.flow.text_errors").hint_at(place) end

--- The quoted text that is the current token, as an EXPR; moves past it. nil, after an error, if there is none.
local function quoted(p, place)
  if p.kind ~= "name" or p.is_bare then return unexpected(p, place) end
  if not p.value:find("%S") then
    return fail(p, "syntax", p.at, p.to, "there is nothing between these quotes", hint_at(place))
  end
  local expr = { text = p.value, at = p.at + 1, to = p.to - 1, is_escaped = p.is_escaped or nil }
  advance(p)
  return expr
end

--- The whole number from `min` on that is the current token; moves past it. nil, after an error, if there is none.
local function whole_number(p, place, min)
  local value = p.kind == "number" and p.text:sub(p.at, p.to)
  local number = value and value:find("^%d+$") and math.tointeger(tonumber(value))
  if not number or number < min then return unexpected(p, place) end
  advance(p)
  return number
end

--- Where a text ends in ` as name`: the bytes of the `as`, of the name's first and last byte, and of the last byte
--- before the `as`; the name is empty if it is missing. nil if there is no `as`. Read from the end, in linear time.
local function find_as(text)
  local reversed, size = text:reverse(), #text
  local name_from = reversed:match("^%s*()")
  local name_to = reversed:match("^[%w_\x80-\xff]*()", name_from)
  local as_from = reversed:match("^%s*()", name_to)
  if as_from == name_to or not reversed:find("^sa%f[^%w_\x80-\xff]", as_from) then
    if reversed:sub(name_from, name_to - 1) ~= "sa" then return nil end
    as_from, name_to = name_from, name_from -- it ends in `as`
  end
  local head_from = reversed:match("^%s*()", as_from + 2)
  if head_from == as_from + 2 and head_from <= size and not reversed:find("^[])]", head_from) then return nil end
  return size - as_from, size - name_to + 2, size - name_from + 1, size - head_from + 1
end

--- A quoted `expr as name`: cuts the EXPR and returns the name. nil if it has no ` as `; false after an error.
local function alias_of(p, expr)
  local as, from, to, head = find_as(expr.text)
  if not as then return nil end
  local name = expr.text:sub(from, to)
  if head == 0 or not name:find("^[%a_\x80-\xff]") then
    local first, last = expr.at + as - 1, expr.at + math.max(to, as + 1) - 1
    if expr.is_escaped then first, last = expr.at, expr.to end
    fail(p, "syntax", first, last, head == 0 and "expected a list before 'as'" or "expected a name after 'as'",
      [[write x["$ctx.items as item"]: ctx.item is the item of this round]])
    return false
  end
  expr.text = expr.text:sub(1, head)
  if not expr.is_escaped then expr.to = expr.at + head - 1 end
  return name
end

--- `[3]`, `["$ctx.n"]` or `["$ctx.items as item"]` after `body`. Returns the loop (`body` alone after an error that is
--- passed); nil if reading cannot go on.
local function subscript(p, body)
  local at, level = p.at, open(p)
  if not level then return nil end
  advance(p)
  local node
  if p.kind == "number" and p.text:find("^%d+%f[^%w_.]", p.at) then
    node = { op = "times", body, count = { text = p.text:sub(p.at, p.to), at = p.at, to = p.to }, at = at }
    advance(p)
  elseif p.kind == "number" then
    fail(p, "syntax", p.at, p.to, "expected a whole number of times, got '" .. p.text:sub(p.at, p.to) .. "'")
  else
    local expr = quoted(p, "subscript")
    local name = expr and alias_of(p, expr)
    if name then
      node = { op = "each", body, over = expr, as = name, at = at }
    elseif expr and name == nil then
      node = { op = "times", body, count = expr, at = at }
    end
  end
  local to = p.at
  local is_right, goes_on = close(p, level, "]", node and "close of subscript")
  if not goes_on then return nil end
  if not (node and is_right) then return body end
  node.to = to
  return node
end

--- `"cond"` or `("cond", max)` after `body %`, the `%` being the current token. Returns as subscript does.
local function condition(p, body)
  local node = { op = "until", body, max = MAX_TIMES, at = p.at }
  advance(p)
  if p.kind ~= "(" then
    node.to = p.to
    node.cond = quoted(p, "condition")
    if not node.cond then return nil end
    if p.kind == "[" then
      return fail(p, "syntax", p.at, p.to, "a loop of a condition is not clear",
        [[put brackets around the inner loop: (x % "cond")[3] ]])
    end
    return node
  end
  local level = open(p)
  if not level then return nil end
  advance(p)
  local place = "close of condition"
  node.cond = quoted(p, "condition")
  local is_good = node.cond
  if is_good and p.kind == "," then
    advance(p)
    node.max, place = whole_number(p, "max", 1), "close of max"
    is_good = node.max
    if is_good and p.kind == "," then advance(p) end
  end
  node.to = p.to
  local is_right, goes_on = close(p, level, ")", is_good and place)
  if not goes_on then return nil end
  return is_good and is_right and node or body
end

--- Reads the loops after an operand.
---@param p table the token reader, its current token a `[` or `%`
---@param node table|nil the operand
---@return table|nil node the outermost loop, or the operand after an error; nil if reading cannot go on
function M.suffixes(p, node)
  local count = 0
  while node and (p.kind == "[" or p.kind == "%") do
    count = count + 1
    if count > MAX_LOOPS then
      fail(p, "too_deep", p.at, p.to, ("more than %d loops around one part"):format(MAX_LOOPS), "use one loop")
      require("pyoco.flow.text_errors").stop(p)
      return nil
    end
    node = (p.kind == "[" and subscript or condition)(p, node)
  end
  return node
end

--- A number in a label is the text that switches compare.
local function number_text(text)
  return require("pyoco.flow.expr").label_text(tonumber(text))
end

--- The label that is the current token; moves past it. nil, after an error, if there is none.
local function label_of(p, node)
  local minus, at = p.kind == "-" and "-" or "", p.at
  if minus ~= "" and p.text:find("^%d", p.pos) then advance(p) end
  local number = p.kind == "number" and p.text:sub(p.at, p.to)
  if number and (number:find("^%d+$") or number:find("^%d+%.%d+$")) then
    node.label = number_text(minus .. number)
  elseif p.kind == "name" and not p.is_bare then
    node.label = p.value
  else
    return unexpected(p, "label")
  end
  node.at, node.to = at, p.to
  advance(p)
  return true
end

--- One branch, `"A" >> x >> y`; nil after an error.
local function case(p, chain)
  local node = { op = "case", false }
  if not label_of(p, node) then return nil end
  if p.kind ~= ">>" then return unexpected(p, "label's >>") end
  node[1] = chain(p)
  if not node[1] then return nil end
  if p.kind ~= "," and p.kind ~= "]" then return unexpected(p, "operator, comma or ]") end
  return node
end

--- The branches of a switch, the `[` being the current token. Returns whether reading can go on.
local function branches(p, node, chain)
  local level = open(p)
  if not level then return false end
  advance(p)
  repeat
    local is_end = p.kind == "]" and #node > 0 -- after the last comma
    local branch = not is_end and case(p, chain)
    if branch then
      node[#node + 1] = branch
    elseif not is_end then
      if not require("pyoco.flow.text_errors").skip(p, level, true) then return false end
      node[#node + 1] = { op = "all" }
    end
    local is_more = p.kind == ","
    if is_more then advance(p) end
  until not is_more
  return select(2, close(p, level, "]"))
end

--- Reads `("expr")["A" >> x, "*" >> y]` after the word `switch`.
---@param p table the token reader, its current token the `(`
---@param word table { at, to } of the word
---@param chain fun(p: table): table? reads operands joined by `>>`, from the one after the current token on
---@return table|nil node a gap after an error; nil if reading cannot go on
function M.switch(p, word, chain)
  local node = { op = "switch", at = word.at, to = word.to }
  local level = open(p)
  if not level then return nil end
  advance(p)
  node.on = quoted(p, "on")
  local is_right, goes_on = close(p, level, ")", node.on and "close of on")
  if not goes_on then return nil end
  if p.kind ~= "[" then
    if is_right then unexpected(p, "branches") end
    return { op = "all" }
  end
  local before = #p.errors
  if not branches(p, node, chain) then return nil end
  return is_right and #p.errors == before and node or { op = "all" }
end

return M
