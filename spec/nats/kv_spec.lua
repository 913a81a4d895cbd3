local nats = require "host.nats"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local both = require("spec.support.js").both
local process = require "spec.support.process"
local support = require "spec.support.nats"

describe("pyoco.nats.kv", function()
  local server

  setup(function() server = support.start() end)
  teardown(function() server:stop() end)

  for _, direct in ipairs { false, true } do
    describe(direct and "with direct reads" or "as the contract has it", function()
      both(function(open, it)
        local js, conn, bucket

        before_each(function()
          js, conn = open(server.url)
          bucket = assert(kv.new(js, "b"))
          local setup_conn <close> = assert(nats.connect { url = server.url })
          assert(kv.new(jetstream.new(rpc.blocking(setup_conn)), "b"):ensure { direct = direct })
        end)
        after_each(function()
          local cleaner <close> = assert(nats.connect { url = server.url })
          jetstream.new(rpc.blocking(cleaner)):stream_delete("KV_b")
          conn:close()
          process.settle()
        end)

        it("puts and gets, with revision and entry", function()
          local revision = assert(bucket:put("k", "v\0w"))
          local value, at, entry = bucket:get("k")
          assert.are.equal("v\0w", value)
          assert.are.equal(revision, at)
          assert.are.equal("PUT", entry.operation)
          assert.are.equal("k", entry.key)
          assert.is_true(math.abs(entry.created - os.time()) < 5)
          assert.are.equal(revision + 1, bucket:put("k", ""))
          assert.are.equal("", bucket:get("k"))
        end)

        it("finds no key that was never written or is deleted", function()
          local value, message, code = bucket:get("none")
          assert.is_nil(value)
          assert.are.equal("not_found", code)
          assert.are.equal("no key none in bucket b", message)
          bucket:put("k", "v")
          assert.is_number(bucket:delete("k"))
          assert.are.equal("not_found", select(3, bucket:get("k")))
          bucket:put("k", "v")
          assert.is_number(bucket:purge("k"))
          assert.are.equal("not_found", select(3, bucket:get("k")))
        end)

        it("creates what does not exist only, also over a deleted key", function()
          assert.is_number(bucket:create("k", "1"))
          local revision, message, code = bucket:create("k", "2")
          assert.is_nil(revision)
          assert.are.equal("conflict", code)
          assert.are.equal("key k of bucket b exists", message)
          bucket:delete("k")
          assert.is_number(bucket:create("k", "3"))
          assert.are.equal("3", bucket:get("k"))
        end)

        it("updates from the last revision only", function()
          local first = bucket:put("k", "1")
          local second = assert(bucket:update("k", "2", first))
          local none, message, code, err_code = bucket:update("k", "3", first)
          assert.is_nil(none)
          assert.are.equal("conflict", code)
          assert.are.equal(10071, err_code)
          assert.is_truthy(message:find("changed by someone else", 1, true))
          assert.are.equal("conflict", select(3, bucket:delete("k", first)))
          assert.is_number(bucket:delete("k", second))
        end)

        it("lists entries and keys, sorted, without deleted ones", function()
          assert.are.same({}, bucket:keys())
          for i = 1, 300 do bucket:put(("k%03d"):format(i), tostring(i)) end
          bucket:put("a.b/c", "x")
          bucket:delete("k002")
          local entries = assert(bucket:entries())
          assert.are.equal(300, #entries)
          assert.are.equal("a.b/c", entries[1].key)
          assert.are.equal("1", entries[2].value)
          assert.are.equal(3, entries[3].revision)
          local keys = assert(bucket:keys())
          assert.are.equal("k003", keys[3])
        end)

        it("refuses keys that are none", function()
          for _, key in ipairs { "", ".a", "a.", "a..b", "a b", "a*", "a>", "ü", "a\n" } do
            local value, message, code = bucket:get(key)
            assert.is_nil(value)
            assert.are.equal("invalid", code)
            assert.is_truthy(message:find("key", 1, true))
            assert.are.equal("invalid", select(3, bucket:put(key, "x")))
          end
          assert.are.equal("invalid", select(3, bucket:get(nil)))
        end)

        it("is too_large above the server's limit", function()
          assert.are.equal("too_large", select(3, bucket:put("k", ("x"):rep(1048577))))
        end)
      end, describe, it)
    end)
  end

  describe("a bucket", function()
    local conn, js

    before_each(function()
      conn = assert(nats.connect { url = server.url })
      js = jetstream.new(rpc.blocking(conn))
    end)
    after_each(function() conn:close() end)

    it("is created as the reference's program creates it", function()
      local bucket = kv.new(js, "pyoco_workers")
      local config = assert(bucket:ensure { max_age_sec = 15 }).config
      local expected = {
        name = "KV_pyoco_workers", retention = "limits", max_consumers = -1, max_msgs = -1, max_bytes = -1,
        max_age = 15000000000, max_msgs_per_subject = 1, max_msg_size = -1, discard = "new", storage = "file",
        num_replicas = 1, duplicate_window = 15000000000, allow_direct = false, mirror_direct = false, sealed = false,
        deny_delete = true, deny_purge = false, allow_rollup_hdrs = true,
      }
      for key, value in pairs(expected) do assert.are.equal(value, config[key], key) end
      assert.are.same({ "$KV.pyoco_workers.>" }, { table.unpack(config.subjects) })
      js:stream_delete("KV_pyoco_workers")
    end)

    it("is left as it is when it exists", function()
      local bucket = kv.new(js, "b")
      assert(bucket:ensure { history = 5 })
      assert.are.equal(5, bucket:ensure({ history = 1 }).config.max_msgs_per_subject)
      js:stream_delete("KV_b")
    end)

    it("that is missing is not_found for reads and unavailable for writes", function()
      local bucket = kv.new(js, "missing")
      assert.are.equal("not_found", select(3, bucket:get("k")))
      assert.are.equal("not_found", select(3, bucket:keys()))
      assert.are.equal("unavailable", select(3, bucket:put("k", "v")))
    end)

    it("needs a name that may be one", function()
      for _, name in ipairs { "", "a.b", "a b", "*" } do
        local bucket, message, code = kv.new(js, name)
        assert.is_nil(bucket)
        assert.are.equal("invalid", code)
        assert.is_truthy(message:find("bucket name", 1, true))
      end
    end)
  end)
end)
