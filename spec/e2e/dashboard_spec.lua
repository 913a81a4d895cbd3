--- The dashboard in a real browser: the scenarios of spec/e2e/*.mjs, against a real gateway, worker and NATS. Pictures
--- of what was seen are in build/screenshots/.
local host = require "host"
local json = require "host.json"
local uv = require "luv"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local support = require "spec.support.worker"

local INSTALL_MS <const>, FILE_MS <const> = 240000, 300000

local FLOWS = {
  ["nap.lua"] = [[
local pyoco = require "pyoco"
return pyoco.flow("nap", pyoco.task("one", function(ctx, sec)
  print("napping " .. sec)
  ctx:sleep(sec)
  return { slept = sec }
end))
]],
  ["gate.lua"] = [[
local pyoco = require "pyoco"
return pyoco.flow("gate", pyoco.task("one", function(ctx, file)
  while not io.open(file) do ctx:sleep(0.02) end
  return "through"
end))
]],
  ["broken.lua"] = [[
local pyoco = require "pyoco"
local fine = pyoco.task("fine", function() return 1 end)
local bad = pyoco.task("bad", function()
  error "went wrong on purpose"
end)
return pyoco.flow("broken", fine >> bad)
]],
  ["deep.lua"] = [[
local pyoco = require "pyoco"
local function mean(list)
  return #list.values
end
local load = pyoco.task("load", function() return { rows = 3 } end)
local compute = pyoco.task("compute", function(load) return mean(load) end)
local send = pyoco.task("send", function() end)
return pyoco.flow("deep", load >> compute >> send)
]],
  ["talk.lua"] = [[
local pyoco = require "pyoco"
return pyoco.flow("talk", pyoco.task("say", function(ctx, file)
  local n = 0
  while not io.open(file) do
    n = n + 1
    ctx:log("line %d", n)
    ctx:sleep(0.05)
  end
end))
]],
  ["zoo_tasks.lua"] = [[
local M, tries = {}, 0
function M.nap(ctx) ctx:sleep(0.03) return "rested" end
function M.flaky(ctx)
  ctx:sleep(0.05)
  tries = tries + 1
  if tries < 2 then error "not yet" end
  return tries
end
return M
]],
}

local function scenario_files()
  local list = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(host.home .. "/spec/e2e")) do
    if name:find("%.mjs$") and name ~= "run.mjs" then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

--- A key of the tenant "team", made by the operator's command.
local function key_of(world)
  local made = process.run { "admin.lua", "--nats-url", world.server.url, "api-key", "create", "--tenant", "team" }
  return assert(json.decode(made.stdout), made.stderr).api_key
end

--- What a file's gateway and browser need beside the usual: fn(world) -> the gateway's variables, the browser's.
local NEEDS = {
  ["auth.mjs"] = function(world)
    return { PYOCO_HTTP_AUTH_MODE = "api_key" }, { E2E_KEY = key_of(world) }
  end,
}

--- Runs run.mjs and gives what it says, line by line.
local function node(env, ...)
  local child = process.spawn("node", { "spec/e2e/run.mjs", ... }, { cwd = host.home, env = env })
  child:wait(FILE_MS)
  local lines = { said = child.stdout .. child.stderr }
  for line in child.stdout:gmatch "[^\n]+" do
    local value = json.decode(line)
    if type(value) == "table" then lines[#lines + 1] = value end
  end
  return lines
end

--- Installs what drives the browser. Returns what is wrong, or nil.
local function install()
  local make = process.spawn("make", { "-s", "-C", host.home, "browser" })
  make:wait(INSTALL_MS)
  return make.code ~= 0 and "no browser: " .. make.stdout .. make.stderr or nil
end

local fault = install()

describe("the dashboard", function()
  it("has a browser", function() assert.is_nil(fault) end)

  for _, file in ipairs(fault and {} or scenario_files()) do
    describe(file, function()
      local world, gateway, results, said

      lazy_setup(function()
        world = support.world()
        for name, text in pairs(FLOWS) do world:write(name, text) end
        world:worker { "--slots", "2", "--tags", "default,gpu" }
        local env, browser_env = {}, {}
        if NEEDS[file] then env, browser_env = NEEDS[file](world) end
        browser_env.E2E_HOST = host.exe
        env.PYOCO_DASHBOARD_LANG = "en"
        gateway = gateways.start { nats_url = world.server.url, env = env }
        local lines = node(browser_env, "spec/e2e/" .. file, gateway.url, "build/screenshots")
        results, said = {}, lines.said
        for _, result in ipairs(lines) do results[result.name] = result end
      end)
      lazy_teardown(function()
        gateway:stop()
        world:stop()
      end)

      for _, scenario in ipairs(node(nil, "spec/e2e/" .. file)) do
        it(scenario.name, function()
          local result = results[scenario.name]
          assert.is_truthy(result, said)
          assert.is_true(result.ok, result.message)
        end)
      end
    end)
  end
end)
