--- Tasks that are commands: `run: [python, train.py]` or `run: "python train.py | tee log"`.
---
--- The program gets its inputs twice: as JSON on stdin, all of them in one object, and as variables INPUT_<NAME>. The
--- last line of its stdout that is JSON is the task's output.
local json = require "host.json"

local type, pairs, ipairs, format, gsub, upper = type, pairs, ipairs, string.format, string.gsub, string.upper

local M = {}

local VARIABLE_BYTES <const> = 32768 -- the kernel limits one variable, and all of them: larger inputs are on stdin only

--- A value as the text of an argument or variable: texts as they are, all else as JSON.
local function text_of(value)
  if type(value) == "string" then return value end
  return assert(json.encode(value == nil and json.null or value, { sort = true }))
end

--- Adds INPUT_<NAME> for each input.
local function add_inputs(env, inputs)
  for name, value in pairs(inputs) do
    local text = text_of(value)
    if #text <= VARIABLE_BYTES and not text:find("\0", 1, true) then
      env["INPUT_" .. gsub(upper(name), "[^A-Z0-9_]", "_")] = text
    end
  end
end

--- Puts a value in the place of each selector.
local function replaced(value, what, resolve)
  local found, message = resolve(value)
  if message then error(format("%s: %s", what, message), 0) end
  if found == nil then error(format("%s: '%s' has no value", what, value), 0) end
  return text_of(found)
end

--- The spec for exec.
local function spec_of(command, inputs, resolve)
  local spec = { env = {}, stdin = text_of(inputs) }
  add_inputs(spec.env, inputs)
  for name, value in pairs(command.env or {}) do spec.env[name] = replaced(value, "env." .. name, resolve) end
  if command.cwd then spec.cwd = replaced(command.cwd, "cwd", resolve) end
  if type(command.run) == "string" then
    spec.shell = command.run
    return spec
  end
  for i, item in ipairs(command.run) do spec[i] = replaced(item, format("run[%d]", i), resolve) end
  return spec
end

--- The function of a command task.
---@param node table graph node with command = { run = list or text, env, cwd }
---@return fun(ctx: table, inputs: table, resolve: fun(value: any): any, string|nil): any fn runs the program and
---  returns the last JSON line of its stdout, or nil; raises when the program fails
function M.task(node)
  local command = node.command
  return function(ctx, inputs, resolve)
    local result = ctx:exec(spec_of(command, inputs, resolve))
    if result.output_lost then
      error("output: the last line of stdout is longer than 1 MB; write large data to a file and print its path", 0)
    end
    return result.output
  end
end

--- Why a command task of a submitted document does not run here: such commands are for workers that were started for
--- that.
---@param task string its name
---@return string message
function M.refusal(task)
  return format("task '%s' runs a command; this worker takes no commands from submitted documents: start it with "
    .. "--allow-commands", task)
end

return M
