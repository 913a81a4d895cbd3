--- A JetStream context in each mode, for specs that must hold in both.
local nats = require "host.nats"
local process = require "spec.support.process"
local jetstream = require "pyoco.nats.jetstream"
local rpc = require "pyoco.nats.rpc"

local M = {}

--- Runs a function as a coroutine and turns the loop until it ends; raises what it raises.
---@param fn function
---@return any ... what it returned
function M.run(fn)
  local result
  local co = coroutine.create(function() result = table.pack(xpcall(fn, debug.traceback)) end)
  assert(coroutine.resume(co))
  process.wait_for(function() return result end, 20000, "the coroutine to end")
  if not result[1] then error(result[2], 0) end
  return table.unpack(result, 2, result.n)
end

--- Defines the same specs for blocking and for loop mode: `define(open, it)` with `open(url) -> js, conn, close` and
--- an `it` that runs its body where calls may wait.
---@param define fun(open:function, it:function)
---@param describe function busted's
---@param it function busted's
function M.both(define, describe, it)
  describe("(blocking)", function()
    define(function(url)
      local conn = assert(nats.connect { url = url })
      return jetstream.new(rpc.blocking(conn)), conn
    end, it)
  end)
  describe("(loop)", function()
    define(function(url)
      local conn = assert(nats.connect { url = url, loop = true })
      return jetstream.new(rpc.loop(conn)), conn
    end, function(name, body) it(name, function() M.run(body) end) end)
  end)
end

return M
