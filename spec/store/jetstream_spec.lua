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
