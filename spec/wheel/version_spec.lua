--- PEP 440: reading, order, normal form.
local version = require "pyoco.wheel.version"

--- In rising order, with what is equal on one line (PEP 440's own examples among them).
local RISING = {
  { "0.9" }, { "1.dev0", "1.0.dev", "1.0-DEV0", "1.0_dev_0" }, { "1.0.dev456" },
  { "1.0a1.dev1" }, { "1.0a1", "1.0.alpha.1", "1.0-ALPHA1", "v1.0a01", " 1.0a1 " }, { "1.0a2.dev456" },
  { "1.0a12.dev456" }, { "1.0a12" }, { "1.0b1.dev456" }, { "1.0b2", "1.0beta2" }, { "1.0b2.post345.dev456" },
  { "1.0b2.post345", "1.0b2-345" }, { "1.0rc1.dev456" }, { "1.0rc1", "1.0c1", "1.0pre1", "1.0preview1", "1.0.rc.1" },
  { "1.0rc2" }, { "1.0", "1", "1.0.0", "1.0.0.0", "01.00", "0!1.0" }, { "1.0+abc.5" },
  { "1.0+abc.7", "1.0+ABC_7" },
  { "1.0+abc.7.1" }, { "1.0+b" }, { "1.0+5" }, { "1.0+5.a" }, { "1.0+05.1", "1.0+5-1" }, { "1.0+10" },
  { "1.0.post0.dev1" }, { "1.0.post0", "1.0post", "1.0-r", "1.0.rev0", "1.0-0" }, { "1.0.post456.dev34" },
  { "1.0.post456", "1.0-456" }, { "1.0.15" }, { "1.1.dev1" }, { "1.1" }, { "1.2" }, { "1.10" },
  { "2026.11.29" }, { "99999999999999999999998" }, { "99999999999999999999999" }, { "1!0.1.dev1" }, { "1!0.1" },
}

describe("wheel.version", function()
  it("orders all kinds of versions", function()
    for i, same in ipairs(RISING) do
      for _, a in ipairs(same) do
        for j, others in ipairs(RISING) do
          for _, b in ipairs(others) do
            local expected = i == j and 0 or i < j and -1 or 1
            assert.equal(expected, version.compare(a, b), a .. " and " .. b)
          end
        end
      end
    end
  end)

  it("compares what was parsed before", function()
    assert.equal(-1, version.compare(assert(version.parse "1.0"), "1.0.1"))
  end)

  it("has one spelling for each", function()
    for given, normal in pairs { ["1.0.alpha.1"] = "1.0a1", ["v1.0-RC.2-3_dev"] = "1.0rc2.post3.dev0",
      ["00!01.0"] = "1.0", ["2!1+A_1-b"] = "2!1+a.1.b", ["1.0a."] = "1.0a0", ["1-1"] = "1.post1" } do
      assert.equal(normal, version.normal(given))
      assert.equal(normal, version.normal(assert(version.parse(given))))
    end
  end)

  it("tells what is no version", function()
    for _, text in ipairs { "", " ", "a", "1..0", ".1", "1.", "1.0-", "1.0+", "1.0+a..b", "1.0+a-", "1.0+ä", "1.0x",
      "1!", "!1", "1.0a1a2", "1.0.dev1.dev2", "1.0dev1post1", "1.0 rc1",
      "1.0+a+b", "french toast", "1,0", "１" } do
      local parsed, message, code = version.parse(text)
      assert.is_nil(parsed, text)
      assert.equal("invalid", code)
      assert.truthy(message:find("no version", 1, true))
      assert.same({ nil, "invalid" }, { version.compare(text, "1"), select(3, version.compare("1", text)) })
      assert.equal("invalid", select(3, version.normal(text)))
    end
    assert.equal("invalid", select(3, version.parse(nil)))
  end)
end)
