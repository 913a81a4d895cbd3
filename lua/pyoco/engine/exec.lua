--- `ctx:exec`: a task runs a program and waits for its end, while other tasks of the run go on.
---
---     local r = ctx:exec{ "python", "train.py", "--lr", 0.1, env = { CUDA_VISIBLE_DEVICES = "0" } }
---     return r.output
---
--- What the program writes is told line by line in the task's log. The program has the environment of the worker
--- without its secrets, PYOCO_RUN_ID, PYOCO_FLOW, PYOCO_TASK, PYOCO_ATTEMPT, and `env`; it runs in the worker's folder,
--- or in `cwd`, which counts from there. It is ended with its task and never outlives its run.
local json = require "host.json"
local task = require "host.task"
local context = require "pyoco.engine.context"
local output = require "pyoco.engine.output"
local processes = require "pyoco.engine.processes"

local type, pairs, ipairs, tostring, error = type, pairs, ipairs, tostring, error
local math_type, find, sub, format, gmatch = math.type, string.find, string.sub, string.format, string.gmatch
local concat, insert, select = table.concat, table.insert, select

local M = {}

local SHELL <const> = "/bin/sh"
local USUAL_PATH <const> = "/usr/local/bin:/usr/bin:/bin"
local MAX_SECONDS <const> = 31536000
local STDERR_LINES <const>, STDERR_BYTES <const> = 10, 2048 -- of what an error quotes
local SHOWN <const> = 60

local SIGNALS <const> = { "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
  "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM",
  "PROF", "WINCH", "IO", "PWR", "SYS" }

-- what is asked for ---------------------------------------------------------------------------------------------

local function has_nul(text) return find(text, "\0", 1, true) ~= nil end

--- A text or a number as text; nil and what is wrong with it.
local function text_of(given, what)
  if math_type(given) then return tostring(given) end
  if type(given) ~= "string" then return nil, format("%s: expected a text or a number, got a %s", what, type(given)) end
  if has_nul(given) then return nil, what .. ": a text with a NUL byte cannot be given to a program" end
  return given
end

local function a_text(given) return type(given) == "string" and "" ~= given and not has_nul(given) end

local KEYS <const> = {
  env = { "a table of NAME = text", function(given) return type(given) == "table" end },
  cwd = { "the path of a folder", a_text },
  stdin = { "a text", function(given) return type(given) == "string" end },
  timeout_sec = { "seconds above 0, at most 31536000",
    function(given) return math_type(given) and given > 0 and given <= MAX_SECONDS end },
  check = { "true or false", function(given) return type(given) == "boolean" end },
  quiet = { "true or false", function(given) return type(given) == "boolean" end },
  shell = { "a text for the shell", a_text },
}

--- What is wrong with the named fields; nil when nothing is.
local function field_fault(spec)
  for key, given in pairs(spec) do
    local known = KEYS[key]
    if known then
      if not known[2](given) then
        return format("%s: expected %s, got %s", key, known[1],
          type(given) == "number" and tostring(given) or "a " .. type(given))
      end
    elseif math_type(key) ~= "integer" then
      return format("unknown field '%s'; %s", tostring(key),
        require("pyoco.nearest").hint(key, require("pyoco.sorted").keys(KEYS), "known: "))
    end
  end
end

--- The program and its arguments.
local function arguments(spec)
  if spec.shell then
    if #spec > 0 then return nil, "give a program as a list, or a text for the shell, not both" end
    return { SHELL, "-c", spec.shell }
  end
  if #spec == 0 then return nil, "no program: ctx:exec{ \"program\", \"argument\", ... } or { shell = \"...\" }" end
  local args, count = {}, 0
  for key in pairs(spec) do
    if math_type(key) then count = count + 1 end
  end
  if count ~= #spec then return nil, "the list has a hole: one of the arguments is nil" end
  for i = 1, #spec do
    local text, message = text_of(spec[i], i == 1 and "program" or format("argument %d", i - 1))
    if not text then return nil, message end
    args[i] = text
  end
  if args[1] == "" then return nil, "program: an empty text" end
  return args
end

--- What every program of a run is given: ours without secrets, and what the run is called. Made once a run.
local function base_environment(eng)
  local base = eng.processes.environment
  if not base then
    base = require("pyoco.config_child").environment()
    base.PYOCO_RUN_ID, base.PYOCO_FLOW = eng.run.run_id, eng.run.flow_name or eng.flow.name
    for name, text in pairs(base) do
      if type(text) ~= "string" or has_nul(text) then base[name] = nil end
    end
    eng.processes.environment = base
  end
  return base
end

--- The list of NAME=text, and where programs are looked for.
local function environment(eng, node, given)
  local env = {}
  for name, text in pairs(base_environment(eng)) do env[name] = text end
  env.PYOCO_TASK, env.PYOCO_ATTEMPT = node.name, tostring(node.attempt or 1)
  for name, item in pairs(given or {}) do
    if type(name) ~= "string" or name == "" or find(name, "[=%z]") then
      return nil, format("env: '%s' cannot be the name of a variable", tostring(name))
    end
    local text, message = item == false and "" or nil, nil
    if item ~= false then text, message = text_of(item, "env." .. name) end
    if not text then return nil, message end
    env[name] = item ~= false and text or nil
  end
  local list = {}
  for name, text in pairs(env) do list[#list + 1] = name .. "=" .. text end
  return list, env.PATH or USUAL_PATH
end

--- Checks what was given and makes a program of it.
local function program(eng, node, spec)
  if type(spec) ~= "table" then return nil, format("expected a table, got a %s", type(spec)) end
  local fault = field_fault(spec)
  if fault then return nil, fault end
  local args, message = arguments(spec)
  if not args then return nil, message end
  local env, search = environment(eng, node, spec.env)
  if not env then return nil, search end
  return { args = args, env = env, search = search, cwd = spec.cwd, stdin = spec.stdin }
end

-- what became of it ---------------------------------------------------------------------------------------------

--- How an error calls a program.
local function name_of(spec)
  local text = output.clean(spec.shell or tostring(spec[1]))
  if #text <= SHOWN then return text end
  return sub(text, 1, utf8.offset(text, 0, SHOWN) - 1) .. "..."
end

--- The last line that is JSON.
local function json_of(ended)
  local lines, is_cut = ended:last_lines()
  if is_cut then return nil, true end
  for _, line in ipairs(lines) do
    if find(line, "^[ \t]*[%[{\"%-%dtfn]") then
      local value = json.decode(line)
      if value ~= nil then return value end
    end
  end
end

--- The last lines of stderr, for an error.
local function last_words(stderr)
  local lines = {}
  for line in output.tail(stderr, STDERR_BYTES):gmatch("[^\r\n]+") do lines[#lines + 1] = line end
  if #lines == 0 then return "" end
  return "\n" .. concat(lines, "\n", math.max(1, #lines - STDERR_LINES + 1))
end

--- The result of a program that has ended.
local function result_of(spec, entry, ended)
  local result = { ok = ended.code == 0 and not entry.is_timed_out, code = ended.code }
  local cut_out, cut_err
  result.stdout, cut_out = ended:text(1)
  result.stderr, cut_err = ended:text(2)
  result.truncated = cut_out or cut_err
  local found, is_long = json_of(ended)
  if found ~= nil and found ~= json.null then result.output = found end
  result.output_lost = is_long
  if ended.signal then
    result.signal = SIGNALS[ended.signal] and "SIG" .. SIGNALS[ended.signal] or "signal " .. ended.signal
  end
  if result.ok then return result end
  local how = result.signal and "killed by " .. result.signal or format("exit code %d", ended.code)
  if entry.is_timed_out then
    result.timed_out = true
    how = format("timed out after %g s (timeout_sec), %s", spec.timeout_sec, how)
  end
  result.error = format("%s: %s%s", name_of(spec), how, last_words(result.stderr))
  return result
end

--- The result of a program that could not be started, as a shell would tell it.
local function not_started(message, code)
  return { ok = false, code = code == "not_found" and 127 or 126, stdout = "", stderr = "", truncated = false,
    error = message }
end

--- What is wrong with what ctx:exec was given; for pyoco.testing, which runs no program.
---@param spec any
---@return string? message
function M.fault(spec)
  if type(spec) ~= "table" then return format("expected a table, got a %s", type(spec)) end
  return field_fault(spec) or select(2, arguments(spec))
end

--- The result of a program that was not run; for pyoco.testing.
---@param spec table that has no fault
---@param ended table { code, signal = number|nil, stdout, stderr, timed_out }
---@return table result as M.run returns it
function M.result(spec, ended)
  local texts = { ended.stdout, ended.stderr }
  function ended.text(_, which) return texts[which], false end
  function ended.last_lines()
    local lines = {}
    for line in gmatch(ended.stdout, "[^\r\n]+") do insert(lines, 1, line) end
    return lines, false
  end
  return result_of(spec, { is_timed_out = ended.timed_out }, ended)
end

--- What a program writes goes to the log of the attempt that started it.
local function logger(node)
  local attempt = node.attempt
  return function(text)
    if node.attempt == attempt then output.append(node, text) end
  end
end

--- Runs a program to its end: the method `ctx:exec`.
---@param ctx table the ctx of the task that runs
---@param spec table { program, argument, ... (texts and numbers), or shell = text for /bin/sh; env = { NAME = text, or
---  false to remove it }, cwd = folder, stdin = text (else it reads nothing), timeout_sec, check = true (raise when it
---  fails), quiet = false (do not log what it writes) }
---@return table result { ok, code = integer|nil, signal = "SIGKILL"|nil, stdout, stderr = their last 64 KB as UTF-8,
---  truncated = there was more, output = last JSON line of stdout|nil, output_lost = true when the last line was too
---  long to be read (1 MB), error = text|nil, timed_out = true|nil }. Raises on a spec that is wrong, when the task is
---  cut, and, unless check is false, when the program fails.
function M.run(ctx, spec)
  local eng, node = context.of(ctx)
  if not eng then error("ctx:exec: called without its ctx; write ctx:exec{...}, with a colon", 2) end
  local run_processes = processes.of(eng)
  local wanted, message = program(eng, node, spec)
  if not wanted then error("ctx:exec: " .. message, 2) end
  if eng.before_callout then eng.before_callout() end
  local entry = { node = node, program = wanted, on_text = not spec.quiet and logger(node) or nil,
    timeout_sec = spec.timeout_sec }
  local result = task.wait(function(resume)
    function entry.on_end(ended, text, code)
      resume(ended and result_of(spec, entry, ended) or not_started(text, code))
    end
    return run_processes:run(entry)
  end)
  if not result.ok and spec.check ~= false then error(result.error, 0) end
  return result
end

return M
