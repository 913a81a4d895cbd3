--- What is of no use to anybody: documents that no run refers to, data and relations of runs that are no more, the
--- markers of deleted runs, chunks of uploads that broke off (decision 0019).
---
--- What was written lately stays, whatever the look at the runs says: a submit stores its documents (anew, if they are
--- there) before its run, a worker its data before the snapshot that refers to it. All ages are the server's.
local clock = require "host.clock"
local fault = require "pyoco.service.fault"

local M = {}

--- How old a thing must be, at the begin of the look at the runs. A marker tells followers of a deletion: those that
--- were cut off for longer learn it when they start again.
M.AGE_SEC = { documents = 3600, relations = 3600, markers = 86400, objects = 86400, uploads = 86400 }

--- Fields of a snapshot that name a document.
local REFERENCES = { "workflow_yaml_sha256", "graph_sha256", "source_sha256", "bundle_hash" }

local function nothing() end

--- Looks at every run: which there are, what they refer to, what is left of deleted ones.
local function look(app, before, pause)
  local seen = { runs = {}, referred = {}, markers = {} }
  local ok, message, code = app.store.garbage:each_run(function(run)
    if run.is_deleted then
      if run.created < before then seen.markers[#seen.markers + 1] = run end
    else
      seen.runs[run.run_id] = true
      for _, field in ipairs(REFERENCES) do
        local hash = run.snapshot and run.snapshot[field]
        if type(hash) == "string" then seen.referred[hash] = true end
      end
    end
    pause()
  end)
  if not ok then return nil, message, code end
  return seen
end

--- Calls `remove` for each of a list, and counts what went.
local function remove_each(list, pause, remove)
  local count = 0
  for _, it in ipairs(list) do
    local is_gone, message, code = remove(it)
    if is_gone == nil then return nil, message, code end
    if is_gone then count = count + 1 end
    pause()
  end
  return count
end

--- A sweep of a bucket's keys, but for those that runs still have: is_kept(seen, key).
local function keyed(bucket, is_kept)
  return function(app, seen, before, pause)
    local keys, message, code = app.store.garbage:keys(bucket)
    if not keys then return nil, message, code end
    return remove_each(keys, pause, function(key)
      if is_kept(seen, key) then return false end
      return app.store.garbage:erase(bucket, key, before)
    end)
  end
end

local ANNOUNCE_SEC = 5     -- a purge is announced again after this
local ANNOUNCED_SEC = 0.3 -- how long it takes until all followers have heard of it

--- Removes the markers of deleted runs.
local function sweep_markers(app, seen, _, pause)
  local announced_at = -math.huge
  return remove_each(seen.markers, pause, function(run)
    if clock.monotonic() - announced_at > ANNOUNCE_SEC then
      local is_first = announced_at == -math.huge
      local revision, message, code = app.store.garbage:announce_purge()
      if not revision then return nil, message, code end
      announced_at = clock.monotonic()
      while is_first and clock.monotonic() - announced_at < ANNOUNCED_SEC do
        clock.sleep(0.01)
        pause()
      end
    end
    return app.store.garbage:erase_marker(run)
  end)
end

--- The kinds of garbage: name in the counts, and function(app, seen, before, pause) -> count | nil, message, code.
--- Those with `looks` need the look at the runs.
local KINDS = {
  { "documents", looks = true, sweep = keyed("documents", function(seen, hash) return seen.referred[hash] end) },
  { "relations", looks = true, sweep = keyed("relations", function(seen, run_id) return seen.runs[run_id] end) },
  { "markers", looks = true, sweep = sweep_markers },
  { "objects", looks = true, sweep = function(app, seen, before, pause)
    local names, message, code = app.store.garbage.data:names()
    if not names then return nil, message, code end
    return remove_each(names, pause, function(name)
      local run_id = name:match "^([^/]+)/"
      if not run_id or seen.runs[run_id] then return false end
      return app.store.garbage.data:erase(name, before)
    end)
  end },
  { "uploads", sweep = function(app, _, before, pause)
    local count = 0
    for _, name in ipairs { "data", "wheels" } do
      local removed, message, code = app.store.garbage[name]:erase_orphans(before, pause)
      if not removed and code ~= "not_found" then return nil, message, code end
      count = count + (removed or 0)
    end
    return count
  end },
}

--- Removes all garbage that is old enough.
---@param app table { store }
---@param opts table|nil { uploads_only = leave everything else, pause = fn called now and then }
---@return table|nil counts { documents, relations, markers, objects, uploads }: how many are gone
---@return string|nil message
---@return string|nil code
function M.collect(app, opts)
  opts = opts or {}
  local pause = opts.pause or nothing
  local now, message, code = app.store.garbage:time()
  if not now then return fault.of_store(message, code) end
  local seen = {}
  if not opts.uploads_only then seen, message, code = look(app, now - M.AGE_SEC.markers, pause) end
  if not seen then return fault.of_store(message, code) end
  local counts = {}
  for _, kind in ipairs(KINDS) do
    if not (kind.looks and opts.uploads_only) then
      counts[kind[1]], message, code = kind.sweep(app, seen, now - M.AGE_SEC[kind[1]], pause)
      if not counts[kind[1]] then
        if code ~= "not_found" then return fault.of_store(message, code) end
        counts[kind[1]] = 0 -- nobody has made that bucket yet
      end
    end
  end
  return counts
end

return M
