--- The examples of docs/guide/flows.md: each is a part of a YAML document and the same in Lua, which `make docs`
--- follows with a picture of their graph and what their records look like. Both are compiled and run here.
---
---   ```lua cast     the functions of all tasks; each function M.name is a task `name`
---   ```yaml part    a document without the callables of its tasks
---   ```lua part     a chunk that returns the flow; sees task, flow, switch, cast and the tasks themselves
---   ```mermaid, ```json records    generated
local json = require "host.json"
local document = require "pyoco.flow.document"
local load_flow = require "pyoco.flow.load"
local pyoco = require "pyoco"
local mermaid = require "pyoco.flow.show_mermaid"
local testing = require "pyoco.testing"
local tmp = require "spec.support.tmp"

local M = {}

--- The pages, in the folder of the checkout.
M.PAGES = { "docs/guide/flows.md", "docs/ja/guide/flows.md" }

local MODULE = "guide_tasks"
local PAIR = "(```yaml part\n(.-)\n```\n\n```lua part\n(.-)\n```\n)"
local GENERATED = { "\n```mermaid\n.-\n```\n", "\n```json records\n.-\n```\n" }
local SHOWN = { "state", "inputs", "output", "iterations", "skipped", "attempt", "error" }

--- Runs the page's cast. Returns its functions by name, their names in order, and the source text.
local function read_cast(page)
  local source = page:match("```lua cast\n(.-)\n```") or error("the page has no `lua cast` block")
  local names = {}
  for name in source:gmatch("function M%.([%w_]+)") do names[#names + 1] = name end
  return { functions = assert(load(source, "=" .. MODULE))(), names = names, source = source }
end

--- The whole document of a part: tasks that the graph names get the callables that the part leaves out.
local function complete(part, cast)
  local text = part .. "\n"
  if not text:find("\ntasks:\n") then text = text .. "tasks:\n" end
  for _, name in ipairs(cast.names) do
    local callable = ('callable: "%s:%s"'):format(MODULE, name)
    local head, count = text:gsub("\n  " .. name .. ": { ", ("\n  %s: { %s, "):format(name, callable))
    if count > 0 then
      text = head
    elseif part:match("graph:(.*)"):find("%f[%w_]" .. name .. "%f[^%w_]") then
      text = text .. ("  %s: { %s }\n"):format(name, callable)
    end
  end
  return text
end

--- The flow of the YAML part.
local function yaml_flow(part, cast, root)
  local doc, message, _, errors = document.read(complete(part, cast), { name = "demo" })
  if not doc then error(("%s: %s\n%s"):format(message, errors[1].message, errors[1].caret)) end
  return assert(load_flow.document(doc, { root }))
end

--- The flow of the Lua part.
local function lua_flow(part, cast)
  local env = { task = pyoco.task, flow = pyoco.flow, switch = pyoco.switch, cast = cast.functions }
  for _, name in ipairs(cast.names) do env[name] = pyoco.task(name, cast.functions[name]) end
  return assert(load(part, "=part", "t", env))()
end

--- A record as the page shows it: one line, without times.
local function record_line(name, record)
  local parts = {}
  for _, key in ipairs(SHOWN) do
    local value = record[key]
    if value ~= nil and not (key == "inputs" and next(value) == nil) then
      if key == "error" then value = value:gsub("^.-:%d+: ", "") end
      parts[#parts + 1] = ('"%s": %s'):format(key, json.encode(value, { sort = true }))
    end
  end
  return ('"%s": {%s}'):format(name, table.concat(parts, ", "))
end

local function records_text(flow, run)
  local lines = {}
  for i, node in ipairs(flow.graph.nodes) do lines[i] = record_line(node.name, run.records[node.name]) end
  return ("{ %s }"):format(table.concat(lines, ",\n  "))
end

--- Compiles and runs one example.
---@param yaml string part
---@param lua string part
---@param cast table
---@param root string task root that holds the cast
---@return table { flows = { yaml, lua }, runs = { yaml, lua }, mermaid, records }
local function example(yaml, lua, cast, root)
  local flows = { yaml = yaml_flow(yaml, cast, root), lua = lua_flow(lua, cast) }
  local runs, records = {}, {}
  for kind, flow in pairs(flows) do
    runs[kind] = testing.flow(flow, { exec = true })
    records[kind] = records_text(flows.yaml, runs[kind])
  end
  return { flows = flows, runs = runs, mermaid = mermaid.text(flows.yaml.graph), records = records }
end

--- Renders a page: its text with fresh pictures and records.
---@param page string markdown
---@return string markdown
---@return table examples in order
function M.render(page)
  local cast, root, examples = read_cast(page), tmp.dir(), {}
  local _ <close> = setmetatable({}, { __close = function() tmp.remove(root) end })
  tmp.write(root .. "/" .. MODULE .. ".lua", cast.source)
  for _, pattern in ipairs(GENERATED) do page = page:gsub(pattern, "") end
  local text = page:gsub(PAIR, function(blocks, yaml, lua)
    local made = example(yaml, lua, cast, root)
    examples[#examples + 1] = made
    return ("%s\n```mermaid\n%s\n```\n\n```json records\n%s\n```\n"):format(blocks, (made.mermaid:gsub("%s+$", "")),
      made.records.yaml)
  end)
  return text, examples
end

return M
