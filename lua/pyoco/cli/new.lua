--- `client.lua new`: a small flow to begin with, or a folder for a wheel of flows, its spec, and what editors need.
--- Nothing is ever overwritten.
local host = require "host"
local called = require "pyoco.cli.called"
local json = require "host.json"
local templates = require "pyoco.cli.new_templates"
local uv = require "luv"

local M = {}

local LONGEST_NAME = 64
local FILE_MODE, FOLDER_MODE = 420, 493 -- 0644, 0755

local function bad_input(message, hint)
  return nil, message, "invalid", { shape = "arguments", reason = message, hints = { hint } }
end

local function file_failure(message)
  return nil, message, "unavailable", { shape = "file", reason = message,
    hints = { "check the folder and its permissions, or name another one with --dir" } }
end

--- Makes a folder and those above it.
local function make_folder(path)
  local stat = uv.fs_stat(path)
  if stat then return stat.type == "directory" or nil, path .. " is no folder" end
  local above = path:match("^(.+)/[^/]+$")
  if above then
    local ok, message = make_folder(above)
    if not ok then return nil, message end
  end
  local ok, message = uv.fs_mkdir(path, FOLDER_MODE)
  return ok or nil, message
end

--- Writes a new file; fails when there is one.
local function write_new(path, text)
  local fd, message = uv.fs_open(path, "wx", FILE_MODE)
  if not fd then return nil, message end
  local written
  written, message = uv.fs_write(fd, text, -1)
  uv.fs_close(fd)
  if written ~= #text then return nil, message or ("%s: not all of it could be written"):format(path) end
  return true
end

local function fill(template, values) return (template:gsub("{{(%w+)}}", values)) end

--- Files of a new flow: { path, text } in the order in which they are named.
local function plan(name, dir, is_yaml)
  local module = name:gsub("%-", "_") .. "_tasks"
  local values = { name = name, file = ("%s/%s.%s"):format(dir, name, is_yaml and "yaml" or "lua"), module = module,
    spec = ("spec/%s_spec.lua"):format(name:gsub("%-", "_")) }
  local files = { { values.file, fill(is_yaml and templates.yaml or templates.lua, values) } }
  if is_yaml then files[2] = { ("%s/%s.lua"):format(dir, module), fill(templates.tasks, values) } end
  files[#files + 1] = { values.spec, fill(templates.spec, values) }
  return files, values
end

--- Files of a folder for a wheel.
local function plan_wheel(name, dir)
  local module = name:gsub("%-", "_")
  local folder = dir == "." and name or ("%s/%s"):format(dir, name)
  local values = { name = name, folder = folder, file = ("%s/%s.lua"):format(folder, module),
    spec = ("%s/spec/%s_spec.lua"):format(folder, module) }
  return { { folder .. "/wheel.lua", fill(templates.wheel, values) },
    { folder .. "/README.md", fill(templates.wheel_readme, values) },
    { values.file, fill(templates.lua, values) }, { values.spec, fill(templates.spec, values) } }, values
end

--- What a Lua language server reads; for the current folder, as editors are opened there.
local function luarc()
  return json.encode({ ["runtime.version"] = "Lua 5.4",
    ["workspace.library"] = json.array { host.home .. "/lua/meta", "${3rd}/busted/library" },
    ["workspace.checkThirdParty"] = false, ["diagnostics.disable"] = json.array { "redefined-local" } },
    { sort = true, pretty = true }) .. "\n"
end

--- Files for editors, which are left alone when they are there.
local function editor_files(dir, is_yaml)
  local files = { { ".luarc.json", luarc() } }
  if is_yaml then files[2] = { dir .. "/.flow.schema.json", require("pyoco.flow.schema").text() } end
  return files
end

local function check_name(name)
  if #name > LONGEST_NAME or not name:find("^%a[%w_-]*$") then
    return bad_input(("'%s' cannot be the name of a flow file"):format(name),
      ("begin with a letter, go on with letters, digits, _ and -, at most %d of them: as in my-flow"):format(
        LONGEST_NAME))
  end
  return true
end

--- Says what to type next.
local function print_next(values, context, is_yaml)
  local function line(command, doc)
    io.stdout:write("  ", command, context.paint("dim", "   # " .. doc), "\n")
  end
  local test, admin, client = called.program "test", called.program "admin", called.program "client"
  io.stdout:write("next:\n")
  if values.folder then
    line(("%s %s"):format(test, values.spec), "its spec")
    line(("%s wheel build %s"):format(admin, values.folder), "makes the wheel")
    line(("%s wheel-upload --wheel-file %s-0.1.0-lua54-none-any.whl"):format(client,
      values.name:gsub("[-_]+", "_"):lower()), "workers with --wheel-sync install it")
    return
  end
  line(("%s check %s"):format(client, values.file), "is it right? what does it look like?")
  line(("%s run %s --param count=5"):format(client, values.file), "run it here")
  line(("%s run %s --watch"):format(client, values.file), "run it again on every save")
  line(("%s %s"):format(test, values.spec), "its spec")
  line(is_yaml and ("%s submit-yaml --workflow-file %s --flow-name %s --tag default"):format(client, values.file,
    values.name) or ("%s submit --flow-name %s"):format(client, values.name), "on the workers that `up.lua` starts")
end

--- new flow NAME: writes a flow, its spec and files for editors. new wheel NAME: a folder that is made a wheel of.
---@param _ table the gateway, not needed
---@param values table { kind = "flow" | "wheel", name, yaml, dir }
---@param context table { paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.run(_, values, context)
  local ok, message, code, failure = check_name(values.name)
  if not ok then return nil, message, code, failure end
  local is_wheel = values.kind == "wheel"
  if is_wheel and values.yaml then return bad_input("a wheel holds Lua", "leave --yaml out") end
  local dir = (values.dir or is_wheel and "." or "flows"):gsub("(.)/+$", "%1")
  local files, names
  if is_wheel then
    files, names = plan_wheel(values.name, dir)
  else
    files, names = plan(values.name, dir, values.yaml)
  end
  for _, file in ipairs(files) do
    if uv.fs_lstat(file[1]) then
      return bad_input(file[1] .. " is there already", "choose another name; nothing was written")
    end
  end
  for _, file in ipairs(files) do
    ok, message = make_folder(file[1]:match("^(.*)/[^/]+$"))
    if ok then ok, message = write_new(file[1], file[2]) end
    if not ok then return file_failure(message) end
    io.stdout:write("wrote ", file[1], "\n")
  end
  for _, file in ipairs(editor_files(dir, values.yaml)) do
    local is_new = write_new(file[1], file[2])
    if is_new then io.stdout:write("wrote ", file[1], context.paint("dim", "   # for editors"), "\n") end
  end
  print_next(names, context, values.yaml)
  return 0
end

return M
