--- docs/guide/tutorial.md, followed step by step as a reader would: its files are written, its commands run, in order.
local host = require "host"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local PAGES = { "docs/guide/tutorial.md", "docs/ja/guide/tutorial.md" }

local function read(path) return assert(tmp.read(host.home .. "/" .. path), path) end

--- The steps of a page: { file, text } or { command }.
local function steps_of(page)
  local steps = {}
  for info, block in page:gmatch("\n```(%l[^\n]*)\n(.-)\n```") do
    local file = info:match("^%l+ file=(.+)$")
    if file then
      steps[#steps + 1] = { file = file, text = block .. "\n" }
    elseif info == "sh" then
      for line in block:gmatch("[^\n]+") do steps[#steps + 1] = { command = line } end
    end
  end
  return steps
end

--- A folder of the reader's own, and what was started in it.
local function new_place()
  local place = { dir = tmp.dir() }
  for _, name in ipairs { "flows", "spec" } do assert(uv.fs_mkdir(place.dir .. "/" .. name, 493)) end
  return place
end

--- Starts NATS, a gateway and a worker in the reader's folder.
local function start_up(place)
  local up = process.host({ "up.lua", "--data-dir", place.dir .. "/data", "--port", "0" }, { cwd = place.dir })
  place.up = up
  process.wait_for(function()
    if up.code then error("up.lua ended:\n" .. up.stdout .. up.stderr) end
    return up.stdout:find("Ctrl-C stops everything.", 1, true)
  end, 30000, "up.lua")
  place.url = up.stdout:match("API and dashboard: (%S-)/\n")
end

--- Runs a command of the page; returns what it wrote. Raises when it fails.
local function run_command(place, line)
  if line:find("client.lua submit", 1, true) and not place.up then start_up(place) end
  local command = line:gsub("build/pyoco%-host", host.exe):gsub("RUN_ID", place.run_id or "RUN_ID")
  if line:find(" watch ", 1, true) then command = command .. " --until-terminal" end
  local got = process.spawn("sh", { "-c", command }, { cwd = place.dir, env = { PYOCO_SERVER_URL = place.url } })
  got:wait(30000)
  assert.equal(0, got.code, command .. "\n" .. got.stdout .. got.stderr)
  place.run_id = got.stdout:match('"run_id": "([^"]+)"') or place.run_id
  return got.stdout .. got.stderr
end

describe("the tutorial", function()
  it("works as it is written", function()
    local place, said = new_place(), {}
    finally(function()
      if place.up then place.up:stop(20000) end
      tmp.remove(place.dir)
    end)
    for _, step in ipairs(steps_of(read(PAGES[1]))) do
      if step.file then
        tmp.write(place.dir .. "/" .. step.file, step.text)
      else
        said[#said + 1] = run_command(place, step.command)
      end
    end
    local all = table.concat(said)
    for _, text in ipairs { "3 shops", "best: tokyo with 295", "3 successes", "that is many letters", "COMPLETED" } do
      assert.truthy(all:find(text, 1, true), text .. " is nowhere in what the commands wrote:\n" .. all)
    end
    assert.truthy(#said >= 11)
  end)

  it("has the same files and commands in Japanese", function()
    assert.same(steps_of(read(PAGES[1])), steps_of(read(PAGES[2])))
  end)
end)
