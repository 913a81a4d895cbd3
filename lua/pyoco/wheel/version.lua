--- Versions as PEP 440 has them: read, compared, written in their one normal form. Numbers are kept as decimal text, so
--- that none is too long to be right.
local M = {}

local PRE = { "preview", "alpha", "beta", "pre", "rc", "a", "b", "c" } -- a longer word before one that begins it
local PRE_LETTER = { alpha = "a", a = "a", beta = "b", b = "b", c = "rc", rc = "rc", pre = "rc", preview = "rc" }
local POST = { "post", "rev", "r" }
local DEV = { "dev" }

--- A number's text without leading zeros.
local function number(digits) return (digits:gsub("^0+(%d)", "%1")) end

--- A part like ".post1" at `at`: separator, word, separator, number, of which only the word must be there.
---@return string|nil word
---@return string|nil digits "0" when there are none
---@return integer|nil next place after it
local function part(text, at, words)
  local start = text:match("^[-_.]?()", at)
  for _, word in ipairs(words) do
    if text:sub(start, start + #word - 1) == word then
      local digits, next_at = text:match("^[-_.]?(%d*)()", start + #word)
      return word, digits == "" and "0" or number(digits), next_at
    end
  end
end

--- "1.0-1" is "1.0.post1".
local function implicit_post(text, at)
  local digits, next_at = text:match("^%-(%d+)()", at)
  if digits then return "post", number(digits), next_at end
end

local function numbers(text)
  local list = {}
  for digits in text:gmatch("%d+") do list[#list + 1] = number(digits) end
  return list
end

--- The parts of "+ubuntu.1"; nil when it is not well formed.
local function local_parts(text)
  if not text:find("^%+%w[%w._-]*$") or text:find("[._-][._-]") or text:find("[._-]$") then return nil end
  local list = {}
  for piece in text:gmatch("%w+") do list[#list + 1] = piece:find("^%d+$") and number(piece) or piece end
  return list
end

--- Reads a version.
---@param text string as "1.0", "v2!1.0rc1.post2.dev3+local.4"; case, and spaces around it, do not matter
---@return table|nil version { epoch, release (list), pre = {letter, number}|nil, post, dev (numbers)|nil, locals
---  (list)|nil }; numbers are decimal texts
---@return string|nil message
---@return string|nil code "invalid"
function M.parse(text)
  local bad = ("'%s' is no version (PEP 440)"):format(tostring(text))
  if type(text) ~= "string" then return nil, bad, "invalid" end
  local rest = text:match("^%s*(.-)%s*$"):lower():gsub("^v", "")
  local epoch, at = rest:match("^(%d+)!()")
  local release, next_at = rest:match("^(%d+[%d.]*)()", at or 1)
  if not release or release:find("..", 1, true) then return nil, bad, "invalid" end
  if release:find("%.$") then release, next_at = release:sub(1, -2), next_at - 1 end
  local version = { epoch = number(epoch or "0"), release = numbers(release) }
  local word, digits
  word, digits, at = part(rest, next_at, PRE)
  if word then version.pre, next_at = { PRE_LETTER[word], digits }, at end
  word, digits, at = implicit_post(rest, next_at)
  if not word then word, digits, at = part(rest, next_at, POST) end
  if word then version.post, next_at = digits, at end
  word, digits, at = part(rest, next_at, DEV)
  if word then version.dev, next_at = digits, at end
  if next_at <= #rest then
    version.locals = local_parts(rest:sub(next_at))
    if not version.locals then return nil, bad, "invalid" end
  end
  return version
end

--- -1, 0 or 1 for two decimal texts without leading zeros.
local function compare_numbers(a, b)
  if #a ~= #b then return #a < #b and -1 or 1 end
  return a == b and 0 or a < b and -1 or 1
end

local function compare_releases(a, b)
  for i = 1, math.max(#a, #b) do
    local order = compare_numbers(a[i] or "0", b[i] or "0")
    if order ~= 0 then return order end
  end
  return 0
end

--- Where a pre-release stands: a dev release of no pre-release is before all of them, a final one behind.
local function pre_rank(version)
  if version.pre then return ({ a = 1, b = 2, rc = 3 })[version.pre[1]] end
  return not version.post and version.dev and 0 or 4
end

--- Compares two numbers of which either may be missing; `missing` is what stands for that (-1 below, 1 above all).
local function compare_optional(a, b, missing)
  if a and b then return compare_numbers(a, b) end
  if not a and not b then return 0 end
  return a and -missing or missing
end

--- Numbers are above words, a longer list above its beginning.
local function compare_locals(a, b)
  if not a or not b then return a and 1 or b and -1 or 0 end
  for i = 1, math.max(#a, #b) do
    local x, y = a[i], b[i]
    if not x or not y then return x and 1 or -1 end
    local x_counts, y_counts = x:find("^%d+$"), y:find("^%d+$")
    if x_counts and y_counts then
      local order = compare_numbers(x, y)
      if order ~= 0 then return order end
    elseif x ~= y then
      if x_counts or y_counts then return x_counts and 1 or -1 end
      return x < y and -1 or 1
    end
  end
  return 0
end

local function sign(n) return n < 0 and -1 or n > 0 and 1 or 0 end

--- Which of two versions is the later one.
---@param a string|table text, or what parse gave
---@param b string|table
---@return integer|nil order -1 (a is earlier), 0 (the same, as 1.0 and 1.0.0) or 1
---@return string|nil message
---@return string|nil code "invalid" when a text is no version
function M.compare(a, b)
  local message, code
  if type(a) ~= "table" then a, message, code = M.parse(a) end
  if a and type(b) ~= "table" then b, message, code = M.parse(b) end
  if not a or not b then return nil, message, code end
  local order = compare_numbers(a.epoch, b.epoch)
  if order == 0 then order = compare_releases(a.release, b.release) end
  if order == 0 then order = sign(pre_rank(a) - pre_rank(b)) end
  if order == 0 and a.pre then order = compare_numbers(a.pre[2], b.pre[2]) end
  if order == 0 then order = compare_optional(a.post, b.post, -1) end
  if order == 0 then order = compare_optional(a.dev, b.dev, 1) end
  if order == 0 then order = compare_locals(a.locals, b.locals) end
  return order
end

--- The one normal spelling of a version: "1.0rc1.post2.dev3+local.4".
---@param version string|table
---@return string|nil text
---@return string|nil message
---@return string|nil code "invalid"
function M.normal(version)
  local message, code
  if type(version) ~= "table" then version, message, code = M.parse(version) end
  if not version then return nil, message, code end
  return (version.epoch ~= "0" and version.epoch .. "!" or "") .. table.concat(version.release, ".")
    .. (version.pre and table.concat(version.pre) or "") .. (version.post and ".post" .. version.post or "")
    .. (version.dev and ".dev" .. version.dev or "")
    .. (version.locals and "+" .. table.concat(version.locals, ".") or "")
end

return M
