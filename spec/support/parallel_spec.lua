local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

describe("spec/support/parallel", function()
  local folder

  before_each(function() folder = tmp.dir() end)
  after_each(function() tmp.remove(folder) end)

  --- Runs a folder of spec files { name = body }.
  local function run(bodies)
    for name, body in pairs(bodies) do tmp.write(folder .. "/" .. name .. "_spec.lua", body) end
    local script = tmp.write(folder .. "/run.lua", ([[
      local root = require("host").home
      package.path = root .. "/?.lua;" .. package.path
      assert(require("luv").chdir(root))
      return require("spec.support.parallel").run(%q)]]):format(folder))
    return process.run({ script }, { deadline_ms = 30000 })
  end

  it("adds up what all files say, and shows what failed", function()
    local child = run { good = "it('holds', function() assert.is_true(true) end)",
      bad = "it('breaks', function() error('so wrong') end)" }
    assert.equal(1, child.code, child.stderr)
    assert.is_truthy(child.stdout:find("so wrong", 1, true), child.stdout)
    assert.is_truthy(child.stdout:find("\n1 passed, 1 failed\n$"), child.stdout)
  end)

  it("counts a file that dies as a failure", function()
    local child = run { dead = "os.exit(3)", good = "it('holds', function() assert.is_true(true) end)" }
    assert.equal(1, child.code)
    assert.is_truthy(child.stdout:find("\n1 passed, 1 failed\n$"), child.stdout)
    assert.is_truthy(child.stdout:find("dead_spec.lua ended with code 3", 1, true), child.stdout)
  end)

  it("is content when all pass", function()
    local child = run { good = "it('holds', function() assert.is_true(true) end)" }
    assert.equal(0, child.code, child.stdout .. child.stderr)
    assert.is_truthy(child.stdout:find("\n1 passed, 0 failed\n$"), child.stdout)
  end)
end)
