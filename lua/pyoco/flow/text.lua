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
local brackets = require "pyoco.flow.text_brackets"
local tokens = require "pyoco.flow.text_tokens"

local M = {}

local advance, mention = tokens.advance, tokens.mention
local unexpected = brackets.unexpected

--- The module of loops and switches: only a text that has any needs it.
local function frames() return require "pyoco.flow.text_frames" end

local chain, expression, operand, next_operand

--- An expression in brackets; a gap after an error in it. nil if reading cannot go on.
local function bracketed(p)
  local level = brackets.open(p)
  if not level then return nil end
  local node = expression(p, next_operand(p))
  local is_right, goes_on = brackets.close(p, level, ")", node and "operator or )")
  if not goes_on then return nil end
  return is_right and node or { op = "all" }
end

--- The operand that starts at the current token.
function operand(p)
  local node
  if p.kind == "name" then
    node = { name = p.value, at = p.at, to = p.to, bare = p.is_bare or nil }
    advance(p)
    if p.kind == "(" and node.bare and node.name == "switch" then node = frames().switch(p, node, chain) end
  elseif p.kind == "(" then
    node = bracketed(p)
  else
    return unexpected(p, "operand")
  end
  if p.kind == "[" or p.kind == "%" then return frames().suffixes(p, node) end
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
function chain(p)
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

--- One statement, up to the end of its line; its first token is the current one, or `node` was read already. Returns
--- its node, or nil after an error, past the line.
local function statement(p, node)
  node = expression(p, node or operand(p))
  if node and p.kind ~= "line" and p.kind ~= ";" and p.kind ~= "end" then node = unexpected(p, "operator") end
  if not node then require("pyoco.flow.text_errors").skip_statement(p) end
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
