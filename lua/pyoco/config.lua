--- Configuration: one plain table of values by short name, from defaults, `.env`, the environment and flags, in
--- rising order. Only this module reads variables; everything else is given the values.
local uv = require "luv"
local dotenv = require "pyoco.config_dotenv"
local nearest = require "pyoco.nearest"
local schema = require "pyoco.config_schema"
local types = require "pyoco.config_type"

local M = {}

--- Calls visit(row, section name) for every row in order.
local function each_row(visit)
  for _, section in ipairs(schema.sections) do
    for i = 3, #section do visit(section[i], section[1]) end
  end
end

---@param name string short name of an option
---@return table its row in the schema
function M.row(name)
  local found
  each_row(function(row) if row[1] == name then found = row end end)
  return found or error("no option is called " .. tostring(name), 2)
end

--- "from 1 to 5", "at least 0.1", "none, api_key", or what the type expects.
---@param row table
---@return string
function M.expected(row)
  if row.choices then return "one of " .. table.concat(row.choices, ", ") end
  local kind = types[row[2]].expected
  if row.min and row.max then return ("%s from %s to %s"):format(kind, row.min, row.max) end
  if row.min then return ("%s, at least %s"):format(kind, row.min) end
  return kind
end

--- Parses one text. Values that are no text (flags already of their type) pass as they are.
---@return any value, or nil when it does not fit type or range
local function parse(row, given)
  local value = given
  if type(given) == "string" then value = types[row[2]].parse(given, row) end
  if type(value) == "number" and (value ~= value or (row.min and value < row.min) or (row.max and value > row.max)) then
    return nil
  end
  return value
end

--- A value as it may be shown: an address without user and password.
---@param text any
---@return string
function M.public(text) return (tostring(text):gsub("//[^/%s,]*@", "//")) end

--- Text of a file; else nil, why, and whether there is one.
local function read_file(path)
  local stat = uv.fs_stat(path)
  if not stat or stat.type ~= "file" then return nil, "is not a file" end
  local file, message = io.open(path, "rb")
  if not file then return nil, message, true end
  local text = file:read("a")
  file:close()
  return text
end

--- Reads the .env file that the environment asks for.
---@return table { values, lines, path }, empty when there is none
local function load_dotenv(env, cwd, faults, warnings)
  local wanted = env.PYOCO_LOAD_DOTENV
  local none = { values = {}, lines = {} }
  if wanted and types.boolean.parse(wanted) == false then return none end
  local named = env.PYOCO_ENV_FILE and env.PYOCO_ENV_FILE ~= ""
  local path = named and env.PYOCO_ENV_FILE or ".env"
  if path:find("^~/") and env.HOME then path = env.HOME .. path:sub(2) end
  if path:sub(1, 1) ~= "/" then path = cwd .. "/" .. path end
  local text, why, is_there = read_file(path)
  if not text then
    if named then
      faults[#faults + 1] = ("PYOCO_ENV_FILE: %s: %s; name a .env file, or unset it"):format(path, why)
    elseif is_there then
      faults[#faults + 1] = why .. "; make it readable, or set PYOCO_LOAD_DOTENV=0"
    end
    return none
  end
  local values, lines, odd = dotenv.parse(text)
  for _, line in ipairs(odd) do
    warnings[#warnings + 1] = ("%s:%d is skipped: expected KEY=VALUE"):format(path, line)
  end
  return { values = values, lines = lines, path = path }
end

local PREFIX = "^PYOCO_(.+)$"

--- Warns of variables that look like ours and are not. Compared without the prefix, which says nothing.
local function warn_unknown(env, file, warnings)
  local known, names = {}, {}
  each_row(function(row)
    if row.env then known[row.env], names[#names + 1] = true, row.env:match(PREFIX) end
    if row.also then known[row.also] = true end
  end)
  for source, values in pairs { environment = env, [file.path or ".env"] = file.values } do
    for name in pairs(values) do
      local rest = not known[name] and name:match(PREFIX)
      local near = rest and nearest.name(rest, names)
      if near then
        warnings[#warnings + 1] = ("%s (%s) is not an option; did you mean PYOCO_%s?"):format(name, source, near)
      end
    end
  end
  table.sort(warnings)
end

--- The text or value given for a row, and where it comes from: a script, flag, environment, .env or nothing.
local function given(row, opts, env, file)
  local flags, values = opts.flags or {}, opts.values or {}
  if values[row[1]] ~= nil then return values[row[1]], row[1] end
  if row.flag and flags[row[1]] ~= nil then return flags[row[1]], "flag " .. row.flag end
  local names = { row.env, row.env and row.also }
  for _, name in ipairs(names) do
    if env[name] and env[name] ~= "" then return env[name], "environment " .. name end
  end
  for _, name in ipairs(row.env_only and {} or names) do
    local value = file.values[name]
    if value and value ~= "" then return value, ("%s:%d %s"):format(file.path, file.lines[name], name) end
  end
  return nil, "default"
end

local function copy(value)
  return type(value) == "table" and table.move(value, 1, #value, 1, {}) or value
end

--- Names of a script's values that no option has.
local function check_values(values, faults)
  local known, names = {}, {}
  each_row(function(row) known[row[1]], names[#names + 1] = true, row[1] end)
  for name in pairs(values or {}) do
    if not known[name] then
      local near = nearest.name(tostring(name), names)
      faults[#faults + 1] = ("%s is not an option%s"):format(tostring(name), near and "; did you mean " .. near .. "?"
        or " (docs/reference/config.md)")
    end
  end
end

--- Loads the configuration.
---@param opts table|nil { flags = {short name -> text or value}, values = the same from a script: they win,
---   env = table (default: the process's environment), cwd = folder of .env (default: the current one), only = {section
---   names} to read no other section }
---@return table|nil cfg: short name -> value
---@return table|string origins: short name -> "default" | "environment X" | "FILE:LINE X" | "flag --x";
---   on failure the text of all faults, one on each line
---@return table|string warnings: list of texts; on failure the code "invalid"
function M.load(opts)
  opts = opts or {}
  local env, cwd = opts.env or uv.os_environ(), opts.cwd or uv.cwd()
  local only
  if opts.only then
    only = {}
    for _, name in ipairs(opts.only) do only[name] = true end
  end
  local cfg, origins, faults, warnings = {}, {}, {}, {}
  local file = load_dotenv(env, cwd, faults, warnings)
  check_values(opts.values, faults)
  each_row(function(row, section)
    if only and not only[section] then return end
    local text, origin = given(row, opts, env, file)
    local value = copy(row[3])
    if text ~= nil then
      value = parse(row, text)
      if value == nil then
        faults[#faults + 1] = ("%s is %s: expected %s"):format(origin,
          row.secret and "not usable" or ("%q"):format(M.public(text)), M.expected(row))
      end
    end
    cfg[row[1]], origins[row[1]] = value, origin
    local idle = row.env_only and file.values[row.env]
    if idle and idle ~= "" and parse(row, idle) ~= value then
      warnings[#warnings + 1] = ("%s:%d %s has no effect in this file; set it in the environment"):format(file.path,
        file.lines[row.env], row.env)
    end
  end)
  if #faults == 0 and not only then
    if not cfg.worker_tags or #cfg.worker_tags == 0 then cfg.worker_tags = { cfg.default_tag } end
    for _, check in ipairs(schema.checks) do
      if not check[2](cfg) then faults[#faults + 1] = check[1] .. " " .. check[3] end
    end
  end
  if #faults > 0 then return nil, "configuration refused:\n  " .. table.concat(faults, "\n  "), "invalid" end
  warn_unknown(env, file, warnings)
  return cfg, origins, warnings
end

--- Variables of the environment that a flow may see (its `expose_env`): as its commands see them, so without what is
--- secret, whoever wrote the document.
---@param names string[]
---@return table name -> text, for those that are set
function M.exposed(names)
  local values, environment = {}, require("pyoco.config_child").environment()
  for _, name in ipairs(names) do values[name] = environment[name] end
  return values
end

--- The environment for a child process: ours, with some variables set.
---@param overrides table variable -> text
---@return string[] "NAME=value", as luv's spawn takes it
function M.child_environment(overrides)
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if overrides[name] == nil then list[#list + 1] = name .. "=" .. value end
  end
  for name, value in pairs(overrides) do list[#list + 1] = name .. "=" .. value end
  return list
end

--- Rows for every option, for help and documentation.
---@return table list of { section name, section title, rows }
function M.sections()
  local list = {}
  for _, section in ipairs(schema.sections) do
    list[#list + 1] = { section[1], section[2], table.move(section, 3, #section, 1, {}) }
  end
  return list
end

return M
