--- The program's own command line, as a user meets it.
local host = require "host"

--- Runs the program and returns its output (both streams) and exit code.
local function run(arguments)
  local pipe = assert(io.popen(("'%s' %s 2>&1"):format(host.exe, arguments)))
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

  it("says where it looked for a script that does not exist", function()
    local text, code = run "nope.lua"
    assert.equal(1, code)
    assert.truthy(text:find("script nope.lua not found: looked for ./nope.lua", 1, true))
  end)

  it("shows file and line of a script that does not parse", function()
    local text, code = run "-e 'x ='"
    assert.equal(1, code)
    assert.truthy(text:find("-e:1: unexpected symbol near <eof>", 1, true), text)
  end)
end)
