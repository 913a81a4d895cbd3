--- Command lines as tables: rows -> parser, help and documentation (on lua-argparse).
---
--- A program is { name, doc, epilog=, config = {short names of pyoco.config_schema}, options = {rows},
--- commands = {rows} }.
--- An option is { "--flag" or "POSITIONAL", doc=, default=, required=, choices=, type="integer"|"number" ..., many=,
--- flag= (takes no value), metavar=, optional= (a positional that may be left out), not_empty= (an option that "" is no
--- value of; no positional may be empty) }; its value lands under target=, or the name without dashes, as flow_name.
--- `many` makes it a list.
--- A command is { "name", doc=, options = {rows}, needs = { names of values of which one must be given }, ... };
--- further fields are the caller's. A name of two words is a verb of a group, as "api-key create"; the program's
--- `groups` then has a line of documentation for each first word.
local argparse = require "argparse"
local host = require "host"
local config = require "pyoco.config"
local nearest = require "pyoco.nearest"
local types = require "pyoco.config_type"

local M = {}

--- "--flow-name" and "RUN_ID" -> flow_name, run_id; unless the row says otherwise.
local function target_of(row) return row.target or (row[1]:gsub("^%-+", ""):gsub("-", "_"):lower()) end

--- Text -> value of an option's type; the message completes argparse's error.
local function converter(row)
  if not row.type then return nil end
  return function(text)
    local value = types[row.type].parse(text)
    local fits = value ~= nil and not (row.min and value < row.min) and not (row.max and value > row.max)
    if fits then return value end
    return nil, ("%s is %q: expected %s"):format(row[1], text, config.expected {
      row[1], row.type, min = row.min, max = row.max })
  end
end

local function add_option(parser, row)
  if row.flag then
    parser:flag(row[1], row.doc):target(target_of(row))
    return
  end
  local is_positional = row[1]:sub(1, 1) ~= "-"
  local element = is_positional and parser:argument(target_of(row), row.doc)
    or parser:option(row[1], row.doc):target(target_of(row))
  local choices = row.choices and "<" .. table.concat(row.choices, "|") .. ">"
  element:argname(row.metavar or choices or (is_positional and row[1] or "<" .. row[1]:gsub("^%-+", "") .. ">"))
  if row.choices then element:choices(row.choices) end
  if row.default ~= nil then element:default(tostring(row.default)) end
  if converter(row) then element:convert(converter(row)) end
  if is_positional then
    if row.many then element:args "*" elseif row.optional then element:args "?" end
  elseif row.many then
    element:count "*"
  elseif row.required then
    element:count(1)
  end
end

--- The option that sets a configuration value. Its text is checked by pyoco.config, with all other sources.
local function config_option(name)
  local row = config.row(name)
  local default = type(row[3]) == "table" and table.concat(row[3], ":") or row[3]
  local doc = ("%s Default: %s (%s)."):format(row.doc, default == nil and "none" or default, row.env)
  return { row.flag, doc = doc, is_switch = row[2] == "boolean", off = row.off_flag,
    metavar = "<" .. row.flag:gsub("^%-+", "") .. ">" }
end

--- Group and verb of a command's name; nil and the name when it has no group.
local function split(name)
  local group, verb = name:match("^(%S+) (%S+)$")
  return group, verb or name
end

local function add_command(parent, name, doc)
  local command = parent:command(name, doc):add_help(false):help_max_width(100):usage_max_width(90)
    :help_description_margin(30)
  command:flag("-h --help", "Show this help.")
  return command
end

local function build(program, called)
  local parser = argparse(called or host.command or program.name, program.doc, program.epilog):add_help(false)
    :help_max_width(100):usage_max_width(90):help_description_margin(30)
  parser:flag("-h --help", "Show this help.")
  for _, name in ipairs(program.config or {}) do
    local option = config_option(name)
    if option.is_switch then
      parser:flag(option[1], option.doc):target("config_" .. name)
      if option.off then parser:flag(option.off, "Undoes it."):target("config_" .. name):action "store_false" end
    else
      parser:option(option[1], option.doc):target("config_" .. name):argname(option.metavar)
    end
  end
  for _, row in ipairs(program.options or {}) do add_option(parser, row) end
  if program.commands then
    parser:command_target "command"
    parser:require_command(true)
  end
  local commands = {}
  for _, row in ipairs(program.commands or {}) do
    local group, verb = split(row[1])
    if group and not commands[group] then
      commands[group] = add_command(parser, group, program.groups[group]):command_target("verb"):require_command(true)
    end
    local command = add_command(group and commands[group] or parser, verb, row.doc)
    for _, option in ipairs(row.options or {}) do add_option(command, option) end
    commands[row[1]] = command
  end
  return parser, commands
end

--- Options of a list of rows that take a value, into a set.
local function add_valued(set, rows)
  for _, row in ipairs(rows or {}) do
    if row[1]:sub(1, 1) == "-" and not row.flag then set[row[1]] = true end
  end
end

--- Joins an option with a value that begins with "-" and can be no option: a negative number, or several words.
local function with_values(program, argv)
  local valued, joined = {}, {}
  add_valued(valued, program.options)
  for _, row in ipairs(program.commands or {}) do add_valued(valued, row.options) end
  for _, text in ipairs(argv) do
    local last = joined[#joined]
    if valued[last] and (text:find("^%-[%d.]") or text:find("^%-.*%s")) then
      joined[#joined] = last .. "=" .. text
    else
      joined[#joined + 1] = text
    end
  end
  return joined
end

--- The command named on a command line: the first argument that is one, with the verb that comes after a group.
local function command_of(commands, argv)
  local found
  for _, text in ipairs(argv) do
    if found and commands[found .. " " .. text] then return found .. " " .. text end
    if not found and commands[text] then found = text end
  end
  return found
end

local function wants_help(argv)
  for _, text in ipairs(argv) do
    if text == "--" then return false end
    if text == "--help" or text == "-h" then return true end
  end
  return false
end

--- What is missing from argparse's message: the nearest command or option. `named` is what the command line named: a
--- command, a group, or nil.
local function with_nearest(program, command, named, message)
  local unknown, known = message:match("unknown command '([^']+)'"), {}
  if unknown then
    for _, row in ipairs(program.commands) do
      local group, verb = split(row[1])
      if not named then known[#known + 1] = group or verb elseif group == named then known[#known + 1] = verb end
    end
  else
    unknown = message:match("unknown option '([^']+)'")
    for _, list in ipairs { program.options or {}, command and command.options or {} } do
      for _, row in ipairs(list) do known[#known + 1] = row[1] end
    end
    for _, name in ipairs(program.config or {}) do known[#known + 1] = config.row(name).flag end
  end
  message = message:gsub("%s*Did you mean.*$", "") -- argparse's own guess is about option spelling only
  message = message:gsub("argument '([%l_]+)'", function(name) -- as the help spells it
    return "argument '" .. name:upper() .. "'"
  end)
  local near = unknown and nearest.name(unknown, known)
  return near and message .. "; did you mean " .. near .. "?" or message
end

--- What is missing from values of which one must be given; nil when nothing is.
local function missing(needs, values)
  for _, name in ipairs(needs or {}) do
    local value = values[name]
    if value ~= nil and not (type(value) == "table" and #value == 0) then return nil end
  end
  return needs and ("missing argument '%s'"):format(needs[1]:upper())
end

--- What is there and is nothing, as RUN_ID in `get "$UNSET"`; nil when all is well.
local function empty(options, values)
  for _, row in ipairs(options or {}) do
    if (row.not_empty or row[1]:sub(1, 1) ~= "-") and values[target_of(row)] == "" then
      return ("argument '%s' is empty"):format(row[1])
    end
  end
end

--- Parses a command line.
---@param program table
---@param argv string[]
---@return table|nil values: option -> value, `command`, `flags` = {short name -> text} for pyoco.config;
---  or { help = text }
---@return string|nil message
---@return string|nil code "invalid"
---@return string|nil usage the usage text, on failure
function M.parse(program, argv)
  local parser, commands = build(program)
  argv = with_values(program, argv)
  local name = command_of(commands, argv)
  local about = commands[name] or parser
  if wants_help(argv) then return { help = about:get_help() .. "\n" } end
  local fine, values = parser:pparse(argv)
  local command
  for _, row in ipairs(program.commands or {}) do command = row[1] == name and row or command end
  if not fine then return nil, with_nearest(program, command, name, values), "invalid", about:get_usage() end
  local message = missing(command and command.needs, values)
    or empty(program.options, values) or empty(command and command.options, values)
  if message then return nil, message, "invalid", about:get_usage() end
  local result = { flags = {} }
  for key, value in pairs(values) do
    local short = key:match("^config_(.+)$")
    if short then result.flags[short] = value else result[key] = value end
  end
  if result.verb then result.command, result.verb = result.command .. " " .. result.verb, nil end
  return result
end

--- The completion script of a program for a shell.
---@param program table
---@param name string how the user calls the program
---@param shell string "bash" | "zsh" | "fish"
---@return string
function M.completion(program, name, shell)
  local parser = build(program, name)
  return parser["get_" .. shell .. "_complete"](parser)
end

return M
