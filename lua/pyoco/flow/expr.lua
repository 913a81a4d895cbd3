--- Expressions: what stands in quotes in a loop or switch of a graph, such as `$ctx.n > 3 and $ctx.mode in ['a', 'b']`.
---
---   or   and   not   == != < <= > >= in not in   + -   * / % //   -x        loosest first; comparisons do not chain
---   numbers, 'text' "text", true false null (True False None), [lists], (brackets), $selectors (flow/selector.lua)
---
--- No calls; parsing and evaluation are bounded. null and what is not there are nil. `and` and `not` take true, false
--- and null; `a or b` is a unless that is false or null, so `$ctx.n or 3` gives a default.
local eval = require "pyoco.flow.expr_eval"
local parse = require "pyoco.flow.expr_parse"

local M = {}

--- Parses an expression.
---@param text string
---@return table|nil compiled { text, reads = { selector, ... } }, each selector as from selector.parse, with at and to
---@return table|nil problem { message, at, to (bytes of the text), hint, got, names }
M.parse = parse.parse

--- Evaluates an expression.
---@param compiled table from M.parse
---@param sources table see selector.resolve
---@return any value nil for null and for what is not there; not a copy: not to be changed
---@return string|nil message why it cannot be evaluated
M.eval = eval.eval

--- Evaluates a condition.
---@param compiled table
---@param sources table
---@return boolean|nil holds
---@return string|nil message
function M.condition(compiled, sources)
  local value, message = eval.eval(compiled, sources)
  if message then return nil, message end
  if type(value) ~= "boolean" then
    return nil, ("a condition must be true or false: %s"):format(eval.describe(compiled, value))
  end
  return value
end

--- Evaluates a number of times.
---@param compiled table
---@param sources table
---@return integer|nil count from 0
---@return string|nil message
function M.count(compiled, sources)
  local value, message = eval.eval(compiled, sources)
  if message then return nil, message end
  local count = type(value) == "number" and math.tointeger(value)
  if not count or count < 0 then
    return nil, ("a number of times must be a whole number from 0: %s%s"):format(eval.describe(compiled, value),
      type(value) == "table" and " (once for each item is x[\"$ctx.items as item\"])" or "")
  end
  return count
end

--- Evaluates a list of items.
---@param compiled table
---@param sources table
---@return table|nil list not a copy
---@return string|nil message
function M.items(compiled, sources)
  local value, message = eval.eval(compiled, sources)
  if message then return nil, message end
  if type(value) ~= "table" or not require("host.json").is_array(value) then
    return nil, ("a loop over items needs a list: %s"):format(eval.describe(compiled, value))
  end
  return value
end

--- A switch's value or a number in a label, as the text that is compared: 2 and 2.0 are "2", null is "null".
---@param value any
---@return string|nil text nil if it is a list or a mapping
function M.label_text(value)
  if type(value) == "number" then
    return math.tointeger(value) and ("%d"):format(math.tointeger(value)) or ("%.14g"):format(value)
  end
  if type(value) == "table" then return nil end
  if value == nil then return "null" end
  return tostring(value)
end

--- Evaluates a switch's value to the label that is looked for.
---@param compiled table
---@param sources table
---@return string|nil label
---@return string|nil message
function M.label(compiled, sources)
  local value, message = eval.eval(compiled, sources)
  if message then return nil, message end
  local label = M.label_text(value)
  if not label then
    return nil, ("a switch needs a text, a number, true, false or null: %s"):format(eval.describe(compiled, value))
  end
  return label
end

return M
