--- Graph text (`a >> (b & c)[3]`) to AST. Nothing is executed; time is linear in the text and nesting is bounded.
---
--- The AST, which the Lua operators build as well (pyoco/init.lua) and flow/compile.lua reads:
---   { name = "a", at = first byte, to = last byte, bare }      a mention of a task; bare: written without quotes
---   { op = "seq" | "all" | "any", item, item, ... }             `>>`, `&`, `|`; statements are one "all"
---   { op = "times", body, count = EXPR, at, to }                 `x[3]`, `x["$ctx.n"]`
---   { op = "each", body, over = EXPR, as = "item", at, to }      `x["$ctx.items as item"]`
---   { op = "until", body, cond = EXPR, max = 100, at, to }       `x % "cond"`, `x % ("cond", 100)`
---   { op = "switch", CASE, ..., on = EXPR, at, to }              `switch("expr")["A" >> x, "*" >> y]`
---   CASE = { op = "case", body, label = "A", at, to }
---   EXPR = { text, at, to, is_escaped }: what stands between the quotes, and where; is_escaped: the text had escapes,
---          so that its bytes are not those of the graph text
--- A loop's place is its suffix, a switch's the word, a case's the label. Operators bind as in Lua and Python: `[]`
--- and `%` tighter than `>>`, tighter than `&`, tighter than `|`. After an error the AST has gaps, { op = "all" }.
local tokens = require "pyoco.flow.text_tokens"

local M = {}

local MAX_NESTING = 200 -- brackets in brackets; loops around one operand
local MAX_ERRORS = 50
local MAX_TIMES = 100   -- of `x % "cond"`

local advance, mention = tokens.advance, tokens.mention

--- The module of errors: only a wrong text needs it.
local function errors() return require "pyoco.flow.text_errors" end

local function fail(p, ...) errors().fail(p, ...) end

--- Records that the current token cannot stand at `place`; returns nil.
local function unexpected(p, place) errors().unexpected(p, place) end

--- Stops reading: what follows could only repeat the error.
local function stop(p)
  p.is_over, p.kind, p.pos = true, "end", #p.text + 1
end

--- Passes an opening bracket. Returns its number; nil if there are too many.
local function open(p)
  if p.depth == MAX_NESTING then
    fail(p, "too_deep", p.at, p.to, ("brackets are nested deeper than %d"):format(MAX_NESTING), "flatten the graph")
    stop(p)
    return nil
  end
  p.depth = p.depth + 1
  p.opens[p.depth] = p.at
  return p.depth
end

--- Passes the bracket that closes number `level`, if it is the current token; if not, records an error and goes on
--- behind the bracket, wherever it is. Returns whether it was right, and whether reading can go on here.
local function close(p, level, kind, place)
  local is_right = p.kind == kind and p.depth == level
  if not is_right then
    if place then unexpected(p, place) end
    if not errors().skip(p, level, false) then return false, false end
  end
  p.depth = level - 1
  advance(p)
  return is_right, true
end

--- The quoted text that is the current token, as an EXPR; moves past it. nil, after an error, if there is none.
local function quoted(p, place)
  if p.kind ~= "name" or p.is_bare then return unexpected(p, place) end
  if not p.value:find("%S") then
    return fail(p, "syntax", p.at, p.to, "there is nothing in this text", errors().PLACES[place][3])
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

--- A quoted `expr as name`: cuts the EXPR and returns the name. nil if it has no ` as `; false after an error.
local function alias_of(p, expr)
  local head, as, name, tail = expr.text:match("^(.*)%f[%w_]()as%f[^%w_]%s*([%w_\x80-\xff]*)()%s*$")
  if not head or head:find("[^%s%]%)]$") or head:find("^%s*[\"']%s*$") then return nil end
  local from = expr.is_escaped and expr.at or expr.at + as - 1
  if not head:find("%S") or not name:find("^[%a_\x80-\xff]") then
    local to = expr.is_escaped and expr.to or expr.at + tail - 2
    fail(p, "syntax", from, to, head:find("%S") and "expected a name after 'as'" or "expected a list before 'as'",
      [[write x["$ctx.items as item"]: ctx.item is the item of this round]])
    return false
  end
  if not expr.is_escaped then expr.to = expr.at + #head:gsub("%s+$", "") - 1 end
  expr.text = head:gsub("%s+$", "")
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

--- The loops around an operand. Returns nil if reading cannot go on.
local function suffixes(p, node)
  local count = 0
  while node and (p.kind == "[" or p.kind == "%") do
    count = count + 1
    if count > MAX_NESTING then
      fail(p, "too_deep", p.at, p.to, ("more than %d loops around one part"):format(MAX_NESTING), "use one loop")
      stop(p)
      return nil
    end
    node = (p.kind == "[" and subscript or condition)(p, node)
  end
  return node
end

local expression, operand, next_operand, switch

--- An expression in brackets; a gap after an error in it. nil if reading cannot go on.
local function bracketed(p)
  local level = open(p)
  if not level then return nil end
  local node = expression(p, next_operand(p))
  local is_right, goes_on = close(p, level, ")", node and "operator or )")
  if not goes_on then return nil end
  return is_right and node or { op = "all" }
end

--- The operand that starts at the current token.
function operand(p)
  local node
  if p.kind == "name" then
    if p.is_bare and p.value == "switch" and p.text:find("^%s*%(", p.pos) then
      node = switch(p)
    else
      node = { name = p.value, at = p.at, to = p.to, bare = p.is_bare or nil }
      advance(p)
    end
  elseif p.kind == "(" then
    node = bracketed(p)
  else
    return unexpected(p, "operand")
  end
  if p.kind == "[" or p.kind == "%" then return suffixes(p, node) end
  return node
end

--- The operand after the current token.
function next_operand(p)
  local node = mention(p)
  if node then return node end
  advance(p)
  return operand(p)
end

--- `node` and the operands joined to it by `op`, which is the current token. nil if reading cannot go on.
local function joined(p, op, kind, node, next_item)
  local item = next_item(p)
  if not item then return nil end
  node = { op = op, node, item }
  while p.kind == kind do
    item = next_item(p)
    if not item then return nil end
    node[#node + 1] = item
  end
  return node
end

--- Operands joined by `>>`, from the one after the current token on.
local function chain(p)
  local node = next_operand(p)
  if node and p.kind == ">>" then return joined(p, "seq", ">>", node, next_operand) end
  return node
end

--- Operands joined by `>>` and `&`, from the one after the current token on.
local function chains(p)
  local node = chain(p)
  if node and p.kind == "&" then return joined(p, "all", "&", node, chain) end
  return node
end

--- Operands joined by any operators, the first being `node`. nil if reading cannot go on.
function expression(p, node)
  if node and p.kind == ">>" then node = joined(p, "seq", ">>", node, next_operand) end
  if node and p.kind == "&" then node = joined(p, "all", "&", node, chain) end
  if node and p.kind == "|" then node = joined(p, "any", "|", node, chains) end
  return node
end

--- The label that is the current token; moves past it. nil, after an error, if there is none.
local function label_of(p, node)
  local minus, at = p.kind == "-" and "-" or "", p.at
  if minus ~= "" and p.text:find("^%d", p.pos) then advance(p) end
  local number = p.kind == "number" and p.text:sub(p.at, p.to)
  if number and (number:find("^%d+$") or number:find("^%d+%.%d+$")) then
    node.label = minus .. number
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
local function case(p)
  local node = { op = "case", false }
  if not label_of(p, node) then return nil end
  if p.kind ~= ">>" then return unexpected(p, "label's >>") end
  node[1] = chain(p)
  if not node[1] then return nil end
  if p.kind ~= "," and p.kind ~= "]" then return unexpected(p, "operator, comma or ]") end
  return node
end

--- The branches of a switch, the `[` being the current token. Returns whether reading can go on.
local function branches(p, node)
  local level = open(p)
  if not level then return false end
  advance(p)
  repeat
    local is_end = p.kind == "]" and #node > 0 -- after a comma
    local branch = not is_end and case(p)
    if branch then
      node[#node + 1] = branch
    elseif not is_end then
      if not errors().skip(p, level, true) then return false end
      node[#node + 1] = { op = "all" }
    end
    local is_more = p.kind == ","
    if is_more then advance(p) end
  until not is_more
  return select(2, close(p, level, "]"))
end

--- `switch("expr")["A" >> x, "*" >> y]`, the word being the current token. nil if reading cannot go on.
function switch(p)
  local node = { op = "switch", at = p.at, to = p.to }
  advance(p)
  local level = open(p)
  if not level then return nil end
  advance(p)
  node.on = quoted(p, "on")
  local is_right, goes_on = close(p, level, ")", node.on and "close of on")
  if not goes_on then return nil end
  if p.kind ~= "[" then return is_right and unexpected(p, "branches") or { op = "all" } end
  local before = #p.errors
  if not branches(p, node) then return nil end
  return is_right and #p.errors == before and node or { op = "all" }
end

--- One statement, up to the end of its line; its first token is the current one, or `node` was read already. Returns
--- its node, or nil after an error, past the line.
local function statement(p, node)
  node = expression(p, node or operand(p))
  if node and p.kind ~= "line" and p.kind ~= ";" and p.kind ~= "end" then node = unexpected(p, "operator") end
  if not node then errors().skip_statement(p) end
  return node
end

--- Reads graph text as far as it can be read.
---@param text string
---@return table ast partial if there are errors
---@return table errors list of { code, at, to, message, hint }, `at`..`to` being bytes of the text
function M.read(text)
  local p, ast = tokens.new(text), { op = "all" }
  while p.kind ~= "end" do -- a statement starts after the current token, which is a line's end or `;`
    local node = mention(p)
    if not node then
      repeat advance(p) until p.kind ~= "line" and p.kind ~= ";"
    end
    if node or p.kind ~= "end" then
      ast[#ast + 1] = statement(p, node)
      while #p.errors > 0 and p.kind == "name" do ast[#ast + 1] = statement(p) end -- after a bracket never closed
      if #p.errors >= MAX_ERRORS then
        fail(p, "too_many_errors", p.at, p.to, "too many errors; the rest of the graph was not read")
        break
      end
    end
  end
  return ast, p.errors
end

--- Parses graph text.
---@param text string
---@param origin table|nil where the text stands in a document, see problem.source; default: it is the document
---@return table|nil ast, table|nil errors all of them, each { line, column, code, message, hint, caret }
function M.parse(text, origin)
  local ast, found = M.read(text)
  if #found == 0 then return ast end
  local problem = require "pyoco.flow.problem" -- errors only: a run never needs it
  return nil, problem.finish(found, problem.source(text, origin))
end

return M
