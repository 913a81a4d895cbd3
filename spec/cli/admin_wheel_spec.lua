--- admin.lua wheel: what is packed, what is said of it, and the exit codes.
local json = require "host.json"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local wheels = require "spec.support.wheel"

describe("admin.lua wheel", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  local function admin(...) return process.run({ "admin.lua", "wheel", ... }, { cwd = dir }) end

  it("builds a wheel and shows it as workers see it", function()
    tmp.write(dir .. "/hello.lua", wheels.flow("hello", "hi"))
    local got = admin("build", ".", "--name", "hello", "--version", "1.0")
    assert.equal(0, got.code, got.stderr)
    local built = json.decode(got.stdout)
    assert.same({ "./hello-1.0-lua54-none-any.whl", "hello", "1.0", 5 },
      { built.path, built.name, built.version, built.files })
    got = admin("inspect", built.path)
    assert.equal(0, got.code, got.stderr)
    assert.truthy(got.stdout:find('^{"wheel_name": "hello%-1.0%-lua54%-none%-any.whl", "package_name": "hello", '))
    local seen = json.decode(got.stdout)
    assert.same({ "installed", 0, built.size_bytes, "hello.lua" },
      { seen.verdict, #seen.problems, seen.size_bytes, seen.files[1].path })
    assert.same({ "hello = hello" }, seen.entry_points["pyoco.modules"])
  end)

  it("says of a wheel for others that workers skip it", function()
    local path = wheels.write(dir, { name = "x", version = "1", tag = "py3-none-any", files = { ["x.py"] = "" } })
    local got = admin("inspect", path, "--output", "table")
    assert.equal(0, got.code, got.stderr)
    assert.truthy(got.stdout:find("skipped_incompatible", 1, true))
  end)

  it("fails for a wheel that workers refuse, naming what is wrong", function()
    local path = wheels.write(dir, { name = "x", version = "1", recorded = { { "../evil.lua", "x" } } })
    local got = admin("inspect", path)
    assert.equal(1, got.code)
    local seen = json.decode(got.stdout)
    assert.same({ "refused", { "../evil.lua: a path that leaves the archive (..)" } }, { seen.verdict, seen.problems })
    got = admin("inspect", path, "--output", "table")
    assert.equal(1, got.code)
    assert.truthy(got.stdout:find("problems\n  ../evil.lua", 1, true))
    assert.equal("ignored", json.decode(admin("inspect", tmp.write(dir .. "/a.zip", "")).stdout).verdict)
  end)

  it("names every fault of a folder, and a file that is not there", function()
    tmp.write(dir .. "/a.lua", "x = = 1")
    tmp.write(dir .. "/b.lua", "x = = 1")
    local got = admin("build", dir, "--name", "x", "--version", "1")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("- reason: a.lua:1: .-\n%- reason: b.lua:1: .-\n%- hint: "), got.stderr)
    got = admin("inspect", "none.whl")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("file I/O error\n- reason: none.whl", 1, true), got.stderr)
  end)
end)
