local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

describe("spec/support/helper", function()
  local folder

  before_each(function() folder = tmp.dir() end)
  after_each(function() tmp.remove(folder) end)

  --- Runs a spec file of the given body in a process of its own.
  local function run(body)
    local path = tmp.write(folder .. "/leak_spec.lua", body)
    return process.run({ require("host").home .. "/spec/run.lua", path }, { deadline_ms = 30000 })
  end

  local function fails(body, what)
    local child = run(body)
    assert.is_truthy(child.stdout:find(what, 1, true), child.stdout .. child.stderr)
    assert.is_truthy(child.stdout:find("left behind by 'leaks'", 1, true), child.stdout)
    assert.are_not.equal(0, child.code)
  end

  it("passes a spec that cleans up, in after_each too", function()
    local child = run([[
      local uv = require "luv"
      describe("x", function()
        local file
        before_each(function() file = io.open("/etc/hostname") end)
        after_each(function() file:close() end)
        it("is clean", function()
          local timer = uv.new_timer()
          timer:close()
          local other <close> = io.open("/etc/hostname")
          assert.is_truthy(other)
        end)
        it("is clean again", function() assert.is_truthy(file) end)
      end)]])
    assert.are.equal(0, child.code, child.stdout .. child.stderr)
    assert.is_truthy(child.stdout:find("2 passed, 0 failed", 1, true))
  end)

  it("fails an `it` that leaves a file open", function()
    fails([[it("leaks", function() _G.kept = io.open("/etc/hostname") end)]], "1 more: file /etc/hostname")
  end)

  it("fails an `it` that leaves a socket open", function()
    fails([[it("leaks", function()
      _G.kept = require("luv").new_tcp()
      _G.kept:bind("127.0.0.1", 0)
    end)]], "1 more: file socket")
  end)

  it("fails an `it` that leaves a libuv handle", function()
    fails([[it("leaks", function()
      _G.kept = require("luv").new_timer()
      _G.kept:start(60000, 0, function() end)
    end)]], "1 more: luv handle uv_timer_t")
  end)

  it("fails an `it` that leaves a child process", function()
    fails([[it("leaks", function()
      require("luv").spawn("sleep", { args = { "60" } }, function() end)
    end)
    teardown(function() require("luv").walk(function(h) if h.kill then h:kill("sigkill") end end) end)]],
      "1 more: child process")
  end)

  it("fails an `it` whose before_each leaves something", function()
    fails([[describe("x", function()
      before_each(function() _G.kept = io.open("/etc/hostname") end)
      it("leaks", function() end)
    end)]], "1 more: file /etc/hostname")
  end)

  it("leaves alone what setup holds for several specs", function()
    local child = run([[describe("x", function()
      local file
      setup(function() file = io.open("/etc/hostname") end)
      teardown(function() file:close() end)
      it("one", function() assert.is_truthy(file) end)
      it("two", function() assert.is_truthy(file) end)
    end)]])
    assert.are.equal(0, child.code, child.stdout .. child.stderr)
  end)
end)
