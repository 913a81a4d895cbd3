--- Child runs in this process: for a run without server, what queue, store and workers are for others. The rules are
--- those of run/family.lua (ids, limits, timeouts, cancels, results), on the store in memory; each child has an engine
--- of its own in this VM, and its modules anew, as on a worker.
---
---     local children = local_children.new { ... }
---     engine_local.run(flow, { spawn = children:spawner(), beside = children, ... })
local crypto = require "host.crypto"
local json = require "host.json"
local engine = require "pyoco.engine"
local families = require "pyoco.run.family"
local job_flow = require "pyoco.engine.job_flow"
local memory = require "pyoco.store.memory"
local results = require "pyoco.run.result"
local run_bundle = require "pyoco.run.bundle"
local snapshot = require "pyoco.run.snapshot"
local states = require "pyoco.run.states"

local M = {}

local HINT <const> = "^pyoco%.hint%.done%.(.+)$"

local Children = {}
Children.__index = Children

--- How people tell children of one task apart: its name, the indexes of the loops around it, which attempt.
local function label_of(asked)
  local loops = #asked.iteration > 0 and ("[%s]"):format(table.concat(asked.iteration, ",")) or ""
  return asked.task .. loops .. (asked.attempt > 1 and "#" .. asked.attempt or "")
end

--- What stands between a wish and a child that runs: its job comes here instead of to a queue.
local function publish(self, job)
  local asked = self.asked
  local child = { run_id = job.run_id, job = job, task = asked.task, iteration = asked.iteration,
    attempt = asked.attempt, timeout_sec = asked.timeout_sec, label = label_of(asked),
    image = snapshot.image(self.store.runs:get(job.run_id), job, self.now()) }
  self.list[#self.list + 1], self.by_id[job.run_id] = child, child
  self.on_born(child)
  return true
end

--- A timer ends a child whose parent's task is out of time: while a task of the child computes, the parent cannot.
local function limit(self, child)
  if not child.timeout_sec then return end
  child.stop_limit = self.after(child.timeout_sec, function() child.eng:cancel() end)
end

--- The end of a child is stored, and told.
local function finish(self, child, status, message, ended_at)
  local run_id, image, eng = child.run_id, child.image, child.eng
  local stored, revision = self.store.runs:get(run_id)
  snapshot.rebase(image, stored)
  if eng then image.failed_tasks = eng.failed_tasks and json.array(eng.failed_tasks) end
  if snapshot.is_cancel_requested(stored) then
    snapshot.mark_cancelled(image, self.now())
  else
    image.status, image.error, image.end_time = status, message or json.null, ended_at or json.null
  end
  results.new(self.store.data, run_id):apply(image, image.task_records)
  child.is_over = true
  if child.stop_limit then child.stop_limit() end
  self.on_end(child)
  assert(self.store.runs:update(snapshot.brief(image), revision))
  self.store.hints:done(run_id)
end

--- Begins a child: its flow is loaded anew. One that was cancelled before is over.
local function begin(self, child)
  local stored, revision = self.store.runs:get(child.run_id)
  local image, job = child.image, child.job
  if states.is_terminal(stored.status) then
    snapshot.rebase(image, stored)
    snapshot.mark_cancelled(image, self.now())
    child.is_over = true
    return self.on_end(child)
  end
  image.status, image.start_time = "RUNNING", self.now()
  assert(self.store.runs:update(image, revision))
  child.run = { run_id = job.run_id, flow_name = job.flow_name, tag = job.tag, tags = job.tags, attempt = 1,
    started_at = image.start_time }
  local flow, message = job_flow.build(job, job_flow.read(job), self.roots, self.globals)
  if not flow then return finish(self, child, "FAILED", message) end
  child.flow = self.adapt and self.adapt(child, flow) or flow
  local opts = self.options(child)
  opts.is_child, opts.params = true, job.params
  local ok, eng = pcall(engine.new, child.flow, opts)
  if not ok then return finish(self, child, "FAILED", tostring(eng)) end
  child.eng = eng
  image.tasks, image.task_records, image.frame_records = eng.tasks, eng.records, eng.frames -- live
  limit(self, child)
end

--- Does all that children can do without waiting; for engine/local.lua.
---@param root table the parent's engine; when it was cancelled, so are all children
---@return boolean has_moved whether there was anything to do
function Children:pump(root)
  if root.status == "CANCELLED" and not self.is_cancelled then
    self.is_cancelled = true
    self.family:cancel_all()
  end
  local has_moved = false
  for _, child in ipairs(self.list) do
    if not child.is_over and not child.eng then
      begin(self, child)
      has_moved = true
    end
    if not child.is_over then
      local ended, moved = child.eng:pump()
      has_moved = has_moved or moved
      if ended then
        finish(self, child, child.eng.status, child.eng.error, child.eng.ended_at)
        return true -- the parent's turn: it may have waited for this one
      end
    end
  end
  return has_moved
end

--- Whether no child goes on.
---@return boolean
function Children:is_idle()
  for _, child in ipairs(self.list) do
    if not child.is_over then return false end
  end
  return true
end

--- Cancels those that go on: for a parent that has ended before them.
function Children:cancel()
  for _, child in ipairs(self.list) do
    if child.eng and not child.is_over then child.eng:cancel() end
  end
end

--- Puts what the parent's snapshot tells of its children, and of its result, into an image of it.
---@param image table changed: child_run_ids, spawn_count, and once it has an end result_summary
---@param records table task -> record
function Children:apply(image, records)
  image.child_run_ids, image.spawn_count = self.image.child_run_ids, self.image.spawn_count
  if states.is_terminal(image.status) then results.new(self.store.data, image.run_id):apply(image, records) end
end

--- The engine's `spawn`: starts a child for a task that waits.
---@return fun(request: table, resume: fun(...)): fun()?
function Children:spawner()
  return function(request, resume)
    self.asked = request
    return self.family:spawn(request, resume)
  end
end

--- The verbs of a store that the family needs: runs as in a bucket, jobs and hints that come straight here.
local function store_of(self, cfg)
  local bucket = memory.open(cfg)
  return { runs = bucket.runs, data = bucket.data, relations = bucket.relations,
    jobs = { publish = function(_, job) return publish(self, job) end },
    hints = {
      cancel = function(_, run_id)
        local child = self.by_id[run_id]
        if child and child.eng then
          child.image.status = "CANCELLING"
          child.eng:cancel()
        end
      end,
      done = function(_, run_id)
        local fn = self.waiting[run_id]
        if fn then fn() end
      end,
    } }
end

--- The parent as a run of its kind would be submitted, and its job.
local function first_of(deps)
  local text, run = deps.text, deps.run
  if not text then
    local job = { run_id = run.run_id, flow_name = run.flow_name, tag = run.tag, tags = json.array { run.tag },
      params = deps.params }
    return snapshot.image(nil, job, deps.now()), job
  end
  local image = run_bundle.root { run_id = run.run_id, flow_name = run.flow_name, tag = run.tag, params = deps.params,
    bundle_hash = crypto.sha256(text), workflow_bundle_bytes = #text, now = deps.now(), requires_approval = false,
    tenant_id = json.null, api_key_id = json.null }
  return image, run_bundle.job(image, text, image.updated_at)
end

--- The children of one run.
---@param deps table cfg = options (spawn_*, buckets), run = the parent: run_id, flow_name, tag; params = of the parent,
---  text = the bundle, nil for a Lua flow, whose children are looked for in the roots by name; roots = folders of
---  modules, globals = more globals of flow files, now = fn() -> unix seconds, after = fn(seconds, fn) -> stop,
---  adapt = nil | fn(child, flow) -> the flow to run in its place, options = fn(child) -> options of its engine,
---  on_born = fn(child), on_end = fn(child). A child: { run_id, job, task, iteration, attempt of its parent,
---  label = "task[iteration]", image = its snapshot, live; run = fields of ctx.run, flow, eng: nil of one that never
---  began }
---@return table children: spawner, pump, is_idle, cancel, apply; list of them in order
function M.new(deps)
  local image, job = first_of(deps)
  local self = setmetatable({ list = {}, by_id = {}, waiting = {}, image = image, roots = deps.roots,
    globals = deps.globals, now = deps.now, after = deps.after, adapt = deps.adapt, options = deps.options,
    on_born = deps.on_born, on_end = deps.on_end }, Children)
  self.store = store_of(self, deps.cfg)
  self.family = families.new {
    store = self.store, cfg = deps.cfg, job = job, image = image, is_by_name = true,
    now = deps.now, after = deps.after,
    go = function(fn) fn() end, -- a store in memory never has it wait
    sleep = function() error("the store in memory is not to be waited for") end,
    every = function() return function() end end, -- every end is told: there is nothing to poll
    subscribe = function(subject, fn)
      local run_id = subject:match(HINT)
      self.waiting[run_id] = fn
      return { close = function() self.waiting[run_id] = nil end }
    end,
    flush = function() return true end, is_lost = function() return false end,
  }
  return self
end

return M
