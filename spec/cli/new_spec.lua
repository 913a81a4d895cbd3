--- client.lua new flow: what it writes works as it is.
local host = require "host"
local json = require "host.json"
local jsonschema = require "spec.support.jsonschema"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local dir

local function client(...) return process.run({ "client.lua", ... }, { cwd = dir, env = { NO_COLOR = "1" } }) end

--- Asserts that a text holds each of the pieces.
local function holds(text, ...)
  for _, piece in ipairs { ... } do assert.truthy(text:find(piece, 1, true), piece .. "\nis not in:\n" .. text) end
end

--- Checks, runs and tests a flow that was just written.
local function works(file, spec)
  local checked = client("check", file)
  assert.equal(0, checked.code, checked.stdout)
  holds(checked.stdout, "3 tasks, 1 loop", "each item of $node.list.output, 2 at a time", "retries=3")
  local ran = client("run", file, "--param", "count=4", "--output", "plain")
  assert.equal(0, ran.code, ran.stdout .. ran.stderr)
  holds(ran.stdout, "work  [1,4,9,16]\n", "sum   30\n")
  local tested = process.run({ "test.lua", spec }, { cwd = dir })
  assert.equal(0, tested.code, tested.stdout .. tested.stderr)
  holds(tested.stdout, "2 successes / 0 failures / 0 errors")
end

describe("client.lua new flow", function()
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  it("writes a Lua flow that checks, runs and passes its spec", function()
    local got = client("new", "flow", "my-flow")
    assert.equal(0, got.code, got.stderr)
    holds(got.stdout, "wrote flows/my-flow.lua\nwrote spec/my_flow_spec.lua\nwrote .luarc.json   # for editors\n",
      "next:\n  pyoco-host client.lua check flows/my-flow.lua", "pyoco-host test.lua spec/my_flow_spec.lua",
      "pyoco-host client.lua submit --flow-name my-flow")
    works("flows/my-flow.lua", "spec/my_flow_spec.lua")
  end)

  it("writes a document, its tasks and the schema beside it", function()
    local got = client("new", "flow", "doc", "--yaml", "--dir", "work/mine/")
    assert.equal(0, got.code, got.stderr)
    holds(got.stdout, "wrote work/mine/doc.yaml\nwrote work/mine/doc_tasks.lua\nwrote spec/doc_spec.lua\n",
      "wrote work/mine/.flow.schema.json")
    works("work/mine/doc.yaml", "spec/doc_spec.lua")
    local text = tmp.read(dir .. "/work/mine/doc.yaml")
    assert.equal("# yaml-language-server: $schema=.flow.schema.json\n", text:match("^[^\n]*\n"))
    local schema = json.decode(tmp.read(dir .. "/work/mine/.flow.schema.json"))
    assert.same({}, jsonschema.validate(schema, require("host.yaml").decode(text)))
  end)

  it("writes a folder that a wheel is made of", function()
    local got = client("new", "wheel", "My-flows")
    assert.equal(0, got.code, got.stderr)
    holds(got.stdout, "wrote My-flows/wheel.lua\nwrote My-flows/README.md\nwrote My-flows/My_flows.lua\n"
      .. "wrote My-flows/spec/My_flows_spec.lua\n", "admin.lua wheel build My-flows ",
      "--wheel-file my_flows-0.1.0-lua54-none-any.whl")
    works("My-flows/My_flows.lua", "My-flows/spec/My_flows_spec.lua")
    local built = process.run({ "admin.lua", "wheel", "build", "My-flows" }, { cwd = dir })
    assert.equal(0, built.code, built.stderr)
    local seen = process.run({ "admin.lua", "wheel", "inspect", "my_flows-0.1.0-lua54-none-any.whl" }, { cwd = dir })
    assert.equal(0, seen.code, seen.stdout)
    assert.equal("installed", json.decode(seen.stdout).verdict)
    local refused = client("new", "wheel", "other", "--yaml")
    assert.equal(1, refused.code)
    holds(refused.stderr, "a wheel holds Lua")
    assert.is_nil(uv.fs_stat(dir .. "/other"))
  end)

  it("writes Lua that the linter has nothing against", function()
    client("new", "flow", "neat")
    client("new", "flow", "tidy", "--yaml")
    local lint = process.spawn("lua5.4", { "/usr/bin/luacheck", "--no-color", "--std", "lua54+busted", "--ignore",
      "431", "--max-line-length", "120", "flows", "spec" },
      { cwd = dir, env = { LUA_PATH = "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua;;" } })
    lint:wait()
    assert.equal(0, lint.code, lint.stdout)
  end)

  it("tells a language server where the stubs are", function()
    client("new", "flow", "one")
    local luarc = json.decode(tmp.read(dir .. "/.luarc.json"))
    assert.equal("Lua 5.4", luarc["runtime.version"])
    assert.equal(host.home .. "/lua/meta", luarc["workspace.library"][1])
    assert.truthy(uv.fs_stat(luarc["workspace.library"][1] .. "/pyoco.lua"))
    local before = tmp.read(dir .. "/.luarc.json")
    tmp.write(dir .. "/.luarc.json", "{}")
    assert.falsy(client("new", "flow", "two").stdout:find(".luarc.json", 1, true))
    assert.equal("{}", tmp.read(dir .. "/.luarc.json"))
    assert.truthy(#before > 2)
  end)

  it("never overwrites anything, and then writes nothing", function()
    uv.fs_mkdir(dir .. "/spec", 448)
    tmp.write(dir .. "/spec/mine_spec.lua", "-- mine")
    local got = client("new", "flow", "mine")
    assert.equal(1, got.code)
    holds(got.stderr, "- reason: spec/mine_spec.lua is there already\n", "nothing was written")
    assert.equal("-- mine", tmp.read(dir .. "/spec/mine_spec.lua"))
    assert.falsy(uv.fs_stat(dir .. "/flows"))
  end)

  it("refuses names that no file or flow can have", function()
    for _, name in ipairs { "../up", "a/b", "1st", "a b", ".x", ("n"):rep(65) } do
      local got = client("new", "flow", name)
      assert.equal(1, got.code, name)
      holds(got.stderr, "cannot be the name of a flow file", "as in my-flow")
    end
    holds(client("new", "flow", "").stderr, "argument 'NAME' is empty")
    assert.falsy(uv.fs_stat(dir .. "/flows"))
  end)

  it("says which folder cannot be written", function()
    tmp.write(dir .. "/flows", "a file")
    local got = client("new", "flow", "mine")
    assert.equal(1, got.code)
    holds(got.stderr, "ERR-PYOCO-0018: file I/O error\n- reason: flows is no folder\n")
  end)
end)
