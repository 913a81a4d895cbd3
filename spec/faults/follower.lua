--- Readers of streams as a browser is one: reconnects for ever, with Last-Event-ID, to either gateway.
local http = require "host.http"
local json = require "host.json"
local async = require "pyoco.worker.async"
local sse = require "pyoco.client.sse"
local states = require "pyoco.run.states"

local M = {}

local AGAIN_SEC = 0.3
local STALL_SEC = 6 -- heartbeats come each 2 s

--- Reads one stream to its end; in a coroutine.
local function read(self, url, headers, on_event)
  local answer, timer
  local feed = sse.reader(function(event)
    if event.id then self.last_id = event.id end
    return on_event(event)
  end)
  async.wait(function(done)
    local transfer
    local quiet_ms = 0
    local function finish(found)
      if not timer then return end
      timer()
      timer, answer = nil, found
      done()
    end
    local function look()
      quiet_ms = quiet_ms + 20
      local chunk, status = transfer:take()
      if chunk and chunk ~= "" and status == 200 then
        quiet_ms = 0
        if feed(chunk) == false then self.is_over = true end
      end
      if self.is_over or self.is_stopped or quiet_ms > STALL_SEC * 1000 then
        transfer:stop()
        finish()
      end
    end
    timer = async.every(0.02, look)
    transfer = http.start({ url = url, headers = headers, timeout_sec = 0, connect_timeout_sec = 2 }, function(response)
      if response and response.status == 200 and response.body ~= "" and feed(response.body) == false then
        self.is_over = true
      end
      finish(response)
    end)
  end)
  return answer
end

--- Reads again and again, until it is over or stopped.
local function follow(self, path, on_event)
  async.go(function()
    while not self.is_over and not self.is_stopped do
      local gateway = self.pick()
      local headers = self.last_id and { ["Last-Event-ID"] = self.last_id } or {}
      local answer = read(self, gateway.url .. path, headers, on_event)
      if answer and answer.status == 404 then break end
      if not self.is_over then async.sleep(AGAIN_SEC) end
    end
    self.has_ended = true
  end)
  return self
end

--- A request that waits in its coroutine: { status, body, json }, or nil, message.
---@param request table of host.http
---@return table|nil answer
---@return string|nil message
function M.ask(request)
  local answer, message = async.wait(function(done) http.start(request, done) end)
  if answer and (answer.headers["content-type"] or ""):find "^application/json" then
    answer.json = json.decode(answer.body)
  end
  return answer, message
end

--- All runs of a gateway's list, page by page: id -> item; nil when it cannot be read to the end.
---@param gateway table
---@return table<string, table>|nil
---@return string|nil message
function M.list(gateway)
  local found, cursor = {}, nil
  repeat
    local answer, message = M.ask { url = ("%s/runs?limit=200&updated_after=0%s"):format(gateway.url,
      cursor and "&cursor=" .. cursor or ""), timeout_sec = 10, connect_timeout_sec = 2 }
    if not answer then return nil, message end
    if answer.status ~= 200 then return nil, ("%d %s"):format(answer.status, answer.body) end
    for _, item in ipairs(answer.json.items) do found[item.run_id] = item end
    cursor = answer.json.next_cursor
    if cursor == json.null then cursor = nil end
  until not cursor
  return found
end

--- A watcher of one run: notes a status that follows an end.
---@param ledger table
---@param run_id string
---@param pick fun(): table gives a gateway
---@return table watcher { last, has_ended, is_stopped }
function M.watch(ledger, run_id, pick)
  local self = { pick = pick, run_id = run_id }
  return follow(self, ("/runs/%s/watch?timeout_sec=600&until=terminal"):format(run_id), function(event)
    if event.event == "heartbeat" then return end
    local data = json.decode(event.data)
    local status = type(data) == "table" and (data.status or data.run and data.run.status or data.snapshot
      and data.snapshot.status)
    if not status then return end
    if self.last and states.is_terminal(self.last) and self.last ~= status
      and not ledger:nats_was_killed(self.at - 2) then
      ledger:breach("a watcher sees an end once", ("%s after %s"):format(status, self.last), run_id)
    end
    self.last, self.at = status, ledger:time()
    if states.is_terminal(status) then return false end
  end)
end

--- A follower of all runs, which keeps a picture as the dashboard does: the list on a reset, then what is told.
---@param pick fun(): table gives a gateway
---@return table follower { picture = id -> item, resets }
function M.events(pick)
  local self = { picture = {}, resets = 0, reasons = {}, told = {} }
  self.pick = function()
    self.gateway = pick()
    return self.gateway
  end

  --- The list is read while events go on: what they say since counts more.
  local function list()
    local mark = self.resets
    local found
    repeat
      found = M.list(self.gateway)
      if not found then async.sleep(AGAIN_SEC) end
    until found or self.is_stopped
    if not found or mark ~= self.resets then return end
    for id, item in pairs(self.told) do found[id] = item or nil end
    self.picture, self.is_listing = found, false
  end

  return follow(self, "/events?timeout_sec=3600", function(event)
    local data = json.decode(event.data)
    if event.event == "reset" then
      self.resets, self.told, self.is_listing = self.resets + 1, {}, true
      self.reasons[#self.reasons + 1] = data.reason
      async.go(list)
    elseif event.event == "run" or event.event == "deleted" or event.event == "left" then
      local item = event.event == "run" and data or false
      self.told[data.run_id] = item
      if not self.is_listing then self.picture[data.run_id] = item or nil end
    end
  end)
end

return M
