--- `client.lua watch`: events as the contract prints them, or a live tree on a terminal.
local clock = require "host.clock"
local json = require "host.json"
local api_module = require "pyoco.cli.api"
local output = require "pyoco.cli.output"
local screen_module = require "pyoco.cli.screen"
local tree_module = require "pyoco.cli.tree"

local M = {}

local RETRY_FOR_SEC = 30 -- a gateway that is gone this long is an error

local function path_of(run_id, rest) return "/runs/" .. api_module.segment(run_id) .. (rest or "") end

local function status_line(event, data)
  local snapshot = type(data.snapshot) == "table" and data.snapshot or {}
  local status = type(snapshot.status) == "string" and snapshot.status or "-"
  local ts = type(data.ts) == "number" and json.encode(data.ts) or "-" -- tostring would lose digits
  return ("%s\t%s\t%s\t%s\n"):format(ts, event.event, status, data.run_id or "-")
end

--- Prints events as lines until the server ends the stream, or what was asked for has come.
local function print_events(api, values)
  local seen, limit = 0, values.max_events or 0
  local query = { { "include", values.records and "records" or nil }, { "since", values.since },
    { "timeout_sec", values.timeout_sec }, { "until", values.until_terminal and "terminal" or nil } }
  local answer, message, code, failure = api:stream(path_of(values.run_id, "/watch"), query, function(event)
    local data = json.decode(event.data) or {}
    io.stdout:write(values.output == "status" and status_line(event, data)
      or ('{"event": "%s", "data": %s}\n'):format(event.event, output.json_line(event.data)))
    if not io.stdout:flush() then return false end -- nobody reads any more (`| head -1`), or the disk is full
    seen = seen + 1
    if limit > 0 and seen >= limit then return false end
    return not (values.until_terminal and type(data.snapshot) == "table" and tree_module.is_terminal(data.snapshot))
  end)
  if not answer then return nil, message, code, failure end
  return 0
end

--- The compiled graph, or nil while it is not known.
local function fetch_graph(api, run_id)
  local answer, message, code, failure = api:request("GET", path_of(run_id, "/graph"))
  if answer then return json.decode(answer.body) end
  if code == "cancelled" then return nil, message, code, failure end
  return nil
end

--- Follows one stream into the tree. Returns true when the run has ended, false to open the stream again.
local function follow(api, run_id, tree, draw, timeout_sec, is_stopped)
  local wants_graph = false
  local answer, message, code, failure = api:stream(path_of(run_id, "/watch"),
    { { "include", "records" }, { "until", "terminal" }, { "timeout_sec", timeout_sec } }, function(event)
      local data = json.decode(event.data)
      if event.event ~= "snapshot" or type(data) ~= "table" or type(data.snapshot) ~= "table" then return true end
      tree:update(data.snapshot)
      draw()
      wants_graph = not tree.graph and not tree.graph_asked and type(data.snapshot.graph_sha256) == "string"
      return not (wants_graph or tree_module.is_terminal(data.snapshot))
    end, function()
      draw()
      return not is_stopped()
    end)
  if not answer then return nil, message, code, failure end
  return tree.snapshot ~= nil and tree_module.is_terminal(tree.snapshot), wants_graph
end

--- Whether a failure of the stream may be over in a moment.
local function may_come_back(tree, code, failure)
  local is_refusal = failure and failure.status and failure.status < 500
  return tree.snapshot and (code == "unavailable" or code == "timeout") and not is_refusal
end

--- Opens the stream again and again, until the run has ended or watching makes no sense any more.
local function follow_to_end(api, run_id, tree, draw, context, deadline)
  local function is_stopped() return context.idle and context.idle() == false end
  local lost_since
  while not is_stopped() do
    local left = math.floor(math.min(deadline - clock.monotonic(), 600))
    if left < 1 then return tree.snapshot end
    local ended, message, code, failure = follow(api, run_id, tree, draw, left, is_stopped)
    if ended == nil then
      lost_since = lost_since or clock.monotonic()
      if not may_come_back(tree, code, failure) or clock.monotonic() - lost_since > RETRY_FOR_SEC then
        return nil, message, code, failure
      end
      tree.note = "(no connection, trying again)"
      draw()
      if not context.interrupt.sleep(1) then break end
    else
      lost_since, tree.note = nil, nil
      if ended then return tree.snapshot end
      if message == true then tree.graph_asked, tree.graph = true, (fetch_graph(api, run_id)) end -- known by now
    end
  end
  return nil, "interrupted", "cancelled"
end

--- Shows a run on the terminal until it has ended.
---@param api table
---@param run_id string
---@param context table { paint, interrupt, idle = nil | fn(): false when the caller gives up }
---@param deadline_sec number|nil stop watching after this long
---@return table|nil the last snapshot (of a run that may still go on, after the deadline)
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.live(api, run_id, context, deadline_sec)
  local screen <close> = screen_module.open()
  local tree = tree_module.new(context.paint, (fetch_graph(api, run_id)))
  local function draw()
    if not tree.snapshot then return end
    local columns, rows = screen:size()
    screen:draw(tree:lines(clock.wall(), columns, rows - 1))
  end
  local deadline = clock.monotonic() + (deadline_sec or math.huge)
  local snapshot, message, code, failure = follow_to_end(api, run_id, tree, draw, context, deadline)
  if not snapshot then return nil, message, code, failure end
  draw()
  if tree_module.is_terminal(snapshot) then
    io.stdout:write(table.concat(tree:ending((screen:size())), "\n"), "\n")
  end
  return snapshot
end

--- The command. Exit code 0 also for a run that failed: the watching went well.
---@param api table
---@param values table
---@param context table { terminal, paint, interrupt }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.run(api, values, context)
  if not context.terminal or values.output or values.max_events then return print_events(api, values) end
  local snapshot, message, code, failure = M.live(api, values.run_id, context, values.timeout_sec)
  if not snapshot then return nil, message, code, failure end
  return 0
end

return M
