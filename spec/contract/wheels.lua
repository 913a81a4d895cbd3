--- What every store must do with wheels and their history; run by spec/contract/store.lua on each backend.
local crypto = require "host.crypto"
local json = require "host.json"
local fixture = require "spec.support.fixture"
local tmp = require "spec.support.tmp"

local NAME = "demo_ext-0.1.0-py3-none-any.whl"

--- Declares the suite.
---@param busted table the spec file's _ENV
---@param current function () -> the store of the spec that runs
return function(busted, current)
  local describe, it, assert = busted.describe, busted.it, busted.assert

  describe("wheels", function()
    it("are created once, read, listed and deleted", function()
      local wheels = current().wheels
      assert.same({}, wheels:list())
      local bytes = ("\0wheel"):rep(50000)
      local made = assert(wheels:create(NAME, bytes, { tags = { "hello", "cpu" }, sha256 = crypto.sha256(bytes) }))
      assert.same({ NAME, "pyoco_wheels", #bytes, crypto.sha256(bytes), { "hello", "cpu" } },
        { made.name, made.bucket, made.size, made.sha256, made.tags })
      assert.equal("conflict", select(3, wheels:create(NAME, "x", { tags = {}, sha256 = crypto.sha256 "x" })))
      local later = assert(wheels:create("a-1-py3-none-any.whl", "", { tags = {}, sha256 = crypto.sha256 "" }))
      assert.is_true(later.seq > made.seq)
      local list = wheels:list()
      assert.same({ "a-1-py3-none-any.whl", NAME }, { list[1].name, list[2].name })
      assert.same({}, list[1].tags)
      assert.same(assert(wheels:info(NAME)), list[2])
      local dir = tmp.dir()
      assert.same(list[2], assert(wheels:get_file(NAME, dir .. "/w")))
      assert.is_true(tmp.read(dir .. "/w") == bytes)
      assert.equal("too_large", select(3, wheels:get_file(NAME, dir .. "/x", { max_bytes = 10 })))
      tmp.remove(dir)
      assert.equal("conflict", select(3, wheels:delete(NAME, "another")))
      assert.is_true(wheels:delete(NAME, made.nuid))
      for _, verb in ipairs { "info", "delete" } do
        assert.equal("not_found", select(3, wheels[verb](wheels, NAME)))
      end
      assert(wheels:create(NAME, "again", { tags = {}, sha256 = crypto.sha256 "again" }))
    end)
  end)

  describe("wheel_history", function()
    it("keeps events as they are", function()
      local history = current().wheel_history
      assert.same({}, history:list())
      local recorded = fixture "wheel-history"
      assert(history:append(recorded.body))
      assert.same({ recorded.body }, history:list())
      local kv = history.kv
      assert.equal(recorded.key, kv:entries()[1].key)
      assert.equal(json.encode(recorded.body.source, { sort = true }),
        json.encode(json.decode((kv:get(recorded.key))).source, { sort = true }))
      kv:put("junk", "no json")
      kv:put("more", "[]")
      assert.equal(1, #history:list())
    end)
  end)
end
