--- host.process: what pyoco.engine.process is made of. What it means for a task is in spec/engine/exec_spec.lua.
local native = require "host.process"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local ENV <const>, PATH <const> = { "A=1" }, "/usr/bin:/bin"

local cleaning -- functions that each spec ends with

--- Starts a program that is ended with the spec.
local function spawn(...)
  local child = assert(native.spawn({ ... }, ENV, PATH))
  cleaning[#cleaning + 1] = function() child:close() end
  return child
end

--- What a child writes, to its end.
local function output_of(child, which)
  local all = ""
  process.wait_for(function()
    local text = child:read(which)
    all = all .. (text or "")
    return text == nil
  end)
  return all
end

local function end_of(child, rest)
  local code, signal
  process.wait_for(function()
    code, signal = child:reap(rest)
    return code or signal
  end)
  return code, signal
end

describe("host.process", function()
  before_each(function() cleaning = {} end)
  after_each(function() for _, clean in ipairs(cleaning) do clean() end end)

  it("starts a program with exactly the environment it is given", function()
    local child = spawn("env")
    assert.equal("A=1\n", output_of(child, 1))
    assert.equal("", output_of(child, 2))
    assert.same({ 0 }, { end_of(child) })
  end)

  it("tells the end once, as a code or a signal", function()
    local child = spawn("sh", "-c", "exit 9")
    assert.same({ 9 }, { end_of(child) })
    assert.is_nil(child:reap())
    assert.equal(0, child:pid())
    child = spawn("sleep", "1000")
    assert.is_nil(child:reap())
    child:signal(9)
    assert.same({ nil, 9 }, { end_of(child) })
    child:signal(9) -- nobody's number any more: nothing happens
  end)

  it("tells how much of what it reads is whole lines", function()
    local child = spawn("printf", "a\\nb\\rc")
    end_of(child)
    assert.same({ "a\nb\rc", 4 }, { child:read(1) })
    assert.is_nil(child:read(1))
    assert.is_nil(child:read(2))
  end)

  it("reads nothing without waiting", function()
    local child = spawn("sleep", "1000")
    assert.same({ "", 0 }, { child:read(1) })
  end)

  it("kills the rest of a dead leader's group when asked to", function()
    local child = spawn("sh", "-c", "sleep 1000 & echo $!")
    local pid = process.wait_for(function() return tonumber((child:read(1))) end)
    end_of(child, true)
    process.wait_for(function()
      local stat = tmp.read(("/proc/%d/stat"):format(pid))
      return not stat or stat:find("%) [ZX] ")
    end)
  end)

  it("ends what is closed or collected", function()
    local child = assert(native.spawn({ "sleep", "1000" }, ENV, PATH))
    local pid = child:pid()
    child:close()
    child:close()
    assert.is_nil(tmp.read(("/proc/%d/stat"):format(pid)))
    pid = assert(native.spawn({ "sleep", "1000" }, ENV, PATH)):pid()
    collectgarbage()
    collectgarbage()
    assert.is_nil(tmp.read(("/proc/%d/stat"):format(pid)))
  end)

  it("says what it cannot start, with a code", function()
    local function code_of(argv, path, cwd)
      local child, message, code = native.spawn(argv, ENV, path or PATH, cwd)
      assert.is_nil(child)
      assert.truthy(message:find("cannot start '" .. argv[1] .. "'", 1, true))
      return code
    end
    assert.equal("not_found", code_of { "no-such-program" })
    assert.equal("not_found", code_of({ "true" }, PATH, "/nonexistent"))
    assert.equal("not_found", code_of({ "true" }, "/nonexistent:/etc/hostname"))
    assert.equal("forbidden", code_of { "/etc/passwd" })
    assert.equal("too_large", code_of { "true", ("x"):rep(200000) })
  end)

  it("looks in the folders in their order, in the current one for an empty name", function()
    local folder = tmp.dir()
    cleaning[1] = function() tmp.remove(folder) end
    tmp.write(folder .. "/ls", "#!/bin/sh\necho mine\n")
    assert(require("luv").fs_chmod(folder .. "/ls", tonumber("755", 8)))
    for _, path in ipairs { folder .. ":/bin", "/nonexistent::/bin" } do
      local child = assert(native.spawn({ "ls" }, ENV, path, folder))
      assert.equal("mine\n", output_of(child, 1))
      child:close()
    end
  end)

  it("refuses a call that is wrong", function()
    for expected, arguments in pairs {
      ["a string holds NUL"] = { { "a\0b" }, ENV, PATH },
      ["a list of strings expected"] = { { "ls", {} }, ENV, PATH },
      ["a program expected"] = { {}, ENV, PATH },
      ["table expected"] = { "ls", ENV, PATH },
      ["string expected"] = { { "ls" }, ENV },
    } do
      local ok, message = pcall(native.spawn, table.unpack(arguments))
      assert.is_false(ok)
      assert.truthy(message:find(expected, 1, true), message)
    end
    local child = spawn("true")
    assert.is_false((pcall(child.read, child, 3)))
    assert.is_false((pcall(child.read, {}, 1)))
  end)

  it("sweeps children that are not to be kept, and theirs", function()
    local kept = {}
    local was = native.subreaper(true)
    cleaning[1] = function() native.subreaper(was) end
    for _, pid in ipairs(native.children()) do kept[pid] = true end
    local child = spawn("sh", "-c", "sleep 1000 & setsid sleep 1000 & echo x; wait")
    process.wait_for(function() return child:read(1) == "x\n" end)
    assert.equal(1, #native.children(kept))
    assert.equal(0, native.sweep(kept, true))
    assert.same({}, native.children(kept))
    assert.is_true(native.subreaper(true))
  end)
end)
