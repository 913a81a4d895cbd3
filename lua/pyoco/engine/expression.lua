--- What a loop or switch asks of its expression, and how it is called when that goes wrong. Values are looked up in the
--- scope that the frame stands in, a condition's in the iteration that it follows.
local expr = require "pyoco.flow.expr"
local wiring = require "pyoco.engine.wiring"

local sources, error, tostring, format, next, type = wiring.sources, error, tostring, string.format, next, type
local math_tointeger, tonumber = math.tointeger, tonumber

local M = {}

local TEXT_OF <const> = { times = "count", each = "over", ["until"] = "cond", switch = "on" }

--- Parses the expression of a frame.
---@param body table of the plan
function M.prepare(body)
  local spec = body.spec
  local text = spec[TEXT_OF[spec.kind]]
  if not text then return end
  local compiled, problem = expr.parse(tostring(text))
  if not compiled then error(format("graph: frame %s: %s", spec.id, problem.message)) end
  body.compiled = compiled
  if spec.kind == "times" then body.constant = math_tointeger(tonumber(text)) end -- no need to look anything up
end

--- What a message about a frame begins with: where it stands, and what it looks like.
---@param body table
---@return string `loop at 3:7 (x["$ctx.n"]): `
function M.place(body)
  local spec = body.spec
  local where = spec.file and format("%s:%s", spec.file, spec.line)
    or spec.line and format("%s:%s", spec.line, spec.column) or spec.id
  return format("%s at %s (%s): ", spec.kind == "switch" and "switch" or "loop", where,
    spec.title or spec[TEXT_OF[spec.kind]])
end

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
---@return integer? count
---@return string? message without a count
function M.count(eng, body, scope)
  if body.constant then return bounded(eng, body.constant) end
  local count, message = expr.count(body.compiled, sources(eng, scope))
  if not count then return nil, message end
  return bounded(eng, count)
end

--- The items of `x["over as item"]`.
---@param eng table
---@param body table
---@param scope table
---@return any[]? items as they are now, whatever tasks save meanwhile
---@return string? message without items
function M.items(eng, body, scope)
  local read = sources(eng, scope)
  local found, message = expr.eval(body.compiled, read)
  if type(found) ~= "table" or next(found) ~= nil then -- {} of Lua is an empty list too
    found, message = expr.items(body.compiled, read)
  end
  if not found then return nil, message end
  local count
  count, message = bounded(eng, #found)
  if not count then return nil, message end
  eng.owned = nil -- what is inside of the items stays, too: save.lua copies it before it changes it
  return table.move(found, 1, count, 1, {})
end

--- Whether the condition of `x % cond` holds.
---@param eng table
---@param body table
---@param scope table the iteration's
---@return boolean? holds
---@return string? message when it is neither true nor false
function M.condition(eng, body, scope) return expr.condition(body.compiled, sources(eng, scope)) end

--- The label that a switch looks for.
---@param eng table
---@param body table
---@param scope table
---@return string? label
---@return string? message without a label
function M.label(eng, body, scope) return expr.label(body.compiled, sources(eng, scope)) end

return M
