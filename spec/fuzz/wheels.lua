--- Wheels that were damaged by chance, for as long as told: each is refused, or unpacks to what its RECORD says.
--- usage: pyoco-host spec/fuzz/wheels.lua [--seconds 60] [--seed N]     (make fuzz)
--- Ends at the first that does neither, with the seed and the file that shows it.
local root = require("host").home
package.path = table.concat({ root .. "/?.lua", root .. "/?/init.lua", package.path }, ";")

local archive = require "pyoco.wheel.archive"
local unpack = require "pyoco.wheel.unpack"
local tmp = require "spec.support.tmp"
local wheels = require "spec.support.wheel"

local options = { seconds = 60, seed = os.time() }
for i = 1, #arg, 2 do
  local name = arg[i]:match("^%-%-(%a+)$")
  local value = math.tointeger(tonumber(arg[i + 1]))
  if not options[name] or not value then error("usage: spec/fuzz/wheels.lua [--seconds N] [--seed N]", 0) end
  options[name] = value
end

local LIMITS = { max_bytes = 4194304, max_ratio = 100, max_entries = 200 }
local random = math.random

--- Ways to damage bytes.
local deeds = {
  function(text, at) return text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + 1) end,
  function(text, at) return text:sub(1, at) end,
  function(text, at) return text:sub(1, at) .. text:sub(at + random(40)) end,
  function(text, at)
    local stop = math.min(#text, at + random(60))
    return text:sub(1, stop) .. text:sub(at)
  end,
  function(text) -- in the directory, where most is said
    local from = text:find("PK\1\2", 1, true) or 1
    local at = random(from, #text)
    return text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + 1)
  end,
}

local function bases(dir)
  local list = {}
  for i = 1, 4 do
    local files = {}
    for j = 1, i * 2 do files[("m%d/f.lua"):format(j)] = ("return %d\n"):format(j):rep(j * 50) end
    local path, name = wheels.write(dir, { name = "demo", version = "1." .. i, files = files })
    list[i] = { bytes = tmp.read(path), name = name }
  end
  return list
end

--- Checks one; what is found right must unpack, and be what it says.
local function try(path, name, dir)
  if #archive.check(path, name, LIMITS).problems > 0 then return 0 end
  local ok, message = unpack.unpack(path, dir)
  if ok then ok, message = unpack.verify(dir) end
  assert(ok, message)
  tmp.remove(dir)
  return 1
end

print("seed " .. options.seed)
math.randomseed(options.seed)
local dir = tmp.dir()
local list, path = bases(dir), dir .. "/fuzz.whl"
local ends_at, count, right = os.time() + options.seconds, 0, 0
while os.time() < ends_at do
  local base = list[random(#list)]
  local text = base.bytes
  for _ = 1, random(6) do
    text = deeds[random(#deeds)](text, random(#text))
    if text == "" then text = "x" end
  end
  tmp.write(path, text)
  local ok, found = pcall(try, path, base.name, dir .. "/out")
  if not ok then error(("seed %d: %s as %s: %s"):format(options.seed, path, base.name, found), 0) end
  count, right = count + 1, right + found
end
print(("%d wheels, %d of them right"):format(count, right))
tmp.remove(dir)
