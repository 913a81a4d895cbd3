--- pyoco.cli.tree: a run as lines.
local json = require "host.json"
local output = require "pyoco.cli.output"
local tree = require "pyoco.cli.tree"

local GRAPH = { nodes = { { name = "fetch" }, { name = "parse" }, { name = "stats" }, { name = "report" } },
  edges = { { from = "fetch", to = "parse" }, { from = "fetch", to = "stats" }, { from = "parse", to = "report" },
    { from = "stats", to = "report" } } }

local function record(started_at, ended_at, more)
  local value = { started_at = started_at, ended_at = ended_at or json.null, output = json.null, error = json.null }
  for key, field in pairs(more or {}) do value[key] = field end
  return value
end

local function snapshot(more)
  local value = { run_id = "r-1", flow_name = "etl", status = "RUNNING", start_time = 100.0, end_time = json.null,
    tasks = { fetch = "SUCCEEDED", parse = "RUNNING", stats = "FAILED", report = "PENDING" },
    task_records = { fetch = record(100, 100.3, { output = { n = 1 } }),
      parse = record(100.3, nil, { log_tail = "one\ntwo\27[2J\n" }),
      stats = record(100.3, 100.4, { error = "boom", traceback = "flows/etl.lua:9: boom\n  in stats" }) } }
  for key, field in pairs(more or {}) do value[key] = field end
  return value
end

local function show(graph, snap, width, height)
  local it = tree.new(output.painter(false), graph)
  it:update(snap)
  return it, it:lines(101.3, width or 80, height)
end

describe("tree", function()
  it("shows each task once, below its deepest parent, with state, time and last words", function()
    local _, lines = show(GRAPH, snapshot())
    assert.equal("etl  RUNNING  1.3s  run r-1", lines[1])
    assert.equal("└─ ✔ fetch         0.3s    ", lines[2])
    assert.truthy(lines[3]:find("parse      1.0s    two", 1, true), lines[3])
    assert.equal("   │  └─ ○ report          ", lines[4]:sub(1, #"   │  └─ ○ report          "))
    assert.equal("   └─ ✘ stats      0.1s    boom", lines[5])
    assert.equal(5, #lines)
  end)

  it("shows loops and branches with what became of them, retries, what was skipped and what failed apart", function()
    local graph = { nodes = { { name = "train", frame = "each1" }, { name = "fast", frame = "case1" },
      { name = "slow", frame = "case2" }, { name = "lame" }, { name = "end", needs = { frame = "switch1" } } },
      frames = { { id = "each1", kind = "each", over = "$ctx.items", as = "item", parallel = 4 },
        { id = "switch1", kind = "switch", on = "$ctx.mode", needs = { frame = "each1" } },
        { id = "case1", kind = "case", label = "fast", frame = "switch1" },
        { id = "case2", kind = "case", label = "*", frame = "switch1" } },
      edges = { { { frame = "each1" }, { frame = "switch1" } }, { { frame = "switch1" }, "end" } } }
    local _, lines = show(graph, snapshot {
      tasks = { train = "SUCCEEDED", fast = "RUNNING", slow = "PENDING", lame = "FAILED", ["end"] = "PENDING" },
      failed_tasks = { "lame" },
      frame_records = { each1 = { state = "SUCCEEDED", iterations = 7 }, case2 = { state = "PENDING", skipped = true },
        switch1 = { state = "RUNNING", label = "fast" }, case1 = { state = "RUNNING" } },
      task_records = { train = record(100, 100.5, { iterations = 7, attempt = 3 }), fast = record(100.5),
        slow = record(nil, nil, { skipped = true }), lame = record(100, 100.25, { error = "boom" }) } })
    assert.equal("├─ ↻ each item of $ctx.items, 4 at a time  ×7", lines[2])
    assert.truthy(lines[3]:find("│  ┆  └─ ✔ train       0.5s    ×7 attempt 3", 1, true), lines[3])
    assert.equal("│  └─ ◇ by $ctx.mode", lines[4])
    assert.equal('│     ┆  ├─ "fast"', lines[5])
    assert.equal("│     ┆  └─ otherwise  not taken", lines[7])
    assert.truthy(lines[8]:find("│     ┆     └─ – slow          skipped", 1, true), lines[8])
    assert.truthy(lines[9]:find("│     └─ ○ end", 1, true), lines[9])
    assert.truthy(lines[10]:find("└─ ✘ lame              0.2s    isolated  boom", 1, true), lines[10])
  end)

  it("says how a loop failed, within the width", function()
    local graph = { nodes = { { name = "a", frame = "until1" } }, edges = {},
      frames = { { id = "until1", kind = "until", cond = ("$ctx.x > 1 and "):rep(20) .. "true", max = 5 } } }
    local _, lines = show(graph, snapshot { tasks = { a = "SUCCEEDED" },
      frame_records = { until1 = { state = "FAILED", error = "the condition did not hold" } } }, 50)
    assert.equal(50, require("pyoco.cli.text").width(lines[2]))
    assert.truthy(lines[2]:find("…  the condition did not ho…", 1, true), lines[2])
  end)

  it("lists tasks by name while the graph is not known", function()
    local _, lines = show(nil, snapshot())
    assert.truthy(lines[2]:find("├─ ✔ fetch", 1, true))
    assert.truthy(lines[5]:find("└─ ✘ stats", 1, true))
  end)

  it("never is wider or higher than the terminal; running and failed tasks come first", function()
    local tasks = {}
    for i = 1, 50 do tasks[("t%02d"):format(i)] = i == 40 and "RUNNING" or i == 45 and "FAILED" or "SUCCEEDED" end
    local _, lines = show(nil, snapshot { tasks = tasks, task_records = {} }, 40, 10)
    assert.equal(10, #lines)
    local all = table.concat(lines, "\n")
    assert.truthy(all:find("t40") and all:find("t45") and all:find("… and 42 more tasks"))
  end)

  it("cuts long logs to the width, counting wide characters twice", function()
    local text = require "pyoco.cli.text"
    local _, lines = show(nil, snapshot { tasks = { a = "RUNNING" },
      task_records = { a = record(100, nil, { log_tail = ("日本"):rep(100) }) } }, 50)
    assert.truthy(text.width(lines[2]) <= 50)
  end)

  it("ends with outputs, errors and the traceback of the user's code", function()
    local it = show(GRAPH, snapshot { status = "FAILED", error = "boom" })
    local text = table.concat(it:ending(80), "\n")
    assert.truthy(text:find('outputs\n  fetch  {"n":1}', 1, true), text)
    assert.truthy(text:find("error\n  boom\n  in task stats\n    flows/etl.lua:9: boom", 1, true), text)
  end)

  it("says when outputs were cut off", function()
    local it = show(GRAPH, snapshot { task_records = {}, task_records_truncated = true })
    assert.truthy(table.concat(it:ending(80)):find("PYOCO_MAX_RUN_SNAPSHOT_BYTES", 1, true))
  end)

  it("says why nothing happens while no worker takes the run", function()
    local function pending(updated_at)
      return snapshot { status = "PENDING", tag = "gpu", updated_at = updated_at, start_time = json.null }
    end
    local _, lines = show(GRAPH, pending(90.0))
    assert.truthy(lines[1]:find("(no worker of tag gpu has taken it yet)", 1, true), lines[1])
    _, lines = show(GRAPH, pending(101.0))
    assert.falsy(lines[1]:find("no worker", 1, true))
    _, lines = show(GRAPH, snapshot { status = "PENDING_APPROVAL", tag = "gpu", start_time = json.null })
    assert.truthy(lines[1]:find("(waits for somebody to approve or reject it)", 1, true), lines[1])
  end)

  it("knows the terminal statuses", function()
    for _, status in ipairs { "COMPLETED", "FAILED", "CANCELLED" } do
      assert.is_true(tree.is_terminal { status = status })
    end
    for _, status in ipairs { "PENDING", "RUNNING", "CANCELLING", "x" } do
      assert.is_false(tree.is_terminal { status = status })
    end
  end)
end)
