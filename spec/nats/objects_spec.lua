local uv = require "luv"
local crypto = require "host.crypto"
local json = require "host.json"
local nats = require "host.nats"
local jetstream = require "pyoco.nats.jetstream"
local metas = require "pyoco.nats.object_meta"
local objects = require "pyoco.nats.objects"
local rpc = require "pyoco.nats.rpc"
local both = require("spec.support.js").both
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local support = require "spec.support.nats"
local tmp = require "spec.support.tmp"

local CHUNK = 131072

--- Bytes of which no two chunks are alike.
local function bytes_of(size)
  if size == 0 then return "" end
  local seed = assert(crypto.random(math.min(size, 1048576)))
  local parts, have = {}, 0
  while have < size do
    parts[#parts + 1] = ("%016x"):format(have) .. seed
    have = have + #parts[#parts]
  end
  return table.concat(parts):sub(1, size)
end

describe("pyoco.nats.objects", function()
  local server, dir

  setup(function()
    server, dir = support.start(), tmp.dir()
  end)
  teardown(function()
    server:stop()
    tmp.remove(dir)
  end)

  both(function(open, it)
    local js, conn, store

    before_each(function()
      js, conn = open(server.url)
      store = assert(objects.new(js, "b"))
      local maker <close> = assert(nats.connect { url = server.url })
      assert(objects.new(jetstream.new(rpc.blocking(maker)), "b"):ensure())
    end)
    after_each(function()
      local cleaner <close> = assert(nats.connect { url = server.url })
      for _, name in ipairs { "OBJ_b", "OBJ_c" } do jetstream.new(rpc.blocking(cleaner)):stream_delete(name) end
      conn:close()
      process.settle()
    end)

    --- Messages of the bucket, by subject.
    local function messages() return js:stream_info("OBJ_b", { subjects_filter = ">" }).state.subjects or {} end

    --- How many chunks there are, of whatever object.
    local function chunk_count()
      local count = 0
      for subject, n in pairs(messages()) do
        if subject:find("$O.b.C.", 1, true) then count = count + n end
      end
      return count
    end

    --- Writes metadata as another client might.
    local function write_meta(meta)
      meta.bucket = meta.bucket or "b"
      local bytes = assert(json.encode(meta))
      assert(js:publish(metas.subject("b", meta.name), bytes, { headers = { ["Nats-Rollup"] = "sub" } }))
    end

    for _, size in ipairs { 0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7, 40 * CHUNK } do
      it(("keeps %d bytes"):format(size), function()
        local text = bytes_of(size)
        local info = assert(store:put("x", text))
        assert.are.equal(size, info.size)
        assert.are.equal(math.ceil(size / CHUNK), info.chunks)
        assert.are.equal(info.chunks, messages()["$O.b.C." .. info.nuid] or 0)
        assert.are.equal(crypto.sha256(text), info.sha256)
        local back, its = store:get("x")
        assert.is_true(back == text)
        assert.are.same(info, its)
      end)
    end

    it("writes metadata as the reference does", function()
      local name = "demo_ext-0.1.0-py3-none-any.whl"
      local recorded = fixture "object-meta"
      local headers = { ["content-type"] = "application/octet-stream", ["x-pyoco-wheel-tags"] = "hello,cpu",
        sha256 = crypto.sha256("abc") }
      local info = assert(store:put(name, "abc", { headers = headers }))
      local msg = assert(js:last_msg("OBJ_b", (recorded.subject:gsub("pyoco_wheels", "b"))))
      assert.are.equal("sub", msg.headers["Nats-Rollup"])
      local written = json.decode(msg.data)
      for key, value in pairs(recorded.body) do
        assert.are.equal(type(value), type(written[key]), key)
        written[key] = nil
      end
      assert.is_nil(next(written))
      written = json.decode(msg.data)
      assert.are.same(headers, written.headers)
      assert.are.same(recorded.body.options, written.options)
      assert.are.equal("SHA-256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=", written.digest)
      assert.truthy(written.nuid:find("^%w+$") and #written.nuid == 22)
      assert.truthy(written.mtime:find("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%d%+00:00$"))
      assert.is_true(math.abs(info.modified - os.time()) < 60)
      -- the keys stand in the recording's order
      local at = 0
      for _, key in ipairs { "name", "bucket", "nuid", "size", "mtime", "chunks", "digest", "deleted", "headers",
        "options" } do
        local found = assert(msg.data:find('"' .. key .. '":', 1, true), key)
        assert.is_true(found > at, key)
        at = found
      end
    end)

    it("reads the recorded metadata, and header values in lists", function()
      local body = fixture("object-meta").body
      body.bucket = "b"
      write_meta(body)
      local info = assert(store:info(body.name))
      assert.are.equal("hello,cpu", info.headers["x-pyoco-wheel-tags"])
      assert.are.equal(body.headers.sha256, info.sha256)
      body.headers = { ["x-pyoco-wheel-tags"] = json.array { "hello", "cpu" }, sha256 = json.array { "00" } }
      write_meta(body)
      info = assert(store:info(body.name))
      assert.are.same({ ["x-pyoco-wheel-tags"] = "hello,cpu", sha256 = "00" }, info.headers)
    end)

    it("takes a reader's pieces of any length", function()
      local text, at = bytes_of(2 * CHUNK + 99), 1
      local sizes = { 1, 99, CHUNK, 70000, 3 * CHUNK }
      local info = assert(store:put("x", function()
        local size = table.remove(sizes, 1) or 0
        at = at + size
        return text:sub(at - size, at - 1)
      end))
      assert.are.equal(3, info.chunks)
      assert.is_true(store:get("x") == text)
    end)

    it("moves files", function()
      local text = bytes_of(5 * CHUNK + 1)
      local from, to = dir .. "/from", dir .. "/to"
      tmp.write(from, text)
      assert(store:put_file("f", from))
      assert(store:get_file("f", to))
      assert.is_true(tmp.read(to) == text)
      assert(store:put("f", ""))
      assert.are.equal(0, store:get_file("f", to).size)
      assert.are.equal("", tmp.read(to))
      local none, message, code = store:put_file("f", dir .. "/none")
      assert.is_nil(none)
      assert.are.equal("not_found", code)
      assert.truthy(message:find("No such file", 1, true), message)
    end)

    it("leaves a file alone when it cannot be read whole", function()
      local to = dir .. "/kept"
      tmp.write(to, "before")
      local info = assert(store:put("x", bytes_of(3 * CHUNK)))
      assert(js:purge("OBJ_b", { subject = "$O.b.C." .. info.nuid, keep = 1 }))
      local done, message, code = store:get_file("x", to)
      assert.is_nil(done)
      assert.are.equal("internal", code)
      assert.are.equal("object 'x' of bucket b: chunk 2 is missing: 131072 of 393216 bytes are there", message)
      assert.are.equal("before", tmp.read(to))
      for name in uv.fs_scandir_next, (assert(uv.fs_scandir(dir))) do assert.is_nil(name:find(".part", 1, true)) end
      assert.are.equal("internal", select(3, store:get_file("x", dir .. "/no/such/folder")))
    end)

    it("replaces an object, and removes the chunks of the old one", function()
      assert(store:put("x", bytes_of(5 * CHUNK)))
      assert(store:put("x", "new"))
      assert.are.equal("new", (store:get("x")))
      assert.are.equal(1, chunk_count())
    end)

    it("leaves the old object when a put fails", function()
      assert(store:put("x", "old"))
      local given = 0
      local done, message, code = store:put("x", function()
        given = given + 1
        if given > 20 then return nil, "the upload broke off", "invalid" end
        return ("n"):rep(CHUNK)
      end)
      assert.is_nil(done)
      assert.are.equal("invalid", code)
      assert.are.equal("object 'x' of bucket b: the upload broke off", message)
      assert.are.equal("old", (store:get("x")))
      assert.are.equal(1, chunk_count())
    end)

    it("leaves no chunks when two puts of one name cross", function()
      local is_crossed
      assert(store:put("x", bytes_of(CHUNK)))
      assert(store:put("x", function()
        if is_crossed then return nil end
        is_crossed = true
        assert(objects.new(js, "b"):put("x", bytes_of(3 * CHUNK)))
        return "last"
      end))
      assert.are.equal("last", (store:get("x")))
      assert.are.equal(1, chunk_count())
    end)

    it("creates once, also when another one comes first meanwhile", function()
      local first = bytes_of(CHUNK)
      local message, code = select(2, store:put("a", function()
        if not store:info "a" then assert(store:put("a", first)) end -- while ours is on its way
      end, { create = true }))
      assert.equal("conflict", code, message)
      assert.equal("conflict", select(3, store:put("a", "x", { create = true })))
      assert.is_true(store:get "a" == first)
      assert.equal(1, chunk_count())
      assert.equal("conflict", select(3, store:delete("a", { nuid = "x" })))
      assert.is_true(store:delete("a", { nuid = store:info("a").nuid }))
      assert(store:put("a", "new", { create = true })) -- a deleted one does not count
      assert.equal("new", (store:get "a"))
    end)

    it("reads chunks that stand far apart", function()
      local text, n = bytes_of(24), 0
      assert(store:put("x", function(size)
        n = n + 1
        assert(store:put("small" .. n, "s"))
        return text:sub((n - 1) * size + 1, n * size)
      end, { chunk_size = 1 }))
      assert.is_true(store:get("x") == text)
      assert.are.equal(26, #store:list())
    end)

    it("deletes as the reference does", function()
      assert(store:put("x", bytes_of(2 * CHUNK), { headers = { sha256 = "00" } }))
      local nuid = store:info("x").nuid
      assert.is_true(store:delete("x"))
      assert.are.equal(0, chunk_count())
      assert.are.same({ name = "x", bucket = "b", nuid = nuid, size = 0, mtime = "", chunks = 0, digest = "",
        deleted = true, headers = { sha256 = "00" }, options = { max_chunk_size = CHUNK } },
        json.decode(js:last_msg("OBJ_b", metas.subject("b", "x")).data))
      for _, verb in ipairs { "info", "get", "delete" } do
        local value, message, code = store[verb](store, "x")
        assert.is_nil(value)
        assert.are.equal("not_found", code)
        assert.are.equal("no object 'x' in bucket b", message)
      end
      assert(store:put("x", "again"))
      assert.are.equal("again", (store:get("x")))
    end)

    it("lists by name, without what is deleted", function()
      assert.are.same({}, store:list())
      for _, name in ipairs { "b/2", "ä ö", "a" } do assert(store:put(name, name)) end
      assert(store:put("gone", ""))
      assert(store:delete("gone"))
      local names = {}
      for i, info in ipairs(assert(store:list())) do names[i] = info.name end
      assert.are.same({ "a", "b/2", "ä ö" }, names)
    end)

    it("follows links", function()
      local other = assert(objects.new(js, "c"))
      assert(other:ensure())
      local target = assert(other:put("target", "far away"))
      local function write_link(name, link)
        write_meta { name = name, nuid = "n1", size = 0, chunks = 0, options = { link = link } }
      end
      write_link("one", { bucket = "c", name = "target" })
      write_link("two", { bucket = "b", name = "one" })
      local text, info = store:get("two")
      assert.are.equal("far away", text)
      assert.are.equal(target.nuid, info.nuid)
      assert.are.same({ bucket = "b", name = "one" }, store:info("two").link)
      write_link("bucket", { bucket = "c" })
      local none, message, code = store:get("bucket")
      assert.is_nil(none)
      assert.are.equal("invalid", code)
      assert.truthy(message:find("link to the whole bucket c", 1, true), message)
      write_link("round", { bucket = "b", name = "round" })
      assert.are.equal("invalid", select(3, store:get("round")))
      write_link("lost", { bucket = "b", name = "none" })
      assert.are.equal("not_found", select(3, store:get("lost")))
    end)

    it("tells bytes that were changed", function()
      local info = assert(store:put("x", "abc"))
      assert(js:purge("OBJ_b", { subject = "$O.b.C." .. info.nuid }))
      assert(js:publish("$O.b.C." .. info.nuid, "abd"))
      local text, message, code = store:get("x")
      assert.is_nil(text)
      assert.are.equal("internal", code)
      assert.truthy(message:find("do not have the digest", 1, true), message)
      assert(js:publish("$O.b.C." .. info.nuid, "e"))
      info.stored.size = 4
      write_meta(info.stored)
      assert.are.equal("internal", select(3, store:get("x")))
      info.stored.size, info.stored.digest = 2, nil
      write_meta(info.stored)
      text, message, code = store:get("x")
      assert.is_nil(text)
      assert.are.equal("internal", code)
      assert.are.equal("object 'x' of bucket b: it is damaged: 3 bytes, not 2", message)
    end)

    it("tells metadata that is none", function()
      assert(js:publish(metas.subject("b", "x"), "{", { headers = { ["Nats-Rollup"] = "sub" } }))
      local info, message, code = store:info("x")
      assert.is_nil(info)
      assert.are.equal("invalid", code)
      assert.truthy(message:find("object 'x' of bucket b: its metadata is damaged", 1, true), message)
      write_meta { name = "x", nuid = "a.>", size = 1, chunks = 1 }
      assert.are.equal("invalid", select(3, store:get("x")))
    end)

    it("is a conflict when the object is replaced while it is read, and get reads the new one", function()
      local text = bytes_of(40 * CHUNK)
      local function replace_once()
        local is_done
        return function()
          if not is_done then assert(objects.new(js, "b"):put("x", "new")) end
          is_done = true
          return true
        end
      end
      local info = assert(store:put("x", text))
      local done, message, code = store:read("x", replace_once())
      assert.is_nil(done)
      assert.are.equal("conflict", code)
      assert.truthy(message:find("replaced or deleted while it was read", 1, true), message)
      assert.are.equal("conflict", select(3, store:read(info, function() return true end)))
      assert(store:put("x", text))
      local replace, request_many = replace_once(), js.request_many
      function js:request_many(...)
        self.request_many = nil
        local replies = request_many(self, ...)
        replace()
        return replies
      end
      assert.are.equal("new", (store:get("x")))
    end)

    it("stops when the writer does, and refuses what is too large unread", function()
      assert(store:put("x", bytes_of(2 * CHUNK)))
      local done, message, code = store:read("x", function() return nil, "the client is gone", "cancelled" end)
      assert.is_nil(done)
      assert.are.equal("cancelled", code)
      assert.truthy(message:find("the client is gone", 1, true), message)
      assert.are.equal("too_large", select(3, store:get("x", { max_bytes = 2 * CHUNK - 1 })))
      assert.are.equal(2 * CHUNK, #store:get("x", { max_bytes = 2 * CHUNK }))
    end)

    it("refuses names and headers that cannot be", function()
      for _, name in ipairs { "", "a\nb", "\255", ("x"):rep(513), 7 } do
        assert.are.equal("invalid", select(3, store:put(name, "x")))
        assert.are.equal("invalid", select(3, store:get(name)))
      end
      assert.are.equal("invalid", select(3, store:put("x", "x", { headers = { a = 1 } })))
      assert.are.equal("invalid", select(3, objects.new(js, "a.b")))
      assert.are.equal(0, chunk_count())
    end)

    it("is too_large when a chunk is over the server's limit", function()
      local done, message, code = store:put("x", bytes_of(2097152), { chunk_size = 2097152 })
      assert.is_nil(done)
      assert.are.equal("too_large", code)
      assert.truthy(message:find("a smaller chunk_size than 2097152", 1, true), message)
    end)

    it("is unavailable when the bucket is missing", function()
      local missing = assert(objects.new(js, "missing"))
      for _, call in ipairs { { "put", "x", "x" }, { "get", "x" }, { "info", "x" }, { "list" }, { "delete", "x" } } do
        local value, message, code = missing[call[1]](missing, call[2], call[3])
        assert.is_nil(value)
        assert.are.equal("unavailable", code)
        assert.are.equal("there is no object store bucket missing on this NATS", message)
      end
    end)

    it("leaves nothing of an object that does not fit into the bucket", function()
      local small = assert(objects.new(js, "c"))
      assert(small:ensure { max_bytes = 4 * CHUNK })
      local done, message, code = small:put("x", bytes_of(20 * CHUNK))
      assert.is_nil(done)
      assert.are.equal("unavailable", code)
      assert.truthy(message:find("maximum bytes exceeded", 1, true), message)
      assert.are.equal(0, js:stream_info("OBJ_c").state.messages)
    end)
  end, describe, it)

  describe("a bucket", function()
    local conn, js

    before_each(function()
      conn = assert(nats.connect { url = server.url })
      js = jetstream.new(rpc.blocking(conn))
    end)
    after_each(function() conn:close() end)

    it("is created as the reference's program creates it, without its byte limit", function()
      local config = assert(objects.new(js, "pyoco_wheels"):ensure()).config
      local expected = fixture("resources").OBJ_pyoco_wheels
      expected.max_bytes = -1
      for key, value in pairs(expected) do assert.are.same(value, config[key], key) end
      js:stream_delete("OBJ_pyoco_wheels")
      assert.are.equal(5000, objects.new(js, "pyoco_wheels"):ensure({ max_bytes = 5000 }).config.max_bytes)
      assert.are.equal(5000, objects.new(js, "pyoco_wheels"):ensure().config.max_bytes)
      js:stream_delete("OBJ_pyoco_wheels")
    end)

    it("holds what memory does not", function()
      local store = assert(objects.new(js, "big"))
      assert(store:ensure())
      local piece, left, most, turn = ("x"):rep(CHUNK), 64 * 8, 0, 0
      collectgarbage()
      local before = collectgarbage("count")
      local function look() -- what is alive; how much garbage waits depends on what other specs hold
        turn = turn + 1
        if turn % 64 > 0 then return end
        collectgarbage()
        most = math.max(most, collectgarbage("count") - before)
      end
      assert(store:put("x", function()
        look()
        left = left - 1
        return left >= 0 and piece:sub(1, -9) .. ("%08d"):format(left) or nil
      end))
      assert(store:read("x", function()
        look()
        return true
      end))
      assert.is_true(turn >= 1024 and most < 32 * 1024, most)
      js:stream_delete("OBJ_big")
    end)
  end)

  it("leaves the old object when NATS goes away in the middle of a put, and says so in a read", function()
    local down = support.start()
    local conn <close> = assert(nats.connect { url = down.url })
    local store = assert(objects.new(jetstream.new(rpc.blocking(conn)), "b"))
    assert(store:ensure())
    local text = bytes_of(40 * CHUNK)
    assert(store:put("x", text))
    local given = 0
    local function kill_once()
      if given == 20 then
        down:kill()
        process.wait_for(function() return conn:status() ~= "connected" end)
      end
      given = given + 1
    end
    local done, message, code = store:put("x", function(size)
      kill_once()
      return ("n"):rep(size)
    end)
    assert.is_nil(done)
    assert.are.equal("unavailable", code)
    assert.truthy(message:find("object 'x' of bucket b: ", 1, true), message)
    down:restart()
    process.wait_for(function() return conn:status() == "connected" end)
    assert.is_true(store:get("x") == text)
    given = 0
    done, message, code = store:read("x", function()
      kill_once()
      return true
    end)
    assert.is_nil(done)
    assert.are.equal("unavailable", code)
    assert.truthy(message:find("object 'x' of bucket b: ", 1, true), message)
    down:stop()
  end)

  it("is unavailable while NATS is down", function()
    local down = support.start()
    local conn <close> = assert(nats.connect { url = down.url })
    local store = assert(objects.new(jetstream.new(rpc.blocking(conn)), "b"))
    assert(store:ensure())
    assert(store:put("x", "x"))
    down:kill()
    process.wait_for(function() return conn:status() ~= "connected" end)
    for _, call in ipairs { { "put", "x", "x" }, { "get", "x" }, { "list" }, { "delete", "x" } } do
      assert.are.equal("unavailable", select(3, store[call[1]](store, call[2], call[3])))
    end
    down:stop()
  end)
end)
