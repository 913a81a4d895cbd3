--- What is wrong with a graph text: the words of its syntax errors, and where reading can go on after one.
--- Loaded by flow/text.lua at the first error; `p` is its token reader.
local tokens = require "pyoco.flow.text_tokens"

local M = {}

local MAX_ERRORS = 50

local advance = tokens.advance

--- Python's words; they name a task only where a task name can stand.
local KEYWORDS = {}
for word in ([[and as assert async await break class continue def del elif else except finally for from global if
    import in is lambda nonlocal not or pass raise return try while with yield]]):gmatch("%a+") do
  KEYWORDS[word] = true
end

--- The kinds of token that a graph has; any other is Python's.
local OURS = {
  name = true, line = true, [";"] = true, ["end"] = true, ["("] = true, [")"] = true, ["["] = true, ["]"] = true,
  [">>"] = true, ["&"] = true, ["|"] = true, ["%"] = true, [","] = true,
}
local ONLY = "only task names, >> & |, loops, switch and brackets stand in a graph"
local CLOSING = { ["("] = ")", ["["] = "]" }
local OPENING = { [")"] = "(", ["]"] = "[" }

--- What Python would make of a token at the place of an operator, and what to write instead.
local AFTER_OPERAND = {
  ["("] = { "a call", ONLY },
  ["="] = { "an assignment", "write the expression itself, one per line" },
  ["."] = { "an attribute", "put a name that has a dot in quotes" },
  [","] = { "a list", "write (a & b) for tasks that run in parallel" },
  ["-"] = { "a subtraction", "put a name that has a dash in quotes" },
  ["->"] = { "an arrow", "write a >> b for b after a" },
  [">"] = { "a comparison", "write a >> b for b after a" },
  [":"] = { "a block", ONLY },
}
local AT_OPERAND = {
  ["["] = { "a list", "write (a & b) for tasks that run in parallel" },
  ["{"] = { "a table", "write (a & b) for tasks that run in parallel" },
  ["number"] = { "a number", "a task whose name starts with a digit goes in quotes" },
}

--- What a place of the grammar takes: the words for it, what Python would read there, a hint for any other token,
--- hints for some.
local PLACES = {
  operand = { "a task name or '('", AT_OPERAND },
  operator = { "'>>', '&', '|' or the end of the line", AFTER_OPERAND },
  ["operator or )"] = { "'>>', '&', '|' or ')'", AFTER_OPERAND },
  subscript = { "a number or a quoted text", {}, [[write x[3], x["$ctx.n"] or x["$ctx.items as item"] ]] },
  ["close of subscript"] = { "']'", {}, "one number or one quoted text stands in the brackets of a loop",
    { [","] = "parallel is an option of a task in the loop" } },
  condition = { "a quoted condition", {}, [[write x % "$ctx.done == true", or x % ("$ctx.done == true", 10)]] },
  ["close of condition"] = { "',' or ')'", {}, [[write x % ("$ctx.done == true", 10)]] },
  max = { "a whole number from 1", {}, "it is the largest number of times that the loop may run" },
  ["close of max"] = { "')'", {}, [[write x % ("$ctx.done == true", 10)]] },
  on = { "a quoted expression", {}, [[write switch("$ctx.mode")["A" >> x, "*" >> y] ]] },
  ["close of on"] = { "')'", {}, [[write switch("$ctx.mode")["A" >> x, "*" >> y] ]] },
  branches = { "'[' and the branches", {}, [[write switch("$ctx.mode")["A" >> x, "*" >> y] ]] },
  label = { "a label in quotes", {}, [[a branch is a label and what it runs: "A" >> x, with "*" for all others]] },
  ["label's >>"] = { "'>>' after the label", {}, [[a branch is a label and what it runs: "A" >> x]] },
  ["operator, comma or ]"] = { "'>>', ',' or ']'", AFTER_OPERAND, nil,
    { ["&"] = [[put brackets around it: "A" >> (x & y)]], ["|"] = [[put brackets around it: "A" >> (x | y)]],
      [":"] = [[write "A" >> x]] } },
}

--- Records an error at bytes `at`..`to`; the last one that a report has room for ends the reading.
---@param p table
---@param code string
---@param at integer
---@param to integer
---@param message string
---@param hint string|nil
---@param got string|nil a word that may be meant for one of `names`, which then is the hint
---@param names table|nil
function M.fail(p, code, at, to, message, hint, got, names)
  if p.is_over then return end
  p.errors[#p.errors + 1] = { code = code, at = at, to = to, message = message, got = got, names = names,
    hint = hint and hint:gsub(" $", "") }
  if #p.errors == MAX_ERRORS then
    p.errors[#p.errors + 1] = { code = "too_many_errors", at = p.at, to = p.to,
      message = "too many errors; the rest of the graph was not read" }
    M.stop(p)
  end
end

--- Stops reading, after an error that what follows could only repeat.
---@param p table
function M.stop(p)
  p.is_over, p.kind, p.pos = true, "end", #p.text + 1
end

--- An example of what stands at a place of the grammar.
---@param place string a key of PLACES
---@return string|nil
function M.hint_at(place) return PLACES[place][3] end

--- The token as an error names it.
local function got(p)
  if p.kind == "end" then return "the end of the graph" end
  if p.kind == "line" then return "the end of the line" end
  local text = p.text:sub(p.at, math.min(p.to, p.at + 40))
  if #text > 40 then text = text:sub(1, 37):gsub("[\xc2-\xff][\x80-\xbf]*$", "") .. "..." end -- no cut characters
  return "'" .. text .. "'"
end

--- The bare word right before the current token, if it is a short one, and its first byte.
local function word_before(p)
  local from = math.max(1, p.at - 20)
  local at, word = p.text:sub(from, p.at - 1):match("()([%a_]+)[ \t]*$")
  return word, word and from + at - 1
end

--- The Python word to blame for the current token: itself, or the one before it (`for x in`). nil if none.
local function python_word(p)
  if p.kind == "name" and p.is_bare and KEYWORDS[p.value] then return p.value, p.at, p.to end
  local word, at = word_before(p)
  if KEYWORDS[word] then return word, at, at + #word - 1 end
end

--- Byte of each opening bracket -> byte of the one that closes it; those without a partner are absent. One pass.
local function match_brackets(text)
  local partner, stack, count, pos = {}, {}, { ["("] = 0, ["["] = 0 }, 1
  while true do
    local at = text:find("[][()\"'#]", pos)
    if not at then return partner end
    local char = text:sub(at, at)
    pos = at + 1
    if char == "#" then
      pos = text:find("\n", at, true) or #text + 1
    elseif char == '"' or char == "'" then
      local quoted = { text = text }
      tokens.quoted(quoted, at)
      pos = quoted.pos
    elseif CLOSING[char] then
      stack[#stack + 1] = at
      count[char] = count[char] + 1
    elseif count[OPENING[char]] > 0 then
      repeat -- what stands open inside has no partner
        local open = table.remove(stack)
        local kind = text:sub(open, open)
        count[kind] = count[kind] - 1
        if kind == OPENING[char] then partner[open] = at end
      until kind == OPENING[char]
    end
  end
end

--- The byte of the bracket that closes the one at `open`; nil if none does.
local function partner_of(p, open)
  p.partner = p.partner or match_brackets(p.text)
  return p.partner[open]
end

--- Records what is wrong with the current token, where `place` should stand.
---@param p table
---@param place string a key of PLACES
---@return nil
function M.unexpected(p, place)
  local expected, python, hint, hints = table.unpack(PLACES[place], 1, 4)
  local open, kind = p.opens[p.depth], p.kind
  local word, word_at, word_to = python_word(p)
  hint = hints and hints[kind] or hint
  if kind == "unclosed_quote" then
    M.fail(p, "syntax", p.at, p.to, "this quote is never closed", "close it on the same line")
  elseif word then
    M.fail(p, "unsupported_syntax", word_at, word_to,
      ("Python's '%s' is not part of the graph language"):format(word), ONLY)
  elseif open and (kind == "end" or kind == ";" or kind == "name" and p.starts_line) and not partner_of(p, open) then
    M.fail(p, "unclosed_bracket", open, open, "this bracket is never closed",
      "add the missing " .. CLOSING[p.text:sub(open, open)])
    p.is_unclosed = true
  elseif OPENING[kind] and not open then
    M.fail(p, "syntax", p.at, p.to, ("this %s closes nothing"):format(kind),
      ("remove it, or add the missing %s"):format(OPENING[kind]))
  elseif python[kind] and not hint then
    M.fail(p, "unsupported_syntax", p.at, p.to, ("%s is not part of the graph language: expected %s, got %s")
      :format(python[kind][1], expected, got(p)), python[kind][2], kind == "(" and word_before(p) or nil, { "switch" })
  elseif OURS[kind] or hint then
    M.fail(p, "syntax", p.at, p.to, ("expected %s, got %s"):format(expected, got(p)),
      kind == "line" and "a line goes on after a backslash, or inside brackets" or hint
      or kind == "name" and place ~= "operand" and "join tasks by >>, & or |; a name with a blank in it goes in quotes"
      or (kind == "&" or kind == "|") and p.text:sub(p.at - 1, p.at - 1) == kind and "write it once"
      or nil)
  else
    M.fail(p, "unsupported_syntax", p.at, p.to, ("%s is not part of the graph language: expected %s")
      :format(got(p), expected), ONLY)
  end
end

--- After an error inside the bracket number `level`: goes on at the next comma right inside of it, if `at_comma`,
--- else at its end.
---@param p table
---@param level integer
---@param at_comma boolean
---@return boolean goes_on false if that bracket is never closed; else the current token is the comma or the bracket
function M.skip(p, level, at_comma)
  local close = not p.is_over and p.depth >= level and partner_of(p, p.opens[level])
  if not close or close < p.at then return false end
  p.is_unclosed = false
  p.depth = level
  while p.at < close and not (at_comma and p.kind == ",") do
    local partner = CLOSING[p.kind] and partner_of(p, p.at)
    p.pos = not at_comma and close or partner and partner < close and partner + 1 or p.pos
    advance(p)
  end
  return true
end

--- After an error outside of brackets, or in one that is never closed: goes on at the next statement.
---@param p table
function M.skip_statement(p)
  p.depth = 0
  if p.is_over then return end
  if p.is_unclosed then -- the current token starts a line, or ends a statement
    p.is_unclosed = false
    return
  end
  while p.kind ~= "line" and p.kind ~= ";" and p.kind ~= "end" do
    local partner = CLOSING[p.kind] and partner_of(p, p.at)
    if partner then p.pos = partner + 1 end
    advance(p)
  end
end

return M
