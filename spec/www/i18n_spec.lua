--- The page's texts: every key in both languages, every key that the page uses, nothing from elsewhere.
local host = require "host"

local function read(name)
  local file <close> = assert(io.open(host.home .. "/www/" .. name))
  return file:read("a")
end

--- Keys of one language's table in i18n.js, sorted.
local function keys_of(text, language)
  local block = assert(text:match("\n  " .. language .. ": (%b{})"), language)
  local keys = {}
  for key in block:gsub('"[^"]*"', '""'):gmatch("([%a_]+):") do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

describe("the page", function()
  it("has every text in English and in Japanese", function()
    local text = read "i18n.js"
    local english = keys_of(text, "en")
    assert.is_true(#english > 10)
    assert.same(english, keys_of(text, "ja"))
  end)

  it("uses only texts that there are", function()
    local known = {}
    for _, key in ipairs(keys_of(read "i18n.js", "en")) do known[key] = true end
    for key in read("index.html"):gmatch 'data%-text="([^"]+)"' do assert.is_true(known[key], key) end
    for key in read("app.js"):gmatch '[^%w]text%("([^"]+)"%)' do assert.is_true(known[key], key) end
  end)

  it("asks nothing of another server, and puts no text in as markup", function()
    for _, name in ipairs { "index.html", "app.js", "i18n.js", "styles.css" } do
      local text = read(name)
      assert.is_nil(text:find("https?://"), name)
      assert.is_nil(text:find("innerHTML", 1, true), name)
    end
  end)
end)
