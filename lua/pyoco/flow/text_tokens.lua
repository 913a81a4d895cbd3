--- Tokens of graph text, one at a time, in a table `p` that the parser (flow/text.lua) reads:
---   kind      "name" (bare or quoted), "number", "line" (the end of one), "end" (of the text), "unclosed_quote",
---             or the token itself
---   at, to    its first and last byte; pos: the byte after it
---   value, is_bare, is_escaped, starts_line   of a name: its content, whether it had no quotes, had escapes, and
---             whether a line end was skipped before it, which happens inside brackets only
---   depth, opens  how many brackets are open (the parser counts them), and the byte of each
local M = {}

local match, find, byte = string.match, string.find, string.byte

--- Starts reading a text: the first token is not read yet.
---@param text string
---@return table p
function M.new(text)
  return {
    text = text, pos = 1, kind = "line", at = 1, to = 0, value = false, is_bare = false, is_escaped = false,
    starts_line = false, depth = 0, opens = {}, errors = {},
  }
end

--- Reads the quoted text whose quote stands at `at`: sets kind, value, is_escaped, to and pos. Escapes: the quotes and
--- the backslash.
---@param p table at least { text }
---@param at integer
function M.quoted(p, at)
  local text, pos = p.text, at + 1
  local quote = text:sub(at, at)
  while true do
    local found = find(text, "[\"'\\\n]", pos)
    local stop = found and text:sub(found, found)
    if not found or stop == "\n" then
      p.kind, p.to = "unclosed_quote", (found or #text + 1) - 1
      p.pos = p.to + 1
      return
    elseif stop == quote then
      local value, escapes = text:sub(at + 1, found - 1), 0
      if find(value, "\\", 1, true) then value, escapes = value:gsub("\\([\"'\\])", "%1") end
      p.kind, p.value, p.is_bare, p.is_escaped, p.to, p.pos = "name", value, false, escapes > 0, found, found + 1
      return
    end
    pos = found + (stop == "\\" and 2 or 1)
  end
end

--- Tokens of one byte, by that byte.
local SINGLE = {}
for _, token in ipairs { "(", ")", "[", "]", "&", "|", "%", "," } do SINGLE[byte(token)] = token end

--- Reads a token that is neither a bare name, a blank nor a line end, whose first byte `char` stands at `at`.
local function read_token(p, at, char)
  local text = p.text
  local second, third = byte(text, at + 1, at + 2)
  if char == 62 and second == 62 and third ~= 61 then
    p.kind, p.to, p.pos = ">>", at + 1, at + 2
    return
  elseif char == 34 or char == 39 then
    return M.quoted(p, at)
  end
  local kind, after
  if char >= 48 and char <= 57 then
    kind, after = "number", match(text, "^[%w_.]*()", at)
  else
    kind = match(text, "^[<>]+=?", at) or match(text, "^[=!]=", at) or match(text, "^%->", at) or string.char(char)
    after = at + #kind
  end
  p.kind, p.to, p.pos = kind, after - 1, after
end

--- Moves to the next token.
---@param p table
function M.advance(p)
  local text, pos = p.text, p.pos
  p.starts_line = false
  while true do
    local at, name, after = match(text, "^[ \t\r\f\v]*()([%a_\x80-\xff]?[%w_\x80-\xff]*)()", pos)
    local char = byte(text, at)
    if after > at and (char > 57 or char < 48) then
      p.kind, p.value, p.at, p.to, p.pos, p.is_bare = "name", name, at, after - 1, after, true
      return
    end
    local single = SINGLE[char]
    if single then
      p.kind, p.at, p.to, p.pos = single, at, at, at + 1
      return
    elseif char == nil then
      p.kind, p.at, p.to, p.pos = "end", at, at, at
      return
    elseif char == 35 then -- #
      pos = find(text, "\n", at, true) or #text + 1
    elseif char == 10 and p.depth > 0 then
      pos, p.starts_line = at + 1, true
    elseif char == 10 or char == 59 then -- newline, ;
      p.kind, p.at, p.to, p.pos = char == 10 and "line" or ";", at, at, at + 1
      return
    elseif char == 92 and find(text, "^[ \t\r]*\n", at + 1) then -- backslash at the end of a line
      pos = find(text, "\n", at, true) + 1
    else
      p.at = at
      return read_token(p, at, char)
    end
  end
end

--- What may come right after a bare name, as `mention` reads it. Anything longer (`>=`, `|>`) is left to `advance`.
local AFTER_NAME = { [">>"] = ">>", ["&"] = "&", ["|"] = "|", ["\n"] = "line", [")"] = ")" }

--- What most operands are: a bare name with an operator after it, read in one go. Moves past both, to the operator.
---@param p table
---@return table|nil node the mention of a task; nil, with nothing read, when something else stands there
function M.mention(p)
  local _, last, at, name, operator = find(p.text, "^ *()([%a_\x80-\xff][%w_\x80-\xff]*) *([>&|\n)][>=]*)", p.pos)
  local kind = AFTER_NAME[operator]
  if not kind or kind == "line" and p.depth > 0 then return nil end
  p.kind, p.at, p.to, p.pos = kind, last - #operator + 1, last, last + 1
  return { name = name, at = at, to = at + #name - 1, bare = true }
end

return M
