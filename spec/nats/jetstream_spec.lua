local nats = require "host.nats"
local json = require "host.json"
local jetstream = require "pyoco.nats.jetstream"
local rpc = require "pyoco.nats.rpc"
local wire = require "pyoco.nats.wire"
local both = require("spec.support.js").both
local process = require "spec.support.process"
local support = require "spec.support.nats"

describe("many requests in flight", function()
  it("are given more time than one, within bounds", function()
    local given
    local js = jetstream.new(nil, function(_, timeout_ms) given = timeout_ms return {} end, { timeout_ms = 2000 })
    local function of(count, timeout_ms)
      local requests = {}
      for i = 1, count do requests[i] = { "s" } end
      js:request_many(requests, timeout_ms)
      return given
    end
    assert.same({ 2008, 4048, 4500, 700 }, { of(1), of(256), of(5000), of(256, 700) })
  end)
end)

describe("pyoco.nats.jetstream", function()
  local server

  setup(function() server = support.start() end)
  teardown(function() server:stop() end)

  both(function(open, it)
    local js, conn

    before_each(function() js, conn = open(server.url) end)
    after_each(function()
      local cleaner = assert(nats.connect { url = server.url })
      jetstream.new(rpc.blocking(cleaner)):stream_delete("S")
      cleaner:close()
      conn:close()
      process.settle()
    end)

    local function stream(more)
      local config = { name = "S", subjects = { "s.>" } }
      for key, value in pairs(more or {}) do config[key] = value end
      return assert(js:stream_create(config))
    end

    it("creates, shows, changes and deletes a stream", function()
      assert.are.equal("S", stream().config.name)
      assert.are.equal(0, js:stream_info("S").state.messages)
      assert.is_table(js:stream_update { name = "S", subjects = { "s.>" }, max_msgs = 5 })
      assert.are.equal(5, js:stream_info("S").config.max_msgs)
      assert.is_table(js:stream_delete("S"))
      local info, message, code, err_code = js:stream_info("S")
      assert.is_nil(info)
      assert.are.equal("not_found", code)
      assert.are.equal(10059, err_code)
      assert.are.equal("stream S: stream not found", message)
    end)

    it("ensures a stream without touching one that exists", function()
      stream { max_msgs = 7 }
      assert.are.equal(7, js:stream_ensure({ name = "S", subjects = { "s.>" }, max_msgs = 9 }).config.max_msgs)
      js:stream_delete("S")
      assert.are.equal(9, js:stream_ensure({ name = "S", subjects = { "s.>" }, max_msgs = 9 }).config.max_msgs)
    end)

    it("is a conflict when subjects overlap", function()
      stream()
      local info, _, code = js:stream_create { name = "T", subjects = { "s.x" } }
      assert.is_nil(info)
      assert.are.equal("conflict", code)
    end)

    it("publishes and reads back, by sequence and by subject", function()
      stream()
      local ack = assert(js:publish("s.a", "one", { headers = { Kind = "x" } }))
      assert.are.same({ seq = 1, duplicate = false, stream = "S" }, ack)
      assert.are.equal(2, js:publish("s.a", "t\0wo").seq)
      local first = assert(js:get_msg("S", 1))
      assert.are.equal("one", first.data)
      assert.are.equal("x", first.headers.Kind)
      assert.are.equal("s.a", first.subject)
      assert.is_true(math.abs(first.time - os.time()) < 5)
      local last = assert(js:last_msg("S", "s.a"))
      assert.are.equal("t\0wo", last.data)
      assert.are.equal(2, last.seq)
      assert.are.equal(2, js:next_msg("S", 2, "s.>").seq)
    end)

    it("reads directly where the stream allows it", function()
      stream { allow_direct = true }
      js:publish("s.a", "one", { headers = { Kind = "x" } })
      local msg = assert(js:last_msg("S", "s.a", { direct = true }))
      assert.are.equal("one", msg.data)
      assert.are.equal(1, msg.seq)
      assert.are.equal("s.a", msg.subject)
      assert.are.equal("x", msg.headers.Kind)
      assert.is_true(math.abs(msg.time - os.time()) < 5)
      local none, message, code = js:last_msg("S", "s.none", { direct = true })
      assert.is_nil(none)
      assert.are.equal("not_found", code)
      assert.is_truthy(message:find("s.none", 1, true))
    end)

    it("says which message is missing", function()
      stream()
      local msg, message, code = js:get_msg("S", 9)
      assert.is_nil(msg)
      assert.are.equal("not_found", code)
      assert.are.equal("stream S has no message at 9", message)
      assert.are.equal("not_found", select(3, js:last_msg("S", "s.none")))
    end)

    it("is a conflict when an expected sequence is not the last, with JetStream's number", function()
      stream()
      assert(js:publish("s.a", "one", { expect_last_subject_seq = 0 }))
      local ack, _, code, err_code = js:publish("s.a", "two", { expect_last_subject_seq = 0 })
      assert.is_nil(ack)
      assert.are.equal("conflict", code)
      assert.are.equal(10071, err_code)
      assert.are.equal(2, js:publish("s.a", "two", { expect_last_subject_seq = 1 }).seq)
    end)

    it("stores a message id once", function()
      stream()
      assert.is_false(js:publish("s.a", "x", { msg_id = "1" }).duplicate)
      assert.is_true(js:publish("s.a", "x", { msg_id = "1" }).duplicate)
    end)

    it("is a conflict when another stream takes the subject", function()
      stream()
      local ack, _, code = js:publish("s.a", "x", { expect_stream = "OTHER" })
      assert.is_nil(ack)
      assert.are.equal("conflict", code)
    end)

    it("is unavailable without a stream, saying so", function()
      local ack, message, code = js:publish("nowhere.at.all", "x")
      assert.is_nil(ack)
      assert.are.equal("unavailable", code)
      assert.is_truthy(message:find("no stream takes nowhere.at.all", 1, true))
    end)

    it("is unavailable when the stream is full", function()
      stream { max_msgs = 1, discard = "new" }
      js:publish("s.a", "x")
      local ack, _, code, err_code = js:publish("s.a", "y")
      assert.is_nil(ack)
      assert.are.equal("unavailable", code)
      assert.are.equal(10077, err_code)
    end)

    it("is too_large above the stream's and above the server's limit", function()
      stream { max_msg_size = 100 }
      assert.are.equal("too_large", select(3, js:publish("s.a", ("x"):rep(200))))
      assert.are.equal("too_large", select(3, js:publish("s.a", ("x"):rep(1048577))))
    end)

    it("publishes many in order and reports each failure", function()
      stream()
      local list = {}
      for i = 1, 50 do list[i] = { "s.a", tostring(i) } end
      list[51] = { "s.a", "x", { expect_last_subject_seq = 7 } }
      list[52] = { "nowhere.at.all", "x" }
      local results, failed = js:publish_many(list)
      for i = 1, 50 do assert.are.equal(i, results[i].seq) end
      assert.are.equal(2, failed)
      assert.are.equal("conflict", results[51].code)
      assert.are.equal(10071, results[51].err_code)
      assert.are.equal("unavailable", results[52].code)
      local empty, none = js:publish_many({})
      assert.are.same({}, empty)
      assert.are.equal(0, none)
    end)

    it("deletes a message, once", function()
      stream()
      js:publish("s.a", "x")
      assert.is_true(js:delete_msg("S", 1))
      assert.are.equal("not_found", select(3, js:delete_msg("S", 1)))
    end)

    it("purges by subject and keeps what it is told to", function()
      stream()
      for i = 1, 6 do js:publish(i <= 4 and "s.a" or "s.b", "x") end
      assert.are.equal(3, js:purge("S", { subject = "s.a", keep = 1 }))
      assert.are.equal(3, js:purge("S"))
    end)

    it("creates, shows and deletes consumers; a work queue takes one per subject", function()
      stream { retention = "workqueue" }
      local config = { durable_name = "d_cpu", filter_subject = "s.cpu", ack_policy = "explicit" }
      assert.are.equal("d_cpu", js:consumer_create("S", config).name)
      assert.are.equal("d_cpu", js:consumer_create("S", config).name)
      assert.are.equal("s.cpu", js:consumer_info("S", "d_cpu").config.filter_subject)
      local again = { durable_name = "other", filter_subject = "s.cpu", ack_policy = "explicit" }
      local info, _, code, err_code = js:consumer_create("S", again)
      assert.is_nil(info)
      assert.are.equal("conflict", code)
      assert.are.equal(10100, err_code)
      assert.is_table(js:consumer_delete("S", "d_cpu"))
      assert.are.equal("not_found", select(3, js:consumer_info("S", "d_cpu")))
    end)

    it("creates an ephemeral consumer with a name of the server's", function()
      stream()
      local info = assert(js:consumer_create("S", { ack_policy = "none", deliver_policy = "all" }))
      assert.is_truthy(#info.name > 0)
      assert.is_truthy(wire.unix_time(info.created))
    end)

    it("refuses names that would become another subject", function()
      for _, name in ipairs { "a.b", "", "a b", "*", ">", "a\r\n" } do
        assert.are.equal("invalid", select(3, js:stream_info(name)))
        assert.are.equal("invalid", select(3, js:consumer_info("S", name)))
        assert.are.equal("invalid", select(3, js:last_msg(name, "x", { direct = true })))
      end
    end)
  end, describe, it)

  it("says that a server has no JetStream", function()
    local plain = support.start { jetstream = false }
    local conn = assert(nats.connect { url = plain.url })
    local info, message, code = jetstream.new(rpc.blocking(conn)):account_info()
    conn:close()
    plain:stop()
    assert.is_nil(info)
    assert.are.equal("unavailable", code)
    assert.is_truthy(message:find("no JetStream; start it with -js", 1, true))
  end)

  it("works one by one when the transport cannot have many in flight", function()
    local conn <close> = assert(nats.connect { url = server.url })
    local js = jetstream.new((rpc.blocking(conn)))
    local results, failed = js:publish_many { { "nowhere.at.all", "x" } }
    assert.are.equal(1, failed)
    assert.are.equal("unavailable", results[1].code)
  end)

  it("delivers through pulls into one inbox, with payloads and acknowledgements as the server expects them", function()
    local conn = assert(nats.connect { url = server.url })
    local js = jetstream.new(rpc.blocking(conn))
    assert(js:stream_create { name = "S", subjects = { "s.>" }, retention = "workqueue" })
    assert(js:consumer_create("S", { durable_name = "d", ack_policy = "explicit", ack_wait = 30000000000 }))
    js:publish("s.a", "job")
    local inbox = nats.inbox()
    local sub = assert(conn:subscribe(inbox))
    local function pull(opts)
      assert(conn:publish(jetstream.pull_subject("S", "d"), jetstream.pull_request(opts), inbox))
      return sub:next(5000)
    end
    local msg = pull { expires_ns = 5000000000 }
    assert.are.equal("job", msg.data)
    local meta = jetstream.parse_reply(msg.reply)
    assert.are.equal("S", meta.stream)
    assert.are.equal("d", meta.consumer)
    assert.are.equal(1, meta.delivered)
    assert.are.equal(1, meta.stream_seq)
    assert.are.equal(0, meta.pending)
    assert.is_true(math.abs(meta.time - os.time()) < 5)
    conn:publish(msg.reply, jetstream.PROGRESS)
    conn:publish(msg.reply, jetstream.nak(0.001))
    msg = pull { expires_ns = 5000000000 }
    assert.are.equal(2, jetstream.parse_reply(msg.reply).delivered)
    assert(conn:request(msg.reply, jetstream.ACK, 2000))
    assert.are.equal(0, js:stream_info("S").state.messages)
    assert.are.equal("404", pull({ no_wait = true }).headers.Status)
    js:stream_delete("S")
    sub:close()
    conn:close()
  end)

  it("loses nothing and says unavailable when the server restarts under it", function()
    local own = support.start()
    local conn = assert(nats.connect { url = own.url })
    local js = jetstream.new(rpc.blocking(conn))
    assert(js:stream_create { name = "R", subjects = { "r.>" } })
    assert(js:publish("r.a", "before"))
    own:kill()
    process.wait_for(function() return conn:status() ~= "connected" end)
    local ack, _, code = js:publish("r.a", "during")
    assert.is_nil(ack)
    assert.are.equal("unavailable", code)
    own:restart()
    process.wait_for(function() return conn:status() == "connected" end)
    process.wait_for(function() return js:stream_info("R") end)
    assert.are.equal("before", js:last_msg("R", "r.a").data)
    conn:close()
    own:stop()
  end)
end)

describe("pyoco.nats.wire", function()
  it("reads the times of the server", function()
    assert.are.equal(0, wire.unix_time("1970-01-01T00:00:00Z"))
    assert.are.equal(951782400.5, wire.unix_time("2000-02-29T00:00:00.5Z"))
    assert.are.equal(os.time { year = 2026, month = 11, day = 24, hour = 12 } // 1,
      wire.unix_time(os.date("!%Y-%m-%dT%H:%M:%SZ", os.time { year = 2026, month = 11, day = 24, hour = 12 })) // 1)
    assert.is_nil(wire.unix_time("yesterday"))
  end)

  it("reads acknowledgement subjects, old and new", function()
    assert.are.same({ stream = "S", consumer = "c", delivered = 1, stream_seq = 20, consumer_seq = 3, time = 1.5,
      pending = 7 }, wire.parse_reply("$JS.ACK.S.c.1.20.3.1500000000.7"))
    assert.are.equal("c", wire.parse_reply("$JS.ACK._.hash.S.c.1.20.3.1500000000.7.token").consumer)
    assert.is_nil(wire.parse_reply("_INBOX.x"))
    assert.is_nil(wire.parse_reply(nil))
  end)

  it("is internal when the answer is no JSON", function()
    local answer, message, code = wire.answer({ data = "oops" }, "stream S")
    assert.is_nil(answer)
    assert.are.equal("internal", code)
    assert.is_truthy(message:find("stream S", 1, true))
    assert.are.equal("internal", select(3, wire.answer({ data = json.encode(json.array {}) }, "x")) or "internal")
  end)
end)

describe("pyoco.nats.rpc", function()
  it("refuses to wait outside a coroutine", function()
    assert.has_error(function() rpc.await(function() end) end)
  end)

  it("returns at once what is resumed at once", function()
    local co = coroutine.wrap(function() return rpc.await(function(resume) resume(1, nil, 3) end) end)
    assert.are.same({ 1, nil, 3 }, { co() })
  end)
end)
