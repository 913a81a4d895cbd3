--- What a loop or switch asks of its expression: a count, a list, a condition, a text; and what it says when the value
--- is none. Values are looked up in the scope that the frame stands in, a condition's in the iteration it follows.
local json = require "host.json"
local expr = require "pyoco.flow.expr"
local wiring = require "pyoco.engine.wiring"

local null, is_array = json.null, json.is_array
local type, tostring, error, format = type, tostring, error, string.format
local math_tointeger, sub, offset, next = math.tointeger, string.sub, utf8.offset, next

local M = {}

local LONGEST_SHOWN <const> = 60
local TEXT_OF <const> = { times = "count", each = "over", ["until"] = "cond", switch = "on" }

--- A text that is not too long for a message.
local function short(text)
  if #text <= LONGEST_SHOWN then return text end
  return sub(text, 1, offset(text, 0, LONGEST_SHOWN) - 1) .. "..."
end

--- A value in a message, with its type.
local function described(value)
  local kind = type(value)
  if value == nil or value == null then return "nothing (null)" end
  if kind == "table" then return is_array(value) and "a list" or "a mapping" end
  if kind == "string" then return format("the text '%s'", short(value)) end
  return format("the %s %s", kind, tostring(value))
end

--- Parses the expression of a frame.
---@param body table of the plan
function M.prepare(body)
  local spec = body.spec
  local text = spec[TEXT_OF[spec.kind]]
  if not text then return end
  local compiled, problem = expr.parse(tostring(text))
  if not compiled then error(format("graph: frame %s: %s", spec.id, problem.message)) end
  body.compiled = compiled
end

--- How a loop or switch is called in messages: where it stands, and its text.
---@param body table
---@return string `loop at 3:7 (x["$ctx.n"]): `
function M.place(body)
  local spec, kind = body.spec, body.spec.kind
  local where = spec.file and format("%s:%s", spec.file, spec.line)
    or format("%s:%s", spec.line or "?", spec.column or "?")
  local text = short(tostring(spec[TEXT_OF[kind]]))
  if kind == "switch" then return format("switch at %s (switch(\"%s\")): ", where, text) end
  local subject = #body.tasks == 1 and not body.frames and body.tasks[1].name or "(...)"
  if kind == "until" then return format("loop at %s (%s %% \"%s\"): ", where, subject, text) end
  if kind == "each" then text = format("\"%s as %s\"", text, spec.as) end
  if kind == "times" and not math_tointeger(text) then text = format("\"%s\"", text) end
  return format("loop at %s (%s[%s]): ", where, subject, text)
end

local function evaluate(eng, body, scope)
  return expr.eval(body.compiled, wiring.sources(eng, scope))
end

--- The value is not what the frame needs.
local function expected(what, value) return format("expected %s, got %s", what, described(value)) end

--- Refuses more iterations than a run may have in one loop.
local function bounded(eng, count)
  if count <= eng.max_iterations then return count end
  return nil, format("%d iterations are more than the %d that a loop may have (PYOCO_FLOW_MAX_ITERATIONS)", count,
    eng.max_iterations)
end

--- The number of iterations of `x[count]`.
---@param eng table
---@param body table
---@param scope table
---@return integer? count; nil and a message
---@return string? message
function M.count(eng, body, scope)
  local value, message = evaluate(eng, body, scope)
  if message then return nil, message end
  local count = type(value) == "number" and math_tointeger(value)
  if not count or count < 0 then return nil, expected("a whole number, 0 or more", value) end
  return bounded(eng, count)
end

--- The items of `x["over as item"]`.
---@param eng table
---@param body table
---@param scope table
---@return any[]? list; nil and a message
---@return string? message
function M.list(eng, body, scope)
  local value, message = evaluate(eng, body, scope)
  if message then return nil, message end
  if type(value) ~= "table" or not is_array(value) and next(value) ~= nil then
    return nil, expected("a list", value)
  end
  local count
  count, message = bounded(eng, #value)
  return count and value, message
end

--- Whether the condition of `x % cond` holds.
---@param eng table
---@param body table
---@param scope table the iteration's
---@return boolean? holds; nil and a message
---@return string? message
function M.condition(eng, body, scope)
  local value, message = evaluate(eng, body, scope)
  if message then return nil, message end
  if type(value) ~= "boolean" then return nil, expected("a condition that is true or false", value) end
  return value
end

--- The text that the labels of a switch are compared with.
---@param eng table
---@param body table
---@param scope table
---@return string? text; nil and a message
---@return string? message
function M.text(eng, body, scope)
  local value, message = evaluate(eng, body, scope)
  if message then return nil, message end
  if type(value) == "table" then return nil, expected("a text, a number, true or false", value) end
  if value == nil or value == null then return "null" end
  return tostring(value)
end

return M
