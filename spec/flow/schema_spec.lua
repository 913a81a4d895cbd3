--- pyoco.flow.schema: what editors check documents with says the same as our own reader.
local document = require "pyoco.flow.document"
local host = require "host"
local json = require "host.json"
local jsonschema = require "spec.support.jsonschema"
local options = require "pyoco.flow.options"
local schema = require "pyoco.flow.schema"
local tmp = require "spec.support.tmp"
local uv = require "luv"
local yaml = require "host.yaml"

local SCHEMA = json.decode(schema.text())

--- Errors of a YAML text against the schema, as "path message" lines.
local function errors_of(text)
  local value = assert(yaml.decode(text))
  local lines = {}
  for i, item in ipairs(jsonschema.validate(SCHEMA, value)) do lines[i] = item[1] .. " " .. item[2] end
  return lines
end

--- A document whose one task has some lines more.
local function with_task(lines) return "flow: {graph: a}\ntasks:\n  a:\n    callable: 'm:f'\n    " .. lines .. "\n" end

--- Both judge a document: ours by its errors of structure, the schema as a whole.
local function both(text)
  local doc = document.read(text)
  return doc ~= nil, #errors_of(text) == 0
end

describe("the schema", function()
  it("is what docs/reference has", function()
    assert.equal(tmp.read(host.home .. "/docs/reference/flow.schema.json"), schema.text(), "run `make docs`")
  end)

  it("accepts the examples", function()
    local seen, scan = 0, assert(uv.fs_scandir(host.home .. "/flows"))
    for name in uv.fs_scandir_next, scan do
      if name:find("%.ya?ml$") then
        assert.same({}, errors_of(tmp.read(host.home .. "/flows/" .. name)), name)
        seen = seen + 1
      end
    end
    assert.truthy(seen > 0)
  end)

  it("names the place of what is wrong", function()
    assert.same({ "/tasks/a/callabel unknown" }, errors_of(with_task "callabel: 1"))
    assert.same({ "/tasks/a/retries too small" }, errors_of(with_task "retries: -1"))
    assert.same({ " lacks flow" }, errors_of "tasks: {a: {callable: 'm:f'}}")
    assert.same({ "/flow/graf unknown" }, errors_of "flow: {graph: a, graf: b}\ntasks: {a: {callable: 'm:f'}}")
  end)

  it("knows every option, with the words, limits and defaults of the table", function()
    local task = SCHEMA["else"].properties.tasks.additionalProperties
    for _, row in ipairs(options.TASK) do
      local property = assert(task.properties[row.name], row.name)
      assert.equal(row.doc, property.description:sub(1, #row.doc))
      assert.equal(row.default, property.default)
      if row.max then assert.equal(row.max, property.maximum) end
    end
  end)

  it("judges values of every option as the reader does", function()
    local VALUES = { "null", "true", "-1", "0", "1", "1.5", "3", "257", "1e9", "''", "' '", "x", "isolate", "'m:f'",
      "'echo $HOME'", "'echo $ctx.params.x'", "[]", "[1, two]", "[true]", "[scratch.x]", "[results.a.b]", "[other.x]",
      "[scratch.]", "{}", "{A: b}", "{A: 1}", "{'1 A': b}", "{A: [1]}" }
    -- The reader takes what YAML writers leave empty for "none"; an editor may say that it is odd.
    local EMPTY = { ["[]"] = true, ["{}"] = true, ["0"] = true, ["''"] = true }
    for _, row in ipairs(options.TASK) do
      for _, value in ipairs(VALUES) do
        local run = (row.name == "env" or row.name == "cwd") and "run: [x]\n    " or ""
        local start = (run ~= "" or row.name == "run") and "" or "callable: 'm:f'\n    "
        if row.name == "callable" then start = "" end
        local text = ("flow: {graph: a}\ntasks:\n  a:\n    %s%s%s: %s\n"):format(start, run, row.name, value)
        local ours, theirs = both(text)
        if row.name == "parallel" and theirs then ours = true end -- the reader also wants a loop around the task
        if row.name == "inputs" and value:find("^{") then ours = theirs end -- selectors are the compiler's matter
        if not (EMPTY[value] and ours and not theirs) then
          assert.equal(ours, theirs, ("%s: %s is %s for the reader, %s for the schema"):format(row.name, value,
            ours and "right" or "wrong", theirs and "right" or "wrong"))
        end
      end
    end
  end)

  it("refuses what the reader refuses", function()
    local TASK = "flow: {graph: a}\ntasks: {a: {callable: 'm:f'}}\n"
    for _, text in ipairs { "[]", "flow: 1", "flow: {}", "flow: {graph: ''}", "flow: {graph: 1}",
      "flow: {graph: a}\ntasks: [a]", "flow: {graph: a}\ntasks: {a: 1}", "flow: {graph: a}\ntasks: {a: null}",
      "flow: {graph: a}\ntasks: {a: {callable: x}}", "flow: {graph: a}\ntasks: {a: {callable: 1}}",
      "flow: {graph: a}\ntasks: {a: {callable: 'm:f', run: [x]}}",
      "flow: {graph: a}\ntasks: {a: {callable: 'm:f', cwd: x}}", "flow: {graph: a}\ntasks: {' ': {callable: 'm:f'}}",
      TASK .. "runtime: {expose_env: HOME}", TASK .. "runtime: {other: 1}", TASK .. "version: x",
      TASK .. "flows: {}" } do
      local ours, theirs = both(text)
      assert.is_false(ours, text)
      assert.is_false(theirs, text)
    end
  end)

  it("checks bundles", function()
    local BUNDLE = [[
version: 1
workflows:
  main: {flow: {graph: a}, tasks: {a: {spawn: child, inputs: {x: 1}}}}
  child: {flow: {graph: b}, tasks: {b: {callable: 'm:f', retries: 2}}, runtime: {expose_env: [HOME]}}
submit: {entry_workflow: main, inputs: {}}
]]
    assert.same({}, errors_of(BUNDLE))
    assert.same({ "/workflows/main/tasks/a does not fit all" }, errors_of((BUNDLE:gsub("spawn: child, ", ""))))
    assert.same({ "/workflows/main lacks flow" }, errors_of((BUNDLE:gsub("flow: {graph: a}, ", ""))))
    assert.same({ " lacks submit" }, errors_of((BUNDLE:gsub("submit:.*", ""))))
    assert.same({ "/flow unknown" }, errors_of(BUNDLE .. "flow: {graph: a}\n"))
  end)
end)
