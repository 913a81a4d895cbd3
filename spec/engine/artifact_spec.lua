--- ctx:save_artifact: what stands in the record, what becomes a file, and what is refused.
local flow = require "spec.support.flow"
local crypto = require "host.crypto"
local json = require "host.json"
local uv = require "luv"
local tmp = require "spec.support.tmp"

local dir

before_each(function() dir = tmp.dir() end)
after_each(function() tmp.remove(dir) end)

local read, write = tmp.read, tmp.write

--- Runs a task that saves; returns its record and the engine.
local function save(fn, options)
  options = options or {}
  options.artifacts_dir, options.run = dir .. "/artifacts", { run_id = "r1" }
  return flow.task(fn, options)
end

describe("an artifact", function()
  it("that is small stands in the record", function()
    local record, eng = save(function(ctx)
      local recorded = ctx:save_artifact("metrics", { loss = 0.5, list = json.array {} })
      ctx:save_artifact("name", "text")
      ctx:save_artifact("none", json.null)
      return recorded
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.equal('{"metrics":{"list":[],"loss":0.5},"name":"text","none":null}',
      json.encode(record.artifacts, { sort = true }))
    assert.same({ loss = 0.5, list = {} }, record.output)
    assert.same(record.artifacts, eng.artifacts)
    assert.is_nil(uv.fs_stat(dir .. "/artifacts"))
  end)

  it("is a copy", function()
    local record = save(function(ctx)
      local given = { n = 1 }
      ctx:save_artifact("x", given).n = 2
      given.n = 3
      ctx.artifacts.x.n = 4
    end)
    assert.same({ x = { n = 1 } }, record.artifacts)
  end)

  it("above 64 KB becomes a file of JSON", function()
    local record = save(function(ctx) ctx:save_artifact("big", { text = ("x"):rep(70000) }) end)
    local entry = record.artifacts.big
    assert.equal(dir .. "/artifacts/r1/t/big", entry.path)
    local text = read(entry.path)
    assert.same({ text = ("x"):rep(70000) }, json.decode(text))
    assert.equal(#text, entry.size)
    assert.equal(crypto.sha256(text), entry.sha256)
  end)

  it("of bytes becomes a file, whatever they are", function()
    local record = save(function(ctx)
      ctx:save_artifact("weights.bin", { bytes = "\0\xff\n" })
      ctx:save_artifact("empty", { bytes = "" })
    end)
    assert.equal("\0\xff\n", read(record.artifacts["weights.bin"].path))
    assert.same({ path = dir .. "/artifacts/r1/t/empty", size = 0, sha256 = crypto.sha256("") }, record.artifacts.empty)
  end)

  it("of a file is a copy of it; other tasks go on meanwhile", function()
    local text = ("0123456789abcdef"):rep(1 << 16)
    local source = write(dir .. "/model", text)
    local order = {}
    local eng = flow.run({
      { "a", function(ctx)
        ctx:save_artifact("model.bin", { file = source })
        order[#order + 1] = "saved"
      end },
      { "b", function() order[#order + 1] = "b" end },
    }, { artifacts_dir = dir .. "/artifacts", run = { run_id = "r1" } })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ "b", "saved" }, order)
    local entry = eng.records.a.artifacts["model.bin"]
    os.remove(source)
    assert.equal(text, read(entry.path))
    assert.equal(#text, entry.size)
    assert.equal(crypto.sha256(text), entry.sha256)
  end)

  it("of a table that has more than `file` is the table", function()
    local record = save(function(ctx) ctx:save_artifact("x", { file = "a", line = 5 }) end)
    assert.same({ x = { file = "a", line = 5 } }, record.artifacts)
  end)

  it("that is saved again is replaced, and no part of a file is left", function()
    local record = save(function(ctx)
      ctx:save_artifact("x", { bytes = "first" })
      ctx:save_artifact("x", { bytes = "second" })
    end)
    assert.equal("second", read(record.artifacts.x.path))
    local names = {}
    for name in uv.fs_scandir_next, uv.fs_scandir(dir .. "/artifacts/r1/t") do names[#names + 1] = name end
    assert.same({ "x" }, names)
  end)

  it("of a task with any name stays inside of the folder", function()
    for _, name in ipairs { "../../up", "a/b", ".hidden", "..", ("long"):rep(100), "größe x" } do
      local eng = flow.run({ { name, function(ctx) ctx:save_artifact("x", { bytes = "1" }) end } },
        { artifacts_dir = dir .. "/artifacts", run = { run_id = "../r1" } })
      local entry = eng.records[name].artifacts.x
      assert.equal("1", read(entry.path))
      assert.equal(entry.path, uv.fs_realpath(entry.path))
      assert.truthy(entry.path:sub(#dir + 1):find("^/artifacts/%%2E%.%%2Fr1/[^/]+/x$"), entry.path)
    end
  end)

  for what, case in pairs {
    ["a name with a slash"] = { "a/b", 1, "the name must be letters" },
    ["a name that begins with a dot"] = { ".x", 1, "the name must be letters" },
    ["an empty name"] = { "", 1, "the name must be letters" },
    ["a name that is no text"] = { 5, 1, "letters, digits, _ - and dots (not first), at most 128 bytes, got a number" },
    ["a name that is too long"] = { ("x"):rep(129), 1, "the name must be letters" },
    ["a name that is not UTF-8"] = { "\xff", 1, "the name must be letters" },
    ["no value"] = { "x", nil, "'x': there is no value" },
    ["a function"] = { "x", { a = print }, "x.a: JSON cannot carry a function" },
    ["a missing file"] = { "x", { file = "/nowhere/at/all" }, "'x': ENOENT" },
    ["a folder"] = { "x", { file = "/tmp" }, "'x': /tmp is a directory, not a file" },
    ["a file that is no path"] = { "x", { file = 5 }, "'x': file must be a path, got a number" },
    ["bytes that are no text"] = { "x", { bytes = {} }, "'x': bytes must be a text, got a table" },
  } do
    it("with " .. what .. " is an error at its line", function()
      local record = save(function(ctx) ctx:save_artifact(case[1], case[2]) end)
      assert.truthy(record.error:find("artifact_spec.lua:%d+: ctx:save_artifact: "), record.error)
      assert.truthy(record.error:find(case[3], 1, true), record.error)
      assert.same({}, record.artifacts)
    end)
  end

  it("that cannot be written is an error, and the record has none", function()
    write(dir .. "/artifacts", "in the way")
    local record = save(function(ctx) ctx:save_artifact("x", { bytes = "1" }) end)
    assert.truthy(record.error:find("cannot make the folder", 1, true), record.error)
    assert.same({}, record.artifacts)
  end)

  it("can be caught", function()
    assert.is_false(save(function(ctx) return (pcall(ctx.save_artifact, ctx, "", 1)) end).output)
  end)

  it("whose copy is cut by a cancel leaves no part behind", function()
    local source = write(dir .. "/model", ("x"):rep(8 << 20))
    local _, eng = save(function(ctx)
      coroutine.wrap(function() ctx:save_artifact("x", { file = source }) end)()
    end, { on_start = function(eng)
      local timer = assert(uv.new_timer())
      timer:start(0, 0, function()
        timer:close()
        eng:cancel()
      end)
    end })
    if eng.status == "CANCELLED" then -- it may have been faster
      uv.run("default")
      assert.same({}, eng.records.t.artifacts)
      assert.is_nil(uv.fs_scandir_next(assert(uv.fs_scandir(dir .. "/artifacts/r1/t"))))
    end
  end)
end)
