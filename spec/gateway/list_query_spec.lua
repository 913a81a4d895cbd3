--- Filters, order, search and cursors of GET /runs, over a real gateway and NATS.
local crypto = require "host.crypto"
local json = require "host.json"
local runs = require "spec.support.runs"

local STATUSES <const> = { "PENDING", "RUNNING", "COMPLETED", "FAILED" }

describe("GET /runs", function()
  local it_has

  setup(function() it_has = runs.start() end)
  teardown(function() it_has:stop() end)

  local function expect(expected, query) assert.same(expected, (it_has:ids(query))) end

  describe("filters", function()
    local stored = {}

    setup(function()
      for i = 1, 60 do
        local fields = { status = STATUSES[i % 4 + 1], flow_name = i % 3 == 0 and "train" or "Train",
          tag = "t" .. i % 5, tags = json.array { "other" }, updated_at = 1000 + i // 2 + 0.25, -- two runs of each time
          schedule_id = i % 10 == 0 and "s1" or json.null, worker_id = i % 7 == 0 and "host_a" or nil,
          workflow_yaml_sha256 = i % 6 == 0 and ("ab"):rep(32) or json.null,
          error = i % 20 == 0 and "100% of 'disk' is full" or json.null }
        fields.run_id = ("run-%03d"):format(i * 37 % 61)
        stored[i] = runs.snapshot(fields.run_id, fields)
        it_has:put(fields.run_id, fields)
      end
      table.sort(stored, function(a, b)
        if a.updated_at ~= b.updated_at then return a.updated_at > b.updated_at end
        return a.run_id > b.run_id
      end)
      local all = {}
      for i, run in ipairs(stored) do all[i] = run.run_id end
      it_has:settle(all, "?limit=200")
    end)

    --- What a plain pass over all runs finds.
    local function expected(fits, limit)
      local list = {}
      for _, run in ipairs(stored) do
        if fits(run) and #list < (limit or 200) then list[#list + 1] = run.run_id end
      end
      return list
    end

    local function check(query, fits, limit) expect(expected(fits, limit), query) end

    it("by status, flow, tag, hash and schedule, and by several at once", function()
      check("?limit=200&status=FAILED", function(r) return r.status == "FAILED" end)
      check("?limit=200&flow=train", function(r) return r.flow_name == "train" end)
      check("?limit=200&flow=Train&tag=t1", function(r) return r.flow_name == "Train" and r.tag == "t1" end)
      check("?limit=200&tag=t2&status=RUNNING&flow=Train", function(r)
        return r.flow_name == "Train" and r.tag == "t2" and r.status == "RUNNING"
      end)
      check("?limit=200&schedule_id=s1", function(r) return r.schedule_id == "s1" end)
      check("?limit=200&schedule_id=s1&status=RUNNING", function(r)
        return r.schedule_id == "s1" and r.status == "RUNNING"
      end)
      check("?limit=200&workflow_yaml_sha256=" .. ("ab"):rep(32) .. "&tag=t0", function(r)
        return r.workflow_yaml_sha256 ~= json.null and r.tag == "t0"
      end)
      expect({}, "?status=failed") -- case-sensitive
      expect({}, "?tag=other")     -- not `tags`
      expect({}, "?flow=train&schedule_id=none")
    end)

    it("not by empty texts", function()
      check("?status=&flow=&tag=&workflow_yaml_sha256=&schedule_id=&q=", function() return true end, 50)
      assert.is_nil(it_has:list "?workflow_yaml_sha256=".items)
      assert.is_table(it_has:list("?workflow_yaml_sha256=" .. ("ab"):rep(32)).items)
      assert.is_nil(it_has:list "?schedule_id=s1".items)
    end)

    it("by updated_after, strictly", function()
      check("?limit=200&updated_after=1010.25", function(r) return r.updated_at > 1010.25 end)
      check("?limit=200&updated_after=1010.2&status=PENDING", function(r)
        return r.updated_at > 1010.2 and r.status == "PENDING"
      end)
      expect({}, "?updated_after=5000")
    end)

    it("by limit", function()
      check("?limit=1", function() return true end, 1)
      check("", function() return true end, 50)
    end)

    it("by a text in run_id, flow, worker or error, of either case, taken literally", function()
      check("?limit=200&q=UN-01", function(r) return r.run_id:find("un-01", 1, true) end)
      check("?limit=200&q=HOST_", function(r) return r.worker_id == "host_a" end)
      check("?limit=200&q=0%25%20of%20'disk", function(r) return r.error ~= json.null end)
      check("?limit=200&q=train&status=FAILED", function(r) return r.status == "FAILED" end)
      check("?limit=200&q=%25", function(r) return r.error ~= json.null end)
      expect({}, "?q=host-a")
      expect({}, "?q=run_01")
      expect({}, "?q=%5C")
    end)

    it("and sorts the oldest first when asked", function()
      local newest = it_has:ids "?limit=200&tag=t3"
      local oldest = it_has:ids "?limit=200&tag=t3&sort=updated_at"
      for i, run_id in ipairs(newest) do assert.equal(run_id, oldest[#oldest + 1 - i]) end
      assert.same(newest, (it_has:ids "?limit=200&tag=t3&sort=-updated_at"))
    end)

    it("page by page, with any filter, in both orders", function()
      for _, filter in ipairs { "", "&tag=t1", "&flow=Train&status=RUNNING", "&q=run-0", "&sort=updated_at",
        "&schedule_id=s1", "&updated_after=1004.5" } do
        local all, found, cursor = it_has:ids("?limit=200" .. filter), {}, ""
        repeat
          local page
          page, cursor = it_has:ids("?limit=7&cursor=" .. cursor .. filter)
          assert.truthy(#page == 7 or cursor == json.null)
          table.move(page, 1, #page, #found + 1, found)
        until cursor == json.null
        assert.same(all, found, filter)
      end
    end)

    it("refuses bad cursors and bad values", function()
      for _, cursor in ipairs { "x", "!!!", "eyJ1IjoxfQ", crypto.base64url_encode "[1]", ("A"):rep(2000),
        crypto.base64url_encode '{"u":"1","r":"a"}', crypto.base64url_encode '{"u":1e999,"r":"a"}' } do
        local answer = it_has.gateway:fetch("/runs?cursor=" .. cursor)
        assert.same({ 422, "invalid list query" }, { answer.status, answer.json and answer.json.detail }, cursor)
      end
      for query, kind in pairs { ["limit=0"] = "greater_than_equal", ["limit=201"] = "less_than_equal",
        ["limit=x"] = "int_parsing", ["updated_after=x"] = "float_parsing", ["sort=name"] = "literal_error" } do
        local answer = it_has.gateway:fetch("/runs?" .. query)
        assert.same({ 422, kind }, { answer.status, answer.json.detail[1].type }, query)
      end
    end)
  end)
end)

describe("a walk over pages of GET /runs", function()
  local it_has

  before_each(function() it_has = runs.start() end)
  after_each(function() it_has:stop() end)

  --- Puts n runs and gives their ids, newest first.
  local function fill(n)
    local ids = {}
    for i = 1, n do
      ids[i] = ("old-%04d"):format(n + 1 - i)
      it_has:put(("old-%04d"):format(i), { updated_at = 1000.5 + i })
    end
    it_has:settle(table.move(ids, 1, math.min(n, 200), 1, {}), "?limit=200")
    return ids
  end

  --- Walks, calling between(page number) after each page, and gives the ids in the order they came.
  local function walk(query, between)
    local found, cursor, pages = {}, "", 0
    repeat
      local page
      page, cursor = it_has:ids("?" .. query .. "&cursor=" .. cursor)
      table.move(page, 1, #page, #found + 1, found)
      pages = pages + 1
      between(pages)
    until cursor == json.null
    return found
  end

  for _, case in ipairs { { "newest", "" }, { "oldest", "&sort=updated_at" } } do
    it("from the " .. case[1] .. " on sees each run once while all of them change and others come", function()
      local ids, clock = fill(120), 2000.5
      local expected = {}
      for i = 1, #ids do expected[i] = case[2] == "" and ids[i] or ids[#ids + 1 - i] end
      local found = walk("limit=10" .. case[2], function(page)
        for i = 1, #ids do -- every run moves, over and over: those seen and those not seen yet
          clock = clock + 1
          if (i + page) % 3 == 0 then it_has:put(ids[i], { updated_at = clock, status = "RUNNING" }) end
        end
        it_has:put("new-" .. page, { updated_at = clock + 0.25 })
        it_has:put("early-" .. page, { updated_at = 900.5 + page }) -- of a writer whose clock is behind
        local last = "new-" .. page
        it_has:settle({ last }, "?limit=1&updated_after=" .. clock)
      end)
      assert.same(expected, found)
    end)
  end

  it("goes on by key with a cursor of another gateway, or of before a restart", function()
    local ids = fill(30)
    local first, cursor = it_has:ids "?limit=10&cursor="
    local plain = json.decode(crypto.base64url_decode(cursor))
    plain.w = "0123456789ab"
    local rest = it_has:ids("?limit=200&cursor=" .. crypto.base64url_encode(json.encode(plain)))
    table.move(rest, 1, #rest, #first + 1, first)
    assert.same(ids, first)
    assert.equal(0, it_has.gateway:stop())
    it_has.gateway = require("spec.support.gateway").start { nats_url = it_has.server.url }
    it_has:settle({ ids[1] }, "?limit=1")
    rest = it_has:ids("?limit=200&cursor=" .. cursor)
    assert.same(table.move(ids, 11, 30, 1, {}), rest)
  end)

  it("leaves out a run that is deleted before its page", function()
    local ids = fill(20)
    local found = walk("limit=10", function(page)
      if page > 1 then return end
      assert(it_has.store.runs:delete(ids[15]))
      it_has:settle({}, "?q=" .. ids[15])
    end)
    table.remove(ids, 15)
    assert.same(ids, found)
  end)
end)
