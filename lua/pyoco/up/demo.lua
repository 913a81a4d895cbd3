--- What `make up` shows first: flows/hello.yaml submitted and followed to its end.
local clock = require "host.clock"
local host = require "host"
local json = require "host.json"
local api_module = require "pyoco.cli.api"
local params = require "pyoco.cli.params"
local tree_module = require "pyoco.cli.tree"
local watch = require "pyoco.cli.watch"

local M = {}

local DEADLINE_SEC = 60

--- Follows a run without a terminal, and prints it once at its end.
local function follow_quietly(api, run_id, context)
  local tree = tree_module.new(context.paint)
  local deadline = clock.monotonic() + DEADLINE_SEC
  while not (tree.snapshot and tree_module.is_terminal(tree.snapshot)) do
    if context.interrupt.seen or clock.monotonic() > deadline then return tree.snapshot or {} end
    local path = "/runs/" .. api_module.segment(run_id) .. "/watch"
    local answer, message, code, failure = api:stream(path, { { "include", "records" }, { "until", "terminal" } },
      function(event)
        local data = json.decode(event.data)
        if event.event == "snapshot" then tree:update(data.snapshot) end
        return not (tree.snapshot and tree_module.is_terminal(tree.snapshot)) and clock.monotonic() < deadline
      end, context.idle)
    if not answer then return nil, message, code, failure end
  end
  local graph = api:request("GET", "/runs/" .. api_module.segment(run_id) .. "/graph")
  tree.graph = graph and json.decode(graph.body)
  tree:update(tree.snapshot)
  for _, lines in ipairs { tree:lines(clock.wall(), 100), tree:ending(100) } do
    for _, line in ipairs(lines) do io.stdout:write(line, "\n") end
  end
  return tree.snapshot
end

--- Submits flows/hello.yaml and shows it run.
---@param cfg table server_url, default_tag ...
---@param context table { terminal, paint, interrupt, idle = fn() called while waiting, false from it gives up }
---@return table|nil the run's last snapshot
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.run(cfg, context)
  local path = host.home .. "/flows/hello.yaml"
  local text, why, code = params.read_file(path)
  if not text then return nil, why, code end
  local api = api_module.new(cfg)
  local answer, message, failed, failure = api:post_form("/runs/yaml",
    { { "flow_name", "hello" }, { "tag", cfg.worker_tags[1] } },
    { { name = "workflow", filename = "flow.yaml", content_type = "application/x-yaml", data = text } },
    { file = "flows/hello.yaml" })
  if not answer then return nil, message, failed, failure end
  local run_id = json.decode(answer.body).run_id
  if context.terminal then return watch.live(api, run_id, context, DEADLINE_SEC) end
  return follow_quietly(api, run_id, context)
end

return M
