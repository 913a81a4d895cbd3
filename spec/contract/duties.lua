--- What every store must do for the duties: the lease, schedules.

--- Declares the suite.
---@param busted table the spec file's _ENV
---@param store function () -> the store of the test that runs
return function(busted, store)
  local describe, it, assert = busted.describe, busted.it, busted.assert

  describe("schedules", function()
    it("are kept, changed by compare-and-set, listed and removed", function()
      assert.same({}, store().schedules:list())
      local one = { schedule_id = "s1", status = "ACTIVE", next_run_at = 5.0, last_error = "失敗" }
      local first = assert(store().schedules:create(one))
      assert.equal("conflict", select(3, store().schedules:create(one)))
      one.next_run_at = 6.0
      assert(store().schedules:update(one, first))
      assert.equal("conflict", select(3, store().schedules:update(one, first)))
      assert.same(one, (store().schedules:get("s1")))
      assert.same({ one }, store().schedules:list())
      assert(store().schedules:delete("s1"))
      assert.equal("not_found", select(3, store().schedules:get("s1")))
      assert.same({}, store().schedules:list())
      assert.equal("invalid", select(3, store().schedules:get("s 1")))
    end)

    it("are followed: what is there, then every change", function()
      assert(store().schedules:create { schedule_id = "s1", n = 1 })
      local tail <close> = assert(store().schedules:follow())
      local function event()
        local kind, entry = tail:next(5000)
        return { kind, entry and entry.key, entry and not entry.deleted and store().schedules:read(entry).n,
          entry and entry.deleted or false }
      end
      assert.same({ "entry", "s1", 1, false }, event())
      assert.same({ "live", nil, nil, false }, event())
      assert(store().schedules:create { schedule_id = "s2", n = 2 })
      assert(store().schedules:delete("s1"))
      assert.same({ "entry", "s2", 2, false }, event())
      assert.same({ "entry", "s1", false, true }, event())
      assert.equal("timeout", select(3, tail:next(0)))
      assert.is_nil(store().schedules:read { key = "x", value = "no json" })
    end)
  end)

  describe("lease", function()
    it("has one holder, and says since when the server knows of it", function()
      assert.equal("not_found", select(3, store().lease:get()))
      local first = assert(store().lease:take({ holder = "a" }))
      assert.equal("conflict", select(3, store().lease:take({ holder = "b" })))
      local record, revision, created = store().lease:get()
      assert.same({ holder = "a" }, record)
      assert.equal(first, revision)
      assert.is_true(math.abs(created - store():now()) < 60)
      local second = assert(store().lease:take({ holder = "a" }, first))
      assert.equal("conflict", select(3, store().lease:take({ holder = "b" }, first)))
      assert.equal("conflict", select(3, store().lease:release(first)))
      assert(store().lease:release(second))
      assert.equal("not_found", select(3, store().lease:get()))
      assert(store().lease:take { holder = "b" })
    end)
  end)
end
