--- --flow-resolver: the operator's own way from a name to a flow.
local resolver = require "pyoco.flow.resolver"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local FLOWS = [[
local pyoco = require "pyoco"
local function make(name) return pyoco.flow(name, pyoco.task("only", function() return name end)) end
]]

describe("flow resolver", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  local function file(text) return tmp.write(dir .. "/r.lua", FLOWS .. text) end

  it("gives a flow for a name", function()
    local flow = assert(resolver.flow(file [[return function(name) return make(name) end]], "any-1", { dir }))
    assert.equal("any-1", flow.name)
    assert.equal(dir .. "/r.lua", flow.file)
  end)

  it("takes the function under a name of the file's table", function()
    local path = file [[return { pick = function(name) return make(name) end }]]
    assert.equal("x", assert(resolver.flow(path .. ":pick", "x", { dir })).name)
    local _, message, code = resolver.flow(path .. ":other", "x", { dir })
    assert.equal("invalid", code)
    assert.truthy(message:find("expected a function under other of the table", 1, true), message)
  end)

  it("may leave a name to the task roots", function()
    assert.equal("not_found", (select(3, resolver.flow(file [[return function() end]], "x", { dir }))))
  end)

  for what, case in pairs {
    ["is no Lua file"] = { "flows.py:main", "expected FILE.lua or FILE.lua:NAME" },
    ["does not exist"] = { "gone.lua", "No such file" },
  } do
    it("says so when the file " .. what, function()
      local _, message, code = resolver.flow(case[1], "x", { dir })
      assert.equal("invalid", code)
      assert.truthy(message:find(case[2], 1, true), message)
    end)
  end

  it("stops the worker at its start when it cannot be used, and is not run for that", function()
    assert.is_true(resolver.check(nil))
    assert.is_true(resolver.check(file "error('not now')" .. ":pick"))
    for path, said in pairs { ["gone.lua"] = "flow resolver gone.lua: gone.lua: No such file",
      [tmp.write(dir .. "/broken.lua", "return = 1")] = "broken.lua:1:" } do
      local got = process.run { "worker.lua", "--flow-resolver", path }
      assert.equal(1, got.code)
      assert.truthy(got.stderr:find("^ERR%-PYOCO%-0018: ") and got.stderr:find(said, 1, true), got.stderr)
    end
  end)

  it("says so when it gives something that is no flow, or does not load", function()
    local _, message = resolver.flow(file [[return function() return 7 end]], "x", { dir })
    assert.truthy(message:find("for 'x' it gave a number, not a flow", 1, true), message)
    local _, broken, code = resolver.flow(file "return = 1", "x", { dir })
    assert.equal("invalid", code)
    assert.truthy(broken:find("r.lua:", 1, true), broken)
  end)
end)
