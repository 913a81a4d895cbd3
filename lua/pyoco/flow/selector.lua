--- Selectors: strings in `inputs` that stand for a value of the run.
---   $ctx.params.PATH   $node.TASK.output[.PATH]   $env.NAME
--- PATH is dotted; a number indexes an array, from 0. Checked before a run, resolved while it goes on.
local M = {}

--- Splits `a.b.0` into its steps; nil if a step is empty.
local function split(path)
  local steps = {}
  for step in (path .. "."):gmatch("([^.]*)%.") do
    if step == "" then return nil end
    steps[#steps + 1] = step
  end
  return steps
end

--- Each root: how the text after `$root.` becomes a selector. Returns nil if it cannot.
local ROOTS = {
  ctx = function(rest)
    local path = rest:match("^params%.(.+)$")
    return path and { root = "params", path = split(path) }
  end,
  node = function(rest)
    local name, path = rest:match("^(.-)%.output%.(.+)$")
    if not name then name, path = rest:match("^(.+)%.output$"), nil end
    if not name or name == "" then return nil end
    return { root = "node", node = name, path = path and split(path) or not path and {} or nil }
  end,
  env = function(rest)
    return rest:match("^[%a_][%w_]*$") and { root = "env", path = { rest } }
  end,
}

--- Tells whether an input's value is meant as a selector.
---@param value any
---@return boolean
function M.is_selector(value)
  return type(value) == "string" and value:byte(1) == 36
end

--- Parses a selector.
---@param text string
---@return table|nil selector { text, root = "params"|"node"|"env", node, path = list of steps }
---@return string|nil message, string|nil code "invalid"
function M.parse(text)
  local root, rest = text:match("^%$(%w+)%.(.+)$")
  local read = ROOTS[root]
  local selector = read and read(rest)
  if not selector or not selector.path then
    return nil, ("Invalid reference '%s': expected $ctx.params.NAME, $node.TASK.output or $env.NAME"):format(text),
      "invalid"
  end
  selector.text = text
  return selector
end

--- One step into a value: a key of a table, or an index (from 0) of an array.
local function step_into(value, step)
  if type(value) ~= "table" then return nil end
  local found = value[step]
  if found == nil and step:find("^%d+$") then found = value[tonumber(step) + 1] end
  return found
end

--- Resolves a selector.
---@param selector table from M.parse
---@param env table { params = table, results = { task = output }, env = { NAME = text } }
---@return any value nil without a message: the task it names has given nothing
---@return string|nil message, string|nil code "not_found"
function M.resolve(selector, env)
  local path = selector.path
  local value
  if selector.root == "node" then
    value = (env.results or {})[selector.node]
    if value == nil and #path == 0 then return nil end
  elseif selector.root == "params" then
    value = env.params or {}
    if value[path[1]] == nil then return nil, ("Param '%s' not found in context."):format(path[1]), "not_found" end
  else
    value = (env.env or {})[path[1]]
    if value == nil then return nil, ("%s: %s is not set"):format(selector.text, path[1]), "not_found" end
    return value
  end
  for i, step in ipairs(path) do
    local inner = step_into(value, step)
    if inner == nil then
      local before = table.concat(path, ".", 1, i - 1)
      return nil, ("%s: there is no '%s' in %s"):format(selector.text, step,
        before ~= "" and "'" .. before .. "'" or selector.node and "the output of " .. selector.node or "it"),
        "not_found"
    end
    value = inner
  end
  return value
end

return M
