--- The object store: an object of 50 MB stored and read in both modes, beside its chunks alone in C
--- (spec/bench/chunks.c), in turns on one nats-server.
local clock = require "host.clock"
local crypto = require "host.crypto"
local nats = require "host.nats"
local jetstream = require "pyoco.nats.jetstream"
local objects = require "pyoco.nats.objects"
local rpc = require "pyoco.nats.rpc"
local js_support = require "spec.support.js"
local support = require "spec.support.nats"
local system = require "spec.bench.system"

local BYTES <const>, TURNS <const> = 50 << 20, 5
local MB <const> = BYTES / 1048576

--- Seconds of one put and one get.
local function once(js)
  local store = assert(objects.new(js, "bench"))
  local piece, left = assert(crypto.random(1 << 17)), BYTES
  local start = clock.monotonic()
  assert(store:put("x", function()
    left = left - #piece
    return left >= 0 and piece or nil
  end))
  local put_sec = clock.monotonic() - start
  start = clock.monotonic()
  assert(store:read("x", function() return true end))
  local get_sec = clock.monotonic() - start
  assert(store:delete("x"))
  return { put_sec = put_sec, get_sec = get_sec }
end

--- The middle one of several figures.
local function middle(list, key)
  local all = {}
  for i, it in ipairs(list) do all[i] = it[key] end
  table.sort(all)
  return all[(#all + 1) // 2]
end

local function measure(url)
  local conn <close> = assert(nats.connect { url = url })
  local loop_conn <close> = assert(nats.connect { url = url, loop = true })
  local blocking, loop = jetstream.new(rpc.blocking(conn)), jetstream.new(rpc.loop(loop_conn))
  assert(assert(objects.new(blocking, "bench")):ensure())
  local all = { floor = {}, blocking = {}, loop = {} }
  for i = 1, TURNS do
    all.floor[i] = system.tool("chunks", { "--url", url, "--bytes", tostring(BYTES) })
    all.blocking[i] = once(blocking)
    all.loop[i] = js_support.run(function() return once(loop) end)
  end
  return all
end

--- Tells the figures of the turns in the middle.
---@param out table { say, row } of bench.lua
return function(out)
  out.say("\nobject store: %d MB in chunks of 128 KB, the middle of %d turns", MB, TURNS)
  local server = support.start()
  local ok, all = xpcall(measure, debug.traceback, server.url)
  server:stop()
  if not ok then error(all, 0) end
  for _, key in ipairs { "put_sec", "get_sec" } do
    local verb, floor = key:sub(1, 3), MB / middle(all.floor, key)
    out.row(("floor, chunks alone in C: %s"):format(verb), ("%.0f MB/s"):format(floor))
    for _, mode in ipairs { "blocking", "loop" } do
      local ours = MB / middle(all[mode], key)
      out.row(("ours, %s: %s"):format(mode, verb), ("%.0f MB/s"):format(ours))
      out.row("  as a share of it", ("%.0f %%"):format(ours / floor * 100), "over 40 %", ours / floor > 0.4)
    end
  end
end
