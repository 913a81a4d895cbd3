--- Reads `.env` text. Blank lines and `#...` lines are skipped; `export ` may lead; KEY=VALUE; a value in quotes is
--- unquoted (double quotes also take backslash escapes); else ` #` begins a comment. The last of two equal keys wins.
local M = {}

local ESCAPES = { n = "\n", r = "\r", t = "\t", a = "\a", b = "\b", f = "\f", v = "\v",
  ["\\"] = "\\", ['"'] = '"', ["'"] = "'" }

local function unescape(text)
  text = text:gsub("\\(.)", function(char) return ESCAPES[char] and "\0" .. char end)
  text = text:gsub("\\x(%x%x)", function(hex) return utf8.char(tonumber(hex, 16)) end)
  text = text:gsub("\\u(%x%x%x%x)", function(hex) return utf8.char(tonumber(hex, 16)) end)
  return (text:gsub("%z(.)", ESCAPES))
end

--- The value of what stands right of the `=`.
local function value_of(text)
  local quote = text:match("^['\"]")
  if quote then
    local at = 2
    while at <= #text do
      local char = text:sub(at, at)
      if char == quote then break end
      at = at + (char == "\\" and quote == '"' and 2 or 1)
    end
    local rest = text:sub(at + 1)
    local inner = at <= #text and (rest == "" or rest:match("^%s+#")) and text:sub(2, at - 1)
      or #text > 1 and text:sub(-1) == quote and text:sub(2, -2)
    if inner then return quote == '"' and unescape(inner) or inner end
  end
  return (text:gsub("%s+#.*$", ""))
end

---@param text string the file's content
---@return table values by key
---@return table line number by key
---@return integer[] numbers of the lines that are none of the known forms
function M.parse(text)
  local values, lines, odd, number = {}, {}, {}, 0
  for line in (text:gsub("^\xEF\xBB\xBF", "") .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    line = line:match("^%s*(.-)%s*$")
    if line ~= "" and line:sub(1, 1) ~= "#" then
      local key, value = line:gsub("^export%s+", ""):match("^([%a_][%w_]*)%s*=%s*(.*)$")
      if key then
        values[key], lines[key] = value_of(value), number
      else
        odd[#odd + 1] = number
      end
    end
  end
  return values, lines, odd
end

return M
