--- Loop mode against blocking mode of host.nats: pyoco-host spec/bench/nats_modes.lua [requests]
--- Round trips one at a time, puts with 64 in flight, plain publishes. On one nats-server of its own.
package.path = require("host").home .. "/?.lua;" .. package.path
local uv = require "luv"
local nats = require "host.nats"
local process = require "spec.support.process"
local support = require "spec.support.nats"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"

local count = tonumber(arg[1]) or 5000
local value = ("x"):rep(1024)
local server = support.start()
local blocking = assert(nats.connect { url = server.url })
local loop = assert(nats.connect { url = server.url, loop = true })
assert(kv.new(jetstream.new(rpc.blocking(blocking)), "b"):ensure { direct = true })

local function report(name, times, started)
  local seconds = (uv.hrtime() - started) / 1e9
  table.sort(times)
  print(("%-44s p50 %4.0f us  p99 %5.0f us  %6.0f/s"):format(name, times[#times // 2] / 1000,
    times[#times * 99 // 100] / 1000, #times / seconds))
end

local function one_by_one(subject, data)
  local times, started = {}, uv.hrtime()
  for i = 1, count do
    local sent = uv.hrtime()
    assert(blocking:request(subject, data, 5000))
    times[i] = uv.hrtime() - sent
  end
  report("blocking " .. subject, times, started)
  times, started = {}, uv.hrtime()
  local function ask()
    local sent = uv.hrtime()
    loop:request_async(subject, data, 5000, nil, function()
      times[#times + 1] = uv.hrtime() - sent
      if #times < count then ask() end
    end)
  end
  ask()
  process.wait_for(function() return #times == count end, 120000)
  report("loop     " .. subject, times, started)
end

local function in_flight(depth)
  local sent, done, started = 0, 0, uv.hrtime()
  local function more()
    while sent - done < depth and sent < count * 4 do
      sent = sent + 1
      loop:request_async("$KV.b.k" .. sent % 100, value, 5000, nil, function()
        done = done + 1
        more()
      end)
    end
  end
  more()
  process.wait_for(function() return done == count * 4 end, 120000)
  print(("loop     puts of 1 KB, %d in flight: %.0f/s"):format(depth, done / ((uv.hrtime() - started) / 1e9)))
end

local function publishes(name, conn, wait)
  local started, number = uv.hrtime(), count * 40
  for _ = 1, number do conn:publish("void", "0123456789abcdef") end
  wait()
  print(("%s publishes of 16 B: %.0f/s"):format(name, number / ((uv.hrtime() - started) / 1e9)))
end

for _ = 1, 2 do
  one_by_one("$KV.b.k", value)
  one_by_one("$JS.API.DIRECT.GET.KV_b.$KV.b.k", "")
  one_by_one("$JS.API.STREAM.MSG.GET.KV_b", '{"last_by_subj":"$KV.b.k"}')
end
in_flight(64)
publishes("blocking", blocking, function() assert(blocking:flush(10000)) end)
publishes("loop    ", loop, function()
  local done
  loop:request_async("nobody", "", 10000, nil, function() done = true end)
  process.wait_for(function() return done end, 20000)
end)
loop:close()
blocking:close()
process.settle()
server:stop()
