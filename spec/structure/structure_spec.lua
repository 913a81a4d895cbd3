--- The sources keep to DESIGN section 1 and the house rules. A failure lists every place as file:line.
local source = require "spec.support.source"
local rules = require "spec.structure.rules"

local LUA, C, SPECS = { "lua", "flows" }, { "src" }, { "spec" }

--- Asserts that a rule holds in all files of the folders; `except` are path prefixes it does not apply to.
local function holds(rule, folders, suffix, except)
  local found = {}
  for _, path in ipairs(source.files(folders, suffix)) do
    local skip = false
    for _, prefix in ipairs(except or {}) do skip = skip or path:sub(1, #prefix) == prefix end
    for _, fault in ipairs(skip and {} or rule(path, source.read(path))) do
      found[#found + 1] = ("%s:%d: %s"):format(path, fault.line, fault.message)
    end
  end
  assert(#found == 0, "\n" .. table.concat(found, "\n"))
end

describe("the sources", function()
  it("require downwards only", function() holds(rules.direction, LUA, ".lua") end)

  it("read the environment in pyoco.config only", function()
    -- the locale is the system's, not an option of ours (CONTRACT section 2)
    holds(rules.environment, LUA, ".lua", { "lua/pyoco/config", "lua/pyoco/locale.lua" })
  end)

  it("document every public Lua function", function() holds(rules.docstrings, { "lua" }, ".lua") end)

  it("open every Lua file of the library with what it is", function() holds(rules.lua_header, { "lua" }, ".lua") end)

  it("open every C file with what it is", function()
    holds(rules.c_header, C, ".c")
    holds(rules.c_header, C, ".h")
  end)

  it("fail with codes of the closed list only", function()
    holds(rules.lua_codes, LUA, ".lua")
    holds(rules.c_codes, C, ".c")
  end)

  it("have the same list of codes in C, in Lua and here", function()
    local expected, in_c, in_lua = {}, {}, {}
    for code in pairs(rules.codes) do expected[#expected + 1] = code end
    for name, code in source.read("src/host.h"):gmatch('#define PH_([A-Z_]+) "([a-z_]+)"') do
      assert.equal(name:lower(), code, "src/host.h: PH_" .. name)
      in_c[#in_c + 1] = code
    end
    for code in pairs(require("pyoco.err").codes) do in_lua[#in_lua + 1] = code end
    for _, list in ipairs { expected, in_c, in_lua } do table.sort(list) end
    assert.same(expected, in_c)
    assert.same(expected, in_lua)
  end)

  it("leave no spec focused", function() holds(rules.focus, SPECS, "_spec.lua", { "spec/structure/" }) end)

  it("have no sleeping spec", function()
    holds(rules.sleeps, SPECS, "_spec.lua", { "spec/bind/clock_spec.lua" })
  end)

  it("pass luacheck", function()
    local pipe = assert(io.popen(("make --no-print-directory -C '%s' lint 2>&1"):format(source.root)))
    local text = pipe:read("a")
    assert(pipe:close(), "\n" .. text)
  end)
end)
