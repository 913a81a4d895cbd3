--- Graph text (`a >> (b & c)`) to AST. Nothing is executed; time is linear in the text and nesting is bounded.
---
--- The AST, which the Lua operators build as well (pyoco/init.lua) and flow/compile.lua reads:
---   { name = "a", at = first byte, to = last byte }            a mention of a task
---   { op = "seq" | "all" | "any", item, item, ... }             `>>`, `&`, `|`; statements are one "all"
--- Operators bind as in Lua and Python: `>>` tighter than `&`, tighter than `|`.
local M = {}

local MAX_NESTING = 200
local MAX_ERRORS = 50

local LEVELS = { { token = "|", op = "any" }, { token = "&", op = "all" }, { token = ">>", op = "seq" } }

--- Python's words; they name a task only where a task name can stand.
local KEYWORDS = {}
for word in ([[and as assert async await break class continue def del elif else except finally for from global if
    import in is lambda nonlocal not or pass raise return try while with yield]]):gmatch("%a+") do
  KEYWORDS[word] = true
end

--- The kinds of token that a graph has; any other is Python's.
local OURS = {
  name = true, line = true, [";"] = true, ["end"] = true, ["("] = true, [")"] = true,
  [">>"] = true, ["&"] = true, ["|"] = true,
}
local ONLY = "only task names, >> & | and brackets stand in a graph"

--- What Python would make of a token at the place of an operator, and what to write instead.
local AFTER_OPERAND = {
  ["("] = { "a call", ONLY },
  ["["] = { "a loop", "loops are not available in this version" },
  ["%"] = { "a loop until a condition holds", "loops are not available in this version" },
  ["="] = { "an assignment", "write the expression itself, one per line" },
  ["."] = { "an attribute", "put a name that has a dot in quotes" },
  [","] = { "a list", "write (a & b) for tasks that run in parallel" },
  ["-"] = { "a subtraction", "put a name that has a dash in quotes" },
}
local AT_OPERAND = {
  ["["] = { "a list", "write (a & b) for tasks that run in parallel" },
  ["{"] = { "a table", "write (a & b) for tasks that run in parallel" },
  ["number"] = { "a number", "a task whose name starts with a digit goes in quotes" },
}

--- Records an error at bytes `at`..`to`.
local function fail(p, code, at, to, message, hint)
  p.errors[#p.errors + 1] = { code = code, at = at, to = to, message = message, hint = hint }
end

--- Reads a quoted name whose quote stands at `at`. Escapes: the quotes and the backslash.
local function read_quoted(p, at)
  local quote, pos = p.text:sub(at, at), at + 1
  while true do
    local found, _, char = p.text:find("([\"'\\\n])", pos)
    if not found or char == "\n" then
      p.kind, p.to = "unclosed_quote", (found or #p.text + 1) - 1
      p.pos = p.to + 1
      return
    elseif char == quote then
      p.kind, p.to, p.pos = "name", found, found + 1
      p.value = p.text:sub(at + 1, found - 1):gsub("\\([\"'\\])", "%1")
      return
    end
    pos = found + (char == "\\" and 2 or 1)
  end
end

--- Reads a token that is neither a name, a blank nor a line end, whose first byte stands at `at`.
local function read_token(p, at, char)
  local text = p.text
  local after
  if char == 62 and text:find("^>[^=]", at + 1) then -- >>
    p.kind, p.to, p.pos = ">>", at + 1, at + 2
    return
  elseif char == 34 or char == 39 then -- quotes
    return read_quoted(p, at)
  elseif char >= 48 and char <= 57 then
    after = text:match("^[%w_.]*()", at)
    p.kind, p.to, p.pos = "number", after - 1, after
    return
  end
  local token = text:match("^[<>]+=?", at) or text:match("^[=!]=", at) or string.char(char)
  p.kind, p.to, p.pos = token, at + #token - 1, at + #token
end

--- Moves to the next token: sets kind, value, at, to, is_bare and starts_line (a line end was skipped before it).
local function advance(p)
  local text, pos = p.text, p.pos
  p.previous, p.starts_line = p.is_bare and p.at, false
  while true do
    local at, name, after = text:match("^[ \t\r\f\v]*()([%a_\x80-\xff]?[%w_\x80-\xff]*)()", pos)
    local char = text:byte(at)
    if after > at and (char > 57 or char < 48) then
      p.kind, p.value, p.at, p.to, p.pos, p.is_bare = "name", name, at, after - 1, after, true
      return
    end
    p.is_bare = false
    if char == nil then
      p.kind, p.at, p.to, p.pos = "end", at, at, at
      return
    elseif char == 35 then -- #
      pos = text:find("\n", at, true) or #text + 1
    elseif char == 10 and #p.opens > 0 then
      pos, p.starts_line = at + 1, true
    elseif char == 10 or char == 59 then -- newline, ;
      p.kind, p.at, p.to, p.pos = char == 10 and "line" or ";", at, at, at + 1
      return
    elseif char == 92 and text:find("^[ \t\r]*\n", at + 1) then -- backslash at the end of a line
      pos = text:find("\n", at, true) + 1
    else
      p.at = at
      return read_token(p, at, char)
    end
  end
end

--- The token as an error names it.
local function got(p)
  if p.kind == "end" then return "the end of the graph" end
  if p.kind == "line" then return "the end of the line" end
  local text = p.text:sub(p.at, p.to)
  if #text > 40 then text = text:sub(1, 37):gsub("[\xc2-\xff][\x80-\xbf]*$", "") .. "..." end -- no cut characters
  return "'" .. text .. "'"
end

--- The Python word to blame for the current token: itself, or the one before it (`for x in`). nil if none.
local function python_word(p)
  if p.is_bare and KEYWORDS[p.value] then return p.value, p.at, p.to end
  local before = p.previous and p.text:match("^[%w_]+", p.previous)
  if KEYWORDS[before] then return before, p.previous, p.previous + #before - 1 end
end

--- Records what is wrong with the current token, where `expected` should stand; `python` says what Python would
--- read there. Always returns nil.
local function unexpected(p, expected, python)
  local open, kind = p.opens[#p.opens], p.kind
  local word, word_at, word_to = python_word(p)
  if kind == "unclosed_quote" then
    fail(p, "syntax", p.at, p.to, "this quote is never closed", "close it on the same line")
  elseif word then
    fail(p, "unsupported_syntax", word_at, word_to, ("Python's '%s' is not part of the graph language"):format(word),
      ONLY)
  elseif python[kind] then
    local what, hint = python[kind][1], python[kind][2]
    fail(p, "unsupported_syntax", p.at, p.to, ("%s is not part of the graph language: expected %s, got %s")
      :format(what, expected, got(p)), hint)
  elseif open and (kind == "end" or kind == ";" or kind == "name" and p.starts_line) then
    fail(p, "unclosed_bracket", open, open, "this bracket is never closed", "add the missing )")
  elseif kind == ")" and not open then
    fail(p, "syntax", p.at, p.to, "this ) closes nothing", "remove it, or add the missing (")
  elseif OURS[kind] then
    fail(p, "syntax", p.at, p.to, ("expected %s, got %s"):format(expected, got(p)),
      kind == "line" and "a line goes on after a backslash, or inside brackets" or nil)
  else
    fail(p, "unsupported_syntax", p.at, p.to, ("%s is not part of the graph language: expected %s")
      :format(got(p), expected), ONLY)
  end
end

local EXPECTED_OPERATOR = "'>>', '&', '|' or the end of the line"
local EXPECTED_CLOSE = "'>>', '&', '|' or ')'"
local EXPECTED_OPERAND = "a task name or '('"

local expression

--- A name or a bracketed expression.
local function operand(p)
  if p.kind == "name" then
    local node = { name = p.value, at = p.at, to = p.to, bare = p.is_bare or nil }
    advance(p)
    return node
  elseif p.kind ~= "(" then
    return unexpected(p, EXPECTED_OPERAND, AT_OPERAND)
  elseif #p.opens == MAX_NESTING then
    fail(p, "too_deep", p.at, p.to, ("brackets are nested deeper than %d"):format(MAX_NESTING), "flatten the graph")
    p.pos = #p.text + 1 -- the rest could only repeat this
    return nil
  end
  p.opens[#p.opens + 1] = p.at
  advance(p)
  local node = expression(p, 1)
  if not node then return nil end
  if p.kind ~= ")" then return unexpected(p, EXPECTED_CLOSE, AFTER_OPERAND) end
  p.opens[#p.opens] = nil
  advance(p)
  return node
end

--- Operands joined by operators that bind at least as tightly as LEVELS[level].
function expression(p, level)
  local rule = LEVELS[level]
  local first
  if level == #LEVELS then first = operand(p) else first = expression(p, level + 1) end
  if not first or p.kind ~= rule.token then return first end
  local node = { op = rule.op, first }
  repeat
    advance(p)
    local item
    if level == #LEVELS then item = operand(p) else item = expression(p, level + 1) end
    if not item then return nil end
    node[#node + 1] = item
  until p.kind ~= rule.token
  return node
end

--- One statement, up to the end of its line. Returns its node, or nil after an error, past the line.
local function statement(p)
  local node = expression(p, 1)
  if node and p.kind ~= "line" and p.kind ~= ";" and p.kind ~= "end" then
    node = unexpected(p, EXPECTED_OPERATOR, AFTER_OPERAND)
  end
  if not node then
    p.opens = {}
    if p.kind ~= "line" and p.kind ~= ";" then p.pos = p.text:find("[\n;]", p.pos) or #p.text + 1 end
    advance(p)
  end
  return node
end

--- Reads graph text as far as it can be read.
---@param text string
---@return table ast partial if there are errors
---@return table errors list of { code, at, to, message, hint }, `at`..`to` being bytes of the text
function M.read(text)
  local p = { text = text, pos = 1, opens = {}, errors = {} }
  local ast = { op = "all" }
  advance(p)
  while p.kind ~= "end" do
    if p.kind == "line" or p.kind == ";" then
      advance(p)
    else
      ast[#ast + 1] = statement(p)
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
  local ast, errors = M.read(text)
  if #errors == 0 then return ast end
  local problem = require "pyoco.flow.problem" -- errors only: a run never needs it
  return nil, problem.finish(errors, problem.source(text, origin))
end

return M
