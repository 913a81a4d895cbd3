--- The script of the slots of a worker with a loop of its own (pyoco.worker's connect): loads the user's script up to
--- its call of connect, for what that was given. Without a function among it the script need not be loaded.
local host = require "host"
local json = require "host.json"
local worker = require "pyoco.worker"

local path = json.decode(host.boot()).user_script
if not path then return {} end

local ok, problem = pcall(assert(loadfile(path)))
if worker.connected then return worker.connected end
error(ok and path .. ": it ended without a call of worker.connect" or problem, 0)
