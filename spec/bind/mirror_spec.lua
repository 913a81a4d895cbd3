--- host.mirror: this process's copy of a bucket, and what it says of its freshness.
local mirror = require "host.mirror"
local nats = require "host.nats"
local shared = require "host.shared"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local process = require "spec.support.process"
local support = require "spec.support.nats"

describe("host.mirror", function()
  local server, conn, bucket, copy

  before_each(function()
    server = support.start()
    conn = assert(nats.connect { url = server.url })
    bucket = assert(kv.new(jetstream.new(rpc.blocking(conn)), "keys"))
    bucket:ensure()
  end)
  after_each(function()
    if copy then copy:stop() end
    copy = nil
    conn:close()
    server:stop()
  end)

  local function wait(value, key)
    process.wait_for(function()
      local found, is_fresh = mirror.get("keys", key or "a")
      return is_fresh and found == value
    end, 10000, "the copy")
  end

  it("holds what the bucket holds, and follows it", function()
    assert.same({ nil, false }, { mirror.get("keys", "a") })
    bucket:put("a", "1\0x")
    copy = assert(mirror.start(conn, "keys"))
    wait "1\0x"
    bucket:put("a", "2")
    wait "2"
    bucket:put("b.c", "3")
    wait("3", "b.c")
    bucket:delete "a"
    wait(nil)
    bucket:put("a", ("x"):rep(65537)) -- more than is copied: readers ask NATS
    bucket:put("z", "last")
    wait("last", "z")
    assert.is_nil((mirror.get("keys", "a")))
  end)

  it("is not fresh when the server's last word is too old, and empty once stopped", function()
    bucket:put("a", "1")
    copy = assert(mirror.start(conn, "keys"))
    wait "1"
    server:freeze()
    process.wait_for(function() return not select(2, mirror.get("keys", "a", 0.05)) end, 10000, "age")
    assert.same({ "1", true }, { mirror.get("keys", "a", 60) })
    server:thaw()
    wait "1"
    copy:stop()
    copy = nil
    assert.same({ nil, false }, { mirror.get("keys", "a") })
    assert.same({}, shared.keys "mirror.")
  end)

  it("forgets what a bucket that was made anew does not hold", function()
    bucket:put("a", "1")
    bucket:put("b", "1")
    copy = assert(mirror.start(conn, "keys"))
    wait "1"
    assert(jetstream.new(rpc.blocking(conn)):stream_delete "KV_keys")
    bucket:ensure()
    bucket:put("b", "2")
    wait("2", "b")
    assert.is_nil((mirror.get("keys", "a")))
  end)

  it("refuses a name that is no bucket", function()
    assert.equal("invalid", select(3, mirror.start(conn, "a b")))
  end)
end)
