--- The table of options: what each accepts, and what it says of the rest.
local json = require "host.json"
local options = require "pyoco.flow.options"

--- The row of an option.
local function row_of(rows, name)
  for _, row in ipairs(rows) do
    if row.name == name then return row end
  end
  error("no row " .. name)
end

--- "expected; got; remedy" of a value, nil if it is fine.
local function judge(name, value, rows)
  local expected, got, hint = options.check(row_of(rows or options.TASK, name), value)
  if expected then return expected .. "; " .. got .. (hint and "; " .. hint or "") end
end

describe("options", function()
  it("have rows that are whole, whose defaults and examples are fine themselves", function()
    local seen = {}
    for _, rows in ipairs { options.TASK, options.FLOW, options.RUNTIME, options.TOP } do
      for _, row in ipairs(rows) do
        assert.is_nil(seen[row.name], row.name)
        seen[row.name] = true
        assert.is_function(options.TYPES[row.type], row.name)
        assert.truthy(row.doc:find("^%u.*%.$"), row.name)
        for _, field in ipairs { "default", "example" } do
          if row[field] ~= nil then assert.is_nil(options.check(row, row[field]), row.name) end
        end
      end
    end
  end)

  it("keep numbers within their limits", function()
    for name, case in pairs {
      retries = { good = { 0, 3, 1000, 2.0 }, bad = { -1, 1001, 1.5, "3", true, 0 / 0, 1 / 0 } },
      parallel = { good = { 1, 256 }, bad = { 0, 257 } },
      retry_delay_sec = { good = { 0, 0.5, 86400 }, bad = { -0.1, 86401, 0 / 0 } },
      backoff = { good = { 1, 1.5, 100 }, bad = { 0.9, 101 } },
      timeout_sec = { good = { 0.001, 31536000 }, bad = { 0, -1, 31536001, json.null } },
    } do
      for _, value in ipairs(case.good) do assert.is_nil(judge(name, value), name .. " " .. tostring(value)) end
      for _, value in ipairs(case.bad) do assert.truthy(judge(name, value), name .. " " .. tostring(value)) end
    end
    assert.equal("a whole number from 0 to 1000; 1.5", judge("retries", 1.5))
    assert.equal("a number above 0, at most 31536000; 'x'", judge("timeout_sec", "x"))
    assert.equal("stop or isolate; 'ignore'", judge("fail_policy", "ignore"))
  end)

  it("take inputs that JSON can carry", function()
    assert.is_nil(judge("inputs", { a = 1, b = "$ctx.params.x", c = json.null, d = { 1, { x = true } } }))
    assert.equal("a mapping of names to values; a list", judge("inputs", { 1 }))
    assert.truthy(judge("inputs", { f = print }):find("^a mapping of names to values; 'f': "))
    assert.truthy(judge("inputs", { f = { 0 / 0 } }))
    assert.truthy(judge("inputs", { f = 1 / 0 }))
    assert.truthy(judge("inputs", { f = "\xff" }))
    assert.truthy(judge("inputs", { ["\xff"] = 1 }))
    local ring = {}
    ring.ring = ring
    assert.truthy(judge("inputs", { f = ring }))
  end)

  it("save outputs below scratch, results and params only", function()
    assert.is_nil(judge("outputs", { "scratch.a", "results.x.y", "params.n" }))
    assert.is_nil(judge("outputs", {}))
    for _, path in ipairs { "results", "results.", "results..x", "other.x", "x", "results.x. ", "$ctx.results.x" } do
      assert.truthy(judge("outputs", { path }), path)
    end
    assert.equal("a list of paths such as results.size (below scratch, results or params); 'x' as item 2",
      judge("outputs", { "params.x", "x" }))
  end)

  it("take commands as a list, or as a text for the shell", function()
    assert.is_nil(judge("run", { "ls", "-l", 3, "$ctx.params.x" }))
    for _, text in ipairs { "ls", "a=$HOME; echo $ctx", "echo $(ctx.x)", "echo \\$ctx.params.x", "sed 's/$/.x/'" } do
      assert.is_nil(judge("run", text), text)
    end
    local expected = "a list of texts and numbers such as [python, train.py], or one text for the shell; "
    assert.equal(expected .. "a blank text", judge("run", " "))
    assert.equal(expected .. "an empty list", judge("run", {}))
    assert.equal(expected .. "true as item 2; write it in quotes", judge("run", { "ls", true }))
    assert.equal(expected .. "a text with a NUL byte as item 1", judge("run", { "a\0b" }))
    assert.equal(expected .. "a blank program", judge("run", { "" }))
    assert.equal(expected .. "a mapping", judge("run", { program = "ls" }))
    assert.equal(expected .. "a list as item 2", judge("run", { "ls", { "x" } }))
  end)

  it("refuse a selector in a text for the shell, and say what to write", function()
    local said = "a list, or a text for the shell without selectors (they are not replaced there); '%s' in it; %s"
    for text, case in pairs {
      ["train --lr $ctx.params.lr"] = { "$ctx.params.lr",
        'name it in env (LR: $ctx.params.lr) and write "$LR", or name it in inputs and write "$INPUT_..."' },
      ['x "$node.fetch.output"'] = { "$node.fetch.output",
        'name it in env (OUTPUT: $node.fetch.output) and write "$OUTPUT", or name it in inputs and write '
        .. '"$INPUT_..."' },
      ["echo $env.HOME."] = { "$env.HOME.", "the program has the worker's environment: write $HOME" },
    } do
      assert.equal(said:format(case[1], case[2]), judge("run", text))
    end
  end)

  it("take an environment of names and texts", function()
    assert.is_nil(judge("env", { A = "x", b_1 = 3, C = "$ctx.params.x" }))
    local expected = "a mapping of variable names to texts, numbers or selectors; "
    assert.equal(expected .. "the name 'a-b'", judge("env", { ["a-b"] = "x" }))
    assert.equal(expected .. "A: true", judge("env", { A = true }))
    assert.equal(expected .. "a list", judge("env", { "A=1" }))
  end)

  it("describe long and broken texts shortly", function()
    assert.equal("'" .. ("é"):rep(19) .. "...'", options.describe(("é"):rep(30)))
    assert.equal("a text that is not UTF-8", options.describe("\xff"))
    assert.equal("a function", options.describe(print))
    assert.equal("null", options.describe(json.null))
  end)

  it("say which front end knows which", function()
    local lua, by_name = options.names(options.TASK, "lua")
    local yaml = options.names(options.TASK, "yaml")
    assert.equal(#options.TASK, #yaml)
    assert.equal(#yaml - 1, #lua)
    assert.is_nil(by_name.callable)
    assert.same({ "defaults", "expose_env" }, (options.names(options.LUA_FLOW, "lua")))
  end)
end)
