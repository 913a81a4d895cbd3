--- `pyoco-host test.lua`: busted inside of pyoco-host, so that specs have `pyoco.testing`, `host.*` and the modules of
--- the task roots at hand.
local uv = require "luv"

local M = {}

local HELP <const> = [[
usage: pyoco-host test.lua [FILE|DIR ...] [OPTIONS OF BUSTED]

Runs specs (files named *_spec.lua) with busted; without FILE and DIR those in spec/.
A spec can require "pyoco.testing", which runs tasks and flows by a virtual clock, and modules of
this folder and of the task roots (flows/, or PYOCO_TASK_PATH).

  pyoco-host test.lua                      all of spec/
  pyoco-host test.lua spec/etl_spec.lua    one file
  pyoco-host test.lua --filter "retries"   what matches
  pyoco-host test.lua -o TAP               another output; more options: busted --help

Exit code: 0 when all passed.
]]

--- Whether one of the arguments is a file or folder.
local function has_target(argv)
  for _, word in ipairs(argv) do
    if word:sub(1, 1) ~= "-" and uv.fs_stat(word) then return true end
  end
  return false
end

--- Lets specs require modules of the working folder and of the task roots.
local function extend_path()
  local roots = require("pyoco.config").load({ flags = {}, only = { "worker" } })
  local folders = { "." }
  for _, root in ipairs(roots and roots.task_path or { "flows" }) do folders[#folders + 1] = root end
  local parts = {}
  for _, folder in ipairs(folders) do
    parts[#parts + 1] = folder .. "/?.lua"
    parts[#parts + 1] = folder .. "/?/init.lua"
  end
  package.path = table.concat(parts, ";") .. ";" .. package.path
end

--- Runs the specs. Ends the process with code 1 when one fails.
---@param argv string[] files and folders, and options of busted
---@return integer code
function M.main(argv)
  if argv[1] == "--help" or argv[1] == "-h" then
    io.stdout:write(HELP)
    return 0
  end
  local found, runner = pcall(require, "busted.runner")
  if not found then
    io.stderr:write("test.lua: busted is not installed: apt install lua-busted (or luarocks install busted)\n")
    return 1
  end
  local words = { [0] = "test.lua", table.unpack(argv) }
  if not has_target(argv) then
    if not uv.fs_stat("spec") then
      io.stderr:write("test.lua: there is no folder spec/ here: make one with a file NAME_spec.lua, or name a file\n")
      return 1
    end
    words[#words + 1] = "spec"
  end
  extend_path()
  _G.arg = words
  runner({ standalone = false })
  return 0
end

return M
