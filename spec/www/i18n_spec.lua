--- The page's texts: every key in both languages, every key that a module uses; nothing from elsewhere, no markup.
local host = require "host"
local uv = require "luv"

local WWW = host.home .. "/www"

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

--- All files of the page, by their path below www/.
local function files()
  local list = {}
  local function walk(dir)
    for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir(WWW .. dir)) do
      if kind == "directory" then walk(dir .. "/" .. name) else list[#list + 1] = dir .. "/" .. name end
    end
  end
  walk ""
  table.sort(list)
  return list
end

--- Keys of one language in a module's table of texts, sorted; nil when it has none.
local function keys_of(source, language)
  local block = source:match("\n  " .. language .. ": (%b{})")
  if not block then return nil end
  local keys = {}
  for key in block:gsub('\\"', ""):gsub('"[^"]*"', '""'):gmatch("([%w_]+):") do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

describe("the page", function()
  for _, path in ipairs(files()) do
    local source = read(WWW .. path)
    local english = path:find("%.js$") and keys_of(source, "en")
    if english then
      it("has the texts of " .. path .. " in English and in Japanese", function()
        assert.is_true(#english > 0)
        assert.same(english, keys_of(source, "ja"))
      end)

      it("has all texts that " .. path .. " uses", function()
        local known = {}
        for _, key in ipairs(english) do known[key] = true end
        for key in source:gmatch '[^%w_.]t%("([%w_]+)"' do assert.is_true(known[key], key) end
      end)
    end

    it("asks nothing of another server in " .. path .. ", and puts no text in as markup", function()
      local plain = source:gsub('"http://www%.w3%.org/2000/svg"', "")
      assert.is_nil(plain:find "https?://")
      for _, word in ipairs { "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(" } do
        assert.is_nil(plain:find(word, 1, true), word)
      end
    end)
  end

  it("weighs less than 150 KB", function()
    local bytes = 0
    for _, path in ipairs(files()) do bytes = bytes + assert(uv.fs_stat(WWW .. path)).size end
    assert.is_true(bytes < 150000, bytes)
  end)
end)
