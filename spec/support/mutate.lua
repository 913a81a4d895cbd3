--- Texts with one thing wrong: a byte less, or one that means something in YAML, in a graph text or nowhere.
local M = {}

--- Bytes that hurt: of YAML's grammar, of the graph's, of no text.
M.NASTY = { "\0", "\xff", ":", " ", "\t", "\n", "'", '"', "[", "{", "&", "*", "-", "|", "!", "%", "#", ">", "$", "\\" }

--- All texts with one byte deleted.
---@param text string
---@return fun(): integer?, string? the place and the changed text
function M.deletions(text)
  local i = 0
  return function()
    i = i + 1
    if i <= #text then return i, text:sub(1, i - 1) .. text:sub(i + 1) end
  end
end

--- All texts with one byte replaced by one of some others.
---@param text string
---@param bytes string[]
---@return fun(): integer?, string?
function M.replacements(text, bytes)
  local i, b = 1, 0
  return function()
    b = b + 1
    if b > #bytes then i, b = i + 1, 1 end
    if i <= #text then return i, text:sub(1, i - 1) .. bytes[b] .. text:sub(i + 1) end
  end
end

--- One random change: bytes deleted, doubled, moved, replaced, or a piece of another text.
---@param text string
---@param random fun(n: integer): integer 1..n
---@param others string[]|nil texts that pieces are taken from
---@return string
function M.random(text, random, others)
  local at = random(#text + 1)
  local before, after = text:sub(1, at - 1), text:sub(at)
  local what = random(6)
  if what == 1 then return before .. after:sub(1 + random(8)) end
  if what == 2 then return before .. M.NASTY[random(#M.NASTY)] .. after end
  if what == 3 then return before .. after:sub(1, random(40)) .. after end
  if what == 4 then return before .. string.char(random(256) - 1) .. after:sub(2) end
  if what == 5 then return before .. M.NASTY[random(#M.NASTY)]:rep(random(300)) .. after end
  local other = others and others[random(#others)] or text
  local from = random(#other)
  return before .. other:sub(from, from + random(60)) .. after
end

return M
