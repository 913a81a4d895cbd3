--- The program's own command line, as a user meets it.
local host = require "host"
local uv = require "luv"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

--- Runs the program and returns its output (both streams) and exit code.
local function run(arguments, before)
  local pipe = assert(io.popen(("%s'%s' %s 2>&1"):format(before or "", host.exe, arguments)))
  local text = pipe:read("a")
  local _, _, code = pipe:close()
  return text, code
end

describe("pyoco-host", function()
  it("says its version and its help", function()
    assert.equal("pyoco-host " .. host.version .. "\n", (run "--version"))
    assert.truthy((run "--help"):find("usage: pyoco-host SCRIPT.lua", 1, true))
  end)

  it("runs code given with -e and passes its arguments", function()
    assert.equal("2 b\n", (run "-e 'print(#arg, (select(2, ...)))' a b"):gsub("\t", " "))
  end)

  it("turns what a script returns into the exit code", function()
    assert.equal(7, (select(2, run "-e 'return 7'")))
    assert.equal(1, (select(2, run "-e 'return false'")))
    assert.equal(0, (select(2, run "-e 'return true'")))
  end)

  --- Runs a command line of bash in which $H is the program.
  local function shell(line)
    local child = process.spawn("bash", { "-c", "set -o pipefail; H=$0; " .. line, host.exe })
    return child:wait(), child.stdout, child.stderr
  end

  it("fails when what it prints does not get through, but not for a reader that has seen enough", function()
    for _, arguments in ipairs {
      "--version", "-e 'print(1)'", "-e 'print((\"x\"):rep(100000))'", "client.lua --help" } do
      local code, _, says = shell('"$H" ' .. arguments .. " >/dev/full")
      assert.equal(1, code, arguments)
      assert.truthy(says:find("^pyoco%-host: standard output: "), says)
    end
    assert.same({ 0, "1\n", "" }, { shell [["$H" -e 'for _ = 1, 1e5 do print(1) end' | head -1]] })
  end)

  it("runs with standard streams closed", function()
    for _, closed in ipairs { "0<&-", "1>&-", "0<&- 1>&- 2>&-" } do
      local code, _, says = shell(([["$H" -e 'print(1) require("luv").new_timer():close()' %s]]):format(closed))
      assert.equal(0, code, says)
    end
  end)

  it("says where it looked for a script that does not exist", function()
    local text, code = run "nope.lua"
    assert.equal(1, code)
    assert.truthy(text:find("script nope.lua not found: looked for ./nope.lua", 1, true))
  end)

  it("runs a script of the user's own, with the same modules and its arguments", function()
    local dir = tmp.dir()
    tmp.write(dir .. "/mine.lua", [[
      require "pyoco"
      print(require("host.json").encode({ role = require("host").role, args = { ... } }, { sort = true }), arg[1])
      return 4
    ]])
    local text, code = run(dir .. "/mine.lua a")
    tmp.remove(dir)
    assert.equal('{"args":["a"],"role":"script"}\ta\n', text)
    assert.equal(4, code)
  end)

  it("looks a script up as given, then in PYOCO_HOME/lua", function()
    local dir = tmp.dir()
    assert(uv.fs_mkdir(dir .. "/lua", 448))
    tmp.write(dir .. "/lua/mine.lua", "print 'of home'")
    tmp.write(dir .. "/mine.lua", "print 'as given'")
    local home = ("cd '%s' && PYOCO_HOME='%s' "):format(dir, dir)
    assert.equal("as given\n", (run("mine.lua", home)))
    assert(uv.fs_unlink(dir .. "/mine.lua"))
    assert.equal("of home\n", (run("mine.lua", home)))
    tmp.remove(dir)
  end)

  it("shows file and line of a script that does not parse", function()
    local dir = tmp.dir()
    tmp.write(dir .. "/bad.lua", "local x = 1\nlocal = 2\n")
    local said, failed = run(dir .. "/bad.lua")
    tmp.remove(dir)
    assert.equal(1, failed)
    assert.truthy(said:find("bad.lua:2: ", 1, true), said)
    local text, code = run "-e 'x ='"
    assert.equal(1, code)
    assert.truthy(text:find("-e:1: unexpected symbol near <eof>", 1, true), text)
  end)
end)
