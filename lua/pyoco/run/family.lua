--- The runs that belong to a run: the children that its tasks spawn, started and waited for by whoever runs it, a slot
--- or a run without server (CONTRACT 10.4), and the cancel that reaches them. The store's verbs are given.
---
--- The order is what makes it safe. The parent's snapshot names a child before the child exists, so whoever cancels
--- the parent (a gateway, the slot, the supervisor when the slot is gone) finds it; a child's id follows from its
--- parent, task and iteration, so that a parent that is run again adopts its children instead of doubling them.
local json = require "host.json"
local cancel = require "pyoco.run.cancel"
local run_bundle = require "pyoco.run.bundle"
local states = require "pyoco.run.states"
local summaries = require "pyoco.run.summary"
local result = require "pyoco.run.result"
local present = require("pyoco.null").present

local M = {}

local RETRY_MIN_SEC, RETRY_MAX_SEC = 0.1, 2.0
local CANCEL_TRIES = 30
local CHILDREN_MAX = 10000 -- their ids stand in one snapshot
local SUMMARY_MAX_BYTES = 64 << 20

local Family = {}
Family.__index = Family

--- Calls a verb of the store until NATS answers; what it answers then is returned. nil, "given up" when the child is
--- not wanted any more.
local function persist(self, child, verb)
  local delay = RETRY_MIN_SEC
  while not child.is_over do
    local value, message, code = verb()
    if value or (code ~= "unavailable" and code ~= "timeout") then return value, message, code end
    self.sleep(delay)
    delay = math.min(delay * 2, RETRY_MAX_SEC)
  end
  return nil, "given up", "cancelled"
end

--- Takes a child out of those that are waited for, and tells its task.
local function settle(self, child, summary, message)
  if child.is_over then return end
  child.is_over = true
  self.live[child.run_id], self.count = nil, self.count - 1
  if child.hint then child.hint:close() end
  if child.stop_timeout then child.stop_timeout() end
  if self.count == 0 and self.stop_polling then
    self.stop_polling()
    self.stop_polling = nil
  end
  child.resume(summary, message)
end

--- The child's whole summary: one that was too big for its snapshot is in the object store.
local function summary_of(self, child, snapshot)
  local summary = summaries.of(snapshot)
  if type(summary.summary_ref) ~= "table" then return summary end
  local bytes = persist(self, child, function()
    return self.store.data:get(child.run_id, result.TASK, result.KIND, SUMMARY_MAX_BYTES)
  end)
  return bytes and json.decode(bytes) or summary
end

--- Looks whether a child has ended.
local function look_at(self, child, snapshot)
  if snapshot and states.is_terminal(snapshot.status) then
    settle(self, child, summary_of(self, child, snapshot))
  elseif snapshot == nil then
    local _, message, code = self.store.runs:get(child.run_id)
    if code == "not_found" then settle(self, child, nil, "the child run was deleted: " .. tostring(message)) end
  end
end

--- Looks at a child, or at all that have been started, in one go. Never twice at once: asked meanwhile, it looks
--- again.
---@param one table|nil the child
function Family:look(one)
  for run_id, child in pairs(one and { [one.run_id] = one } or self.live) do
    if child.is_started then self.asked[run_id] = child end
  end
  if self.is_looking then return end
  self.is_looking = true
  self.go(function()
    while next(self.asked) do
      local children, ids = {}, {}
      for run_id, child in pairs(self.asked) do children[#children + 1], ids[#ids + 1] = child, run_id end
      self.asked = {}
      local snapshots = self.store.runs:get_many(ids) -- trouble with NATS: the next poll looks again
      for i, child in ipairs(snapshots and children or {}) do
        if not child.is_over then look_at(self, child, snapshots[i]) end
      end
    end
    self.is_looking = false
  end)
end

--- Names a child in the parent's snapshot, and has that stored. false when the parent's run is lost.
local function announce(self, child)
  local image = self.image
  if type(image.child_run_ids) ~= "table" then image.child_run_ids = json.array {} end
  if not self.known[child.run_id] then
    self.known[child.run_id] = true
    image.child_run_ids[#image.child_run_ids + 1] = child.run_id
    image.spawn_count = #image.child_run_ids
  end
  return self.flush() ~= nil
end

--- Stores snapshot, relation and job of a child; one that exists is adopted, and its job queued again only if nobody
--- has begun it.
local function create(self, child, request)
  local store, now = self.store, self.now()
  local first = run_bundle.child(self.image, { run_id = child.run_id, workflow = request.workflow, task = request.task,
    tag = request.tag or self.cfg.spawn_child_tag or self.job.tag, params = child.params, now = now })
  local created, message, code = persist(self, child, function() return store.runs:create(first) end)
  if not created and code ~= "conflict" then return nil, message end
  if not created then
    local stored
    stored, message = persist(self, child, function() return store.runs:get(child.run_id) end)
    if not stored then return nil, message end
    if stored.status ~= "PENDING" or present(stored.attempt) then return true end
  end
  local ok
  ok, message = persist(self, child, function() return store.relations:put(first, now) end)
  if not ok then return nil, message end
  local job = run_bundle.job(first, self.job.workflow_bundle, now)
  return persist(self, child, function() return store.jobs:publish(job) end)
end

--- From a task's wish to a child that runs.
local function start(self, child, request)
  if not announce(self, child) or child.is_over then return end
  local subject = "pyoco.hint.done." .. child.run_id
  child.hint = self.subscribe(subject, function() self:look(child) end)
  local ok, message = create(self, child, request)
  if child.is_over then
    if child.hint then child.hint:close() end
    if child.is_cut then self:cancel(child.run_id) end -- it was made while its task was cut
    return
  end
  if not ok then return settle(self, child, nil, "the child run cannot be started: " .. tostring(message)) end
  child.is_started = true
  if self.cfg.spawn_timeout_sec > 0 then
    child.stop_timeout = self.after(self.cfg.spawn_timeout_sec, function()
      settle(self, child, nil, "child_wait_timeout") -- the child goes on
    end)
  end
  self.stop_polling = self.stop_polling or self.every(self.cfg.spawn_poll_interval_sec, function() self:look() end)
  self:look(child) -- an adopted one may have ended
end

--- Why a task may not spawn now; nil when it may. Each wish counts, whatever becomes of it.
local function refusal(self)
  local cfg = self.cfg
  if (tonumber(self.image.spawn_depth) or 0) >= 1 then return "child_respawn_not_allowed" end
  self.wishes = self.wishes + 1
  local most = cfg.spawn_max_child_runs > 0 and math.min(cfg.spawn_max_child_runs, CHILDREN_MAX) or CHILDREN_MAX
  if self.wishes > most then return "spawn_max_child_runs_exceeded" end
  if cfg.spawn_max_parallel_child_runs > 0 and self.count >= cfg.spawn_max_parallel_child_runs then
    return "spawn_max_parallel_child_runs_exceeded"
  end
  local has_flows = type(self.job.workflow_bundle) == "string" or self.is_by_name
  if not has_flows then return "spawn_task_requires_run_context" end
end

--- Params of a child: its parent's, with the task's inputs on top.
local function params_of(job, inputs)
  local params = {}
  for _, source in ipairs { job.params, inputs } do
    for name, value in pairs(source) do params[name] = value end
  end
  return params
end

--- Spawns a run for a task that waits: what the engine calls.
---@param request table { task, workflow, tag (nil: the parent's), inputs, iteration, attempt }
---@param resume fun(summary: table|nil, message: string|nil)
---@return fun()|nil give_up called when the task is cut: then the child is cancelled
function Family:spawn(request, resume)
  local why = refusal(self)
  if why then
    resume(nil, why)
    return nil
  end
  local child = { resume = resume, params = params_of(self.job, request.inputs),
    run_id = run_bundle.child_id(self.job.run_id, request.task, request.iteration, request.attempt) }
  self.live[child.run_id], self.count = child, self.count + 1
  self.starting = self.starting + 1
  self.go(function()
    start(self, child, request)
    self.starting = self.starting - 1
  end)
  return function()
    -- an attempt that has lost its run to a newer one leaves the children alone: they are the newer one's
    child.is_cut = not self.is_lost()
    settle(self, child)
    if child.is_cut and child.is_started then self.go(function() self:cancel(child.run_id) end) end
  end
end

--- Whether the run does nothing but wait for children: it can give its place to another one meanwhile.
---@param eng table the engine
---@return boolean
function Family:is_waiting(eng)
  return self.count > 0 and eng.running == self.count and eng.retry_count == 0
end

--- Requests the cancel of one child; NATS may be away for a moment.
---@param run_id string
function Family:cancel(run_id)
  for _ = 1, CANCEL_TRIES do
    local done, _, code = cancel.request(self.store, run_id, self.now)
    if done or code == "not_found" then return end
    self.sleep(RETRY_MIN_SEC)
  end
end

--- Requests the cancel of all children, before the parent's own end is stored.
function Family:cancel_all()
  for _ = 1, CANCEL_TRIES do
    if self.starting == 0 and cancel.children(self.store, self.image, self.now) then return end
    self.sleep(RETRY_MIN_SEC)
  end
end

--- Forgets all children: the run is over.
function Family:close()
  for _, child in pairs(self.live) do
    child.is_over = true
    if child.hint then child.hint:close() end
    if child.stop_timeout then child.stop_timeout() end
  end
  if self.stop_polling then self.stop_polling() end
  self.live, self.asked, self.count, self.stop_polling = {}, {}, 0, nil
end

--- The family of one run.
---@param deps table store, cfg (spawn_*), job, image (live), now, go, sleep, after, every (as pyoco.worker.async's),
---  subscribe (function(subject, fn) -> something with close), flush (function: has the image stored; nil when the
---  run is lost), is_lost (function: whether a newer attempt has the run), is_by_name (a Lua flow's: its children are
---  flows known by their names)
---@return table family: spawn, is_waiting, cancel, cancel_all, look, close
function M.new(deps)
  local self = setmetatable({ live = {}, asked = {}, count = 0, starting = 0, wishes = 0, known = {} }, Family)
  for key, value in pairs(deps) do self[key] = value end
  local ids = self.image.child_run_ids
  for _, run_id in ipairs(type(ids) == "table" and ids or {}) do self.known[run_id] = true end
  return self
end

return M
