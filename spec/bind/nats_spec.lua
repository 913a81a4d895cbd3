local nats = require "host.nats"
local uv = require "luv"
local jetstream = require "pyoco.nats.jetstream"
local rpc = require "pyoco.nats.rpc"
local process = require "spec.support.process"
local support = require "spec.support.nats"

local wait_for = process.wait_for

--- A subscriber in loop mode that answers every message on `subject` with its data doubled.
local function echo(conn, subject)
  return conn:subscribe(subject, function(msg) conn:publish(msg.reply, msg.data .. msg.data) end)
end

--- Sends a request in loop mode and turns the loop until it is answered.
local function ask(conn, subject, data, timeout_ms, headers)
  local reply
  local ok, message, code = conn:request_async(subject, data, timeout_ms or 2000, headers, function(...)
    reply = table.pack(...)
  end)
  if not ok then return nil, message, code end
  wait_for(function() return reply end, 10000, "a reply on " .. subject)
  return table.unpack(reply, 1, reply.n)
end

--- Freezes the server and waits until none of its threads runs.
local function freeze(server)
  server:freeze()
  wait_for(function()
    local pipe <close> = io.popen(("cat /proc/%d/task/*/stat"):format(server.process.pid))
    return not pipe:read("a"):find("%) [^T]")
  end)
end

--- A process that answers requests on `do.twice` with their data doubled, each of them two times, and at a message on
--- `do.die` kills the process whose id it carries.
local function start_responder(server)
  local responder = process.host { "-e", [[
    local conn = require("host.nats").connect { url = arg[1] }
    local sub = conn:subscribe("do.*")
    conn:flush(2000) io.write("ready") io.flush()
    while true do
      local m = sub:next(60000)
      if m and m.subject == "do.die" then require("luv").kill(tonumber(m.data), "sigkill") return end
      if m and m.subject == "do.twice" then
        conn:publish(m.reply, m.data .. m.data, nil, m.headers)
        conn:publish(m.reply, m.data .. m.data .. " again", nil, m.headers)
      end
    end
  ]], server.url }
  wait_for(function() return responder.stdout == "ready" end)
  return responder
end

describe("host.nats", function()
  local server

  setup(function() server = support.start { jetstream = false } end)
  teardown(function() server:stop() end)

  describe("connect", function()
    it("says where it could not connect, without the password", function()
      local conn, message, code = nats.connect { url = "nats://me:secret@127.0.0.1:1", connect_timeout_ms = 500 }
      assert.is_nil(conn)
      assert.are.equal("unavailable", code)
      assert.is_truthy(message:find("nats://127.0.0.1:1", 1, true))
      assert.is_nil(message:find("secret", 1, true))
    end)

    it("says the same in loop mode", function()
      local conn, message, code = nats.connect { url = "nats://127.0.0.1:1", connect_timeout_ms = 500, loop = true }
      process.settle()
      assert.is_nil(conn)
      assert.are.equal("unavailable", code)
      assert.is_truthy(message:find("127.0.0.1:1", 1, true))
    end)

    it("raises for an option that it does not know", function()
      assert.has_error(function() nats.connect { ulr = server.url } end)
    end)

    it("raises for an option of the wrong type", function()
      assert.has_error(function() nats.connect { url = 4222 } end)
    end)

    it("takes the first server of a list that answers", function()
      local conn <close> = assert(nats.connect { url = "nats://127.0.0.1:1," .. server.url })
      assert.are.equal("connected", conn:status())
      assert.are.equal(server.url, conn:info().url)
    end)

    it("is unauthorized when the server wants another password", function()
      local guarded = support.start { jetstream = false, args = { "--user", "u", "--pass", "p" } }
      local conn, _, code = nats.connect { url = guarded.url, user = "u", password = "wrong" }
      local right <close> = assert(nats.connect { url = guarded.url, user = "u", password = "p" })
      local status = right:status()
      right:close()
      guarded:stop()
      assert.is_nil(conn)
      assert.are.equal("unauthorized", code)
      assert.are.equal("connected", status)
    end)
  end)

  describe("blocking mode", function()
    local conn

    before_each(function() conn = assert(nats.connect { url = server.url, name = "spec" }) end)
    after_each(function() conn:close() end)

    it("tells about itself", function()
      local info = conn:info()
      assert.are.equal(server.url, info.url)
      assert.are.equal(1048576, info.max_payload)
      assert.are.equal(0, info.reconnects)
      assert.is_string(info.server_id)
      assert.are.equal("host.nats.conn (connected)", tostring(conn))
    end)

    it("carries data, reply and headers to a subscriber", function()
      local sub <close> = assert(conn:subscribe("a.*"))
      assert(conn:publish("a.b", "x\0y", "back.here", { ["Nats-Msg-Id"] = "7", Other = "x: y" }))
      local msg = assert(sub:next(2000))
      assert.are.same({
        subject = "a.b", data = "x\0y", reply = "back.here", headers = { ["Nats-Msg-Id"] = "7", Other = "x: y" },
      }, msg)
    end)

    it("gives a message without data or headers as an empty string and nil", function()
      local sub <close> = assert(conn:subscribe("plain"))
      assert(conn:publish("plain"))
      assert.are.same({ subject = "plain", data = "" }, sub:next(2000))
    end)

    it("shares a subject among a queue's subscribers", function()
      local one <close> = assert(conn:subscribe("work", "q"))
      local two <close> = assert(conn:subscribe("work", "q"))
      for _ = 1, 20 do conn:publish("work", "x") end
      conn:flush(2000)
      local count = 0
      for _, sub in ipairs { one, two } do
        while sub:next(20) do count = count + 1 end
      end
      assert.are.equal(20, count)
    end)

    it("times out when no message comes", function()
      local sub <close> = assert(conn:subscribe("quiet"))
      local msg, _, code = sub:next(10)
      assert.is_nil(msg)
      assert.are.equal("timeout", code)
    end)

    it("is unavailable at once when nobody answers a request", function()
      local msg, message, code = conn:request("nobody.home", "x", 60000)
      assert.is_nil(msg)
      assert.are.equal("unavailable", code)
      assert.are.equal("nobody answers on nobody.home", message)
    end)

    it("times out when an answer does not come", function()
      local sub <close> = assert(conn:subscribe("slow"))
      local msg, _, code = conn:request("slow", "x", 20, { A = "b" })
      assert.is_nil(msg)
      assert.are.equal("timeout", code)
      assert.are.equal("b", sub:next(2000).headers.A)
    end)

    it("pairs a reply with its request, whatever else comes late or twice", function()
      local responder = start_responder(server)
      local sub <close> = assert(conn:subscribe("slow.one"))
      assert.are.equal("timeout", select(3, conn:request("slow.one", "x", 20)))
      conn:publish(sub:next(2000).reply, "late")
      for i = 1, 20 do assert.are.equal(i .. "" .. i, assert(conn:request("do.twice", tostring(i), 5000)).data) end
      responder:kill("sigkill")
      responder:wait()
    end)

    it("takes a job that keeps its subject for the reply to a pull", function()
      local streams = support.start()
      local one <close> = assert(nats.connect { url = streams.url })
      local js = jetstream.new(rpc.blocking(one))
      assert(js:stream_create { name = "JOBS", subjects = { "jobs.*" } })
      assert(js:consumer_create("JOBS", { durable_name = "d", ack_policy = "explicit" }))
      one:publish("jobs.a", "x")
      local job = assert(one:request("$JS.API.CONSUMER.MSG.NEXT.JOBS.d", '{"batch":1}', 5000))
      streams:stop()
      assert.are.equal("jobs.a", job.subject)
      assert.are.equal("x", job.data)
    end)

    it("takes a late 'nobody answers' for no other request's", function()
      local sub <close> = assert(conn:subscribe("slow.two"))
      freeze(server)
      local _, _, code = conn:request("nobody.home", "x", 50)
      server:thaw()
      assert.are.equal("timeout", code)
      assert.are.equal("timeout", select(3, conn:request("slow.two", "x", 200)))
      assert.are.equal("x", sub:next(2000).data)
    end)

    it("sends many requests at once and pairs the replies", function()
      local responder = start_responder(server)
      local replies = conn:request_many({
        { "do.twice", "a" }, { "nobody", "b" }, { "bad subject", "c" }, { "do.twice", "d", { H = "1" } },
      }, 5000)
      responder:kill("sigkill")
      responder:wait()
      assert.are.equal("aa", replies[1].data)
      assert.are.equal("unavailable", replies[2].code)
      assert.are.equal("invalid", replies[3].code)
      assert.are.equal("dd", replies[4].data)
      assert.are.equal("1", replies[4].headers.H)
    end)

    it("refuses what would break the protocol, naming it", function()
      for _, subject in ipairs { "", "a b", "a\r\nPUB x 0", ".a", "a.", "a..b", "a\0b" } do
        local ok, message, code = conn:publish(subject, "x")
        assert.is_nil(ok)
        assert.are.equal("invalid", code)
        assert.is_truthy(message:find("subject", 1, true))
      end
      for _, value in ipairs { "1\r\n2", "1\0", "" } do
        local ok, message, code = conn:publish("a", "x", nil, { Name = value })
        assert.is_nil(ok)
        assert.are.equal("invalid", code)
        assert.is_truthy(message:find("Name", 1, true))
      end
    end)

    it("is too_large above the server's max_payload", function()
      local ok, _, code = conn:publish("big", ("x"):rep(1048577))
      assert.is_nil(ok)
      assert.are.equal("too_large", code)
    end)

    it("raises for wrong types and for a closed connection", function()
      assert.has_error(function() conn:publish({}, "x") end)
      assert.has_error(function() conn:publish("a", {}) end)
      assert.has_error(function() conn:publish("a", "x", nil, { A = 1 }) end)
      assert.has_error(function() conn:request("a", "x", -1) end)
      conn:close()
      conn:close()
      assert.are.equal("closed", conn:status())
      assert.has_error(function() conn:publish("a", "x") end)
    end)

    it("is shared with other VMs until it is taken back", function()
      local none, _, code = nats.shared()
      assert.is_nil(none)
      assert.are.equal("unavailable", code)
      nats.share(conn)
      local borrowed = assert(nats.shared())
      local sub <close> = assert(borrowed:subscribe("s"))
      conn:publish("s", "x")
      assert.are.equal("x", sub:next(2000).data)
      borrowed:close()
      assert.are.equal("connected", conn:status())
      nats.share(nil)
      assert.is_nil(nats.shared())
    end)

    it("stops being shared when its owner closes it", function()
      nats.share(conn)
      local borrowed <close> = assert(nats.shared())
      conn:close()
      assert.is_nil(nats.shared())
      local _, _, code = borrowed:publish("a", "x")
      assert.are.equal("unavailable", code)
    end)
  end)

  describe("loop mode", function()
    local conn

    before_each(function() conn = assert(nats.connect { url = server.url, loop = true }) end)
    after_each(function()
      conn:close()
      process.settle()
    end)

    it("answers a request with data and headers", function()
      conn:subscribe("h", function(msg) conn:publish(msg.reply, msg.data, nil, msg.headers) end)
      local msg = assert(ask(conn, "h", "a\0b", 2000, { A = "1", B = "x y" }))
      assert.are.equal("a\0b", msg.data)
      assert.are.same({ A = "1", B = "x y" }, msg.headers)
    end)

    it("pairs many replies in flight", function()
      echo(conn, "many")
      local got, count = {}, 0
      for i = 1, 200 do
        assert(conn:request_async("many", tostring(i), 5000, nil, function(msg)
          got[i], count = msg and msg.data, count + 1
        end))
      end
      wait_for(function() return count == 200 end)
      for i = 1, 200 do assert.are.equal(i .. "" .. i, got[i]) end
    end)

    it("is unavailable when nobody answers, each request by itself", function()
      echo(conn, "some")
      local codes, count = {}, 0
      for i = 1, 20 do
        conn:request_async(i % 2 == 0 and "some" or "none", "x", 5000, nil, function(msg, _, code)
          codes[i], count = msg and "ok" or code, count + 1
        end)
      end
      wait_for(function() return count == 20 end)
      for i = 1, 20 do assert.are.equal(i % 2 == 0 and "ok" or "unavailable", codes[i]) end
    end)

    it("times out, and a late answer reaches nobody", function()
      local late
      conn:subscribe("late", function(msg) late = late or msg.reply end)
      local msg, _, code = ask(conn, "late", "x", 20)
      assert.is_nil(msg)
      assert.are.equal("timeout", code)
      echo(conn, "now")
      conn:publish(late, "too late")
      assert.are.equal("yy", ask(conn, "now", "y").data)
    end)

    it("takes an answer that comes twice once", function()
      conn:subscribe("do.twice", function(msg)
        conn:publish(msg.reply, msg.data)
        conn:publish(msg.reply, msg.data)
      end)
      for i = 1, 10 do assert.are.equal(tostring(i), ask(conn, "do.twice", tostring(i)).data) end
    end)

    it("writes out on flush without a turn of the loop", function()
      local other <close> = assert(nats.connect { url = server.url })
      local sub <close> = assert(other:subscribe("flushed"))
      assert(other:flush(2000))
      conn:publish("flushed", "x")
      conn:flush()
      assert.are.equal("x", sub:next(2000).data)
    end)

    it("delivers a message of the largest size", function()
      local big = ("0123456789abcdef"):rep(65536)
      conn:subscribe("big", function(msg) conn:publish(msg.reply, msg.data) end)
      assert.are.equal(big, ask(conn, "big", big, 5000).data)
      local ok, _, code = conn:publish("big", big .. "x")
      assert.is_nil(ok)
      assert.are.equal("too_large", code)
    end)

    it("stops delivering when a subscription is closed, from its own callback too", function()
      local count, sub = 0, nil
      sub = conn:subscribe("once", function()
        count = count + 1
        sub:close()
      end)
      for _ = 1, 5 do conn:publish("once", "x") end
      echo(conn, "sync")
      ask(conn, "sync", "")
      assert.are.equal(1, count)
      sub:close()
    end)

    it("gives a subscriber the server's \"no responders\" as a message with Status 503", function()
      local got
      conn:subscribe("my.inbox", function(msg) got = msg end)
      conn:publish("nobody", "x", "my.inbox")
      wait_for(function() return got end)
      assert.are.equal("503", got.headers.Status)
    end)

    it("goes on after a callback that raises", function()
      local child = process.run({ "-e", [[
        local uv = require "luv"
        local conn = require("host.nats").connect { url = arg[1], loop = true }
        conn:subscribe("x", function(msg)
          if msg.data == "1" then error("broken callback") end
          print("second")
          uv.stop()
        end)
        conn:publish("x", "1")
        conn:publish("x", "2")
        uv.run()
      ]], server.url })
      assert.are.equal(0, child.code)
      assert.are.equal("second\n", child.stdout)
      assert.is_truthy(child.stderr:find("broken callback", 1, true))
    end)

    it("keeps uv.run going until it is closed", function()
      local child = process.run({ "-e", [[
        local conn = require("host.nats").connect { url = arg[1], loop = true }
        conn:request_async("nobody", "", 1000, nil, function(_, _, code) print(code) conn:close() end)
        require("luv").run()
        print(conn:status())
      ]], server.url })
      assert.are.equal("unavailable\nclosed\n", child.stdout)
      assert.are.equal("", child.stderr)
      assert.are.equal(0, child.code)
    end)

    it("may be left open, with requests pending, by a VM that ends", function()
      local child = process.run({ "-e", [[
        local uv = require "luv"
        local conn = require("host.nats").connect { url = arg[1], loop = true }
        conn:on_status(function() print("called after the end") end)
        conn:subscribe("x", function() uv.stop() end)
        conn:publish("x", "1")
        conn:request_async("x", "", 60000, nil, function() print("called after the end") end)
        uv.run()
      ]], server.url })
      assert.are.equal("", child.stdout .. child.stderr)
      assert.are.equal(0, child.code)
    end)

    it("is passed over by uv.walk", function()
      local seen = {}
      uv.walk(function(handle) seen[#seen + 1] = tostring(handle) end)
      for _, name in ipairs(seen) do assert.is_nil(name:find("nil", 1, true)) end
    end)

    it("tells pending requests that the connection was closed", function()
      conn:subscribe("silent", function() end)
      local code
      conn:request_async("silent", "x", 60000, nil, function(_, _, c) code = c end)
      conn:close()
      assert.are.equal("unavailable", code)
      assert.are.equal("closed", conn:status())
      assert.has_error(function() conn:publish("a", "x") end)
    end)

    it("may be closed from a callback", function()
      local closed
      conn:subscribe("end", function()
        conn:close()
        closed = true
      end)
      conn:publish("end", "x")
      conn:publish("end", "x")
      wait_for(function() return closed end)
      assert.are.equal("closed", conn:status())
    end)

    it("may turn the loop inside a callback", function()
      local seen = {}
      conn:subscribe("nest", function(msg)
        seen[#seen + 1] = msg.data
        uv.run("nowait")
      end)
      for i = 1, 20 do conn:publish("nest", tostring(i)) end
      wait_for(function() return #seen == 20 end)
    end)
  end)
end)

describe("host.nats over TLS", function()
  local cert = require("host").home .. "/spec/support/tls/cert.pem"
  local key = require("host").home .. "/spec/support/tls/key.pem"
  local other = require("host").home .. "/spec/support/tls/other.pem"
  local server

  setup(function()
    server = support.start { jetstream = false, args = { "--tls", "--tlscert", cert, "--tlskey", key } }
  end)
  teardown(function() server:stop() end)

  it("carries large messages both ways in loop mode", function()
    local conn = assert(nats.connect { url = server.url, tls_ca = cert, loop = true })
    local big = ("0123456789abcdef"):rep(60000)
    conn:subscribe("big", function(msg) conn:publish(msg.reply, msg.data) end)
    for _ = 1, 5 do assert.are.equal(big, ask(conn, "big", big, 10000).data) end
    conn:close()
    process.settle()
  end)

  it("answers in blocking mode", function()
    local conn <close> = assert(nats.connect { url = server.url, tls_ca = cert })
    assert.are.equal("unavailable", select(3, conn:request("nobody", "x", 2000)))
  end)

  it("refuses a server that the given authority has not signed", function()
    for _, loop in ipairs { false, true } do
      local conn, message, code = nats.connect { url = server.url, tls_ca = other,
        loop = loop }
      assert.is_nil(conn)
      assert.is_string(message)
      assert.are_not.equal("internal", code)
    end
    process.settle()
  end)

  it("names a file of an option that cannot be read", function()
    local conn, message = nats.connect { url = server.url, tls_ca = "/nonexistent.pem" }
    assert.is_nil(conn)
    assert.is_truthy(message:find("not usable", 1, true))
  end)
end)

describe("host.nats when the server goes", function()
  local server, conn, statuses

  before_each(function()
    server = support.start { jetstream = false }
    statuses = {}
  end)
  after_each(function()
    conn:close()
    process.settle()
    server:stop()
  end)

  local function connect_loop()
    conn = assert(nats.connect { url = server.url, loop = true })
    conn:on_status(function(status) statuses[#statuses + 1] = status end)
  end

  local function is_up() return conn:status() == "connected" end
  local function is_down() return conn:status() == "reconnecting" end

  for _, how in ipairs { "kill", "halt" } do
    it("fails what is pending and comes back by itself, subscriptions too (" .. how .. ")", function()
      connect_loop()
      echo(conn, "echo")
      conn:subscribe("silent", function() end)
      ask(conn, "echo", "")
      local code
      conn:request_async("silent", "x", 60000, nil, function(_, _, c) code = c end)
      process.settle()
      server[how](server)
      wait_for(function() return code end, 5000, "the pending request to fail")
      assert.are.equal("unavailable", code)
      assert.are.equal("reconnecting", conn:status())
      local ok, message, refused = conn:publish("echo", "x")
      assert.is_nil(ok)
      assert.are.equal("unavailable", refused)
      assert.is_truthy(message:find("not connected", 1, true))
      server:restart()
      wait_for(is_up, 10000, "the connection to come back")
      assert.are.equal("zz", ask(conn, "echo", "z").data)
      assert.are.same({ "reconnecting", "connected" }, statuses)
      assert.are.equal(1, conn:info().reconnects)
    end)
  end

  it("survives many restarts", function()
    connect_loop()
    echo(conn, "echo")
    for i = 1, 5 do
      assert.are.equal("xx", ask(conn, "echo", "x").data)
      server:kill()
      wait_for(is_down)
      server:restart()
      wait_for(is_up)
      assert.are.equal(i, conn:info().reconnects)
    end
    assert.are.equal("xx", ask(conn, "echo", "x").data)
  end)

  it("is not confused by a message that the dying server had begun", function()
    connect_loop()
    local other = assert(nats.connect { url = server.url })
    local half = ("x"):rep(1000000)
    local size
    conn:subscribe("big", function(msg) size = #msg.data end)
    echo(conn, "echo")
    ask(conn, "echo", "")
    for _ = 1, 3 do other:publish("big", half) end
    other:flush(5000)
    uv.run("nowait") -- one read of the socket: the first message is cut off in the middle
    assert.is_nil(size)
    server:kill()
    wait_for(is_down)
    server:restart()
    wait_for(is_up)
    size = nil
    for i = 1, 20 do assert.are.equal(i .. "" .. i, ask(conn, "echo", tostring(i)).data) end
    wait_for(function() return other:status() == "connected" end)
    other:publish("big", "small")
    wait_for(function() return size end)
    assert.are.equal(5, size)
    other:close()
  end)

  it("may be closed while it reconnects", function()
    connect_loop()
    server:kill()
    wait_for(is_down)
    conn:close()
    assert.are.same({ "reconnecting", "closed" }, statuses)
  end)

  it("takes a frozen server for gone after two missed pings, and comes back", function()
    conn = assert(nats.connect { url = server.url, loop = true, ping_interval_ms = 20 })
    conn:subscribe("silent", function() end)
    local code
    conn:request_async("silent", "x", 60000, nil, function(_, _, c) code = c end)
    process.settle()
    server:freeze()
    wait_for(is_down)
    assert.are.equal("unavailable", code)
    server:thaw()
    wait_for(is_up)
    echo(conn, "echo")
    assert.are.equal("aa", ask(conn, "echo", "a").data)
  end)

  it("subscribes while it reconnects", function()
    connect_loop()
    server:kill()
    wait_for(is_down)
    echo(conn, "later")
    server:restart()
    wait_for(is_up)
    assert.are.equal("aa", ask(conn, "later", "a").data)
  end)

  it("fails a blocking request that waits, and the next one is answered", function()
    conn = assert(nats.connect { url = server.url })
    local sub = assert(conn:subscribe("silent"))
    local responder = start_responder(server)
    conn:publish("do.die", tostring(server.process.pid))
    local msg, _, code = conn:request("silent", "x", 60000)
    assert.is_nil(msg)
    assert.are.equal("unavailable", code)
    responder:wait()
    server:restart()
    wait_for(function() return conn:status() == "connected" end)
    sub:close()
    responder = start_responder(server)
    assert.are.equal("aa", assert(conn:request("do.twice", "a", 5000)).data)
    responder:kill("sigkill")
    responder:wait()
  end)

  it("fails fast in blocking mode, and sends nothing late", function()
    conn = assert(nats.connect { url = server.url })
    server:kill()
    wait_for(function() return conn:status() ~= "connected" end)
    local msg, _, code = conn:request("x", "y", 60000)
    assert.is_nil(msg)
    assert.are.equal("unavailable", code)
    assert.are.equal("unavailable", select(3, conn:publish("kept", "z")))
    server:restart()
    local other <close> = assert(nats.connect { url = server.url })
    local sub <close> = assert(other:subscribe("kept"))
    other:flush(2000)
    wait_for(function() return conn:status() == "connected" end)
    conn:publish("kept", "fresh")
    assert.are.equal("fresh", sub:next(5000).data)
    assert.are.equal(1, conn:info().reconnects)
  end)
end)
