--- The rules of structure_spec find what they are for, and leave alone what only looks like it.
local source = require "spec.support.source"
local rules = require "spec.structure.rules"

--- The lines at which a rule finds fault, as "1 4".
local function lines(rule, text, path)
  local found = {}
  for _, fault in ipairs(rule(path or "lua/pyoco/flow/x.lua", text)) do found[#found + 1] = fault.line end
  return table.concat(found, " ")
end

describe("source", function()
  it("finds requires however they are written, with their line, and none in comments or strings", function()
    local found = source.requires [==[
      local a = require "a.b"
      local b = require('c')
      -- require "no"
      --[[ require "no"
      ]] local ok, c = pcall(require, "d")
      local s = "require 'no'" .. [[ require "no" ]]
      local e = require(s)
      local f = require [[f]] ]==]
    local list = {}
    for _, it in ipairs(found) do list[#list + 1] = it.module .. ":" .. it.line end
    assert.same({ "a.b:1", "c:2", "d:5", "f:8" }, list)
  end)

  it("keeps quotes and escapes inside strings apart", function()
    local kinds = {}
    for _, token in ipairs(source.tokens [[x = "a\"-- no" y = '\\' -- yes]]) do kinds[#kinds + 1] = token.kind end
    assert.same({ "name", "symbol", "string", "name", "symbol", "string", "comment" }, kinds)
  end)
end)

describe("the direction rule", function()
  it("refuses a require that goes up or across", function()
    assert.equal("2", lines(rules.direction, 'require "pyoco.flow.text"\nrequire "pyoco.store.jetstream"'))
    assert.equal("1", lines(rules.direction, 'require "pyoco.store.runs"', "lua/pyoco/routes/runs.lua"))
    assert.equal("1", lines(rules.direction, 'require "pyoco.http.app"', "lua/pyoco/store/runs.lua"))
    assert.equal("", lines(rules.direction, 'require "pyoco.service.runs"', "lua/pyoco/routes/runs.lua"))
  end)

  it("keeps NATS for the store's JetStream side and flow code for the engine", function()
    assert.equal("1", lines(rules.direction, 'require "host.nats"', "lua/pyoco/service/runs.lua"))
    assert.equal("", lines(rules.direction, 'require "host.nats"', "lua/pyoco/store/jetstream.lua"))
    assert.equal("1", lines(rules.direction, 'require "pyoco.flow.load"', "lua/pyoco/service/runs.lua"))
    assert.equal("1 1", lines(rules.direction, 'require "pyoco.engine.local"', "lua/pyoco/http/app.lua"))
    assert.equal("1", lines(rules.direction, 'require "host.http"', "lua/pyoco/store/runs.lua"))
  end)

  it("asks for a place of each new folder", function()
    assert.equal("1", lines(rules.direction, "", "lua/pyoco/misc/x.lua"))
    assert.equal("1", lines(rules.direction, 'require "pyoco.misc.x"'))
    assert.equal("", lines(rules.direction, 'require "pyoco.engine"', "lua/pyoco/worker/slot.lua"))
  end)
end)

describe("the other rules", function()
  it("find os.getenv, however spaced, outside comments and strings", function()
    assert.equal("1 3", lines(rules.environment, 'os.getenv "A"\n-- os.getenv\nlocal f = os . getenv\ns = "os.getenv"'))
  end)

  it("find sleeps and leave ctx:sleep of a task alone", function()
    assert.equal("1 2", lines(rules.sleeps, "clock.sleep(1)\nuv.sleep(5)\nctx:sleep(1)\nctx.sleep()"))
  end)

  it("find a focused spec", function()
    assert.equal("2", lines(rules.focus, "it('a', f)\nit('b #" .. "only', f)"))
  end)

  it("find public functions without docstring", function()
    assert.equal("6 9 10", lines(rules.docstrings, table.concat({
      "--- Good.", "---@param x any", "function M.good(x) end", "local function private() end",
      "-- two dashes are a remark, not a docstring", "function M.bad() end",
      "--- Belongs to nothing.\n", "M.worse = function() end", "function Engine:pump() end", "function M.__gc() end",
      "function helper.private() end", "return M",
    }, "\n")))
  end)

  it("find files that do not say what they are", function()
    assert.equal("1", lines(rules.lua_header, "local M = {}"))
    assert.equal("", lines(rules.lua_header, "--- What it is.\nlocal M = {}"))
    assert.equal("1", lines(rules.c_header, "#include <x.h>"))
    assert.equal("", lines(rules.c_header, "/* What it is. */"))
  end)

  it("find codes that are not on the list", function()
    assert.equal("1 4", lines(rules.lua_codes, table.concat({
      'return nil, "text", "oops"', 'return nil, ("%s, %d"):format(a, b), "invalid", errors',
      'return nil, message, code', 'if x then return nil, f(a, "b"), "bad" end', 'return nil, "only a message"',
      'return nil, value, "a text in words"',
      'return nil, a, "part of a text: " .. x', 'return nil, "text", "not_found"' }, "\n")))
    assert.equal("2", lines(rules.c_codes, 'return ph_fail(L, PH_INVALID, "x");\nreturn ph_fail(L, "oops", "x");'))
  end)
end)
