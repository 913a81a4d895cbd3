--- Coroutine tricks: what tasks can do to each other and to the scheduler with coroutines that yield, wait, outlive
--- their task, close each other, or nest without end.
local flow = require "spec.support.flow"
local uv = require "luv"

--- Cancels the run soon, from the loop.
local function cancel_soon(eng)
  local timer = uv.new_timer()
  timer:start(5, 0, function()
    timer:close()
    eng:cancel()
  end)
end

local function closing(fn) return setmetatable({}, { __close = fn }) end

describe("a coroutine that outlives its task", function()
  it("goes on in the next one: yields, waits, and fails there", function()
    local co
    local eng = flow.run {
      { "a", function()
        co = coroutine.create(function()
          for i = 1, 3 do
            local ctx = select(2, pcall(function() return coroutine.yield(i) end))
            ctx:sleep(0) -- it is the task that resumes who waits
          end
          error("at last", 0)
        end)
        return select(2, coroutine.resume(co))
      end },
      { "b", function(ctx)
        local list = {}
        for i = 1, 4 do list[i] = tostring(select(2, coroutine.resume(co, ctx))) end
        return list
      end, needs = "a" },
    }
    assert.same({ "2", "3", "at last", "cannot resume dead coroutine" }, eng.records.b.output)
  end)

  it("is the task's own: dead, whoever it belongs to by then", function()
    local kept = {}
    local eng = flow.run {
      { "a", function() kept[1] = coroutine.running() end },
      { "b", function(ctx) -- may run on the coroutine that a has ended on
        kept[2] = coroutine.running()
        ctx:sleep(0.005)
        return "b"
      end, needs = "a" },
      { "c", function()
        local list = {}
        for i, co in ipairs(kept) do
          list[i] = { coroutine.status(co), select(2, coroutine.resume(co, 1)), (pcall(coroutine.close, co)) }
        end
        return list
      end, needs = "a" },
    }
    assert.equal("b", eng.records.b.output)
    assert.equal("COMPLETED", eng.status)
    local text = "cannot resume a coroutine in a wait: it goes on when the wait ends"
    assert.same({ "suspended", text, false }, eng.records.c.output[2])
  end)

  it("is resumed from two tasks at once: the second is told", function()
    local co
    local eng = flow.run {
      { "a", function(ctx)
        co = coroutine.create(function() ctx:sleep(0.005) return "a's" end)
        return select(2, coroutine.resume(co))
      end },
      { "b", function() return { coroutine.resume(co) } end },
      { "c", function() return select(2, pcall(coroutine.wrap(function() return coroutine.resume(co) end))) end },
    }
    assert.equal("a's", eng.records.a.output)
    assert.is_false(eng.records.b.output[1])
    assert.is_false(eng.records.c.output)
  end)

  it("waits when its task is cancelled: it is cut, and closed from a later run", function()
    local co, closed
    local record = flow.task(function(ctx)
      co = coroutine.create(function()
        local _ <close> = closing(function(_, message) closed = message end)
        ctx:sleep(1000)
      end)
      coroutine.resume(co)
    end, { on_start = cancel_soon })
    assert.equal("CANCELLED", record.state)
    assert.equal("dead", coroutine.status(co))
    assert.is_nil(closed) -- a cut ends a handler at its first line
    local again = flow.task(function() return { coroutine.close(co) } end)
    assert.is_false(again.output[1] and coroutine.status(co) ~= "dead")
  end)
end)

describe("a chain of coroutines", function()
  --- Closes a coroutine, or raises what its handlers raise.
  local function close(co)
    local ok, message = coroutine.close(co)
    if not ok then error(message, 0) end
  end

  --- The last of n coroutines, each suspended, each of which closes the one before when it is closed.
  local function chain(n)
    local before
    for _ = 1, n do
      local one = before
      before = coroutine.create(function()
        local _ <close> = closing(function() if one then close(one) end end)
        coroutine.yield()
      end)
      coroutine.resume(before)
    end
    return before
  end

  it("that close each other ends before C's stack does", function()
    for _, way in ipairs {
      function(last) return coroutine.close(last) end,
      function(last) return pcall(coroutine.wrap(function() local _ <close> = last error("x") end)) end,
      function(last)
        return pcall(coroutine.wrap(function()
          local _ <close> = closing(function() close(last) end)
          error("x", 0)
        end))
      end,
    } do
      local record = flow.task(function() return { way(chain(20000)) } end)
      assert.is_false(record.output and record.output[1], record.error)
      assert.is_true(flow.task(function() return (coroutine.close(chain(100))) end).output)
    end
    local ok, message = coroutine.close(chain(20000)) -- outside of a task too
    assert.is_false(ok)
    assert.truthy(message:find("C stack overflow", 1, true), message)
    assert.is_true(coroutine.close(chain(100)))
  end)

  it("that resume each other ends before C's stack does, in a wait too", function()
    local record = flow.task(function(ctx)
      local depth, deepest = 0, 0
      local function nest()
        depth = depth + 1
        deepest = math.max(deepest, depth)
        ctx:sleep(0)
        local ok, message = pcall(coroutine.wrap(nest))
        depth = depth - 1
        if not ok and depth == 0 then error(message, 0) end
      end
      pcall(nest)
      return deepest
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.is_true(record.output > 10 and record.output < 250)
  end)

  it("of wraps in wraps hands waits out and answers in", function()
    local record = flow.task(function(ctx)
      local function nest(n)
        return coroutine.wrap(function()
          if n > 0 then return nest(n - 1)() end
          for _ = 1, 3 do ctx:sleep(0) end
          return "inmost"
        end)
      end
      return { nest(50)(), nest(50)() }
    end)
    assert.same({ "inmost", "inmost" }, record.output)
  end)

  it("resumes, closes or yields where that cannot be: told, nothing more", function()
    local record = flow.task(function(ctx)
      local me = coroutine.running()
      local list = { select(2, coroutine.resume(me)), (select(2, pcall(coroutine.close, me))) }
      coroutine.wrap(function()
        list[3] = select(2, coroutine.resume(me))
        list[4] = select(2, pcall(coroutine.close, me))
        list[5] = tostring(coroutine.isyieldable())
      end)()
      list[6] = select(2, pcall(coroutine.yield))
      list[7] = select(2, pcall(coroutine.wrap(function()
        table.sort({ 2, 1 }, function() coroutine.yield() end)
      end)))
      list[8] = select(2, pcall(coroutine.wrap(function() ("x"):gsub("x", ctx.sleep) end)))
      list[9] = select(2, coroutine.resume(coroutine.create(coroutine.resume), me))
      return list
    end)
    local list = record.output
    assert.equal("cannot resume non-suspended coroutine", list[1])
    assert.truthy(list[2]:find("cannot close a running coroutine", 1, true))
    assert.equal("cannot resume non-suspended coroutine", list[3])
    assert.truthy(list[4]:find("cannot close a normal coroutine", 1, true))
    assert.equal("true", list[5])
    assert.truthy(list[6]:find("outside of a coroutine of your own", 1, true))
    assert.truthy(list[7]:find("attempt to yield across a C-call boundary", 1, true))
    assert.is_string(list[8])
    assert.is_false(list[9])
  end)
end)

describe("a wait", function()
  it("is in a metamethod, an iterator, a __close, under pcalls, in any order", function()
    local record = flow.task(function(ctx)
      local list = {}
      local lazy = setmetatable({}, {
        __index = function(_, key) ctx:sleep(0) return key end,
        __add = function(a) ctx:sleep(0) return a end,
        __lt = function() ctx:sleep(0) return true end,
        __concat = function() ctx:sleep(0) return "joined" end,
        __call = function(_, value) ctx:sleep(0) return value end,
        __pairs = function() ctx:sleep(0) return next, { x = 1 }, nil end,
      })
      for key in pairs(lazy) do list[#list + 1] = key end
      list[#list + 1] = (lazy + 1)[5]
      list[#list + 1] = lazy < lazy
      list[#list + 1] = lazy .. "x"
      list[#list + 1] = select(2, pcall(pcall, lazy, "called"))
      for i in function(_, i) ctx:sleep(0) if i < 2 then return i + 1 end end, nil, 0 do list[#list + 1] = i end
      return list
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.same({ "x", 5, true, "joined", true, 1, 2 }, record.output)
  end)

  it("is where it cannot be, and caught: the task goes on and can wait again", function()
    local record = flow.task(function(ctx)
      local failures = 0
      for _, fn in ipairs {
        function() table.sort({ 2, 1 }, function() ctx:sleep(0) end) end,
        function() ("x"):gsub("x", function() ctx:sleep(0) end) end,
        function() load(function() ctx:sleep(0) end)() end,
        function() tostring(setmetatable({}, { __tostring = function() ctx:sleep(0) end })) end,
        function() table.unpack(setmetatable({}, { __index = function() ctx:sleep(0) end }), 1, 2) end,
        function()
          local _ = #setmetatable({}, { __len = function() ctx:sleep(0) return 1 end }) -- here it can
          error("fine")
        end,
      } do
        if not pcall(fn) then failures = failures + 1 end
        ctx:sleep(0)
      end
      return failures
    end)
    assert.equal("SUCCEEDED", record.state, record.error)
    assert.equal(6, record.output)
  end)

  it("of one task goes on while another never yields", function()
    local done
    local eng = flow.run {
      { "sleeper", function(ctx) ctx:sleep(0.002) done = true return "woken" end },
      { "looper", function()
        local turns = 0
        while turns < 1e6 do turns = turns + 1 end
        return turns
      end },
    }
    assert.is_true(done)
    assert.equal("woken", eng.records.sleeper.output)
    assert.equal(1000000, eng.records.looper.output)
  end)

  it("in ten thousand coroutines of one task, and in one of 256 tasks each", function()
    local record = flow.task(function(ctx)
      local sum = 0
      for i = 1, 10000 do sum = sum + coroutine.wrap(function() ctx:sleep(0) return i end)() end
      return sum
    end)
    assert.equal(50005000, record.output, record.error)
    local rows = {}
    for i = 1, 300 do
      rows[i] = { "t" .. i, function(ctx) return coroutine.wrap(function() ctx:sleep(0.001) return i end)() end }
    end
    assert.equal("COMPLETED", flow.run(rows).status)
  end)
end)
