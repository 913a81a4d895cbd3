local archive = require "host.archive"
local crypto = require "host.crypto"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local LINK, FOLDER = tonumber("0120777", 8), tonumber("0040755", 8)

describe("host.archive", function()
  local dir, path

  before_each(function()
    dir = tmp.dir()
    path = dir .. "/a.zip"
  end)
  after_each(function() tmp.remove(dir) end)

  --- Writes an archive of { name, bytes, mode } entries.
  local function create(entries)
    local writer = assert(archive.create(path))
    for _, entry in ipairs(entries) do assert(writer:add(entry[1], entry[2], entry[3])) end
    assert(writer:close())
  end

  it("writes and reads entries of all kinds, in their order", function()
    create { { "z.lua", "return 1\n" }, { "a/ü.txt", "" }, { "run.sh", "#!", tonumber("0755", 8) },
      { "link", "/etc/passwd", LINK }, { "folder/", "", FOLDER }, { "../up", "x" } }
    local reader <close> = assert(archive.open(path))
    local found = {}
    for entry in reader:entries() do
      found[#found + 1] = ("%s %s %d %o"):format(entry.name, entry.type, entry.size, entry.mode)
      assert.is_false(entry.encrypted)
    end
    assert.is_nil(reader:fault())
    assert.same({ "z.lua file 9 644", "a/ü.txt file 0 644", "run.sh file 2 755", "link symlink 0 777",
      "folder/ dir 0 755", "../up file 1 644" }, found)
    assert.is_nil(reader:next()) -- and again nothing
  end)

  it("gives the same bytes for the same calls, whatever the time zone", function()
    local code = [[
      local writer = require("host.archive").create(...)
      writer:add("a", ("x"):rep(70000))
      writer:add("b", "")
      writer:close()]]
    local sums = {}
    for i, zone in ipairs { "UTC", "Asia/Tokyo", "America/Lima" } do
      assert.equal(0, process.run({ "-e", code, path }, { env = { TZ = zone } }).code)
      sums[i] = crypto.sha256(tmp.read(path))
    end
    assert.same({ sums[1], sums[1], sums[1] }, sums)
  end)

  it("writes what other programs read", function()
    create { { "a.lua", "return 1\n" }, { "b/ü.txt", "y" } }
    local unzip = process.spawn("unzip", { "-tq", path })
    unzip:wait()
    assert.equal(0, unzip.code)
  end)

  it("reads an entry whole, up to a cap, and in pieces", function()
    local text = ("0123456789"):rep(20000)
    create { { "big", text }, { "empty", "" } }
    local reader <close> = assert(archive.open(path))
    reader:next()
    local bytes, message, code = reader:read(#text - 1)
    assert.same({ nil, "too_large" }, { bytes, code })
    assert.truthy(message:find("199999", 1, true))
    assert.equal("empty", reader:next().name)
    assert.equal("", reader:read(0))
    assert.is_nil(reader:chunk())

    local again <close> = assert(archive.open(path))
    again:next()
    local parts = {}
    for piece in again.chunk, again do
      assert.truthy(#piece <= 65536)
      parts[#parts + 1] = piece
    end
    assert.equal(text, table.concat(parts))
    assert.has_error(function() assert(archive.open(path)):read(1) end)
  end)

  it("says what is no zip archive, and what is not there", function()
    tmp.write(path, "PK but not really")
    local reader, message, code = archive.open(path)
    assert.same({ nil, "invalid" }, { reader, code })
    assert.truthy(message:find("not a zip archive", 1, true))
    assert.equal("invalid", select(3, archive.open(dir)))
    assert.equal("not_found", select(3, archive.open(dir .. "/none")))
    tmp.write(path, "")
    assert.equal("invalid", select(3, archive.open(path)))
    assert.equal("internal", select(3, archive.create(dir .. "/none/a.zip")))
  end)

  it("finds bytes that were changed", function()
    create { { "a", crypto.random(1000) }, { "b", "b" } }
    local text = tmp.read(path)
    tmp.write(path, text:sub(1, 400) .. string.char(text:byte(401) ~ 255) .. text:sub(402))
    local reader <close> = assert(archive.open(path))
    reader:next()
    local bytes, _, code = reader:read(2000)
    assert.same({ nil, "invalid" }, { bytes, code })
  end)

  it("ends at a damaged entry and says so", function()
    create { { "a", "a" }, { "b", "b" } }
    local text = tmp.read(path)
    local second = select(2, text:find("PK\3\4.-PK\3\4"))
    tmp.write(path, text:sub(1, second - 4) .. "XX" .. text:sub(second - 1))
    local reader <close> = assert(archive.open(path))
    local names = {}
    for entry in reader:entries() do names[#names + 1] = entry.name end
    assert.same({ "a" }, names)
    assert.truthy(reader:fault())
    assert.equal("invalid", select(3, reader:next()))
  end)

  it("refuses what cannot be an entry, and the use of what is closed", function()
    local writer = assert(archive.create(path))
    assert.equal("invalid", select(3, writer:add("", "x")))
    assert.equal("invalid", select(3, writer:add("a\0b", "x")))
    assert.equal("internal", select(3, writer:add("fifo", "", tonumber("0010644", 8))))
    assert.equal("internal", select(3, writer:close())) -- it is not whole
    assert.has_error(function() writer:add("a", "x") end)
    create { { "a", "x" } }
    local reader = assert(archive.open(path))
    reader:close()
    assert.has_error(function() reader:next() end)
    reader:close()
  end)
end)
