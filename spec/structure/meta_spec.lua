--- The stubs of lua/meta/, by which editors complete and check, name what there is: no more and no less.
local context = require "pyoco.engine.context"
local host = require "host"
local options = require "pyoco.flow.options"
local source = require "spec.support.source"
local uv = require "luv"

--- Modules of the host that flows and scripts of users have no use for.
local INTERNAL = { ["host.task"] = true, ["host.slot"] = true, ["host.slots"] = true, ["host.tail"] = true,
  ["host.readmodel"] = true, ["host.nats"] = true, ["host.httpd"] = true, ["host.process"] = true, luv = true,
  ["host.mirror"] = true }

--- Parses the stubs: owner -> set of names. Owners are classes; the module's table is its class.
local function parse(text, classes)
  local class, owner_of = nil, {}
  for line in text:gmatch("[^\n]*") do
    local name, parent = line:match("^%-%-%-@class ([%w_.]+)"), line:match("^%-%-%-@class [%w_.]+: ([%w_.]+)")
    if name then
      class = name
      classes[class] = { parent = parent, names = {} }
    end
    local field = line:match("^%-%-%-@field ([%w_]+)")
    if field then classes[class].names[field] = true end
    local variable = line:match("^local ([%w_]+) = {}$")
    if variable then owner_of[variable] = class end
    local owner, method = line:match("^function ([%w_]+)[.:]([%w_]+)%(")
    if owner then classes[owner_of[owner]].names[method] = true end
  end
end

local function stubs()
  local classes = {}
  for _, path in ipairs(source.files({ "lua/meta" }, ".lua")) do parse(source.read(path), classes) end
  return classes
end

local CLASSES = stubs()

local function sorted(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

--- Names of a class and its parents.
local function names_of(class)
  local names = {}
  while class do
    for name in pairs(assert(CLASSES[class], class).names) do names[name] = true end
    class = CLASSES[class].parent
  end
  return sorted(names)
end

--- Names of an object's methods.
local function methods_of(object)
  local names = {}
  for name in pairs(getmetatable(object)) do
    if name:sub(1, 1) ~= "_" then names[name] = true end
  end
  return sorted(names)
end

--- A local that a function uses, or one that those which it calls use.
local function upvalue(fn, wanted)
  local seen, queue = { [fn] = true }, { fn }
  for _, each in ipairs(queue) do
    for i = 1, 255 do
      local name, value = debug.getupvalue(each, i)
      if name == nil then break end
      if name == wanted then return value end
      if type(value) == "function" and not seen[value] then
        seen[value] = true
        queue[#queue + 1] = value
      end
    end
  end
  error("no upvalue " .. wanted)
end

describe("the stubs", function()
  it("compile, and say which module they are of", function()
    for _, path in ipairs(source.files({ "lua/meta" }, ".lua")) do
      local text = source.read(path)
      assert(load(text, "@" .. path))
      local module = path:match("^lua/meta/(.*)%.lua$"):gsub("/", ".")
      assert.equal("---@meta " .. module, text:match("^[^\n]*"))
      assert.equal(module, text:match("\n%-%-%-@class ([%w_.]+)\nlocal M = {}")
        or text:match("\n%-%-%-@class ([%w_.]+)\n%-%-%-@field.-\nlocal M = {}"))
    end
  end)

  it("name the functions and fields of every module that users require", function()
    local modules = { "pyoco", "pyoco.testing", "pyoco.client.http", "pyoco.client.nats", "pyoco.worker",
      "host" }
    local preload = source.read("src/bind/preload.c") .. source.read("Makefile"):match("LOADABLE%s*:=([^\n]*)")
      :gsub("(%w+)", '{"host.%1", }')
    for name in preload:gmatch('{"(host%.%w+)"') do
      if not INTERNAL[name] then modules[#modules + 1] = name end
    end
    assert.truthy(#modules >= 9)
    for _, name in ipairs(modules) do
      assert.same(sorted(require(name)), names_of(name), name)
    end
  end)

  it("name the methods of clients", function()
    local http = require("pyoco.client.http").new("http://127.0.0.1:1")
    assert.same(methods_of(http), names_of "pyoco.client.http.Client")
  end)

  it("have a file for no other module", function()
    for _, path in ipairs(source.files({ "lua/meta" }, ".lua")) do
      local module = path:match("^lua/meta/(.*)%.lua$"):gsub("/", ".")
      assert.truthy(pcall(require, module), module)
      assert.falsy(INTERNAL[module], module)
    end
  end)

  it("name the fields and methods of ctx", function()
    local look = debug.getmetatable(context.new({}, {})).__index
    local real = { attempt = true, item = true }
    for _, group in ipairs { "methods", "lazy", "live" } do
      for name in pairs(upvalue(look, group)) do real[name] = true end
    end
    assert.same(sorted(real), names_of "pyoco.ctx")
  end)

  it("name the options of tasks and flows", function()
    for class, rows in pairs { ["pyoco.TaskOptions"] = options.LUA_TASK, ["pyoco.FlowOptions"] = options.LUA_FLOW } do
      local real = {}
      for _, name in ipairs(options.names(rows, "lua")) do real[name] = true end
      assert.same(sorted(real), names_of(class), class)
    end
  end)

  it("name the options and results of pyoco.testing", function()
    local testing = require "pyoco.testing"
    for name, list in pairs { task = "TASK_OPTIONS", flow = "FLOW_OPTIONS" } do
      local real = {}
      for _, option in ipairs(upvalue(testing[name], list)) do real[option] = true end
      local class = name == "task" and "Task" or "Flow"
      assert.same(sorted(real), names_of("pyoco.testing." .. class .. "Options"))
    end
    local pyoco = require "pyoco"
    local task = pyoco.task("a", function() return 1 end)
    local documented = {}
    for _, name in ipairs(names_of "pyoco.testing.TaskResult") do documented[name] = true end
    for name in pairs(testing.task(task)) do assert.truthy(documented[name], name) end
    documented = {}
    for _, name in ipairs(names_of "pyoco.testing.FlowResult") do documented[name] = true end
    for name in pairs(testing.flow(pyoco.flow("f", task))) do assert.truthy(documented[name], name) end
  end)

  it("name the fields of ctx:exec and ctx:http", function()
    local known = { ["pyoco.ExecSpec"] = upvalue(require("pyoco.engine.exec").run, "KEYS"),
      ["pyoco.HttpSpec"] = upvalue(require("pyoco.engine.http").prepare, "FIELDS") }
    for class, fields in pairs(known) do assert.same(sorted(fields), names_of(class), class) end
  end)

  it("are installed", function()
    assert.truthy(uv.fs_stat(host.home .. "/lua/meta/pyoco.lua")) -- `make install` copies all of lua/
  end)
end)
