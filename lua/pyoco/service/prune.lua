--- Pruning: runs that have ended long ago go, with their data and their relations (decision 0019). What then is of no
--- use to anybody (documents, markers, broken uploads) is service/garbage's.
---
--- A run's key goes last and leaves a marker, by which every gateway's lists learn of it: a prune that breaks off is
--- finished by the next one.
local states = require "pyoco.run.states"
local fault = require "pyoco.service.fault"
local present = require("pyoco.null").present

local M = {}

local BATCH = 200

--- Statuses of runs that may be pruned.
M.STATUSES = { "COMPLETED", "FAILED", "CANCELLED" }

--- Whether a run is one of those that are wanted gone.
local function fits(run, opts)
  local snapshot = run.snapshot
  if not snapshot or not states.is_terminal(snapshot.status) then return false end
  if opts.statuses and not opts.statuses[snapshot.status] then return false end
  local last = type(snapshot.updated_at) == "number" and snapshot.updated_at or run.created
  return last < opts.before
end

--- Those of some runs whose root still runs: it may look at its children yet.
local function with_live_root(app, runs)
  local roots, held = {}, {}
  for _, run in ipairs(runs) do
    local root = run.snapshot.root_run_id
    if present(root) and root ~= run.run_id then roots[#roots + 1] = root end
  end
  if #roots == 0 then return held end
  local found, message, code = app.store.garbage:read_runs(roots)
  if not found then return nil, message, code end
  for _, run in ipairs(runs) do
    local root = found[run.snapshot.root_run_id]
    held[run.run_id] = root ~= nil and not (root.snapshot and states.is_terminal(root.snapshot.status)) or nil
  end
  return held
end

--- Names of all stored run data, by run; read once for a pass.
local function data_names(app, pass)
  if pass.names then return pass.names end
  local names, message, code = app.store.garbage.data:names()
  if not names and code ~= "not_found" then return nil, message, code end -- not_found: no run has stored anything yet
  pass.names = {}
  for _, name in ipairs(names or {}) do
    local run_id = name:match "^([^/]+)/"
    if run_id then
      pass.names[run_id] = pass.names[run_id] or {}
      table.insert(pass.names[run_id], name)
    end
  end
  return pass.names
end

--- Removes what belongs to a run beside its key.
local function remove_belongings(app, run, pass)
  local garbage = app.store.garbage
  local names, message, code = data_names(app, pass)
  if not names then return nil, message, code end
  local ok = true
  for _, name in ipairs(names[run.run_id] or {}) do
    if ok then ok, message, code = garbage.data:erase(name) end
    if ok then pass.counts.objects = pass.counts.objects + 1 end
  end
  local has_family = present(run.snapshot.bundle_hash) or present(run.snapshot.parent_run_id)
  if ok and has_family then ok, message, code = garbage:erase("relations", run.run_id) end
  if ok == nil then return nil, message, code end
  return true
end

--- The runs of a batch as they are now, if they are to go.
local function chosen(app, run_ids, opts)
  local found, message, code = app.store.garbage:read_runs(run_ids)
  if not found then return nil, message, code end
  local list = {}
  for _, run_id in ipairs(run_ids) do
    local run = found[run_id]
    if run and fits(run, opts) then list[#list + 1] = run end
  end
  local held
  held, message, code = with_live_root(app, list)
  if not held then return nil, message, code end
  local free = {}
  for _, run in ipairs(list) do
    if not held[run.run_id] then free[#free + 1] = run end
  end
  return free
end

local function prune_batch(app, run_ids, opts, pass)
  local runs, message, code = chosen(app, run_ids, opts)
  if not runs then return nil, message, code end
  if opts.dry_run then
    pass.counts.runs = pass.counts.runs + #runs
    return true
  end
  for _, run in ipairs(runs) do
    local ok
    ok, message, code = remove_belongings(app, run, pass)
    if not ok then return nil, message, code end
    opts.pause()
  end
  for _, result in ipairs(app.store.garbage:delete_runs(runs)) do
    if result.revision then
      pass.counts.runs = pass.counts.runs + 1
    elseif result.code ~= "conflict" then -- one that was written meanwhile stays
      return nil, result.message, result.code
    end
  end
  return true
end

--- Batches of candidates from the read model.
local function from_model(app, opts, take)
  for _, status in ipairs(M.STATUSES) do
    local last
    repeat
      local rows, message, code = {}, nil, nil
      if not opts.statuses or opts.statuses[status] then
        rows, message, code = app.store.model:old(status, opts.before, last, BATCH)
      end
      if not rows then return nil, message, code end
      local ids = {}
      for i, row in ipairs(rows) do ids[i] = row.run_id end
      local ok
      ok, message, code = take(ids)
      if not ok then return nil, message, code end
      last = rows[#rows]
      opts.pause()
    until #rows < BATCH
  end
  return true
end

--- Batches of candidates from the bucket itself, where there is no read model.
local function from_bucket(app, opts, take)
  local ids, failure = {}, nil
  local function flush()
    if #ids == 0 or failure then return end
    local ok, message, code = take(ids)
    if not ok then failure = { message, code } end
    ids = {}
  end
  local ok, message, code = app.store.garbage:each_run(function(run)
    if not failure and fits(run, opts) then ids[#ids + 1] = run.run_id end
    if #ids >= BATCH then flush() end
    opts.pause()
  end)
  if not ok then return nil, message, code end
  flush()
  if failure then return nil, failure[1], failure[2] end
  return true
end

local function nothing() end

--- Prunes runs that have ended and were last updated before a time.
---@param app table { store }; with store.model the candidates come from it, else from a look at every run
---@param opts table { before (unix seconds), statuses (set of M.STATUSES; nil: all), dry_run, pause = fn called now and
---  then }
---@return table|nil counts { runs, objects }: how many are gone, or with dry_run would be
---@return string|nil message
---@return string|nil code
function M.run(app, opts)
  local pass = { counts = { runs = 0, objects = 0 } }
  local options = { before = opts.before, statuses = opts.statuses, dry_run = opts.dry_run,
    pause = opts.pause or nothing }
  local candidates = app.store.model and from_model or from_bucket
  local ok, message, code = candidates(app, options, function(run_ids)
    return prune_batch(app, run_ids, options, pass)
  end)
  if not ok then return fault.of_store(message, code) end
  return pass.counts
end

return M
