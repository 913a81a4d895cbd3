--- Loading: flows by declared name, callables of documents, the sandbox.
local uv = require "luv"
local load = require "pyoco.flow.load"
local sandbox = require "pyoco.flow.sandbox"

local root

--- Writes a file of the task root.
local function write(name, text)
  local folder = name:match("^(.*)/")
  if folder then uv.fs_mkdir(root .. "/" .. folder, 448) end
  local file <close> = assert(io.open(root .. "/" .. name, "w"))
  file:write(text)
end

--- Removes a folder and all in it.
local function remove(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    if kind == "directory" then remove(path .. "/" .. name) else uv.fs_unlink(path .. "/" .. name) end
  end
  uv.fs_rmdir(path)
end

local FLOW = [[
local pyoco = require "pyoco"
return pyoco.flow("%s", pyoco.task("only", function(ctx, x) return x end))
]]

--- A document of one task, as document.read gives it.
local function document(...)
  local nodes = {}
  for i, callable in ipairs { ... } do nodes[i] = { name = "t" .. i, callable = callable } end
  return { graph = { name = "doc", nodes = nodes }, defaults = {}, expose_env = {} }
end

describe("load", function()
  before_each(function() root = assert(uv.fs_mkdtemp("/tmp/pyoco-load-XXXXXX")) end)
  after_each(function() remove(root) end)

  it("finds a flow by the name it declares, not by its file's", function()
    write("some_file.lua", FLOW:format("etl"))
    write("etl.lua", FLOW:format("other"))
    local flow = assert(load.flow("etl", { root }))
    assert.equal("etl", flow.name)
    assert.equal(root .. "/some_file.lua", flow.file)
    assert.equal(FLOW:format("etl"), flow.source)
    assert.same({ only = { "ctx", "x" } }, flow.params)
    assert.equal(3, flow.functions.only(nil, 3))
    assert.equal(root .. "/some_file.lua", flow.graph.nodes[1].file)
    assert.equal(2, flow.graph.nodes[1].line)
  end)

  it("finds a name that is put together while the file runs, and several flows of one file", function()
    write("many.lua", [[
      local pyoco = require "pyoco"
      local flows = {}
      for i = 1, 3 do flows[i] = pyoco.flow("f" .. i, pyoco.task("t", function() end)) end
      return flows]])
    assert.equal("f2", assert(load.flow("f2", { root })).name)
  end)

  it("looks in all roots, and each file is made anew each time", function()
    write("a/one.lua", FLOW:format("one"))
    write("b/two.lua", FLOW:format("two"))
    local roots = { root .. "/a", root .. "/b/" }
    assert.equal("two", assert(load.flow("two", roots)).name)
    write("b/two.lua", FLOW:format("two"):gsub("only", "edited"))
    assert.equal("edited", assert(load.flow("two", roots)).graph.nodes[1].name)
  end)

  it("says not_found with near names; a name never becomes a path", function()
    write("etl.lua", FLOW:format("etl"))
    local flow, message, code = load.flow("etk", { root })
    assert.is_nil(flow)
    assert.equal("not_found", code)
    assert.equal(("flow 'etk' is not declared in %s; did you mean etl?"):format(root), message)
    for _, name in ipairs { "../x", "/etc/passwd", "a.b", "%s", "", "zzzz\0" } do
      message, code = select(2, load.flow(name, { root }))
      assert.equal("not_found", code)
      assert.truthy(message:find("is not declared in " .. root, 1, true))
    end
    assert.equal("not_found", select(3, load.flow("etl", { root .. "/nowhere" })))
    assert.equal("not_found", select(3, load.flow("etl", {})))
  end)

  it("refuses one name declared twice, naming both files", function()
    write("a.lua", FLOW:format("etl"))
    write("b.lua", FLOW:format("etl"))
    local _, message, code = load.flow("etl", { root })
    assert.equal(("flow 'etl' is declared twice: in %s/a.lua and in %s/b.lua; rename one"):format(root, root), message)
    assert.equal("invalid", code)
  end)

  it("is not hindered by broken files, and shows the one that may hold the flow", function()
    write("bad.lua", "local x =")
    write("bad_etl.lua", "-- etl\nlocal t = nil\nreturn t.x")
    write("good.lua", FLOW:format("good"))
    assert.equal("good", assert(load.flow("good", { root })).name)
    local _, message, code = load.flow("etl", { root })
    assert.equal("invalid", code)
    assert.truthy(message:find(root .. "/bad_etl.lua:3: attempt to index a nil value (local 't')", 1, true))
    message, code = select(2, load.flow("nothing", { root }))
    assert.equal("not_found", code)
    assert.truthy(message:find("does not load: " .. root .. "/bad.lua:1: unexpected symbol near <eof>", 1, true))
  end)

  it("shows the flow's own errors with its file", function()
    write("loop.lua", [[
      local pyoco = require "pyoco"
      local a = pyoco.task("a", function() end)
      return pyoco.flow("loop", a >> a)]])
    local _, message, code = load.flow("loop", { root })
    assert.equal("invalid", code)
    assert.truthy(message:find("flow 'loop' is wrong:", 1, true), message)
    assert.truthy(message:find(root .. "/loop.lua:2: cycle: a >> a", 1, true))
  end)

  it("lists flows and what does not load", function()
    write("b.lua", FLOW:format("beta"))
    write("a.lua", FLOW:format("alpha"))
    write("again.lua", FLOW:format("alpha"))
    write("bad.lua", "\n\nerror 'no'")
    write("tasks.lua", "return { f = function() end }")
    write("notes.txt", "not Lua")
    local list = load.list({ root })
    assert.same({ { name = "alpha", file = root .. "/a.lua", tasks = 1 },
      { name = "beta", file = root .. "/b.lua", tasks = 1 } }, list.flows)
    assert.equal(2, #list.errors)
    assert.truthy(list.errors[1].message:find("declared twice", 1, true))
    assert.same({ file = root .. "/bad.lua", line = 3, message = root .. "/bad.lua:3: no" }, list.errors[2])
  end)

  it("resolves callables of the roots", function()
    write("tasks.lua", "local M = {} function M.add(ctx, a, b) return a + b end return M")
    write("pkg/deep.lua", "return { f = function(...) return ... end }")
    write("pkg/init.lua", "return { g = require('pyoco').task('g', function(y) return y end) }")
    local flow = assert(load.document(document("tasks:add", "pkg.deep:f", "pkg:g"), { root }))
    assert.equal("doc", flow.name)
    assert.same({ t1 = { "ctx", "a", "b" }, t2 = {}, t3 = { "y" } }, flow.params)
    assert.equal(5, flow.functions.t1(nil, 2, 3))
    assert.equal(7, flow.functions.t3(7))
  end)

  it("reaches nothing outside the roots, and reports all that it cannot find", function()
    write("tasks.lua", "return setmetatable({ add = print, n = 1 }, { __index = os })")
    write("bad.lua", "local x =")
    write("text.lua", "return 'text'")
    local _, message, code = load.document(document("os:execute", "tasks:execute", "tasks:ad", "tasks:n", "bad:f",
      "text:f", "../x:f", "tasks", "a/b:f", "tasks:add.x", ".:f", "luv:fs_unlink", "pyoco:task"), { root })
    assert.equal("invalid", code)
    local lines = {}
    for line in message:gsub(root:gsub("%W", "%%%0"), "ROOT"):gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.same({
      "task 't1': callable 'os:execute': no module 'os' in ROOT (the task roots)",
      "task 't2': callable 'tasks:execute': module 'tasks' has no function 'execute'; it has: add",
      "task 't3': callable 'tasks:ad': module 'tasks' has no function 'ad'; did you mean add?",
      "task 't4': callable 'tasks:n': module 'tasks' has no function 'n'; it has: add",
      "task 't5': callable 'bad:f': ROOT/bad.lua:1: unexpected symbol near <eof>",
      "task 't6': callable 'text:f': module 'text' returns a string, not a table of functions",
      "task 't7': callable '../x:f': expected module:function, each a plain name",
      "task 't8': callable 'tasks': expected module:function, each a plain name",
      "task 't9': callable 'a/b:f': expected module:function, each a plain name",
      "task 't10': callable 'tasks:add.x': expected module:function, each a plain name",
      "task 't11': callable '.:f': expected module:function, each a plain name",
      "task 't12': callable 'luv:fs_unlink': no module 'luv' in ROOT (the task roots)",
      "task 't13': callable 'pyoco:task': no module 'pyoco' in ROOT (the task roots)",
    }, lines)
    message = select(2, load.document(document(nil), { root }))
    assert.is_nil(message)
    local doc = document("x")
    doc.graph.nodes[1].callable = nil
    message = select(2, load.document(doc, { root }))
    assert.equal("task 't1': it has no callable and no run", message)
  end)
end)

describe("sandbox", function()
  before_each(function() root = assert(uv.fs_mkdtemp("/tmp/pyoco-load-XXXXXX")) end)
  after_each(function() remove(root) end)

  --- Runs a chunk in a fresh sandbox.
  local function run(chunk, globals)
    write("chunk.lua", chunk)
    return sandbox.new({ root }, globals):run(root .. "/chunk.lua")
  end

  it("keeps a flow's hands off the library's own functions", function()
    local fine, seen = run [[
      string.format, table.concat, math.floor = nil, nil, nil
      local ok = pcall(function() getmetatable("").__index.rep = nil end)
      return { getmetatable(""), ok, ("x"):rep(2) }
    ]]
    assert.is_true(fine, seen)
    assert.same({ "string", false, "xx" }, seen)
    assert.equal("1 2", string.format("%d %s", 1, table.concat { "2" }))
    assert.equal(1, math.floor(1.5))
  end)

  it("refuses undeclared globals, read or written, with file:line", function()
    local ok, message = run "local y = 1\nx = y"
    assert.is_false(ok)
    assert.equal(root .. "/chunk.lua:2: assignment to undeclared global 'x': declare it with local", message)
    ok, message = run "return undefined_name"
    assert.is_false(ok)
    assert.equal(root .. "/chunk.lua:1: undeclared global 'undefined_name'", message)
    assert.is_nil(rawget(_G, "x"))
  end)

  it("offers the standard library, without what switches the engine off", function()
    assert.same({ true, "abc" }, { run "return string.format('%s', table.concat { 'a', 'b', 'c' })" })
    assert.same({ true, 3 }, { run "return _G.math.max(1, 3)" })
    assert.same({ true, true }, { run "return debug.sethook == nil and debug.getregistry == nil" })
    assert.is_false((run "return package"))
    assert.is_false((run "return dofile"))
    assert.same({ true, "mine" }, { run("return print()", { print = function() return "mine" end }) })
  end)

  it("loads text only", function()
    local ok, message = run(string.dump(function() return 1 end))
    assert.is_false(ok)
    assert.truthy(message:find("attempt to load a binary chunk", 1, true))
    assert.same({ true, true }, { run "return load(string.dump(function() end)) == nil" })
    assert.same({ true, 7 }, { run "return load('return 7')()" })
    assert.same({ true, false }, { run "return (pcall(load('leak = 1')))" })
  end)

  it("requires modules of the roots once, and never shadows the library", function()
    write("counter.lua", "local n = 0 return { next = function() n = n + 1 return n end }")
    write("pyoco.lua", "return 'shadow'")
    write("string.lua", "return 'own'")
    assert.same({ true, 2 }, { run "require('counter').next() return require('counter').next()" })
    assert.same({ true, true }, { run "return type(require('pyoco').task) == 'function'" })
    assert.same({ true, "own" }, { run "return require('string')" })
    assert.same({ true, true }, { run "return type(require('luv').run) == 'function'" })
  end)

  it("names file and line of a required module that is broken, and a circle of requires", function()
    write("bad.lua", "\nlocal x = nil + 1")
    local ok, message = run "require 'bad'"
    assert.is_false(ok)
    assert.truthy(message:find(root .. "/bad.lua:2: attempt to perform arithmetic on a nil value", 1, true))
    write("ring.lua", "return require 'ring'")
    ok, message = run "require 'ring'"
    assert.is_false(ok)
    assert.truthy(message:find("ring.lua requires itself", 1, true))
    ok, message = run "require 'missing_module'"
    assert.is_false(ok)
    assert.truthy(message:find("module 'missing_module' not found", 1, true))
  end)

  it("turns what a file raises into text", function()
    assert.truthy(select(2, run "error({})"):find("chunk.lua: raised a table", 1, true))
    assert.truthy(select(2, run "error()"):find("chunk.lua: raised a nil", 1, true))
  end)
end)
