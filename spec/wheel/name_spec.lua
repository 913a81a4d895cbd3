--- PEP 427: the parts of a wheel's file name.
local name = require "pyoco.wheel.name"

describe("wheel.name", function()
  it("reads the parts", function()
    local wheel = assert(name.parse "Demo_Ext.more-1.0rc1+l1-2b-lua54.py3-none-any.linux_x86_64.whl")
    assert.equal("demo-ext-more", wheel.package)
    assert.equal("Demo_Ext.more", wheel.distribution)
    assert.equal("1.0rc1+l1", wheel.version)
    assert.equal("2b", wheel.build)
    assert.same({ "lua54-none-any", "lua54-none-linux_x86_64", "py3-none-any", "py3-none-linux_x86_64" }, wheel.tags)
    assert.same({ "1", "0" }, wheel.parsed_version.release)
    local plain = assert(name.parse "demo-0.1.0-py3.py3-none-any.whl")
    assert.same({ nil, { "py3-none-any" } }, { plain.build, plain.tags })
  end)

  it("knows a package by one name", function()
    for _, spelled in ipairs { "My.Pkg", "my_pkg", "MY-PKG", "my-._pkg" } do
      assert.equal("my-pkg", name.package(spelled))
    end
  end)

  it("tells the letters that are not allowed", function()
    assert.is_true(name.is_plain "a.whl")
    for _, text in ipairs { "a b.whl", "a/b.whl", "../a.whl", "a.whl ", "a.zip", ".whl", "é.whl", "a\0.whl", "a.whl\n",
      "a.WHL", ("a"):rep(252) .. ".whl" } do
      assert.is_false(name.is_plain(text), text)
    end
    assert.is_false(name.is_plain(nil))
  end)

  it("tells what is no wheel's name", function()
    for _, text in ipairs { "a.whl", "a-1.0-py3-none.whl", "a-1.0-1-x-py3-none-any.whl", "a-x-py3-none-any.whl",
      "a-1.0-b1-py3-none-any.whl", "a__b-1.0-py3-none-any.whl", "-1.0-py3-none-any.whl", "a+b-1.0-py3-none-any.whl",
      "a-1.0--none-any.whl", "a-1.0-py3..py2-none-any.whl", "a-1.0-py3-none-.whl",
      "a-1-" .. ("a."):rep(30) .. "a-" .. ("b."):rep(30) .. "b-" .. ("c."):rep(30) .. "c.whl",
      "../x-1-py3-none-any.whl" } do
      local parsed, message, code = name.parse(text)
      assert.is_nil(parsed, text)
      assert.equal("invalid", code)
      assert.truthy(message:find("wheel file name", 1, true))
    end
  end)
end)
