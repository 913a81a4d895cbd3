local clock = require "host.clock"
local nats = require "host.nats"
local tail = require "host.tail"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local process = require "spec.support.process"
local support = require "spec.support.nats"
local tmp = require "spec.support.tmp"

describe("host.tail", function()
  local server, conn, js, bucket, follower

  before_each(function()
    server = support.start()
    conn = assert(nats.connect { url = server.url })
    js = jetstream.new(rpc.blocking(conn))
    bucket = assert(kv.new(js, "runs"))
  end)
  after_each(function()
    if follower then follower:stop() end
    follower = nil
    conn:close()
    server:stop()
  end)

  --- The next event as text, "key=value@revision", "-key@revision", "live" or "reset".
  local function event(timeout_ms)
    local kind, entry = follower:next(timeout_ms or 10000)
    if kind ~= "entry" then return kind end
    if entry.deleted then return ("-%s@%d"):format(entry.key, entry.revision) end
    return ("%s=%s@%d"):format(entry.key, entry.value, entry.revision)
  end

  local function events(count)
    local list = {}
    for i = 1, count do list[i] = event() end
    return list
  end

  local function follow(from)
    follower = assert(tail.start(conn, "runs", from))
  end

  it("delivers what there is, says so, and goes on with what comes", function()
    bucket:ensure()
    bucket:put("a", "1")
    bucket:put("b", "2")
    bucket:put("a", "3")
    follow()
    assert.are.same({ "b=2@2", "a=3@3", "live" }, events(3))
    bucket:put("c", "4")
    bucket:delete("b")
    assert.are.same({ "c=4@4", "-b@5" }, events(2))
    assert.is_nil((follower:next(10)))
    assert.is_true(follower:age() < 5)
  end)

  it("is live at once on an empty bucket", function()
    bucket:ensure()
    follow()
    assert.are.equal("live", event())
  end)

  it("starts at a revision, or with new entries only", function()
    bucket:ensure()
    for i = 1, 3 do bucket:put("k" .. i, "x") end
    follow(3)
    assert.are.same({ "k3=x@3", "live" }, events(2))
    follower:stop()
    follow(0)
    assert.are.equal("live", event())
    bucket:put("k4", "y")
    assert.are.equal("k4=y@4", event())
  end)

  it("keeps key, bytes and the server's time", function()
    bucket:ensure()
    local value = ("\0\1\255"):rep(1000)
    bucket:put("a.b/c=d", value)
    follow()
    local kind, entry = follower:next(10000)
    assert.are.equal("entry", kind)
    assert.are.equal("a.b/c=d", entry.key)
    assert.are.equal(value, entry.value)
    assert.is_true(math.abs(entry.created - clock.wall()) < 5)
  end)

  it("waits for a bucket that does not exist yet", function()
    follow()
    assert.is_nil((follower:next(20)))
    assert.is_nil(follower:age())
    bucket:ensure()
    assert.are.equal("live", event())
  end)

  it("delivers many, in order, each once", function()
    bucket:ensure()
    local list = {}
    for i = 1, 3000 do list[i] = { "$KV.runs.k" .. i, ("x"):rep(100) } end
    assert.are.equal(0, select(2, js:publish_many(list)))
    follow()
    for i = 1, 3000 do
      local _, entry = follower:next(10000)
      assert.are.equal(i, entry.revision)
    end
    assert.are.equal("live", event())
  end)

  it("delivers messages that are larger than one pull", function()
    bucket:ensure()
    local big = ("x"):rep(1000000)
    for i = 1, 40 do bucket:put("k" .. i, big) end
    follow()
    for i = 1, 40 do
      local _, entry = follower:next(10000)
      assert.are.equal(i, entry.revision)
      assert.are.equal(#big, #entry.value)
    end
    assert.are.equal("live", event())
  end)

  -- nats-server 2.9 counts the first as pending for ever, and passes over all that is left at the second
  for what, change in pairs {
    overwritten = function() bucket:put("k40", "new") end,
    erased = function() for i = 39, 40 do bucket:erase("k" .. i, 40) end end } do
    it("is live although something was " .. what .. " before it was delivered", function()
      bucket:ensure()
      for i = 1, 40 do bucket:put("k" .. i, ("x"):rep(1000000)) end
      follow()
      follower:next(10000)
      change() -- what is behind the first pull, for which there is no room yet
      local kind, entry, last
      repeat
        kind, entry = follower:next(10000)
        last = entry and kind == "entry" and entry.revision or last
      until kind ~= "entry"
      assert.are.same({ "live", what == "erased" and 38 or 41 }, { kind, last })
    end)
  end

  it("misses nothing of what is written while subjects are purged, of which it was told", function()
    bucket:ensure()
    for i = 1, 300 do bucket:put("m" .. i, "x") end
    bucket:delete "_purge"
    follow()
    repeat until event() == "live"
    local wanted, found = {}, {}
    for i = 1, 300 do
      local requests = { { "$KV.runs.a" .. i, "1" }, { "$KV.runs.b" .. i, "1" },
        { "$JS.API.STREAM.PURGE.KV_runs", ('{"filter":"$KV.runs.m%d"}'):format(i) } }
      for _, reply in ipairs(conn:request_many(requests)) do assert(reply.data, reply.message) end
      wanted["a" .. i], wanted["b" .. i] = true, true
    end
    process.wait_for(function()
      local kind, entry = follower:next(0)
      if kind == "entry" then found[entry.key] = true end
      return found.a300 and found.b300
    end, nil, "the last ones")
    assert.are.same(wanted, found)
  end)

  for _, how in ipairs { "kill", "halt" } do
    it("goes on after a restart of the server without loss or repetition (" .. how .. ")", function()
      bucket:ensure()
      bucket:put("a", "1")
      follow()
      assert.are.same({ "a=1@1", "live" }, events(2))
      for round = 1, 3 do
        server[how](server)
        server:restart()
        process.wait_for(function() return bucket:put("k" .. round, tostring(round)) end)
        bucket:put("l" .. round, "x")
        assert.are.same({ ("k%d=%d@%d"):format(round, round, round * 2), ("l%d=x@%d"):format(round, round * 2 + 1) },
          events(2))
      end
      assert.is_nil((follower:next(10)))
    end)
  end

  it("starts over when the bucket was made anew", function()
    bucket:ensure()
    for i = 1, 5 do bucket:put("k" .. i, "old") end
    follow()
    events(6)
    js:stream_delete("KV_runs")
    bucket:ensure()
    bucket:put("fresh", "1")
    local first, rest = event(), events(2)
    table.sort(rest) -- "live" comes first when the new bucket was seen before the put
    assert.are.same({ "reset", "fresh=1@1", "live" }, { first, rest[1], rest[2] })
    bucket:put("fresh", "2")
    assert.are.equal("fresh=2@2", event())
  end)

  --- Runs `fn(bucket, js)` on the same store while the follower's server is away; `before` with no server on it.
  local function behind_its_back(fn, before)
    server:halt()
    if before then before() end
    local other = support.start { dir = server.dir }
    local other_conn = assert(nats.connect { url = other.url })
    local other_js = jetstream.new(rpc.blocking(other_conn))
    process.wait_for(function() return other_js:stream_info("KV_runs") end)
    fn(kv.new(other_js, "runs"), other_js)
    other_conn:close()
    other:stop()
    server:restart()
  end

  it("goes on with what was written while it was away", function()
    bucket:ensure()
    bucket:put("a", "1")
    follow()
    assert.are.same({ "a=1@1", "live" }, events(2))
    behind_its_back(function(same)
      same:put("b", "2")
      same:put("b", "3")
    end)
    assert.are.equal("b=3@3", event())
  end)

  it("starts over when what it would go on with is gone", function()
    bucket:ensure()
    bucket:put("a", "1")
    bucket:put("b", "2")
    follow()
    assert.are.same({ "a=1@1", "b=2@2", "live" }, events(3))
    behind_its_back(function(same, same_js)
      same:put("c", "3")
      same:put("c", "4")
      assert(same_js:purge("KV_runs", { seq = 4 }))
    end)
    assert.are.same({ "reset", "c=4@4", "live" }, events(3))
  end)

  it("starts over when the bucket was made anew while it was away, even at the same revision", function()
    bucket:ensure()
    bucket:put("a", "1")
    follow()
    assert.are.same({ "a=1@1", "live" }, events(2))
    behind_its_back(function(same, same_js)
      same_js:stream_delete("KV_runs")
      same:ensure()
      same:put("b", "1")
    end)
    assert.are.same({ "reset", "b=1@1", "live" }, events(3))
  end)

  it("starts over when a killed server has lost what was delivered, even when it has as much again", function()
    bucket:ensure()
    bucket:put("a", "1")
    server:halt()
    local saved = tmp.dir()
    finally(function() tmp.remove(saved) end)
    local function copy(from, to) assert(os.execute(("cp -a %s/. %s"):format(from, to))) end
    copy(server.dir, saved)
    server:restart()
    follow()
    assert.are.same({ "a=1@1", "live" }, events(2))
    process.wait_for(function() return bucket:put("b", "2") end)
    assert.are.equal("b=2@2", event())
    behind_its_back(function(same) same:put("c", "3") end, function()
      tmp.remove(server.dir .. "/jetstream")
      copy(saved, server.dir)
    end)
    assert.are.same({ "reset", "a=1@1", "c=3@2", "live" }, events(4))
  end)

  it("notices a frozen server by the missing heartbeats and goes on", function()
    bucket:ensure()
    follow()
    assert.are.equal("live", event())
    server:freeze()
    process.wait_for(function() return (follower:age() or 9) > 3 end, 20000)
    server:thaw()
    process.wait_for(function() return bucket:put("a", "1") end, 20000)
    assert.are.equal("a=1@1", event(20000))
  end)

  it("leaves no consumer behind", function()
    bucket:ensure()
    follow()
    assert.are.equal("live", event())
    assert.are.equal(1, js:stream_info("KV_runs").state.consumer_count)
    follower:stop()
    process.wait_for(function() return js:stream_info("KV_runs").state.consumer_count == 0 end)
  end)

  it("stops at once, waiting or not, connected or not, with entries unread", function()
    bucket:ensure()
    local list = {}
    for i = 1, 3000 do list[i] = { "$KV.runs.k" .. i, "x" } end
    js:publish_many(list)
    follow()
    assert.are.equal("k1=x@1", event())
    follower:stop()
    follower:stop()
    server:kill()
    follow()
    follower:stop()
    assert.has_error(function() follower:next(1) end)
  end)

  it("measures the server's clock", function()
    bucket:ensure()
    follow()
    assert.are.equal("live", event())
    local offset = assert(conn:clock_offset())
    assert.is_true(math.abs(offset) < 1) -- the server shares our clock here
  end)

  it("needs a bucket name that may be one, and a blocking connection", function()
    local none, message, code = tail.start(conn, "a.b")
    assert.is_nil(none)
    assert.are.equal("invalid", code)
    assert.is_truthy(message:find("bucket name", 1, true))
    assert.has_error(function() tail.start({}, "runs") end)
    assert.has_error(function() tail.start(conn, "runs", -1) end)
  end)

  it("gets one entry, as C users do", function()
    bucket:ensure()
    for size = 0, 4 do
      local value = ("\0xyz"):sub(1, size)
      local revision = bucket:put("k.1", value)
      local got, at, entry = tail.get(conn, "runs", "k.1")
      assert.are.equal(value, got)
      assert.are.equal(revision, at)
      assert.is_true(math.abs(entry.created - clock.wall()) < 5)
    end
    assert.are.equal("not_found", select(3, tail.get(conn, "runs", "none")))
    bucket:delete("k.1")
    assert.are.equal("not_found", select(3, tail.get(conn, "runs", "k.1")))
    assert.are.equal("not_found", select(3, tail.get(conn, "missing", "k")))
    assert.are.equal("invalid", select(3, tail.get(conn, "runs", "a b")))
    server:kill()
    process.wait_for(function() return conn:status() ~= "connected" end)
    assert.are.equal("unavailable", select(3, tail.get(conn, "runs", "k.1", 500)))
  end)
end)
