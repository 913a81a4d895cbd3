--- The JetStream store against the contract of all stores, on a real server.
local nats = require "spec.support.nats"
local jetstream = require "pyoco.store.jetstream"

describe("store.jetstream", function()
  local server, store

  require "spec.contract.store"(_ENV, function(cfg)
    server = nats.start { jetstream = true }
    cfg = setmetatable({ nats_url = server.url }, { __index = cfg })
    store = assert(jetstream.connect(cfg, { name = "spec" }))
    assert(store:ensure())
    assert(store:ensure()) -- a second pass finds everything and changes nothing
    return store
  end, function()
    store:close()
    server:stop()
  end)

  describe("garbage", function()
    it("erases what broken uploads and deleted objects have left, and nothing else", function()
      assert(store.data:put("r1", "a", "output", ("x"):rep(300000)))
      local objects = assert(store.data:objects())
      local publish = store.js.publish
      store.js.publish = function() return nil, "the gateway was killed", "internal" end
      local purge = store.js.purge
      store.js.purge = function() return 0 end
      assert.is_nil((store.data:put("r1", "b", "output", ("y"):rep(300000))))
      store.js.publish, store.js.purge = publish, purge
      assert(store.data:put("r1", "c", "output", "z"))
      assert(objects:delete "r1/c/output")
      local function chunks() return store.js:stream_info("OBJ_pyoco_run_data").state.messages end
      assert.equal(3 + 1 + 3 + 1, chunks()) -- three chunks and a metadata, three chunks, a marker
      local now = store.garbage:time()
      assert.equal(0, store.garbage.data:erase_orphans(now - 60))
      local pauses = 0
      assert.equal(1, store.garbage.data:erase_orphans(now + 60, function() pauses = pauses + 1 end))
      assert.is_true(pauses > 0)
      assert.equal(5, chunks())
      assert.is_true(store.garbage.data:erase "r1/c/output")
      assert.equal(4, chunks())
      assert.equal(300000, #store.data:get("r1", "a", "output", 1e6))
    end)
  end)

  it("says what to do when JetStream is off", function()
    local plain <close> = setmetatable({ server = nats.start { jetstream = false } },
      { __close = function(self) self.server:stop() end })
    local cfg = { nats_url = plain.server.url, runs_bucket = "r", workers_bucket = "w", workflow_bundles_bucket = "b",
      work_stream = "W", work_subject_prefix = "w", dlq_stream = "D", dlq_subject_prefix = "d", dlq_max_age_sec = 1,
      dlq_max_msgs = 1, dlq_max_bytes = 1, nats_replicas = 1 }
    local off = assert(jetstream.connect(cfg, { name = "spec" }))
    local ok, message, code = off:ensure()
    off:close()
    assert.is_nil(ok)
    assert.equal("unavailable", code)
    assert.truthy(message:find("has no JetStream", 1, true), message)
  end)
end)
