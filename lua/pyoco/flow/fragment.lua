--- The Lua front end's operators: what joins tasks builds the AST of flow/text.lua. A node is never changed once made,
--- so that a fragment may be used in several flows, and twice in one: then it is one loop, mentioned twice.
--- What a user has in hand is not the node but a fragment with the node inside: `x[3]` must not find x's third child.
---
---   a >> b   a & b   a | b                 order, side by side, the first that succeeds
---   x[3]   x["$ctx.n"]                     that many times
---   x["$ctx.items as item"]                once per item; x:each("$ctx.items", "item", { parallel = 4 })
---   x % "cond"   x % { "cond", 10 }        until the condition holds, at most 100 (10) times
---   switch "expr" { A = x, ["*"] = y }     one of the branches
local M = {}

local MAX_TIMES = 100 -- of `x % "cond"`

--- Metatables of what a user has in hand: { node = of the AST }. init.lua makes the tasks.
M.TASK, M.FRAGMENT = { __name = "pyoco.task" }, { __name = "pyoco.fragment" }

local SWITCH = { __name = "pyoco.switch" } -- a switch that waits for its branches

--- Tells whether a value can stand beside an operator: a task, or tasks that are joined.
---@param value any
---@return boolean
function M.is_fragment(value)
  local meta = getmetatable(value)
  return meta == M.TASK or meta == M.FRAGMENT
end
local is_fragment = M.is_fragment

--- What a value is, and what to write instead, for an error about something that is no node.
local function describe(value)
  local kind = type(value)
  if getmetatable(value) == SWITCH then
    return 'a switch without branches: write pyoco.switch "..." { A = x, ["*"] = y }'
  elseif kind == "string" then
    return ("a string ('%s'): write the task's variable, not its name"):format(value)
  elseif kind == "function" then
    return 'a function: make it a task with pyoco.task("name", fn)'
  elseif kind == "table" and is_fragment(value[1]) then
    return "a list: write (a & b) for tasks side by side"
  elseif kind == "nil" then
    return "a nil: is the variable declared above, and spelled like this?"
  elseif kind == "number" or kind == "boolean" then
    return ("a %s: write the task itself, not a call of it, nor a comparison"):format(kind)
  end
  return "a " .. kind
end

--- The file that a function is in, as loaded; Lua's own short form cuts long paths.
---@param info table from debug.getinfo
---@return string
function M.file_of(info)
  return info.source:sub(1, 1) == "@" and info.source:sub(2) or info.short_src
end

--- Makes a fragment whose node stands at the line of the user's code. `level` is that of the user's code for the
--- caller, which must not call this as its last act: a tail call has no level.
local function fragment_at(level, node)
  local info = debug.getinfo(level + 1, "Sl")
  if info then node.file, node.line = M.file_of(info), info.currentline end
  return setmetatable({ node = node }, M.FRAGMENT)
end

--- Makes the metamethod of one joining operator.
local function joining(op, symbol)
  return function(left, right)
    if not is_fragment(left) or not is_fragment(right) then
      local wrong = left
      if is_fragment(left) then wrong = right end
      local is_branch = type(left) == "string" and symbol == ">>"
      error(("%s joins tasks, got %s%s"):format(symbol, describe(wrong), is_branch
        and '; in Lua a switch is written switch "$ctx.mode" { A = x, ["*"] = y }' or ""), 2)
    end
    return setmetatable({ node = { op = op, left.node, right.node } }, M.FRAGMENT)
  end
end

local UNTIL = [[x %% condition: expected a text such as "$node.x.output > 3", or { text, most iterations }, got %s]]

--- x % "cond", x % { "cond", max }
local function loop_until(left, right)
  if not is_fragment(left) then
    local level = debug.getinfo(2, "S").what == "C" and 3 or 2 -- a string's own operator stands between
    error(("x %% condition: the tasks stand before the %%, got %s"):format(describe(left)), level)
  end
  local cond, max = right, MAX_TIMES
  if type(right) == "table" and not is_fragment(right) then
    cond, max = right[1], right[2]
    if max == nil then max = MAX_TIMES end
    if math.type(max) ~= "integer" then
      error(("x %% { condition, max }: the most iterations must be a whole number, got %s"):format(
        type(max) == "number" and tostring(max) or "a " .. type(max)), 2)
    end
  end
  if type(cond) ~= "string" or not cond:find("%S") then
    local got = type(cond) == "string" and "a blank text" or type(cond) == "function" and
      "a function: the condition is a text that is read when the loop runs" or is_fragment(cond) and "tasks"
      or "a " .. type(cond)
    error(UNTIL:format(got), 2)
  end
  return (fragment_at(2, { op = "until", left.node, cond = { text = cond }, max = max }))
end

--- The loop over a list.
local function loop_each(body, over, as, parallel, level)
  return (fragment_at(level + 1, { op = "each", body.node, over = { text = over }, as = as, parallel = parallel }))
end

--- x:each("$ctx.items", "item", { parallel = 4 })
local function each(self, over, as, options)
  if not is_fragment(self) then error(("each is a method of tasks: x:each(...), got a %s"):format(type(self)), 2) end
  if type(over) ~= "string" or not over:find("%S") then
    error(('x:each: expected a list as text, such as "$ctx.items", got %s'):format(
      type(over) == "string" and "a blank one" or "a " .. type(over)), 2)
  elseif as ~= nil and type(as) ~= "string" then
    error(("x:each: the item's name must be a text, got a %s"):format(type(as)), 2)
  elseif options ~= nil and type(options) ~= "table" then
    error(("x:each: options must be a table such as { parallel = 4 }, got a %s"):format(type(options)), 2)
  end
  for key in pairs(options or {}) do
    if key ~= "parallel" then error(("x:each: unknown option '%s'; known: parallel"):format(tostring(key)), 2) end
  end
  return (loop_each(self, over, as or "item", options and options.parallel, 2))
end

--- x[3], x["$ctx.n"], x["$ctx.items as item"]; methods by name.
local function index(self, key)
  if key == "each" then return each end
  local whole = math.type(key) == "float" and math.tointeger(key) or key
  if math.type(whole) == "integer" then
    return (fragment_at(2, { op = "times", self.node, count = { text = tostring(whole) } }))
  elseif type(key) == "string" and key:byte(1) == 36 then -- $
    local over, name = key:match("^(.*)%f[%w_]as%f[^%w_]%s*([%w_\x80-\xff]*)%s*$")
    if not over or not over:find("[%s%])]$") then
      return (fragment_at(2, { op = "times", self.node, count = { text = key } }))
    end
    if name == "" then
      error(("x[\"%s\"]: expected a name after 'as'; write x[\"$ctx.items as item\"]"):format(key), 2)
    end
    return (loop_each(self, over:gsub("%s+$", ""), name, nil, 2))
  elseif type(key) == "string" and require("pyoco.flow.options").is_task_option(key) then
    error(("tasks have no '%s'; options are the last argument: task(\"name\", fn, { %s = ... })"):format(key, key), 2)
  elseif type(key) == "string" then
    error(("tasks have no '%s'; a loop is x[3], x[\"$ctx.n\"], x[\"$ctx.items as item\"] or x:each(...)")
      :format(key), 2)
  end
  error(('x[...] takes a whole number, or a text such as "$ctx.items as item", got %s'):format(
    type(key) == "number" and tostring(key) or "a " .. type(key)), 2)
end

--- Operators that mean nothing to tasks, as whoever comes from elsewhere may write them.
local STRANGE = { add = "+", sub = "-", mul = "*", div = "/", idiv = "//", concat = "..", lt = "< and >",
  le = "<= and >=", bxor = "~", shl = "<<", unm = "-", bnot = "~" }

for _, meta in ipairs { M.TASK, M.FRAGMENT } do
  for name, symbol in pairs(STRANGE) do
    meta["__" .. name] = function()
      error(("tasks have no %s; they are joined by x >> y (y after x), x & y (side by side), x | y (the first that "
        .. "succeeds)"):format(symbol), 2)
    end
  end
  meta.__shr = joining("seq", ">>")
  meta.__band = joining("all", "&")
  meta.__bor = joining("any", "|")
  meta.__mod = loop_until
  meta.__index = index
end

--- The label of a branch: what the value is compared with, as text.
local function label_of(key)
  if type(key) == "string" or math.type(key) == "integer" or type(key) == "boolean" then return tostring(key) end
  if math.type(key) == "float" then return tostring(math.tointeger(key) or key) end
  return nil
end

--- switch "expr" { A = x, ["*"] = y }
function SWITCH:__call(branches)
  if type(branches) ~= "table" or is_fragment(branches) or next(branches) == nil then
    error(('switch "%s": expected branches such as { A = x, ["*"] = y }, got %s'):format(self.on,
      type(branches) == "table" and (is_fragment(branches) and "tasks" or "none") or "a " .. type(branches)), 2)
  end
  local made = fragment_at(2, { op = "switch", on = { text = self.on } })
  local node = made.node
  for key, body in pairs(branches) do
    local label = label_of(key)
    if not label then error(("switch \"%s\": a label must be a text, got a %s"):format(self.on, type(key)), 2) end
    if not is_fragment(body) then
      error(('switch "%s": the branch "%s" must be tasks joined by >> & |, got %s'):format(self.on, label,
        describe(body)), 2)
    end
    node[#node + 1] = { op = "case", body.node, label = label, file = node.file, line = node.line }
  end
  table.sort(node, function(a, b) return a.label < b.label end)
  return made
end

SWITCH.__index = SWITCH

for name, symbol in pairs { shr = ">>", band = "&", bor = "|" } do
  SWITCH["__" .. name] = function(left, right)
    local wrong = left
    if is_fragment(left) then wrong = right end
    error(("%s joins tasks, got %s"):format(symbol, describe(wrong)), 2)
  end
end

--- A switch: runs the branch whose label is the value of an expression.
---@param on string an expression such as "$ctx.mode"
---@return table to be called with the branches: { label = tasks, ["*"] = tasks for any other value }
function M.switch(on)
  if type(on) ~= "string" or not on:find("%S") then
    error(('switch: expected an expression such as "$ctx.mode", got %s'):format(type(on) == "string" and "a blank text"
      or "a " .. type(on)), 2)
  end
  return setmetatable({ on = on }, SWITCH)
end

--- The node of what the user gave as a flow's expression: a fragment, or a list of them that stand side by side.
---@param name string of the flow, for errors
---@param given any
---@param level integer of the user's code
---@return table node of the AST
function M.to_node(name, given, level)
  if is_fragment(given) then return given.node end
  if type(given) ~= "table" or getmetatable(given) == SWITCH or #given == 0 then
    error(("flow '%s': expected tasks joined by >> & |, got %s"):format(name, type(given) == "table"
      and getmetatable(given) ~= SWITCH and "an empty list" or describe(given)), level + 1)
  end
  local node = { op = "all" }
  for i, item in ipairs(given) do
    if not is_fragment(item) then
      error(("flow '%s': item %d of the list must be tasks joined by >> & |, got %s"):format(name, i, describe(item)),
        level + 1)
    end
    node[i] = item.node
  end
  return node
end

return M
