--- Routes are live: an edit of gateway.lua is used at once, a broken one keeps the last good version serving.
local host = require "host"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local SCRIPT = [[
local gateway = require "pyoco.gateway"
local app = gateway.app()
%s
return gateway.main(app, ...)
]]

local function write(path, route)
  local file <close> = assert(io.open(path, "w"))
  file:write(SCRIPT:format(route))
end

describe("a saved edit of gateway.lua", function()
  it("is live, and a broken one is not", function()
    local server = nats.start()
    local dir = tmp.dir()
    local script = dir .. "/my_gateway.lua"
    write(script, 'app:get("/hello/:name", function(_, req) return { hello = req.params.name } end)')
    local gateway = gateways.start { nats_url = server.url, script = script, env = { PYOCO_HOME = host.home } }
    assert.same({ hello = "Ada" }, gateway:fetch("/hello/Ada").json)

    write(script, 'app:get("/hello/:name", function(_, req) return { bye = req.params.name } end)')
    gateway:wait("/hello/Ada", function(answer) return answer.json.bye == "Ada" end, "the edit to be live")

    write(script, 'app:get("/hello/:name", function(_, req) return { ')
    local health = gateway:wait("/health", function(answer) return answer.json.reload_error ~= require("host.json").null
    end, "the broken edit to be seen")
    assert.truthy(health.json.reload_error:find("my_gateway.lua:%d+:"), health.body)
    assert.same({ bye = "Ada" }, gateway:fetch("/hello/Ada").json)
    local line = process.wait_for(function()
      return gateway.process.stdout:match "[^\n]*not reloaded[^\n]*\n"
    end, 5000, "the log")
    local record = require("host.json").decode(line)
    assert.same({ "ERROR", "pyoco-server:http" }, { record.level, record.service })
    assert.truthy(record.exc_message:find("my_gateway.lua:4:", 1, true), line)
    assert.same({ "my_gateway.lua", 4 }, { record.exc_origin.file:match "[^/]+$", record.exc_origin.line })

    write(script, 'app:wrap("version", function() return { version = "mine" } end)')
    gateway:wait("/version", function(answer) return answer.json.version == "mine" end, "the mended edit to be live")
    assert.equal(404, gateway:fetch("/hello/Ada").status)
    gateway:stop()
    server:stop()
    tmp.remove(dir)
  end)
end)
