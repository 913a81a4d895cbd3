--- Save paths: where a value is kept for later tasks. `outputs` of a task and ctx:set / ctx:get name them.
---
---     scratch.seen.count     results.fetch.bytes     params.limit
---
--- The first step is a root, the others are keys; a number is an index (from 0) where it meets a list.
local M = {}

local ROOTS <const> = { scratch = true, results = true, params = true }
local MAX_STEPS <const> = 64
local STEP <const> = "^[%w_\x80-\xff-]+$"

--- What is wrong with one step; nil when nothing is.
local function wrong_step(step, index)
  if index == 1 and not ROOTS[step] then return "it must begin with scratch., results. or params." end
  if step == "" then return "it has an empty step" end
  if not utf8.len(step) then return "it is not UTF-8" end
end

--- A path that was given as steps, which may hold any text.
local function from_steps(steps)
  if #steps > MAX_STEPS then return nil, ("it has more than %d steps"):format(MAX_STEPS) end
  local path = { root = steps[1], text = tostring(steps[1]) }
  for i = 1, #steps do
    local step = steps[i]
    if math.type(step) == "integer" and i > 1 then step = ("%d"):format(step) end
    if type(step) ~= "string" then return nil, ("its step %d is a %s"):format(i, type(step)) end
    local problem = wrong_step(step, i)
    if problem then return nil, problem end
    if i > 1 then
      path[i - 1] = step
      path.text = path.text .. (step:find(STEP) and "." .. step or ("[%q]"):format(step))
    end
  end
  return path
end

--- A path that was given as text: its steps are plain names.
local function from_text(text)
  local steps = {}
  for step in (text .. "."):gmatch("([^.]*)%.") do
    steps[#steps + 1] = step
    local problem = wrong_step(step, #steps)
    if problem then return nil, problem end
    if not step:find(STEP) then
      return nil, ("'%s' is not a plain name (letters, digits, _ and -)"):format(step)
    end
  end
  return from_steps(steps)
end

--- Reads a save path.
---@param path string|table text, or a list of steps (texts, and integers for indices) of which any may have dots
---@param may_be_root boolean? whether a root alone will do
---@return table? parsed list of the steps after the root; { root = "scratch"|"results"|"params", text }
---@return string? message, string? code "invalid"
function M.parse(path, may_be_root)
  local parsed, problem
  if type(path) == "string" then
    parsed, problem = from_text(path)
  elseif type(path) == "table" and #path > 0 then
    parsed, problem = from_steps(path)
  else
    return nil, ("expected a path such as scratch.name, got %s"):format(type(path) == "table" and "an empty list"
      or "a " .. type(path)), "invalid"
  end
  if parsed and #parsed == 0 and not may_be_root then
    parsed, problem = nil, ("it names no value: write %s.NAME"):format(parsed.root)
  end
  if parsed then return parsed end
  return nil, ("save path '%s': %s"):format(type(path) == "string" and path or "of steps", problem), "invalid"
end

return M
