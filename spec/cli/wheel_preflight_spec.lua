--- What wheel-upload finds in a wheel before it sends it.
local archive = require "host.archive"
local preflight = require "pyoco.cli.wheel_preflight"
local tmp = require "spec.support.tmp"

local USAGE = "usage documentation is missing (need METADATA description>=80 chars or Project-URL: Documentation,...)"
local NO_POINTS = "entry_points are missing (dist-info/entry_points.txt)"
local META = "Metadata-Version: 2.1\nName: demo\nVersion: 1\nSummary: s\nProject-URL: Documentation, http://x\n"
local POINTS = "[pyoco.tasks]\na = demo:a\n"

describe("cli.wheel_preflight", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  --- Errors and warnings of an archive with these files.
  local function check(files, opts)
    local writer = assert(archive.create(dir .. "/w.whl"))
    for _, file in ipairs(files) do assert(writer:add(file[1], file[2])) end
    assert(writer:close())
    return preflight.check(dir .. "/w.whl", opts or {})
  end

  local function of(metadata, points, opts)
    return check({ { "demo.lua", "return {}" }, { "demo-1.dist-info/METADATA", metadata },
      points and { "demo-1.dist-info/entry_points.txt", points } }, opts)
  end

  it("is content with a complete wheel", function()
    assert.same({}, (of(META, POINTS)))
    for _, label in ipairs { "docs", "DOC", "Usage", "documentation" } do
      assert.same({}, (of(META:gsub("Documentation", label), POINTS)))
    end
    local long = ("日本語の説明 "):rep(12)
    assert.same({}, (of("Name: demo\nVersion: 1\nSummary: s\n\n" .. long, POINTS)))
    assert.same({}, (of("Name: demo\nVersion: 1\nSummary: s\nDescription: " .. ("x"):rep(80) .. "\n", POINTS)))
  end)

  it("says what is missing, all at once", function()
    assert.same({ { "METADATA Name is missing", "METADATA Version is missing", USAGE, NO_POINTS },
      { "METADATA Summary is empty" } },
      { of("Metadata-Version: 2.1\nProject-URL: Home, http://x\n\nshort", "# none\n") })
    assert.same({ "missing dist-info/METADATA", NO_POINTS }, (check { { "demo.lua", "x" } }))
    assert.same({ "METADATA Name is missing", NO_POINTS }, (of(META:gsub("Name: demo", "Name:"), nil)))
  end)

  it("may be told what need not be there", function()
    assert.same({}, (of("Name: demo\nVersion: 1\n", nil,
      { allow_no_entry_points = true, allow_missing_usage_doc = true })))
  end)

  it("tells entry points that are none", function()
    local invalid = "dist-info/entry_points.txt format is invalid"
    for _, text in ipairs { "a = b\n", "[x]\nno value\n", "[x\na = b\n", "[x]\n = b\n" } do
      assert.same({ invalid }, (of(META, text, { allow_no_entry_points = true })), text)
    end
    for _, text in ipairs { "; c\n[x]\n# c\na = b\n  c\n\n[y]\n", "[x]\na: b\nc = d\n" } do
      assert.same({}, (of(META, text)), text)
    end
  end)

  it("tells what is no archive", function()
    for _, bytes in ipairs { "", "PK", ("x"):rep(1000) } do
      tmp.write(dir .. "/w.whl", bytes)
      assert.same({ "wheel file is not a valid zip archive" }, (preflight.check(dir .. "/w.whl", {})))
    end
  end)
end)
