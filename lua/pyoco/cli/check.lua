--- `client.lua check`: what is wrong with flow files, and what their graphs look like. Needs no gateway.
local json = require "host.json"
local config = require "pyoco.config"
local output = require "pyoco.cli.output"
local problems = require "pyoco.cli.problems"
local show = require "pyoco.flow.show"
local show_model = require "pyoco.flow.show_model"
local source = require "pyoco.cli.source"
local text = require "pyoco.cli.text"
local uv = require "luv"

local M = {}

local LISTED = 8 -- functions of a module that are named
local LONGEST_PARAM = 60

--- Graph -> text, for each value of --format but `text`.
local FORMATS = {
  mermaid = function(graph) return require("pyoco.flow.show_mermaid").text(graph) end,
  dot = function(graph) return require("pyoco.flow.show_dot").text(graph) end,
  json = function(graph) return require("pyoco.flow.canonical").encode(graph) .. "\n" end,
}

local function bad_input(message, code, hint)
  return nil, message, code, { shape = code == "not_found" and "file" or "arguments", reason = message,
    hints = { hint or "check the path; it is taken from the current folder" } }
end

--- The flow files of a folder, by name.
local function files_of(folder)
  local names, scan = {}, assert(uv.fs_scandir(folder))
  for name, kind in uv.fs_scandir_next, scan do
    local is_flow_file = name:find("^[^.].*%.lua$") or source.is_yaml(name)
    if is_flow_file and kind ~= "directory" then names[#names + 1] = name end
  end
  table.sort(names)
  local paths = {}
  for i, name in ipairs(names) do paths[i] = folder:gsub("(.)/+$", "%1") .. "/" .. name end
  return paths
end

--- All files that were asked for: { path, of_folder }.
local function expand(paths)
  local files = {}
  for _, path in ipairs(paths) do
    local stat = uv.fs_stat(path)
    if not stat then
      return bad_input(("%s: No such file or directory"):format(path ~= "" and path or "''"), "not_found")
    end
    if stat.type ~= "directory" then
      files[#files + 1] = { path = path }
    else
      for _, inner in ipairs(files_of(path)) do files[#files + 1] = { path = inner, of_folder = path } end
    end
  end
  if #files == 0 then return bad_input(table.concat(paths, ", ") .. ": no *.lua and no *.yaml in it", "not_found") end
  return files
end

local function count(n, noun) return ("%d %s%s"):format(n, noun, n == 1 and "" or "s") end

--- What a file is, in a few words.
local function verdict(found)
  if #found.errors > 0 then return count(#found.errors, "error") end
  if found.is_other then return "no flow document" end
  if found.functions then
    local names = table.concat(found.functions, ", ", 1, math.min(LISTED, #found.functions))
    return "a module of tasks: " .. names .. (#found.functions > LISTED and ", …" or "")
  end
  local parts = {}
  for i, flow in ipairs(found.flows) do
    parts[i] = ("flow %s: %s"):format(text.clean(flow.name), show_model.summary(show_model.read(flow.graph)))
  end
  return table.concat(parts, "; ")
end

local function print_problems(found, paint, file)
  for _, kind in ipairs { "error", "warning" } do
    for _, problem in ipairs(found[kind .. "s"]) do
      file:write(table.concat(problems.lines(problem, kind, paint), "\n"), "\n")
    end
  end
end

local MARKS = { good = { "green", "✔" }, bad = { "red", "✘" }, warned = { "yellow", "!" }, other = { "dim", "·" } }

local function mark_of(found)
  if #found.errors > 0 then return MARKS.bad end
  if #found.flows == 0 then return MARKS.other end
  return #found.warnings > 0 and MARKS.warned or MARKS.good
end

--- What one should know before running a flow: its parameters, and that it runs programs.
local function print_notes(flow, paint, is_document)
  local parts = {}
  for i, param in ipairs(flow.params) do
    local near = param.near and (" (or is %s meant?)"):format(text.clean(param.near)) or ""
    parts[i] = text.cut(text.clean(param.name .. (param.default and "=" .. param.default or near)), LONGEST_PARAM)
  end
  if #parts > 0 then io.stdout:write(paint("dim", "  params: " .. table.concat(parts, ", ")), "\n") end
  if is_document and #flow.commands > 0 then
    io.stdout:write(paint("dim", "  it runs programs: only workers started with --allow-commands take it"), "\n")
  end
  if #flow.spawns > 0 and not is_document then
    io.stdout:write(paint("dim", "  it spawns runs: only workers started with --allow-spawn run it"), "\n")
  elseif #flow.spawns > 0 then
    io.stdout:write(paint("dim", "  it spawns runs: a submit of it waits for approval, unless the gateway asks for "
      .. "none\n  of one tag at most 200 runs are in hand (PYOCO_CONSUMER_MAX_ACK_PENDING), those that wait included;\n"
      .. "  PYOCO_SPAWN_CHILD_TAG gives child runs a tag of their own"), "\n")
  end
end

--- Prints one file's line, problems, and (alone) its drawing.
local function print_text(found, paint, is_alone)
  local mark = mark_of(found)
  io.stdout:write(("%s %s  %s\n"):format(paint(mark[1], mark[2]), paint("bold", text.clean(found.path)),
    verdict(found)))
  for _, flow in ipairs(is_alone and found.flows or {}) do
    local lines = show.lines(flow.graph, { paint = paint, width = text.width, clean = text.clean })
    for _, line in ipairs(lines) do io.stdout:write("  ", line, "\n") end
    print_notes(flow, paint, source.is_yaml(found.path))
  end
  print_problems(found, paint, io.stdout)
end

--- A problem as --output json has it.
local function plain(list)
  local copies = {}
  for i, problem in ipairs(list) do
    copies[i] = { file = problem.file, line = problem.line, column = problem.column, message = problem.message,
      hint = problem.hint, code = problem.code }
  end
  return json.array(copies)
end

local function print_json(found)
  local flows = {}
  for i, flow in ipairs(found.flows) do flows[i] = { name = flow.name, tasks = #flow.graph.nodes } end
  local line = { file = found.path, flows = json.array(flows), errors = plain(found.errors),
    warnings = plain(found.warnings), functions = found.functions and json.array(found.functions) or nil }
  io.stdout:write(output.json_line(assert(json.encode(line, { order = { "file", "flows", "errors", "warnings" } }))),
    "\n")
end

local function print_graphs(found, format)
  for _, flow in ipairs(found.flows) do io.stdout:write(FORMATS[format](flow.graph)) end
  print_problems(found, output.painter(false), io.stderr)
end

--- Two Lua flows of one name in one folder: no worker could tell which is meant.
local function check_names(found, declared)
  for _, flow in ipairs(source.is_yaml(found.path) and {} or found.flows) do
    local other = declared[flow.name]
    if other then
      found.errors[#found.errors + 1] = { file = found.path,
        message = other == found.path and ("flow '%s' is declared twice"):format(flow.name)
          or ("flow '%s' is declared twice: in %s and in %s"):format(flow.name, other, found.path),
        hint = "rename one" }
    end
    declared[flow.name] = other or found.path
  end
end

local function read(file, values, cfg)
  local found, message, code = source.read(file.path, { roots = source.roots(file.path, values.tasks, cfg.task_path) })
  if not found and file.of_folder then -- a link that leads nowhere: the others are checked all the same
    found = { path = file.path, flows = {}, errors = { { file = file.path, message = message } }, warnings = {} }
    return found
  end
  if found and file.of_folder and source.is_yaml(file.path) and #found.errors > 0
      and not source.looks_like_document(found.text) then
    found.is_other, found.errors, found.warnings = true, {}, {}
  end
  return found, message, code
end

--- What follows from all files together.
local function print_summary(totals, paint)
  local parts = { count(totals.files, "file"), count(totals.flows, "flow"),
    paint(totals.errors > 0 and "red" or "green", count(totals.errors, "error")),
    paint(totals.warnings > 0 and "yellow" or "dim", count(totals.warnings, "warning")) }
  io.stdout:write("\n", table.concat(parts, ", "), "\n")
end

--- check: flow files and folders of them.
---@param _ table the gateway, not needed
---@param values table { file = paths, workflow_file, format, output, tasks }
---@param context table { paint, interrupt }
---@return integer|nil exit code 0, or 1 when there is an error
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.run(_, values, context)
  local cfg, faults = config.load { only = { "worker" } }
  if not cfg then return bad_input(faults, "invalid", "docs/reference/config.md has every option") end
  local paths = { table.unpack(values.file or {}) }
  paths[#paths + 1] = values.workflow_file
  local files, message, code, failure = expand(paths)
  if not files then return nil, message, code, failure end
  context.interrupt.on_signal = require("host.task").cancel
  local totals, declared = { files = #files, flows = 0, errors = 0, warnings = 0 }, {}
  for _, file in ipairs(files) do
    local found
    found, message, code = read(file, values, cfg)
    if context.interrupt.seen then return nil, "interrupted", "cancelled" end
    if not found then return bad_input(message, code) end
    check_names(found, declared)
    totals.flows = totals.flows + #found.flows
    totals.errors, totals.warnings = totals.errors + #found.errors, totals.warnings + #found.warnings
    if values.output == "json" then
      print_json(found)
    elseif values.format == "text" then
      print_text(found, context.paint, #files == 1)
    else
      print_graphs(found, values.format)
    end
  end
  if #files > 1 and values.format == "text" and not values.output then print_summary(totals, context.paint) end
  return totals.errors > 0 and 1 or 0
end

return M
