--- README and guides: their commands run, their examples load, their links lead somewhere.
local config = require "pyoco.config"
local document = require "pyoco.flow.document"
local host = require "host"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local PAGES = { "README.md", "README.ja.md", "docs/guide/flows.md", "docs/guide/operate.md",
  "docs/guide/troubleshoot.md", "docs/guide/tutorial.md", "docs/guide/wheels.md", "docs/ja/guide/flows.md",
  "docs/ja/guide/tutorial.md",
  "docs/guide/scripting.md", "docs/protocol/README.md", "docs/protocol/errors.md", "docs/protocol/nats.md",
  "docs/protocol/cli.md", "docs/protocol/differences.md", "docs/ja/protocol/README.md" }

local function read(path) return assert(tmp.read(host.home .. "/" .. path), path) end

--- Names that look like variables: an example's, and streams.
local NO_VARIABLES = { PYOCO_X = true, PYOCO_WORK = true, PYOCO_DLQ = true }

--- Fenced blocks of a language.
local function blocks(page, language)
  local list = {}
  for block in read(page):gmatch("\n```" .. language .. "\n(.-)\n```") do list[#list + 1] = block end
  return list
end

--- The anchors that a page's headings make, as GitHub spells them.
local function headings(page)
  local anchors = {}
  for heading in ("\n" .. read(page)):gmatch("\n##* ([^\n]+)") do
    anchors[heading:lower():gsub("[^%w%s_\x80-\xff-]", ""):gsub(" ", "-")] = true
  end
  return anchors
end

--- Lines of the shell blocks and of indented commands.
local function commands(page)
  local list = {}
  for _, block in ipairs(blocks(page, "sh")) do
    for line in (block .. "\n"):gmatch("(.-)\n") do list[#list + 1] = line end
  end
  for line in read(page):gmatch("\n    (build/[^\n]+)") do list[#list + 1] = line end
  return list
end

describe("the README", function()
  it("is short, and its translation has the same commands and examples", function()
    assert.truthy(select(2, read("README.md"):gsub("\n", "")) <= 120)
    for _, language in ipairs { "sh", "yaml", "lua" } do
      assert.same(blocks("README.md", language), blocks("README.ja.md", language))
    end
  end)

  it("gives commands that work, in their order, against what `make up` starts", function()
    local dir = tmp.dir()
    local up = process.host({ "up.lua", "--data-dir", dir, "--port", "0" }, { cwd = host.home })
    finally(function()
      up:stop(20000)
      tmp.remove(dir)
    end)
    process.wait_for(function()
      if up.code then error("up.lua ended:\n" .. up.stdout .. up.stderr) end
      return up.stdout:find("Ctrl-C stops everything.", 1, true)
    end, 30000, "up.lua")
    local url, run_id = up.stdout:match("API and dashboard: (%S-)/\n"), nil
    local count = 0
    for _, line in ipairs(commands "README.md") do
      if line:find("client.lua", 1, true) or line:find("^curl ") then
        local command = line:gsub("build/pyoco%-host", host.exe):gsub("RUN_ID", run_id or "RUN_ID")
          :gsub("http://127%.0%.0%.1:8000", url)
        if line:find(" watch ", 1, true) then command = command .. " --until-terminal" end
        local got = process.spawn("sh", { "-c", command }, { cwd = host.home, env = { PYOCO_SERVER_URL = url } })
        got:wait(30000)
        assert.equal(0, got.code, command .. "\n" .. got.stdout .. got.stderr)
        if line:find(" submit", 1, true) then run_id = got.stdout:match('"run_id": "([^"]+)"') end
        count = count + 1
      end
    end
    assert.truthy(run_id and count >= 7)
  end)
end)

describe("the documentation", function()
  it("names make targets that exist", function()
    local makefile = read "Makefile"
    for _, page in ipairs(PAGES) do
      for target in read(page):gmatch("make ([a-z]+)[`%s\n]") do
        if not ("it the a what"):find(target, 1, true) then
          assert.truthy(makefile:find("\n" .. target .. ":", 1, true), page .. ": make " .. target)
        end
      end
    end
  end)

  it("names options that the scripts have", function()
    for _, page in ipairs(PAGES) do
      for _, line in ipairs(commands(page)) do
        local script, rest = line:match("build/pyoco%-host (%a+%.lua)(.*)")
        local words, most = { script }, ({ ["client.lua"] = 1, ["admin.lua"] = 2 })[script] or 0
        for word in (rest or ""):gmatch("%S+") do
          if #words > most or not word:find("^%l[%l-]*$") then break end
          words[#words + 1] = word
        end
        if script and script ~= "my.lua" then
          words[#words + 1] = "--help"
          local help = process.run(words).stdout
          for option in rest:gmatch("%-%-[%l-]+") do
            assert.truthy(help:find(option, 1, true), ("%s: %s has no %s"):format(page, script, option))
          end
        end
      end
    end
  end)

  it("names variables that exist", function()
    local known = {}
    for _, section in ipairs(config.sections()) do
      for _, row in ipairs(section[3]) do known[row.env or row[1]] = true end
    end
    for _, page in ipairs(PAGES) do
      for name in read(page):gmatch("PYOCO_[A-Z_]+") do
        assert.truthy(known[name] or NO_VARIABLES[name], page .. ": " .. name)
      end
    end
  end)

  it("has links that lead to files and headings", function()
    for _, page in ipairs(PAGES) do
      local folder = page:match("^(.*/)") or ""
      for link in read(page):gmatch("%]%(([^)]+)%)") do
        local path, anchor = link:match("^([^#]*)#?(.*)$")
        if not link:find("^https?:") then
          local target = path == "" and page or folder .. path
          assert.truthy(uv.fs_stat(host.home .. "/" .. target), page .. ": " .. link)
          assert.truthy(anchor == "" or headings(target)[anchor], ("%s: %s: no such heading"):format(page, link))
        end
      end
    end
  end)

  it("has documents that the reader accepts, and Lua that compiles", function()
    for _, page in ipairs(PAGES) do
      for _, yaml in ipairs(blocks(page, "yaml")) do
        if yaml:find("^flow:") then
          local got, message, _, errors = document.read(yaml)
          assert.truthy(got, page .. ": " .. tostring(message) .. " " .. tostring(errors and errors[1].message))
        end
      end
      for _, code in ipairs(blocks(page, "lua")) do assert.truthy(load(code, "=" .. page)) end
    end
  end)
end)
