--- Frames: loops, switches and their branches, as the compiler makes and checks them. Needed only by graphs that have
--- some. Their expressions stay texts in the graph; here they are parsed once, to be checked.
local expr = require "pyoco.flow.expr"

local M = {}

local MAX_DEPTH = 32             -- frames in frames: outputs are nested lists of that depth
local MAX_ITERATIONS = 10000000  -- what PYOCO_FLOW_MAX_ITERATIONS may be at most
local MAX_PARALLEL = 256
local TITLE = 40                 -- bytes of an expression that a title shows

--- Names that ctx has of its own: an alias of that name could not be read, or would hide what a task needs.
local CTX = {}
for name in ([[ctx params results scratch artifacts env run attempt loop loops log sleep exec http cancelled
    save_artifact set get]]):gmatch("%S+") do
  CTX[name] = true
end

--- Words of Lua: no parameter of a function can be called so.
local LUA_WORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch("%a+") do
  LUA_WORDS[word] = true
end

--- A text that is not longer than TITLE, whole characters only.
local function short(text)
  text = text:gsub("%s+", " ")
  if #text <= TITLE then return text end
  return text:sub(1, (utf8.offset(text, 0, TITLE) or TITLE) - 1) .. "..."
end

--- What a frame goes around, shortly: `a`, `a[3]`, `(a ...)`.
local function body_text(node)
  local first, is_group = node, false
  while first and not first.name and not M.KINDS[first.op] do
    first, is_group = first[1], true
  end
  local text = not first and "" or first.name and short(first.name) or M.title(first)
  return is_group and ("(%s ...)"):format(text) or text
end

local TITLES = {
  times = function(node)
    local count = node.count.text
    return ("%s[%s]"):format(body_text(node[1]), count:find("^%-?%d+$") and count or '"' .. short(count) .. '"')
  end,
  each = function(node) return ('%s["%s as %s"]'):format(body_text(node[1]), short(node.over.text), node.as) end,
  ["until"] = function(node) return ('%s %% "%s"'):format(body_text(node[1]), short(node.cond.text)) end,
  switch = function(node) return ('switch("%s")'):format(short(node.on.text)) end,
  case = function(node) return ('the branch "%s"'):format(short(node.label)) end,
}

--- Tells what a node of the AST is as a frame; nil for tasks and groups.
M.KINDS = { times = "loop", each = "loop", ["until"] = "loop", switch = "switch", case = "branch" }

--- A frame as errors name it, in the form in which it is written.
---@param node table of the AST
---@return string
function M.title(node)
  return TITLES[node.op](node)
end

--- The place of bytes from..to of an expression: in the graph text; or the line of a Lua flow, and what to show of it.
local function place_of(node, text, from, to)
  if not text.at then
    return { file = node.file, line = node.line, expression = { text = text.text, from = from, to = to } }
  elseif text.is_escaped then
    return { at = text.at, to = text.to }
  end
  return { at = text.at + from - 1, to = text.at + math.max(from, to) - 1 }
end

--- Where a selector of an expression stands.
---@param read table { node, text = EXPR, selector = one of expr.parse(text).reads }
---@return table place for a problem
function M.place_of_read(read)
  return place_of(read.node, read.text, read.selector.at, read.selector.to)
end

--- What a value is, for an error about a constant expression.
local function describe(value)
  return require("pyoco.flow.options").describe(value)
end

--- Parses the expression of a frame and keeps what it reads. Returns it, nil after an error.
local function parse(c, entry, what, text)
  local compiled, problem = expr.parse(text.text)
  if not compiled then
    c.fail(place_of(entry.node, text, problem.at, problem.to), "bad_expression",
      ("%s of %s: %s"):format(what, M.title(entry.node), problem.message),
      { hint = problem.hint, got = problem.got, names = problem.names })
    return nil
  end
  for _, selector in ipairs(compiled.reads) do
    c.reads[#c.reads + 1] = { entry = entry, node = entry.node, what = what, text = text, selector = selector }
  end
  return compiled
end

--- The value of an expression that reads nothing of the run; nil, nil for one that does.
local function constant(compiled)
  if not compiled or #compiled.reads > 0 then return nil, nil end
  local value, message = expr.eval(compiled, {})
  return { value = value }, message
end

--- Checks an expression, and its value if that is known already: `judge(value)` returns what was expected.
local function check_expression(c, entry, what, text, judge)
  local known, message = constant(parse(c, entry, what, text))
  if not known then return end
  local expected = message or judge(known.value)
  if not expected then return end
  c.fail(place_of(entry.node, text, 1, #text.text), "bad_expression", ("%s of %s %s"):format(what,
    M.title(entry.node), message or ("must be %s, got %s"):format(expected, describe(known.value))))
end

local function check_count(c, entry)
  local node = entry.node
  local limit = c.opts.max_iterations or MAX_ITERATIONS
  check_expression(c, entry, "the count", node.count, function(value)
    local count = type(value) == "number" and math.tointeger(value)
    if not count or count < 0 then return "a whole number that is not negative" end
    if count > limit then return ("at most %d (PYOCO_FLOW_MAX_ITERATIONS)"):format(limit) end
  end)
  entry.frame.count = node.count.text
end

--- Checks the name under which a loop's tasks find their item.
local function check_alias(c, entry)
  local node, name = entry.node, entry.node.as
  local function fail(message, hint, other)
    c.fail(node, "bad_alias", ("%s: %s"):format(M.title(node), message), { hint = hint, also = other and { other } })
  end
  if type(name) ~= "string" or not name:find("^[%a_\x80-\xff][%w_\x80-\xff]*$") then
    return fail("the name after 'as' must be letters, digits and _", 'write "$ctx.items as item"')
  elseif CTX[name] then
    return fail(("'%s' is a name of ctx itself"):format(name), "call it item")
  elseif LUA_WORDS[name] then
    return fail(("'%s' is a word of Lua, so that no parameter can be called so"):format(name), "call it item")
  end
  local outer = entry.outer
  while outer do
    if outer.node.as == name then
      return fail(("the loop around it, at {1}, calls its item '%s' as well"):format(name), "use another name",
        outer.node)
    end
    outer = outer.outer
  end
end

local function check_max(c, entry)
  local max, limit = entry.node.max, c.opts.max_iterations or MAX_ITERATIONS
  local whole = math.type(max) == "float" and math.tointeger(max) or max
  if math.type(whole) ~= "integer" or whole < 1 or whole > limit then
    c.fail(entry.node, "bad_max", ("the most iterations of %s must be a whole number from 1 to %d, got %s")
      :format(M.title(entry.node), limit, describe(max)))
  end
  entry.frame.max = whole
end

local function check_parallel(c, entry)
  local given = entry.node.parallel
  local parallel = given == nil and 1 or math.type(given) == "float" and math.tointeger(given) or given
  if math.type(parallel) ~= "integer" or parallel < 1 or parallel > MAX_PARALLEL then
    c.fail(entry.node, "bad_parallel", ("parallel of %s must be a whole number from 1 to %d, got %s")
      :format(M.title(entry.node), MAX_PARALLEL, describe(given)))
  end
  entry.frame.parallel = parallel
end

--- Branches in the order of their labels, `*` last: how they are written does not matter. Reports those of one label.
local function sorted_cases(c, entry)
  local cases, seen = {}, {}
  for _, case in ipairs(entry.node) do
    local other = seen[case.label]
    if other then
      c.fail(case, "duplicate_label", ("the label \"%s\" is there twice; the first is at {1}"):format(case.label),
        { hint = "put what both do into one branch: a & b", also = { other } })
    else
      seen[case.label], cases[#cases + 1] = case, case
    end
  end
  table.sort(cases, function(a, b)
    if (a.label == "*") ~= (b.label == "*") then return b.label == "*" end
    return a.label < b.label
  end)
  return cases
end

--- For each kind: checks a frame, fills it, and returns the nodes that stand in it.
local MAKE = {
  times = function(c, entry)
    check_count(c, entry)
    return entry.node
  end,
  each = function(c, entry)
    check_expression(c, entry, "the list", entry.node.over, function(value)
      return type(value) ~= "table" and "a list" or nil
    end)
    check_alias(c, entry)
    check_parallel(c, entry)
    entry.frame.over, entry.frame.as = entry.node.over.text, entry.node.as
    return entry.node
  end,
  ["until"] = function(c, entry)
    check_expression(c, entry, "the condition", entry.node.cond, function(value)
      return type(value) ~= "boolean" and "true or false" or nil
    end)
    check_max(c, entry)
    entry.frame.cond = entry.node.cond.text
    return entry.node
  end,
  switch = function(c, entry)
    check_expression(c, entry, "the value", entry.node.on, function(value)
      return type(value) == "table" and "a text, a number or a boolean" or nil
    end)
    entry.frame.on = entry.node.on.text
    if #entry.node == 0 then
      c.fail(entry.node, "empty_switch", ("%s has no branch"):format(M.title(entry.node)),
        { hint = 'write switch("...")["A" >> a, "*" >> b]' })
    end
    return sorted_cases(c, entry)
  end,
  case = function(_, entry)
    entry.frame.label = entry.node.label
    return entry.node
  end,
}

--- Makes the frame of a node that is met for the first time.
---@param c table the compiler's state: { fail, opts, opened, counts, scope, reads }
---@param node table of the AST
---@return table|nil entry { frame = of the graph, key = FRAME_REF, node, outer = entry of the frame around it, depth };
---  nil, after an error, if frames are nested too deeply
---@return table items the nodes that stand in it
function M.new(c, node)
  local outer, kind = c.scope or nil, node.op
  local depth = outer and outer.depth + 1 or 1
  if depth > MAX_DEPTH then
    if not c.is_deep then
      c.fail(node, "too_deep", ("loops and switches are nested deeper than %d"):format(MAX_DEPTH),
        { hint = "flatten the graph" })
    end
    c.is_deep, outer.has_member = true, true
    return nil, {}
  end
  c.counts[kind] = (c.counts[kind] or 0) + 1
  local frame = { id = kind .. c.counts[kind], kind = kind, frame = outer and outer.frame.id or nil,
    title = M.title(node), file = node.file, line = node.line, column = nil, needs = nil }
  if node.at and c.opts.place then frame.line, frame.column = c.opts.place(node.at) end
  local entry = { frame = frame, key = { frame = frame.id }, node = node, outer = outer, depth = depth }
  c.opened[#c.opened + 1] = entry
  local items = MAKE[kind](c, entry)
  return entry, items
end

--- A table without one of its keys. The original may be the user's own.
local function without(options, name)
  local rest = {}
  for key, value in pairs(options) do
    if key ~= name then rest[key] = value end
  end
  return rest
end

--- Settles how many iterations at once the tasks of a loop ask for: the loop has the number then, not the task, so that
--- both ways to give it make the same graph.
---@param c table the compiler's state
---@param row table a task row with options.parallel, and its scope
function M.set_parallel(c, row)
  local wanted, loop = row.options.parallel, row.scope or nil
  while loop and M.KINDS[loop.frame.kind] ~= "loop" do loop = loop.outer end
  if not loop then
    c.warn(row, "no_effect", ("task '%s' has parallel, but stands in no loop"):format(row.name))
  elseif loop.frame.kind ~= "each" then
    c.fail(row, "bad_parallel", ("task '%s' has parallel, but %s runs its iterations one after the other"):format(
      row.name, loop.frame.title), { hint = 'a loop over items may run them at once: x["$ctx.items as item"]' })
  else
    local other = loop.parallel_row
    if other and loop.frame.parallel ~= wanted then
      c.fail(row, "bad_parallel", ("task '%s' has parallel = %d, but task '%s' of the same loop has %d"):format(
        row.name, wanted, other.name, loop.frame.parallel), { hint = "give the number at one of them" })
    elseif not other and loop.node.parallel and loop.node.parallel ~= wanted then
      c.fail(row, "bad_parallel", ("task '%s' has parallel = %d, but its loop has %s"):format(row.name, wanted,
        tostring(loop.node.parallel)), { hint = "give the number at one of them" })
    end
    loop.parallel_row = loop.parallel_row or row
    loop.frame.parallel = wanted
    row.options = without(row.options, "parallel")
  end
end

--- Reports a member that is mentioned in two scopes.
---@param c table the compiler's state
---@param record table the member: a task's row, or an entry
---@param node table where it is mentioned the second time
function M.report_conflict(c, record, node)
  if record.is_reported then return end
  record.is_reported = true
  local function where(scope) return scope and "in " .. scope.frame.title or "outside of every loop" end
  -- in Lua a mention of a task has no place but the task's own, so that the frames' places say more
  local function place(mention, scope) return not mention.at and scope and scope.node or mention end
  local first = place(record.first, record.scope)
  local second = place(node, c.scope)
  local name = record.name and ("task '%s'"):format(record.name) or record.frame.title
  c.fail(second, "two_frames", ("%s stands %s and, at {1}, %s"):format(name, where(c.scope), where(record.scope)), {
    also = { first },
    hint = c.scope and record.scope and "give each loop a task of its own"
      or "let what comes before or after it wait for the whole loop, or put it into the loop as well" })
end

return M
