--- Selectors: text to what flow/selector.lua resolves. A run needs it only for tasks with selectors.
local M = {}

local find, match, type = string.find, string.match, type
local SHOWN = 200 -- bytes of a bad selector that its message shows

--- The fields of `$flow`.
local FLOW = { "name", "run_id", "tag", "started_at" }
local ROOTS = { "ctx", "node", "flow", "env" }
local FORMS = "$ctx.NAME, $node.TASK.output, $flow.NAME or $env.NAME"

--- A text as a message shows it: whole characters, at most `limit` bytes of them.
---@param text string
---@param limit integer
---@return string
function M.short(text, limit)
  if #text <= limit then return text end
  return text:sub(1, limit):gsub("[\xc2-\xff][\x80-\xbf]*$", "") .. "..."
end

--- How names are written: in a text of their own, and in an expression, where most signs are operators.
local ALONE = { step = "^%.([^.%[]+)()", node = "^%.(.-)%.output%f[.%[\0]()" }
local INSIDE = {
  step = "^%.([%w_\x80-\xff]+)()",
  node = "^%.([%w_%-.\x80-\xff]-)%.output%f[^%w_\x80-\xff]()",
}

--- The step in brackets at `pos`: a number from 0, or a quoted key. Returns it and the byte after it; nil if none.
local function bracket(text, pos)
  local digits, after = match(text, "^%[%s*(%d+)%s*%]()", pos)
  if digits then return math.tointeger(tonumber(digits)), after end
  local quote, from = match(text, "^%[%s*([\"'])()", pos)
  if not quote then return nil end
  local at = from
  while true do
    local stop = find(text, "[\"'\\]", at)
    if not stop then return nil end
    local char = text:sub(stop, stop)
    if char == quote then
      after = match(text, "^%s*%]()", stop + 1)
      return after and text:sub(from, stop - 1):gsub("\\([\"'\\])", "%1") or nil, after
    end
    at = stop + (char == "\\" and 2 or 1)
  end
end

--- Adds the steps that stand at `pos` to `path`. Returns the byte after the last one; nil and a place if one is wrong.
local function steps(text, pos, path, forms)
  while true do
    local char = text:byte(pos)
    local step, after
    if char == 46 then -- .
      step, after = match(text, forms.step, pos)
    elseif char == 91 then -- [
      step, after = bracket(text, pos)
    else
      return pos
    end
    if not step then return nil, pos end
    path[#path + 1], pos = step, after
  end
end

--- Reads what follows each root at `pos`. Returns the selector and the byte after it; nil and the wrong byte.
local READ = {
  ctx = function(text, pos, forms)
    local path = {}
    local after, wrong = steps(text, pos, path, forms)
    if not after or type(path[1]) ~= "string" then return nil, wrong or pos end
    return { root = "ctx", path = path }, after
  end,
  node = function(text, pos, forms)
    local name, from = match(text, forms.node, pos)
    if not name and text:byte(pos) == 91 then
      name, from = bracket(text, pos)
      from = type(name) == "string" and match(text, "^%.output%f[^%w_\x80-\xff]()", from)
    end
    if not from or name == "" then return nil, pos end
    local path = {}
    local after, wrong = steps(text, from, path, forms)
    if not after then return nil, wrong end
    return { root = "node", node = name, path = path }, after
  end,
  flow = function(text, pos)
    local name, after = match(text, "^%.([%w_]+)()", pos)
    for _, known in ipairs(FLOW) do
      if name == known then return { root = "flow", path = { name } }, after end
    end
    return nil, pos
  end,
  env = function(text, pos)
    local name, after = match(text, "^%.([%a_][%w_]*)()", pos)
    if not name then return nil, pos end
    return { root = "env", path = { name } }, after
  end,
}

--- What should stand after each root.
local EXPECTED = {
  ctx = "$ctx.NAME[.PATH], a key with other signs as $ctx[\"key\"]",
  node = "$node.TASK.output[.PATH], a name with other signs as $node[\"name\"].output",
  flow = "one of $flow.name, $flow.run_id, $flow.tag, $flow.started_at",
  env = "$env.NAME",
}

--- Reads the selector that starts at byte `pos` of an expression.
---@param text string
---@param pos integer of the `$`
---@return table|nil selector as from M.parse
---@return integer|table after the byte after it; or what is wrong: { message, at, to, hint, got, names }
function M.read(text, pos)
  local root, from = match(text, "^%$([%w_]*)()", pos)
  local read = READ[root]
  if not read then
    return nil, { message = ("unknown selector '$%s'"):format(root), at = pos, to = from - 1, got = root, names = ROOTS,
      hint = "write " .. FORMS }
  end
  local selector, after = read(text, from, INSIDE)
  if not selector then
    local to = match(text, "^[%w_.\x80-\xff]*()", math.max(from, after)) - 1
    local name = root == "flow" and match(text, "^%.([%w_]+)", from) or nil
    return nil, { message = ("expected %s, got '%s'"):format(EXPECTED[root], M.short(text:sub(pos, to), SHOWN)),
      at = pos, to = to, got = name, names = name and FLOW }
  end
  selector.text = text:sub(pos, after - 1)
  return selector, after
end

--- Parses a selector that stands alone, as in `inputs`.
---@param text string
---@return table|nil selector { text, root = "ctx"|"node"|"flow"|"env", node, path = keys, and indexes from 0 }
---@return string|nil message, string|nil code "invalid"
function M.parse(text)
  local root, from = match(text, "^%$(%w+)()")
  local read = READ[root]
  local selector, after
  if read then selector, after = read(text, from, ALONE) end
  if not selector or after <= #text then
    return nil, ("Invalid reference '%s': expected %s"):format(M.short(text, SHOWN),
      EXPECTED[root] or FORMS), "invalid"
  end
  selector.text = text
  return selector
end

return M
