--- What tasks and frames read of the run, by selectors in inputs, commands and expressions: each selector is checked in
--- itself, and an output that is read must be of a task that may have come before.
local options = require "pyoco.flow.options"
local selector = require "pyoco.flow.selector"

local M = {}

local ipairs, next, pairs = ipairs, next, pairs

local MAX_COMPARED = 5000 -- names compared for warnings about one graph

--- The scopes around a member: scope (an entry, false for the top) -> the member in it that is, or holds, the one
--- asked for.
local function scopes_of(record)
  local member_in, scope = {}, record.scope or false
  while true do
    member_in[scope] = record
    if not scope then return member_in end
    record, scope = scope, scope.outer or false
  end
end

--- Tells whether a record is a loop's entry that stands around another record.
local function is_inside(record, entry)
  local scope = record.scope
  while scope do
    if scope == entry then return true end
    scope = scope.outer
  end
  return false
end

--- The members of one scope that a read is about: `from` has to come before `by`. nil if it needs no check: the
--- condition of a loop reads its own body, which has just run.
local function members_of(read, target)
  local reader = read.entry or read.record
  if read.entry and read.entry.frame.kind == "until" and is_inside(target, read.entry) then return nil end
  if not target.scope and not reader.scope then return target, reader end
  local member_in, scope = scopes_of(reader), target.scope or false
  while member_in[scope] == nil do target, scope = scope, scope.outer or false end
  return target, member_in[scope]
end

--- A record as errors name it.
local function name_of(record)
  return record.name and ("'%s'"):format(record.name) or record.frame.title
end

--- Where a read stands.
local function place_of(c, read)
  if read.entry then return require("pyoco.flow.frame").place_of_read(read) end
  local place_in = c.opts.place_in
  return place_in and place_in(read.record.name, read.part, read.key) or read.record
end

--- The path of a read in a document, nil for that of a frame.
local function path_of(read)
  return read.record and ("tasks.%s.%s.%s"):format(read.record.name, read.part, read.key) or nil
end

local function fail(c, read, message, more)
  more = more or {}
  more.path = path_of(read)
  c.fail(place_of(c, read), "bad_selector", message, more)
end

--- The entry of the first loop that calls its item `name`, nil if there is none.
local function loop_of(c, name)
  if not c.loop_of then
    c.loop_of = {}
    for i = #c.opened, 1, -1 do
      local as = c.opened[i].node.as
      if as then c.loop_of[as] = c.opened[i] end
    end
  end
  return c.loop_of[name]
end

--- Warns of a parameter that looks like a slip: an item's name outside of its loop, or nearly a default's name.
local function check_param(c, read, parsed)
  local path = parsed.path
  local is_long = path[1] == "params"
  local name = is_long and path[2] or path[1]
  if not name or (not is_long and selector.CTX[name]) or (c.opts.defaults or {})[name] ~= nil then return end
  local scope = read.entry and read.entry.outer or read.record and read.record.scope
  local names = {}
  while scope do
    if scope.node.as == name and not is_long then return end
    names[#names + 1] = scope.node.as
    scope = scope.outer
  end
  local loop = not is_long and loop_of(c, name)
  if loop then
    return c.warn(place_of(c, read), "unknown_param",
      ("%s: '%s' is the item of %s, and this is outside of it; here it is a parameter of the run"):format(parsed.text,
        name, loop.frame.title), { path = path_of(read) })
  end
  for known in pairs(c.opts.defaults or {}) do
    c.compared = (c.compared or 0) + 1
    if c.compared > MAX_COMPARED then return end
    names[#names + 1] = known
  end
  table.sort(names)
  if require("pyoco.nearest").name(name, names) then
    c.warn(place_of(c, read), "unknown_param", ("%s: no parameter '%s' is among the defaults"):format(parsed.text,
      name), { path = path_of(read), got = name, names = names })
  end
end

--- Checks one selector in itself. Adds it to `reads` if it is of a task's output.
local function check(c, reads, exposed, read)
  local parsed = read.selector
  local target = parsed.root == "node" and c.record[parsed.node]
  if parsed.root == "env" and not exposed[parsed.path[1]] then
    fail(c, read, ("%s is not exposed"):format(parsed.text),
      { hint = ("list %s in runtime.expose_env"):format(parsed.path[1]) })
  elseif parsed.root == "ctx" then
    check_param(c, read, parsed)
  elseif parsed.root == "node" and not target then
    fail(c, read, ("%s: unknown task '%s'"):format(parsed.text, parsed.node),
      { got = parsed.node, names = c.task_names() })
  elseif target then
    local from, by = members_of(read, target)
    if not from then return end
    read.target = target
    read.from, read.by = from.name or from.key, by.name or by.key
    reads[#reads + 1] = read
  end
end

--- Parses a text that is a selector, and checks it.
local function check_text(c, reads, exposed, record, part, key, text)
  local read = { record = record, part = part, key = key, selector = nil, target = nil, from = nil, by = nil }
  local parsed, message = selector.parse(text)
  if not parsed then return fail(c, read, message) end
  read.selector = parsed
  check(c, reads, exposed, read)
end

--- Warns of a selector that is not the whole of a command's text, since it is not replaced there.
local function check_inside(c, record, part, key, text)
  local found = text:find("$", 2, true) and options.selector_inside(text)
  if not found then return end
  local read = { record = record, part = part, key = key }
  c.warn(place_of(c, read), "selector_inside", ("task '%s': %s is not replaced inside of a text"):format(record.name,
    found), { path = path_of(read),
    hint = part == "run" and "make it an item of its own" or "make it the whole value" })
end

--- Checks the selectors of a whole graph.
---@param graph table with nodes
---@param c table the compiler's state; c.reads holds those of frames' expressions
---@return table list of the reads of tasks' outputs: { from, by = keys of members of one scope, ... }
function M.collect(graph, c)
  local reads, exposed = {}, {}
  for _, name in ipairs(c.opts.expose_env or {}) do exposed[name] = true end
  local function check_all(node, part, values)
    for key, value in next, values do
      if selector.is_selector(value) then
        check_text(c, reads, exposed, node, part, key, value)
      elseif part ~= "inputs" then
        check_inside(c, node, part, key, value)
      end
    end
  end
  for _, node in ipairs(graph.nodes) do
    check_all(node, "inputs", node.inputs)
    local command = node.command
    if command then
      check_all(node, "env", command.env)
      if type(command.run) == "table" then check_all(node, "run", command.run) end
    end
  end
  for _, read in ipairs(c.reads) do check(c, reads, exposed, read) end
  return reads
end

--- Reports reads of what does not come before.
---@param c table the compiler's state
---@param missing table list of reads from M.collect
function M.report(c, missing)
  for _, read in ipairs(missing) do
    local reader = read.entry or read.record
    local from, by = c.record[read.from], c.record[read.by]
    local text, task = read.selector.text, name_of(read.target)
    if from.frame and from.key and from.frame.kind == "case" then
      fail(c, read, ("%s: %s stands in another branch of %s than %s"):format(text, task, from.outer.frame.title,
        name_of(reader)), { hint = "only one branch of a switch runs" })
    else
      fail(c, read, ("%s: %s does not come before %s"):format(text, task, name_of(reader)),
        { hint = ("write %s >> %s in the graph"):format(from.name or from.frame.title, by.name or by.frame.title) })
    end
  end
end

return M
