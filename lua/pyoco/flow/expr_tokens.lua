--- Tokens of an expression, one at a time, in a table `s` that the parser (flow/expr_parse.lua) reads:
---   kind      "value" (a constant), "selector", "word", "end", "bad" (s.problem says why), or the token itself
---   value     the constant, the selector or the word
---   at, to    first and last byte; pos: the byte after it
local selector = require "pyoco.flow.selector_read"

local M = {}

local match, find = string.match, string.find

local ESCAPES = { n = "\n", t = "\t", r = "\r", ["\\"] = "\\", ["'"] = "'", ['"'] = '"' }
local CONSTANTS = { ["true"] = true, ["false"] = false, ["True"] = true, ["False"] = false }
local NULLS = { null = true, None = true }
local OPERATORS = { ["and"] = true, ["or"] = true, ["not"] = true, ["in"] = true }

--- Signs of other languages, and what to write instead.
local FOREIGN = {
  ["="] = "write == to compare", ["==="] = "write ==", ["!=="] = "write !=", ["~="] = "write !=", ["<>"] = "write !=",
  ["&&"] = "write and", ["||"] = "write or", ["!"] = "write not", ["&"] = "write and", ["|"] = "write or",
  [".."] = "write + to join texts", ["**"] = "there are no powers here", ["^"] = "there are no powers here",
  ["?"] = "there is no choice here: use a switch", [":"] = "there is no choice here: use a switch",
  ["=>"] = "write >=", ["=<"] = "write <=", ["{"] = "there are no mappings here",
}

--- Records what is wrong, unless something was before; the current token becomes "bad".
---@param s table
---@param problem table { message, at, to, hint, got, names }
function M.fail(s, problem)
  s.problem = s.problem or problem
  s.kind, s.pos = "bad", #s.text + 1
end

local function number(s, at)
  local digits, after = match(s.text, "^(%d+%.?%d*[eE][+-]?%d+)()", at)
  if not digits then digits, after = match(s.text, "^(%d+%.?%d*)()", at) end
  local stop = match(s.text, "^[%w_.\x80-\xff]*()", after)
  local value = tonumber(digits)
  if stop > after then
    return M.fail(s, { message = ("'%s' is not a number"):format(selector.short(s.text:sub(at, stop - 1), 40)), at = at,
      to = stop - 1 })
  elseif value - value ~= 0 or math.type(value) == "float" and not find(digits, "[.eE]") then
    return M.fail(s, { message = "this number is too large", at = at, to = after - 1 })
  end
  s.kind, s.value, s.to, s.pos = "value", value, after - 1, after
end

local function quoted(s, at, quote)
  local pos = at + 1
  while true do
    local stop = find(s.text, "[\"'\\]", pos)
    if not stop then
      return M.fail(s, { message = "this quote is never closed", at = at, to = at, hint = "add the missing " .. quote })
    end
    local char = s.text:sub(stop, stop)
    if char == quote then
      local value = s.text:sub(at + 1, stop - 1)
      if find(value, "\\", 1, true) then
        -- Other escapes are kept as they stand, as in Python.
        value = value:gsub("\\(.)", function(escaped) return ESCAPES[escaped] end)
      end
      s.kind, s.value, s.to, s.pos = "value", value, stop, stop + 1
      return
    end
    pos = stop + (char == "\\" and 2 or 1)
  end
end

local function word(s, at)
  local name, after = match(s.text, "^([%a_\x80-\xff][%w_\x80-\xff]*)()", at)
  s.to, s.pos = after - 1, after
  if CONSTANTS[name] ~= nil then
    s.kind, s.value = "value", CONSTANTS[name]
  elseif NULLS[name] then
    s.kind, s.value = "value", nil
  elseif OPERATORS[name] then
    s.kind, s.value = name, name
  else
    s.kind, s.value = "word", name
  end
end

local function sign(s, at)
  local text = s.text
  local foreign = match(text, "^===", at) or match(text, "^!==", at) or match(text, "^&&", at)
    or match(text, "^||", at) or match(text, "^%*%*", at) or match(text, "^%.%.", at) or match(text, "^[=~<]>", at)
    or match(text, "^=<", at) or match(text, "^~=", at)
  local kind = not foreign and (match(text, "^[=!<>]=", at) or match(text, "^//", at)) or nil
  kind = kind or not foreign and match(text, "^[^=!&|^?:{.]", at) or nil
  foreign = not kind and (foreign or text:sub(at, at)) or nil
  if foreign then
    return M.fail(s, { message = ("'%s' is not part of expressions"):format(foreign), at = at, to = at + #foreign - 1,
      hint = FOREIGN[foreign] })
  end
  s.kind, s.to, s.pos = kind, at + #kind - 1, at + #kind
end

--- Moves to the next token. After an error it stays "bad".
---@param s table
function M.advance(s)
  local text = s.text
  local at = match(text, "^%s*()", s.pos)
  if s.kind == "bad" then return end
  local char = text:sub(at, at)
  s.at = at
  if char == "" then
    s.kind, s.to, s.pos = "end", at, at
  elseif char == "$" then
    local read, after = selector.read(text, at)
    if not read then return M.fail(s, after) end
    s.kind, s.value, s.to, s.pos = "selector", read, after - 1, after
  elseif find(char, "%d") then
    number(s, at)
  elseif char == "'" or char == '"' then
    quoted(s, at, char)
  elseif find(char, "[%a_\x80-\xff]") then
    word(s, at)
  else
    sign(s, at)
  end
end

return M
