--- Another attempt after one that failed: after retry_delay_sec, growing by `backoff` each time, up to a day. The wait
--- is jittered, so that many tasks that failed together do not come back together. A node that waits for its next
--- attempt holds none of the run's places; its state stays RUNNING.
local queue = require "pyoco.engine.queue"

local min, random, remove, sort = math.min, math.random, table.remove, table.sort
local ipairs, pairs = ipairs, pairs

local M = {}

local LONGEST_SEC = 86400
local ATTEMPTS_KEPT = 20

--- How long to wait.
---@param options table { retry_delay_sec = 1, backoff = 2 }
---@param failures integer number of attempts that have failed, 1 or more
---@param jitter (fun(): number)? 0 to 1, default math.random
---@return number seconds
function M.delay(options, failures, jitter)
  local delay = (options.retry_delay_sec or 1) * (options.backoff or 2) ^ (failures - 1)
  return min(LONGEST_SEC, delay) * (0.75 + 0.5 * (jitter or random)())
end

--- Tells whether a node gets another attempt.
---@param eng table
---@param node table
---@return boolean
function M.is_due(eng, node)
  local options = node.spec.options
  if not options or node.attempt > (options.retries or 0) or eng.failed or eng.is_cancelling then return false end
  local frame = node.scope.frame
  while frame do
    if frame.is_doomed then return false end
    frame = frame.scope.frame
  end
  return true
end

--- Adds to a record an attempt that is not its last.
---@param record table
---@param attempt table { started_at, ended_at, error }
function M.keep(record, attempt)
  local attempts = record.attempts or {}
  record.attempts = attempts
  if #attempts == ATTEMPTS_KEPT then remove(attempts, 1) end
  attempts[#attempts + 1] = attempt
end

--- Lets a node wait for its next attempt. The attempt that failed is over.
---@param eng table
---@param node table
---@param message string why it failed
---@param traceback string?
---@param due fun() called from the loop when the wait is over
---@return number seconds
function M.wait(eng, node, message, traceback, due)
  local record = node.record
  local attempt = { started_at = record.started_at, ended_at = eng.now(), error = message }
  M.keep(record, attempt)
  local waiting = { node = node, attempt = attempt, traceback = traceback }
  node.retry = waiting
  eng.retrying[node] = waiting
  eng.retry_count = eng.retry_count + 1
  local seconds = M.delay(node.spec.options, node.attempt, eng.random)
  waiting.stop = eng.after(seconds, function()
    waiting.stop = nil
    due()
  end)
  return seconds
end

--- Ends the wait of a node.
---@param eng table
---@param node table
---@return table waiting { attempt, traceback } of the attempt that failed last
function M.leave(eng, node)
  local waiting = node.retry
  node.retry = nil
  if waiting.stop then waiting.stop() end
  eng.retrying[node] = nil
  eng.retry_count = eng.retry_count - 1
  return waiting
end

--- The nodes whose next attempt will not come, in the order of the graph.
local function given_up(eng)
  local nodes = {}
  for node in pairs(eng.retrying) do
    if not M.is_due(eng, node) then nodes[#nodes + 1] = node end
  end
  sort(nodes, queue.comes_before)
  return nodes
end

--- The attempt that failed was the last one of a node: its record shows it, not its list of earlier ones.
local function conclude(eng, node)
  local waiting, record = M.leave(eng, node), node.record
  local attempts = record.attempts
  if attempts[#attempts] == waiting.attempt then attempts[#attempts] = nil end
  if #attempts == 0 then record.attempts = nil end
  eng:fail(node, waiting.attempt.error, waiting.traceback)
end

--- Ends all waits for attempts that will not come: the run has failed, or the loop that the node is in.
---@param eng table
function M.give_up(eng)
  if eng.is_giving_up then return end -- the failure of one that was given up: the loop below goes on
  eng.is_giving_up = true
  while eng.retry_count > 0 do
    local nodes = given_up(eng)
    if #nodes == 0 then break end
    for _, node in ipairs(nodes) do
      if node.retry then conclude(eng, node) end
    end
  end
  eng.is_giving_up = false
end

return M
