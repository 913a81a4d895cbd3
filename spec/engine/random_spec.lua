--- Random graphs with random failures, waits, retries, timeouts and cancels: whatever happens, a run comes to an end,
--- leaves nothing running, says so consistently, and does the same when it is run again.
local flow = require "spec.support.flow"
local json = require "host.json"

local SEEDS <const> = 400

--- A generator of numbers from 1 to n that is the same everywhere.
local function dice(seed)
  local state = seed * 2654435761 & 0xffffffff
  return function(n)
    state = state * 6364136223846793005 + 1442695040888963407
    return (state >> 33) % n + 1
  end
end

--- A random graph text over t1..tn, each once; loops and switches in any nesting.
local function random_graph(roll, count)
  local next_task = 0
  local function task()
    next_task = next_task + 1
    return "t" .. next_task
  end
  local build
  local function items(n, depth, op, in_loop)
    local list = {}
    local left = n
    while left > 0 do
      local size = math.min(left, roll(math.max(1, n - 1)))
      list[#list + 1] = build(size, depth + 1, in_loop)
      left = left - size
    end
    return "(" .. table.concat(list, op) .. ")"
  end
  function build(n, depth, in_loop)
    local kind = depth > 3 and 9 or roll(9)
    local on = in_loop and "$ctx.loop.index" or "$ctx.mode"
    local body
    in_loop = in_loop or kind < 4
    if n == 1 then
      body = task()
    else
      body = items(n, depth, ({ " >> ", " >> ", " & ", " | " })[roll(4)], in_loop)
    end
    if kind == 1 then return ("%s[%d]"):format(body, roll(4) - 1) end
    if kind == 2 then return ('%s["$ctx.xs as x%d"]'):format(body, roll(1000000)) end
    if kind == 3 then return ('(%s %% ("$ctx.loop.index >= %d", %d))'):format(body, roll(3) - 1, roll(4)) end
    if kind == 4 then return ('switch("%s")["%d" >> %s]'):format(on, roll(3) - 1, body) end
    return body
  end
  return build(count, 0, false)
end

--- What a task does depends on its name, its iteration and its attempt only.
local function behaviour(seed, i, may_fail)
  return function(ctx)
    local n = seed * 1000 + i
    for _, loop in ipairs(ctx.loops) do n = n * 31 + loop.index + 1 end
    local roll = dice(n * 7 + ctx.attempt)
    if roll(3) == 1 then ctx:sleep(roll(5)) end
    if may_fail and roll(6) == 1 then error("no luck " .. i, 0) end
    return roll(4) > 1 and { i, n & 255 } or nil
  end
end

--- Whether what a member waited for has succeeded in its own scope.
local function holds(scope, cond)
  if cond == nil then return true end
  if type(cond) == "string" then return scope.by_name[cond].state == "SUCCEEDED" end
  if cond.frame then return scope.by_id[cond.frame].state == "SUCCEEDED" end
  for _, item in ipairs(cond.all or cond.any) do
    if holds(scope, item) ~= (cond.all ~= nil) then return cond.any ~= nil end
  end
  return cond.all ~= nil
end

--- Checks that everything that runs now may.
local function check_running(eng)
  local running = 0
  for _, node in ipairs(eng.framework and eng.framework.live_nodes(eng) or eng.plan.nodes) do
    if node.started then running = running + 1 end
    if node.turn then assert(holds(node.scope, node.spec.needs), node.name .. " started too early") end
  end
  for _, frame in ipairs(eng.plan.frames or {}) do
    if frame.state ~= "PENDING" and frame.state ~= "FAILED" then
      assert(holds(frame.scope, frame.spec.needs), frame.id .. " opened too early")
    end
  end
  assert(running == eng.running and running <= eng.max_parallel, "wrong count of running tasks")
end

--- Runs one seed's graph; returns the engine and the log of events as a text.
local function run(seed, graph, count, opts)
  local roll = dice(seed + 77)
  local rows = {}
  for i = 1, count do
    local options = {}
    if roll(3) == 1 then options.fail_policy = "isolate" end
    if roll(3) == 1 then options.retries, options.backoff = roll(2), 1 end
    if opts.may_fail and roll(4) == 1 then options.timeout_sec = roll(4) end
    rows[i] = { "t" .. i, behaviour(seed, i, opts.may_fail), options = options }
  end
  local log, engine = {}, nil
  local eng = flow.virtual(rows, { graph = graph, params = { xs = { 1, 2, 3 }, mode = 1 }, max_parallel = roll(4),
    on_start = function(it)
      engine = it
      math.randomseed(seed) -- the jitter of retries
    end,
    on_event = function(e)
      log[#log + 1] = ("%s %s %s %s %g"):format(e.type, e.task or e.frame, e.state,
        e.iteration and table.concat(e.iteration, "/"), e.at)
      if not e.state or e.state == "RUNNING" then check_running(engine) end
      if #log == opts.cancel_at then engine:cancel() end
    end })
  return eng, table.concat(log, "\n")
end

local ENDS = { SUCCEEDED = true, FAILED = true, CANCELLED = true, PENDING = true }

--- What must be true after every run.
local function check(eng, may_fail, is_cancelled)
  assert.equal(0, eng.running)
  assert.equal(0, eng.retry_count)
  assert.is_nil(next(eng.deadlines or {}))
  local failed, has_failed_frame = false, false
  for _, frame in pairs(eng.frames or {}) do has_failed_frame = has_failed_frame or frame.state == "FAILED" end
  for name, state in pairs(eng.tasks) do
    local record = eng.records[name]
    assert.equal(state, record.state)
    assert.is_true(ENDS[state], name .. " " .. state)
    if state == "SUCCEEDED" or state == "FAILED" then assert.is_number(record.ended_at, name) end
    if state == "FAILED" then
      failed = true
      assert.is_string(record.error, name)
    end
    if record.skipped then
      assert.equal("PENDING", state)
      assert.is_nil(record.started_at, name)
    end
    if record.iterations and record.iterations > 0 and type(record.output) == "table" then
      assert.is_true(json.is_array(record.output), name)
    end
    if not may_fail and not is_cancelled and not has_failed_frame then
      assert.is_true(state == "SUCCEEDED" or record.skipped == true, name .. " " .. state)
    end
  end
  for id, frame in pairs(eng.frames or {}) do assert.is_true(ENDS[frame.state], id .. " " .. frame.state) end
  if eng.status == "COMPLETED" then
    assert.is_nil(eng.error)
  elseif eng.status == "FAILED" then
    assert.is_string(eng.error)
    if not eng.error:find("^loop at") then assert.is_true(failed, eng.error) end
  else
    assert.equal("CANCELLED", eng.status)
    assert.is_true(is_cancelled)
  end
  assert(json.encode(eng.records))
end

describe("random graphs", function()
  for what, opts in pairs {
    ["without failures end well, or in a loop's limit"] = {},
    ["with failures end, and the same way again"] = { may_fail = true },
    ["with failures and a cancel end"] = { may_fail = true, may_cancel = true },
  } do
    it(what, function()
      local statuses = {}
      for seed = 1, SEEDS do
        local roll = dice(seed)
        local count = roll(9)
        local graph = random_graph(roll, count)
        opts.cancel_at = opts.may_cancel and roll(30) or nil
        local ok, problem = pcall(function()
          local eng, log = run(seed, graph, count, opts)
          check(eng, opts.may_fail, opts.may_cancel)
          statuses[eng.status] = true
          local again, same = run(seed, graph, count, opts)
          assert.equal(log, same)
          assert.equal(json.encode(eng.tasks, { sort = true }), json.encode(again.tasks, { sort = true }))
        end)
        assert(ok, ("seed %d, %s: %s"):format(seed, graph, problem))
      end
      assert.is_true(statuses.COMPLETED and (statuses.FAILED or not opts.may_fail))
      assert.equal(opts.may_cancel, statuses.CANCELLED)
    end)
  end
end)
