--- `pyoco-host test.lua`, as a user of an installed pyoco-host types it in a folder of their own.
local host = require "host"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local dir

--- Runs test.lua in the folder.
local function run(args)
  return process.run({ "test.lua", table.unpack(args or {}) }, { cwd = dir, env = { PYOCO_TASK_PATH = "" },
    deadline_ms = 30000 })
end

before_each(function()
  dir = tmp.dir()
  uv.fs_mkdir(dir .. "/flows", 493)
  uv.fs_mkdir(dir .. "/spec", 493)
  for _, name in ipairs { "word_report.lua", "hello_tasks.lua", "hello.yaml" } do
    tmp.write(dir .. "/flows/" .. name, tmp.read(host.home .. "/flows/" .. name))
  end
  tmp.write(dir .. "/spec/word_report_spec.lua", tmp.read(host.home .. "/spec/flows/word_report_spec.lua"))
end)
after_each(function() tmp.remove(dir) end)

describe("test.lua", function()
  it("runs all of spec/", function()
    local child = run()
    assert.equal(0, child.code, child.stdout .. child.stderr)
    assert.truthy(child.stdout:find("5 successes / 0 failures / 0 errors", 1, true), child.stdout)
  end)

  it("runs a named file, with options of busted", function()
    tmp.write(dir .. "/spec/other_spec.lua", "error('must not be loaded')")
    local child = run { "-o", "TAP", "spec/word_report_spec.lua", "--filter", "counts the words" }
    assert.equal(0, child.code, child.stdout .. child.stderr)
    assert.equal("ok 1 - the word report counts the words of a text\n1..1\n", child.stdout)
  end)

  it("lets a spec require the modules of flows/, and load documents", function()
    tmp.write(dir .. "/spec/hello_spec.lua", [[
      local testing = require "pyoco.testing"
      local tasks = require "hello_tasks"

      describe("hello", function()
        it("counts letters", function()
          assert.equal(3, testing.task(tasks.count, { results = { meet = "Ada" } }).output)
        end)
        it("greets", function()
          local result = testing.flow("flows/hello.yaml", { params = { name = "Ada" } })
          assert.equal("Hello, Ada! Your name has 3 letters. Everything works.", result.outputs.celebrate)
        end)
      end)]])
    local child = run { "spec/hello_spec.lua" }
    assert.equal(0, child.code, child.stdout .. child.stderr)
    assert.truthy(child.stdout:find("2 successes / 0 failures / 0 errors", 1, true), child.stdout)
  end)

  it("ends with code 1 when a spec fails, and says where", function()
    tmp.write(dir .. "/spec/bad_spec.lua", "it('is wrong', function() assert.equal(1, 2) end)")
    local child = run { "spec/bad_spec.lua" }
    assert.equal(1, child.code)
    assert.truthy(child.stdout:find("spec/bad_spec.lua:1", 1, true), child.stdout)
  end)

  it("says what to do in a folder without specs", function()
    tmp.remove(dir .. "/spec")
    local child = run()
    assert.equal(1, child.code)
    assert.equal("test.lua: there is no folder spec/ here: make one with a file NAME_spec.lua, or name a file\n",
      child.stderr)
  end)

  it("has help", function()
    local child = run { "--help" }
    assert.equal(0, child.code)
    assert.truthy(child.stdout:find("usage: pyoco-host test.lua", 1, true))
  end)
end)
