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

--- The texts of a module, or those that all share: by their key, how many languages they are given in. nil: none.
local function texts_of(source)
  local block = source:match "\nconst t = texts%((%b{})" or source:match "\nconst COMMON = (%b{})"
  if not block then return nil end
  local found = {}
  for key, list in block:gsub('\\"', ""):gmatch "([%w_]+): (%b[])" do
    local _, count = list:gsub('"[^"]+"', "")
    found[key] = count
  end
  return found
end

describe("the page", function()
  local common = texts_of(read(WWW .. "/lib/i18n.js"))

  for _, path in ipairs(files()) do
    local source = read(WWW .. path)
    local texts = path:find("%.js$") and texts_of(source)
    if texts then
      it("has the texts of " .. path .. " in English and in Japanese", function()
        for key, count in pairs(texts) do assert.equal(2, count, key) end
      end)

      it("has all texts that " .. path .. " uses", function()
        for key in source:gmatch '[^%w_.]t%("([%w_]+)"' do assert.is_truthy(texts[key] or common[key], key) end
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
