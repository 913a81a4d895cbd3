--- Selectors: texts that stand for a value of the run, in inputs and in expressions.
---   $ctx.NAME[.PATH]   params, results, scratch, artifacts, loop, loops, attempt, the items of loops; else a parameter
---   $node.TASK.output[.PATH]   $flow.name|run_id|tag|started_at   $env.NAME
--- PATH is dotted or in brackets: `.key`, `["any key"]`, `.0` and `[0]` for the first item of a list.
--- Checked before a run, resolved while it goes on.
local json = require "host.json"

local M = {}

local null = json.null
local find, match, type = string.find, string.match, type
local SHOWN = 200 -- bytes of a bad selector that its message shows

--- The names after `$ctx.` that are not parameters. A loop's item must not be called like one of them.
M.CTX = { params = true, results = true, scratch = true, artifacts = true, loop = true, loops = true, attempt = true }

--- The fields of `$flow`.
M.FLOW = { "name", "run_id", "tag", "started_at" }

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
    for _, known in ipairs(M.FLOW) do
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
      at = pos, to = to, got = name, names = name and M.FLOW }
  end
  selector.text = text:sub(pos, after - 1)
  return selector, after
end

--- Tells whether an input's value is meant as a selector.
---@param value any
---@return boolean
function M.is_selector(value)
  return type(value) == "string" and value:byte(1) == 36
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

--- What a value is, in words.
---@param value any
---@return string
function M.kind(value)
  if value == nil or value == null then return "null" end
  if type(value) == "table" then return json.is_array(value) and "a list" or "a mapping" end
  return ({ string = "a text", number = "a number", boolean = "a boolean" })[type(value)] or "a " .. type(value)
end

--- One step into a value: a key of a mapping, or an index (from 0) of a list.
local function step_into(value, step)
  if type(value) ~= "table" then return nil end
  if type(step) == "number" then return value[step + 1] end
  local found = value[step]
  if found == nil and find(step, "^%d+$") then found = value[tonumber(step) + 1] end
  return found
end

--- The message for step `i` of a path, which `value` does not have.
local function no_step(selector, i, value)
  local path = selector.path
  local before = table.concat(path, ".", selector.root == "ctx" and path[1] == "params" and 2 or 1, i - 1)
  local where = before ~= "" and "'" .. before .. "'" or selector.node and "the output of " .. selector.node or "it"
  return ("%s: there is no '%s' in %s%s"):format(selector.text, path[i], where,
    type(value) == "table" and "" or ", which is " .. M.kind(value)), "not_found"
end

--- The value at the root of a selector, and the number of its last step that is used up.
local function start(selector, sources)
  local path = selector.path
  if selector.root == "node" then return sources.node(selector.node), 0 end
  if selector.root == "ctx" then
    local value = sources.ctx(path[1])
    if path[1] ~= "params" or #path == 1 then return value, 1 end
    return step_into(value, path[2]), 2
  end
  local fields = sources[selector.root]
  return fields and fields[path[1]], 1
end

--- The message for a root that has no value.
local function no_root(selector)
  local path = selector.path
  if selector.root == "env" then return ("%s: %s is not set"):format(selector.text, path[1]), "not_found" end
  if selector.root == "flow" or M.CTX[path[1]] and path[1] ~= "params" then
    return ("%s: there is no %s here"):format(selector.text, path[1]), "not_found"
  end
  return ("Param '%s' not found in context."):format(path[1] == "params" and path[2] or path[1]), "not_found"
end

--- Finds the value of a selector in an expression, where what is not there is nil.
---@param selector table
---@param sources table see M.resolve
---@return any value nil if there is none
---@return string|nil message when the path goes through something that has no fields
function M.find(selector, sources)
  local path = selector.path
  local value, used = start(selector, sources)
  for i = used + 1, #path do
    if type(value) ~= "table" then return nil, (no_step(selector, i, value)) end
    value = step_into(value, path[i])
  end
  return value
end

--- Resolves a selector.
---@param selector table from M.parse
---@param sources table { ctx = function(name) -> value|nil, node = function(task) -> output|nil,
---  flow = { name, run_id, tag, started_at }, env = { NAME = text } }
---@return any value nil without a message: the task it names has given nothing
---@return string|nil message, string|nil code "not_found"
function M.resolve(selector, sources)
  local path = selector.path
  local value, used = start(selector, sources)
  if value == nil and selector.node == nil then return nil, no_root(selector) end
  for i = used + 1, #path do
    local inner = step_into(value, path[i])
    if inner == nil then return nil, no_step(selector, i, value) end
    value = inner
  end
  return value
end

return M
