--- What ends while nats.c's reader is at it: subscriptions and connections, closed under what uses them. A crash here
--- would be the end of the process, so it happens in one of its own.
local process = require "spec.support.process"
local support = require "spec.support.nats"

describe("host.nats, at an end,", function()
  local server
  before_each(function() server = support.start() end)
  after_each(function() server:stop() end)

  --- Runs code with `url`, `connect()` and the modules; its output.
  local function run(code)
    local head = ([[
      local nats, tail, mirror = require "host.nats", require "host.tail", require "host.mirror"
      local jetstream, kv, rpc = require "pyoco.nats.jetstream", require "pyoco.nats.kv", require "pyoco.nats.rpc"
      local function connect() return assert(nats.connect { url = %q }) end
      local function bucket_of(conn)
        local bucket = kv.new(jetstream.new(rpc.blocking(conn)), "runs")
        bucket:ensure()
        bucket:put("a", "1")
        return bucket
      end
    ]]):format(server.url)
    local child = process.run({ "-e", head .. code })
    assert.are.same({ 0, 0, "" }, { child.code, child.signal, child.stderr })
    return child.stdout
  end

  it("frees no subscription that a message is on its way to", function()
    assert.are.equal("all closed\n", run [[
      local talker, listener = connect(), connect()
      for _ = 1, 500 do
        local subs = {}
        for i = 1, 100 do subs[i] = listener:subscribe "x" end
        listener:flush()
        for _ = 1, 20 do talker:publish("x", "hello") end
        assert(subs[100]:next(10000))
        for i = 1, 100 do subs[i]:close() end
      end
      print "all closed"
    ]])
  end)

  it("has a closed connection end what stands on it, in any order", function()
    assert.are.equal("unavailable unavailable nil false\n", run [[
      local conn = connect()
      bucket_of(conn)
      local sub, follower, copy = conn:subscribe "x", tail.start(conn, "runs"), mirror.start(conn, "runs")
      assert(follower:next(10000) == "entry" and follower:next(10000) == "live")
      conn:close()
      local _, _, of_sub = sub:next(10000)
      local _, _, of_tail = follower:next(10000)
      local _, is_fresh = mirror.get("runs", "a", 0)
      for _ = 1, 1000 do -- its thread has yet to see it
        if not follower:age() then break end
        require "host.clock".sleep(0.01)
      end
      print(("%s %s %s %s"):format(of_sub, of_tail, follower:age(), is_fresh))
      sub:close()
      copy:stop()
      follower:stop()
    ]])
  end)

  it("keeps what a tail has delivered before, and a tail that is not stopped harms nobody", function()
    assert.are.equal("entry live unavailable\n", run [[
      local conn, other = connect(), connect()
      local bucket = bucket_of(other)
      for round = 1, 20 do
        local one = connect()
        tail.start(one, "runs", round % 2)
        bucket:put("a", "2")
        one:close()
      end
      collectgarbage()
      local follower = tail.start(conn, "runs")
      while not follower:age() do end -- by then both are in its queue
      conn:close()
      local first, second, third = (follower:next(0)), (follower:next(0)), select(3, follower:next(0))
      print(first .. " " .. second .. " " .. third)
    ]])
  end)
end)
