--- From a folder to a wheel: what is in it, that it is right, and that it always has the same bytes.
local uv = require "luv"
local archive = require "pyoco.wheel.archive"
local builder = require "pyoco.wheel.build"
local crypto = require "host.crypto"
local fit = require "pyoco.wheel.fit"
local tmp = require "spec.support.tmp"

local LIMITS = { max_bytes = 1 << 30, max_ratio = 200, max_entries = 1000 }

describe("pyoco.wheel.build", function()
  local dir, out

  before_each(function()
    dir, out = tmp.dir(), tmp.dir()
  end)
  after_each(function()
    tmp.remove(dir)
    tmp.remove(out)
  end)

  local function write(files)
    for path, text in pairs(files) do
      for at in path:gmatch("()/") do uv.fs_mkdir(dir .. "/" .. path:sub(1, at - 1), 493) end
      tmp.write(dir .. "/" .. path, text)
    end
  end

  local function build(opts)
    local all = { out = out }
    for key, value in pairs(opts or {}) do all[key] = value end
    return builder.build(dir, all)
  end

  it("packs modules and data, and leaves out what is none of it", function()
    write { ["wheel.lua"] = [[return { name = "My.Ext", version = "v1.0-rc1", summary = "Does\nthings",
        author = "A", urls = { Documentation = "https://d", Source = "https://s" } }]],
      ["etl.lua"] = "#!lua\nreturn {}\n", ["lib/init.lua"] = "return {}\n", ["lib/part.lua"] = "return 1\n",
      ["lib/data.json"] = "{}", ["README.md"] = "# Mine\n", [".git/config"] = "x", [".luarc.json"] = "x",
      ["spec/etl_spec.lua"] = "x", ["dist/old.whl"] = "x", ["old.whl"] = "x", ["lib/spec/kept.txt"] = "x" }
    local built = assert(build())
    assert.same({ "my_ext-1.0rc1-lua54-none-any.whl", "My.Ext", "1.0rc1", 9 },
      { built.file_name, built.name, built.version, built.files })
    local report = archive.check(built.path, built.file_name, LIMITS)
    assert.same({}, report.problems)
    local files = {}
    for i, file in ipairs(report.files) do files[i] = file.name end
    assert.same({ "etl.lua", "lib/data.json", "lib/init.lua", "lib/part.lua", "lib/spec/kept.txt",
      "my_ext-1.0rc1.dist-info/METADATA", "my_ext-1.0rc1.dist-info/WHEEL", "my_ext-1.0rc1.dist-info/entry_points.txt",
      "my_ext-1.0rc1.dist-info/RECORD" }, files)
    assert.same({ "Does things", "# Mine\n" }, { report.metadata.summary, report.metadata.description })
    assert.same({ "Documentation, https://d", "Source, https://s" }, report.metadata.fields["project-url"])
    assert.same({ { "pyoco.modules", { { "etl", "etl" }, { "lib", "lib" } } } }, report.entry_points)
    local scan = uv.fs_scandir(out)
    assert.equal(built.file_name, uv.fs_scandir_next(scan))
    assert.is_nil(uv.fs_scandir_next(scan))
  end)

  it("gives the same bytes for the same folder", function()
    write { ["b.lua"] = "return 1", ["a.lua"] = "return 2", ["c/d.lua"] = "return 3" }
    local one = assert(build { name = "x", version = "1" })
    local bytes = tmp.read(one.path)
    assert(uv.fs_utime(dir .. "/a.lua", 1, 1))
    assert(build { name = "x", version = "1" })
    assert.equal(crypto.sha256(bytes), crypto.sha256(tmp.read(one.path)))
  end)

  it("takes name, version and tags from the command line first", function()
    write { ["wheel.lua"] = [[return { name = "a", version = "1", entry_points = { g = { k = "m:f" } } }]],
      ["m.lua"] = "return {}" }
    assert.equal("b-2-lua54.lua53-none-any.whl",
      assert(build { name = "b", version = "2", tags = "lua54.lua53-none-any" }).file_name)
    local built = assert(build())
    assert.same({ { "g", { { "k", "m:f" } } } }, archive.check(built.path, built.file_name, LIMITS).entry_points)
  end)

  it("tags a folder with C modules for this machine", function()
    write { ["fast.so"] = "\127ELF", ["m.lua"] = "return {}" }
    local built = assert(build { name = "x", version = "1" })
    assert.equal(("x-1-%s.whl"):format(fit.native_tag()), built.file_name)
    assert.same({}, archive.check(built.path, built.file_name, LIMITS).problems)
    local _, message = build { name = "x", version = "1", tags = "lua54-none-any" }
    assert.truthy(message:find("fast.so", 1, true))
  end)

  it("says everything that is wrong with the files", function()
    write { ["a.lua"] = "x = = 1", ["pyoco/init.lua"] = "return 1", ["host.lua"] = "", ["B.txt"] = "", ["b.txt"] = "" }
    assert(uv.fs_symlink("/etc/passwd", dir .. "/link"))
    local built, _, code, problems = build { name = "x", version = "1" }
    assert.same({ nil, "invalid" }, { built, code })
    table.sort(problems)
    assert.equal(5, #problems, table.concat(problems, "\n"))
    assert.truthy(problems[1]:find("^a.lua:1: "))
    assert.truthy(problems[2]:find("^b.txt: .*case only"))
    assert.truthy(problems[3]:find("^host.lua: "))
    assert.truthy(problems[4]:find("^link: not a file"))
    assert.truthy(problems[5]:find("^pyoco/init.lua: "))
  end)

  it("says what is wrong with the description", function()
    for text, wanted in pairs { ["return 1"] = "does not return a table", ["return {"] = "expected",
      ["return { nam = 'x' }"] = "unknown field 'nam'", ["return { name = 1 }"] = "name is a number, not a string",
      ["return { version = '1' }"] = "has no name", ["return { name = 'x' }"] = "has no version",
      ["return { name = '-', version = '1' }"] = "no name of a package", ["os.exit()"] = "global 'os'",
      ["return { name = 'x', version = 'one' }"] = "no version",
      ["return { name = 'x', version = '1', tags = 'any' }"] = "name-version" } do
      write { ["wheel.lua"] = text, ["a.lua"] = "" }
      local built, message, code = build()
      assert.same({ nil, "invalid" }, { built, code }, text)
      assert.truthy(message:find(wanted, 1, true), message)
    end
  end)

  it("needs something to pack and a place to put it", function()
    assert.truthy(select(2, build { name = "x", version = "1" }):find("nothing to pack", 1, true))
    write { ["a.lua"] = "" }
    assert.equal("internal", select(3, build { name = "x", version = "1", out = out .. "/none" }))
    assert.equal("invalid", select(3, builder.build(dir .. "/none", { name = "x", version = "1" })))
  end)
end)
