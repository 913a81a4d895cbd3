--- What a worker refuses to unpack, and what it unpacks.
local uv = require "luv"
local archive = require "pyoco.wheel.archive"
local crypto = require "host.crypto"
local headers = require "pyoco.wheel.headers"
local paths = require "pyoco.wheel.paths"
local unpack = require "pyoco.wheel.unpack"
local tmp = require "spec.support.tmp"
local wheels = require "spec.support.wheel"

local LINK, FOLDER = tonumber("0120777", 8), tonumber("0040755", 8)
local LIMITS = { max_bytes = 1048576, max_ratio = 50, max_entries = 100 }

describe("pyoco.wheel.archive", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  --- Checks a wheel that is right but for what the options say.
  local function check(opts, limits)
    opts.name, opts.version = opts.name or "demo_ext", opts.version or "1.0"
    opts.files = opts.files or { ["demo.lua"] = "return {}\n" }
    local path, file_name = wheels.write(dir, opts)
    return archive.check(path, file_name, limits or LIMITS), path
  end

  --- Asserts that a wheel is refused for one reason, in which a text stands.
  local function refuses(text, opts, limits)
    local report = check(opts, limits)
    local all = table.concat(report.problems, "\n")
    assert.equal(1, #report.problems, all == "" and "it was found right; expected " .. text or all)
    assert.truthy(all:find(text, 1, true), all)
  end

  it("finds nothing wrong with a right one, and says what is in it", function()
    local report = check { files = { ["a.lua"] = "return 1\n", ["b/c,d.txt"] = "x" }, name = "Demo.Ext",
      folder = "demo_ext-1.0.dist-info", file_name = "demo_ext-1.0.0-lua54-none-any.whl",
      info = { ["entry_points.txt"] = "[g]\na = b:c\n# no\n[h]\nd=e\n",
        METADATA = "Metadata-Version: 2.1\nName: Demo.Ext\nVersion: 1.0\nSummary: s\n\nText\n" } }
    assert.same({}, report.problems)
    assert.equal("demo-ext", report.wheel.package)
    assert.same({ "Demo.Ext", "1.0", "s", "Text\n" }, { report.metadata.name, report.metadata.version,
      report.metadata.summary, report.metadata.description })
    assert.same({ { "g", { { "a", "b:c" } } }, { "h", { { "d", "e" } } } }, report.entry_points)
    assert.same({ "a.lua", "b/c,d.txt" }, { report.files[1].name, report.files[2].name })
  end)

  it("unpacks it: files, folders and programs, nothing else", function()
    local report, path = check { files = { ["a.lua"] = "return 1\n", ["b/c/d.txt"] = ("x"):rep(200000) },
      recorded = { { "run.sh", "#!/bin/sh\n", tonumber("0755", 8) } }, extra = { { "empty/", "", FOLDER } } }
    assert.same({}, report.problems)
    local to = dir .. "/site"
    assert(unpack.unpack(path, to))
    assert.equal("return 1\n", tmp.read(to .. "/a.lua"))
    assert.equal(200000, #tmp.read(to .. "/b/c/d.txt"))
    assert.equal("directory", uv.fs_stat(to .. "/empty").type)
    assert.truthy(uv.fs_stat(to .. "/run.sh").mode & 64 ~= 0)
    assert.equal(0, uv.fs_stat(to .. "/a.lua").mode & 73)
    assert.equal("internal", select(3, unpack.unpack(path, to))) -- never over what is there
  end)

  it("refuses names that leave the folder or are no names", function()
    for name, text in pairs { ["../evil.lua"] = "leaves the archive", ["a/../../b.lua"] = "leaves the archive",
      ["/etc/passwd"] = "absolute path", ["C:evil.lua"] = "drive letter", ["a\\b.lua"] = "backslash",
      ["a\tb.lua"] = "control character", ["a//b.lua"] = "empty or . part", ["./a.lua"] = "empty or . part",
      [("x"):rep(256)] = "255 bytes", [("x/"):rep(300) .. "x"] = "512 bytes", ["\xff.lua"] = "UTF-8",
      ["a\127"] = "control character" } do
      refuses(text, { recorded = { { name, "x" } } })
      assert.truthy(paths.fault(name), name)
    end
    assert.is_nil(paths.fault("a/b-c.d/ü.lua"))
  end)

  it("refuses a name with a NUL, of which others see a part only", function()
    refuses("NUL", { recorded = { { "evil.luaXtxt", "x" } },
      raw = function(bytes) return (bytes:gsub("evil%.luaXtxt", "evil.lua\0txt")) end })
  end)

  it("refuses an archive that says one name in its directory and another one before the file", function()
    refuses("its own header does not", { recorded = { { "aaaa.lua", "x" } }, raw = function(bytes)
      return (bytes:gsub("aaaa%.lua", "bbbb.lua", 1)) -- the entry's own header comes first
    end })
  end)

  it("refuses links and devices", function()
    refuses("symbolic link", { extra = { { "link.lua", "/etc/passwd", LINK } } })
    refuses("symbolic link", { extra = { { "link", "..", LINK } } })
    refuses("device", { recorded = { { "dev.lua", "x" } }, raw = function(bytes)
      local at = bytes:find("PK\1\2", 1, true)
      while bytes:sub(at + 46, at + 52) ~= "dev.lua" do at = bytes:find("PK\1\2", at + 4, true) end
      return bytes:sub(1, at + 39) .. "\xa4\x21" .. bytes:sub(at + 42) -- 0020644: a character device
    end })
  end)

  it("refuses what is encrypted", function()
    local report = check { raw = function(bytes)
      return (bytes:gsub("PK\3\4..(.)", function(flags) return "PK\3\4\20\0" .. string.char(flags:byte() | 1) end, 1))
    end }
    assert.same("demo.lua: encrypted", report.problems[1])
  end)

  it("refuses names that meet: equal, equal but for case, a file that is a folder", function()
    refuses("same name", { extra = { { "demo.lua", "other" } } })
    refuses("case only", { recorded = { { "DEMO.lua", "other" } } })
    refuses("below the file", { recorded = { { "demo.lua/x", "other" } } })
    refuses("folder of other entries", { files = { ["a/b.lua"] = "" }, recorded = { { "a", "x" } } })
  end)

  it("refuses bombs before they are unpacked", function()
    local zeros = ("\0"):rep(2000000)
    refuses("more than 1048576 bytes", { files = { zeros = zeros } })
    refuses("more than 50 times its size", { files = { zeros = zeros:rep(10) } },
      { max_bytes = 1 << 30, max_ratio = 50, max_entries = 100 })
    local many = {}
    for i = 1, 101 do many["f" .. i] = "" end
    refuses("more than 100 entries", { files = many })
  end)

  it("says what an archive must not claim", function()
    -- a directory that is not where the end record says: something stands before it, or it is split
    refuses("its directory is not where", { raw = function(bytes) return "#!/bin/sh\n" .. bytes end })
    refuses("no end record", { raw = function(bytes) return bytes:sub(1, -2) end })
    refuses("no end record", { raw = function() return "" end })
    refuses("more than 100 entries", { raw = function(bytes)
      return bytes:sub(1, -15) .. "\xff\xff\xff\xff" .. bytes:sub(-10) -- as zip64 says it
    end })
    refuses("holds more than", { raw = function(bytes)
      local n = bytes:byte(-14)
      return bytes:sub(1, -15) .. string.char(n - 1, 0, n - 1, 0) .. bytes:sub(-10)
    end })
  end)

  it("refuses bytes that were damaged or exchanged", function()
    local report = check { files = { ["a.lua"] = crypto.random(500):gsub("[\r\n]", " ") .. "" }, raw = function(bytes)
      return bytes:sub(1, 199) .. string.char(bytes:byte(200) ~ 1) .. bytes:sub(201)
    end }
    assert.truthy(table.concat(report.problems, "\n"):find("^a.lua: "))
    refuses("not those of RECORD", { record = function(text) return (text:gsub("sha256=%w", "sha256=-", 1)) end })
    refuses("10 bytes, RECORD says 11", { record = function(text) return (text:gsub(",10\n", ",11\n")) end })
  end)

  it("refuses what RECORD does not name, and what it names in vain", function()
    refuses("it is not in RECORD", { extra = { { "more.lua", "x" } } })
    refuses("gone.lua: RECORD names it", { record = function(text) return text .. "gone.lua,sha256=AAAA,1\n" end })
    refuses("RECORD has no sha256 of it", { record = function(text) return (text:gsub("sha256", "md5", 1)) end })
    local rows, faults = headers.record('"a,""b",sha256=xx==,3\nc,,\nc,,\nno row\n')
    assert.same({ algorithm = "sha256", digest = "xx", size = 3 }, rows['a,"b'])
    assert.equal(2, #faults)
  end)

  it("refuses a content that is not what the file name says", function()
    refuses("METADATA says Name: other", { info = { METADATA = "Name: other\nVersion: 1.0\n" } })
    refuses("METADATA says Version: 2.0", { info = { METADATA = "Name: demo-ext\nVersion: 2.0\n" } })
    refuses("METADATA has no Name", { info = { METADATA = "Version: 1.0\n" } })
    refuses("METADATA has no Version", { info = { METADATA = "Name: demo-ext\n" } })
    refuses("is not of demo-ext 1.0", { folder = "demo_ext-1.1.dist-info" })
    refuses("is not of demo-ext 1.0", { folder = "other-1.0.dist-info" })
    refuses("tag lua54-none-any is not among", { info = { WHEEL = "Wheel-Version: 1.0\nTag: py3-none-any\n" } })
    refuses("Wheel-Version: 2.0", { info = { WHEEL = "Wheel-Version: 2.0\nTag: lua54-none-any\n" } })
    refuses("no METADATA", { info = { METADATA = false } })
    refuses("no WHEEL", { info = { WHEEL = false } })
    refuses("no RECORD", { info = { RECORD = false } })
    refuses("several .dist-info", { recorded = { { "x-1.dist-info/METADATA", "" } } })
    refuses("C module in a wheel for any machine", { files = { ["fast.so"] = "\127ELF" } })
    local native = require("pyoco.wheel.fit").native_tag()
    assert.same({}, check { tag = native, files = { ["fast.so"] = "\127ELF" } }.problems)
  end)

  it("says all that is wrong, up to a limit", function()
    local many = {}
    for i = 1, 40 do many[i] = { "../" .. i, "x" } end
    local problems = check({ recorded = many }).problems
    assert.equal(21, #problems)
    assert.equal("and 20 more", problems[21])
  end)

  it("checks whatever bytes it is given without an error", function()
    local path, file_name = wheels.write(dir, { name = "demo", version = "1.0", files = { ["a.lua"] = "return 1" } })
    local bytes = tmp.read(path)
    math.randomseed(7)
    for _ = 1, 300 do
      local at = math.random(#bytes)
      local rest = bytes:sub(at + 1, math.random(at, #bytes))
      tmp.write(path, bytes:sub(1, at - 1) .. string.char(math.random(0, 255)) .. rest)
      assert.is_table(archive.check(path, file_name, LIMITS).problems)
    end
  end)
end)
