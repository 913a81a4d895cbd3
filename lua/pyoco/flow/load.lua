--- From what was submitted to a flow object that the engine runs: Lua flows by their declared name, documents by
--- the callables they name. Everything comes from the task roots; nothing else can be reached.
local uv = require "luv"
local sandbox = require "pyoco.flow.sandbox"

local M = {}

local CALLABLE = "^([%a_][%w_.]*):([%a_][%w_]*)$"
local SHOWN = 10 -- names listed in an error

--- Paths of the *.lua files of the roots, by root and name.
local function lua_files(roots)
  local files, seen = {}, {}
  for _, root in ipairs(roots) do
    root = #root > 1 and root:gsub("/+$", "") or root
    local names, scan = {}, not seen[root] and uv.fs_scandir(root)
    seen[root] = true
    while scan do
      local name, kind = uv.fs_scandir_next(scan)
      if not name then break end
      if name:find("^[^.].*%.lua$") and kind ~= "directory" then names[#names + 1] = name end
    end
    table.sort(names)
    for _, name in ipairs(names) do files[#files + 1] = root .. "/" .. name end
  end
  return files
end

--- Runs one file. Returns the flows that it returns (none for a task module), or nil and an error.
local function flows_of(box, file)
  local ok, value = box:run(file.path, file.text)
  if not ok then
    local line = tonumber(value:match("%.lua:(%d+):"))
    return nil, { file = file.path, line = line, message = value }
  end
  local flows = require("pyoco").flows_of(value)
  for _, flow in ipairs(flows) do flow.file, flow.source = file.path, file.text end
  return flows
end

--- Reads all files of the roots. Those that cannot be read are left out: they went away since.
local function read_all(roots)
  local files = {}
  for _, path in ipairs(lua_files(roots)) do
    local text = sandbox.read_file(path)
    if text then files[#files + 1] = { path = path, text = text } end
  end
  return files
end

--- Sorted names as text, at most SHOWN of them.
local function listed(names)
  table.sort(names)
  return table.concat(names, ", ", 1, math.min(#names, SHOWN)) .. (#names > SHOWN and ", ..." or "")
end

--- Words an error about an unknown name: the nearest one, or what there is.
local function near(word, names, what)
  local nearest = require("pyoco.nearest").name(word, names)
  if nearest then return ("; did you mean %s?"):format(nearest) end
  return #names > 0 and ("; %s: %s"):format(what, listed(names)) or ""
end

--- The answer when no file declares the flow: it may be in a file that does not load.
local function not_declared(name, roots, declared, suspects, broken)
  local where = table.concat(roots, ", ")
  if #suspects > 0 then return nil, suspects[1].message, "invalid" end
  local message = ("flow '%s' is not declared in %s%s"):format(name, where, near(name, declared, "declared"))
  if #broken > 0 then message = ("%s; does not load: %s"):format(message, broken[1].message) end
  return nil, message, "not_found"
end

--- Finds a Lua flow by the name it declares, among all *.lua files of the roots that return flows. The name never
--- becomes a path. Files whose text has the name are loaded first; the others only if none of those declares it.
---@param name string
---@param roots table list of folders
---@param opts table|nil { globals = see sandbox.new }
---@return table|nil flow see pyoco.flow, with file and source (its text) added
---@return string|nil message, string|nil code "not_found"|"invalid"
function M.flow(name, roots, opts)
  local box = sandbox.new(roots, opts and opts.globals)
  local likely, others = {}, {}
  for _, file in ipairs(read_all(roots)) do
    local list = file.text:find(name, 1, true) and likely or others
    list[#list + 1] = file
  end
  local declared, suspects, broken, found = {}, {}, {}, nil
  for _, group in ipairs { likely, others } do
    for _, file in ipairs(group) do
      local flows, problem = flows_of(box, file)
      local failed = group == likely and suspects or broken
      if not flows then failed[#failed + 1] = problem end
      for _, flow in ipairs(flows or {}) do
        if flow.name == name and found then
          return nil, ("flow '%s' is declared twice: in %s and in %s; rename one"):format(name, found.file, flow.file),
            "invalid"
        end
        found = flow.name == name and flow or found
        declared[#declared + 1] = flow.name
      end
    end
    if found then return found end
  end
  return not_declared(name, roots, declared, suspects, broken)
end

--- The function that a value of a task module is: itself, or that of a pyoco.task. A module without tasks does not
--- need the Lua front end, which is then not loaded.
local function function_of(value)
  if type(value) == "function" then return value end
  return type(value) == "table" and require("pyoco").function_of(value) or nil
end

--- Keys of a module's table that hold functions.
local function function_names(module)
  local names = {}
  for key, value in pairs(module) do
    if type(key) == "string" and function_of(value) then names[#names + 1] = key end
  end
  return names
end

--- Resolves `module:function`. The function is read raw, from a module of the roots only.
local function resolve(box, callable)
  local module_name, function_name = callable:match(CALLABLE)
  if not module_name then
    return nil, ("callable '%s': expected module:function, each a plain name"):format(callable)
  end
  local module, message, code = box:module(module_name)
  if module == nil and code == "not_found" then
    return nil, ("callable '%s': %s (the task roots)"):format(callable, message)
  elseif module == nil then
    return nil, ("callable '%s': %s"):format(callable, message)
  elseif type(module) ~= "table" then
    return nil, ("callable '%s': module '%s' returns a %s, not a table of functions"):format(callable, module_name,
      type(module))
  end
  local fn = function_of(rawget(module, function_name))
  if fn then return fn end
  return nil, ("callable '%s': module '%s' has no function '%s'%s"):format(callable, module_name, function_name,
    near(function_name, function_names(module), "it has"))
end

--- Makes a checked document runnable: finds the functions of its tasks.
---@param doc table from document.read
---@param roots table list of folders
---@param opts table|nil { globals = see sandbox.new, box = a sandbox made before }
---@return table|nil flow { name, graph, defaults, expose_env, functions = { task = fn }, params = { task = names } }
---@return string|nil message all callables that cannot be found, string|nil code "invalid"
---@return table|nil problems the same one by one: list of { task, message }
function M.document(doc, roots, opts)
  local box = opts and opts.box or sandbox.new(roots, opts and opts.globals)
  local flow = { name = doc.graph.name, graph = doc.graph, defaults = doc.defaults, expose_env = doc.expose_env,
    functions = {}, params = {} }
  local problems = {}
  for _, node in ipairs(doc.graph.nodes) do
    local fn, message
    if node.callable then fn, message = resolve(box, node.callable) else message = "it has no callable and no run" end
    if fn then
      flow.functions[node.name], flow.params[node.name] = fn, sandbox.parameters(fn)
    elseif not node.command and not node.spawn then
      problems[#problems + 1] = { task = node.name, message = message }
    end
  end
  if #problems == 0 then return flow end
  local lines = {}
  for i, problem in ipairs(problems) do lines[i] = ("task '%s': %s"):format(problem.task, problem.message) end
  return nil, table.concat(lines, "\n"), "invalid", problems
end

--- Lists the Lua flows of the roots, and what does not load.
---@param roots table list of folders
---@return table { flows = { { name, file, tasks = count } } by name, errors = { { file, line, message } } }
function M.list(roots)
  local box = sandbox.new(roots)
  local list, by_name = { flows = {}, errors = {} }, {}
  for _, root in ipairs(roots) do
    if not uv.fs_stat(root) then
      list.errors[#list.errors + 1] = { file = root,
        message = ("task root %s: no such folder; make it, or name others in PYOCO_TASK_PATH"):format(root) }
    end
  end
  for _, file in ipairs(read_all(roots)) do
    local flows, problem = flows_of(box, file)
    if problem then list.errors[#list.errors + 1] = problem end
    for _, flow in ipairs(flows or {}) do
      local other = by_name[flow.name]
      if other then
        list.errors[#list.errors + 1] = { file = file.path,
          message = ("flow '%s' is declared twice: in %s and in %s; rename one"):format(flow.name, other, file.path) }
      else
        by_name[flow.name] = file.path
        list.flows[#list.flows + 1] = { name = flow.name, file = file.path, tasks = #flow.graph.nodes }
      end
    end
  end
  table.sort(list.flows, function(a, b) return a.name < b.name end)
  return list
end

return M
