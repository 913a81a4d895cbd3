--- The parts of a worker's wheels that need no worker: the choice, the record, the folder.
local json = require "host.json"
local host = require "host"
local uv = require "luv"
local choice = require "pyoco.worker.wheel_choice"
local folders = require "pyoco.worker.wheel_folder"
local reports = require "pyoco.worker.wheel_report"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

describe("pyoco.worker.wheel_choice", function()
  local function wheel(name, tags) return { name = name, tags = tags or {}, nuid = name } end

  --- Names chosen, skipped and refused of a list of { name, tags }.
  local function pick(list, refused)
    local chosen, skipped = choice.pick(list, { "cpu", "gpu" }, function(one) return refused == one.name end)
    local names = {}
    for i, one in ipairs(chosen) do names[i] = one.wheel.name end
    return names, skipped
  end

  it("takes the newest version by PEP 440, of ties the greater file name", function()
    assert.same({ "a-1.10-lua54-none-any.whl" }, (pick { wheel "a-1.9-lua54-none-any.whl",
      wheel "a-1.10-lua54-none-any.whl", wheel "a-1.10rc1-lua54-none-any.whl" }))
    assert.same({ "A-1.0-1-lua54-none-any.whl" }, (pick { wheel "A-1.0-1-lua54-none-any.whl",
      wheel "A-1-0-lua54-none-any.whl" }))
    assert.same({ "a_b-1-lua54-none-any.whl" }, (pick { wheel "a_b-1-lua54-none-any.whl",
      wheel "A.b-1.0-lua54-none-any.whl" }))
  end)

  it("looks at tags: none, or one of its own", function()
    assert.same({ "a-1-lua54-none-any.whl", "b-1-lua54-none-any.whl" }, (pick {
      wheel "a-1-lua54-none-any.whl", wheel("b-1-lua54-none-any.whl", { "x", "gpu" }),
      wheel("b-2-lua54-none-any.whl", { "x" }), wheel("c-1-lua54-none-any.whl", { "x" }) }))
  end)

  it("falls back to the newest that fits, and reports those that do not", function()
    local names, skipped = pick { wheel "a-2-py3-none-any.whl", wheel "a-1-lua54-none-any.whl", wheel "not a wheel",
      wheel("b-3-py3-none-any.whl", { "x" }) }
    assert.same({ "a-1-lua54-none-any.whl" }, names)
    assert.same({ { wheel_name = "a-2-py3-none-any.whl", package_name = "a", package_version = "2",
      reason = "unsupported_wheel_tags" } }, skipped)
    assert.same({ "a-1-py3.lua54-none-any.whl" }, (pick { wheel "a-1-py3.lua54-none-any.whl" }))
  end)

  it("passes over what was refused", function()
    local list = { wheel "a-2-lua54-none-any.whl", wheel "a-1-lua54-none-any.whl" }
    assert.same({ "a-1-lua54-none-any.whl" }, (pick(list, "a-2-lua54-none-any.whl")))
  end)
end)

describe("pyoco.worker.wheel_report", function()
  local ROUND = { selected = { "b", "a" }, updated = {}, removed = {}, skipped = {}, failures = {} }

  it("keeps the last round's lists when the next one fails", function()
    local report = reports.new()
    assert.same({ true, "idle" }, { report.block.enabled, report.block.last_result })
    report:done(10, ROUND)
    assert.same({ "ok", 10, 10, { "a", "b" }, 2 }, { report.block.last_result, report.block.last_success_at,
      report.block.last_synced_at, report.block.selected_wheels, report.block.selected_count })
    report:failed(20, "no")
    assert.same({ "error", 20, 10, "no", 2 }, { report.block.last_result, report.block.last_attempt_at,
      report.block.last_success_at, report.block.last_error, report.block.selected_count })
  end)

  it("shows failures, and is no success with one", function()
    local report = reports.new()
    report:done(10, { selected = {}, updated = {}, removed = {}, skipped = {}, failures = {
      { wheel_name = "x", error = "one" }, { wheel_name = "y", error = "two" } } })
    assert.same({ "error", json.null, "one\ntwo", 2 }, { report.block.last_result, report.block.last_success_at,
      report.block.last_error, #report.block.failed_wheels })
  end)

  it("cuts lists to 50 and errors to 2000 characters", function()
    local report, many = reports.new(), {}
    for i = 1, 60 do many[i] = ("w%02d"):format(i) end
    report:done(1, { selected = many, updated = {}, removed = {}, skipped = {}, failures = {} })
    assert.same({ 60, 50 }, { report.block.selected_count, #report.block.selected_wheels })
    report:failed(2, ("ü"):rep(3000))
    assert.equal(2000, utf8.len(report.block.last_error))
    report:failed(2, "\xff\xfe")
    assert.equal("??", report.block.last_error)
  end)

  it("takes over what an earlier life left, whatever it is", function()
    local report = reports.new()
    report:done(10, ROUND)
    local stored = json.decode(json.encode(report.block))
    stored.odd, stored.removed_count, stored.last_error = 1, "x", json.null
    local next_life = reports.new()
    next_life:carry_over(stored)
    assert.same({ "ok", 10, { "a", "b" }, 0 }, { next_life.block.last_result, next_life.block.last_success_at,
      next_life.block.selected_wheels, next_life.block.removed_count })
    assert.is_nil(next_life.block.odd)
    for _, odd in ipairs { json.null, "x", { enabled = false, last_result = "disabled" } } do
      next_life = reports.new()
      next_life:carry_over(odd)
      assert.same({ true, "idle" }, { next_life.block.enabled, next_life.block.last_result })
    end
    local stays = reports.empty(false)
    assert.same({ false, "disabled" }, { stays.enabled, stays.last_result })
  end)
end)

describe("pyoco.worker.wheel_folder", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  local function row(package, version, nuid)
    return { nuid = nuid, package_name = package, package_version = version, site = folders.site_name(package, version,
      nuid) }
  end

  --- Does what an install does before its commit.
  local function stage(folder, one)
    assert(uv.fs_mkdir(folder:staging(one.site), 493))
    tmp.write(folder:staging(one.site) .. "/m.lua", one.nuid)
    tmp.write(folder:staging(one.site .. ".whl"), "zip")
  end

  local function install(folder, name, one)
    stage(folder, one)
    assert(folder:commit(name, one))
  end

  it("puts a version in place of the one before, whose folder stays while it is used", function()
    local folder = assert(folders.open(dir .. "/a/b", "w1"))
    local one, two, other = row("p", "1", "n1"), row("p", "2", "n2"), row("q", "1", "n3")
    install(folder, "p-1.whl", one)
    install(folder, "q-1.whl", other)
    assert.same({ one.site, other.site }, folder:sites())
    install(folder, "p-2.whl", two)
    assert.same({ two.site, other.site }, folder:sites())
    assert.is_true(folder:has("p-2.whl", "n2"))
    assert.is_false(folder:has("p-2.whl", "n1"))
    assert.is_nil(uv.fs_stat(folder.dir .. "/p-1.whl"))
    assert.same({}, folder:rubbish { [one.site] = true })
    assert.same({ folder:staging(one.site .. ".gone") }, folder:rubbish {})
    -- the one before comes back while nothing of it is left, and while it is still there
    install(folder, "p-1.whl", one)
    stage(folder, two)
    assert(folder:commit("p-2.whl", two))
    assert.equal("n2", tmp.read(folder:site(two.site) .. "/m.lua"))
    folder:close()
  end)

  it("is what its manifest says after whatever end", function()
    local folder = assert(folders.open(dir, "w1"))
    local one, two = row("p", "1", "n1"), row("q", "1", "n2")
    install(folder, "p-1.whl", one)
    install(folder, "q-1.whl", two)
    folder:close()
    tmp.remove(folder:site(two.site))                               -- gone
    assert(uv.fs_mkdir(folder:site("left-1-0"), 493))               -- unpacked, not in the manifest
    tmp.write(folder:staging "half.whl", "")                        -- fetched in part
    folder = assert(folders.open(dir, "w1"))
    assert.same({ one.site }, folder:sites())
    local rubbish = folder:rubbish {}
    table.sort(rubbish)
    assert.same({ folder:staging "half.whl", folder:staging "left-1-0.gone" }, rubbish)
    assert(folder:drop { "p-1.whl" })
    assert.same({}, folder:sites())
    folder:close()
  end)

  it("does not believe a manifest that leads elsewhere", function()
    tmp.write(dir .. "/.installed.json", json.encode { ["a.whl"] = { nuid = "n", package_name = "a", site = "../.." },
      ["b.whl"] = "x", ["c.whl"] = { nuid = 1, package_name = "c", site = "c" } })
    local folder = assert(folders.open(dir, "w1"))
    assert.same({}, folder.rows)
    folder:close()
    tmp.write(dir .. "/.installed.json", "{ not json")
    folder = assert(folders.open(dir, "w1"))
    assert.same({}, folder.rows)
    folder:close()
  end)

  it("has one user; the next gets a folder in it, a third of the same name none", function()
    local first = assert(folders.open(dir, "w1"))
    local second = assert(folders.open(dir, "../w2"))
    assert.equal(dir .. "/.workers/___w2", second.dir)
    local third, message = folders.open(dir, "../w2")
    assert.is_nil(third)
    assert.truthy(message:find("another process holds this lock", 1, true))
    first:close()
    second:close()
    local again = assert(folders.open(dir, "w3"))
    assert.equal(dir, again.dir)
    again:close()
  end)

  it("names folders for what is in them, one for each upload", function()
    assert.equal("a-b-1.0+x-", folders.site_name("a-b", "1.0+x", "n"):sub(1, 10))
    assert.are_not.equal(folders.site_name("a", "1", "n"), folders.site_name("a", "1", "m"))
    assert.truthy(#folders.site_name(("a"):rep(250), "1", "n") < 120)
    assert.truthy(folders.site_name("../x", "/", "n"):find("^%w[^/]+$"))
  end)
end)

describe("host.lock", function()
  it("is held until it is closed, or its process ends", function()
    local dir = tmp.dir()
    local path = dir .. "/lock"
    local lock = assert(host.lock(path))
    local other, message, code = host.lock(path)
    assert.same({ nil, "conflict" }, { other, code })
    assert.truthy(message:find(path, 1, true))
    lock:close()
    lock:close()
    local holder = process.host { "-e", [[
      lock = require("host").lock(...)
      print "held"
      io.stdout:flush()
      require("luv").sleep(60000)]], path }
    process.wait_for(function() return holder.stdout:find("held", 1, true) end)
    assert.equal("conflict", select(3, host.lock(path)))
    holder:kill "sigkill"
    holder:wait()
    assert(host.lock(path)):close()
    assert.equal("internal", select(3, host.lock(dir)))
    tmp.remove(dir)
  end)
end)
