--- admin.lua runs prune.
local json = require "host.json"
local uv = require "luv"
local output = require "pyoco.cli.output"
local garbage = require "pyoco.service.garbage"
local prune = require "pyoco.service.prune"

local M = {}

local ORDER = { order = { "dry_run", "runs", "objects", "documents", "relations", "markers", "orphans", "uploads" } }

local function failed(message, code)
  return nil, message, code, { shape = code == "unavailable" and "connection" or "unexpected", reason = message,
    hints = { "what was pruned stays pruned; give the command again" } }
end

--- "1 run", "2 runs".
local function number(count, noun) return ("%d %s%s"):format(count, noun, count == 1 and "" or "s") end

--- What was removed, in a sentence.
local function sentence(counts)
  return ("pruned: %s, %s of theirs; of no use any more: %s, %s, %s, %s, %s\n"):format(number(counts.runs, "run"),
    number(counts.objects, "output or log"):gsub("output or logs", "outputs and logs"),
    number(counts.documents, "document"), number(counts.relations, "relation"), number(counts.markers, "marker"),
    number(counts.orphans, "output or log"):gsub("output or logs", "outputs and logs"),
    number(counts.uploads, "broken upload"))
end

--- Calls fn(pause) to its end, or until Ctrl-C, which is looked for at each pause.
local function until_interrupted(interrupt, fn)
  local co = coroutine.create(fn)
  local function pause()
    uv.run "nowait"
    if interrupt.seen then coroutine.yield() end
  end
  local results = table.pack(coroutine.resume(co, pause))
  if not results[1] then error(debug.traceback(co, results[2]), 0) end
  if coroutine.status(co) == "suspended" then return nil, "interrupted", "cancelled" end
  return table.unpack(results, 2, results.n)
end

local function set_of(list)
  if not list or #list == 0 then return nil end
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

--- Prunes, then collects. What both have removed, by name.
local function remove(app, values, pause)
  local now, message, code = app.store.garbage:time()
  local counts
  if now then
    counts, message, code = prune.run(app, { before = now - values.older_than, statuses = set_of(values.status),
      dry_run = values.dry_run, pause = pause })
  end
  if not counts then return nil, message, code end
  if values.dry_run then return { dry_run = true, runs = counts.runs } end
  local removed
  removed, message, code = garbage.collect(app, { pause = pause })
  if not removed then return nil, message, code end
  counts.orphans, removed.objects = removed.objects, nil
  for name, count in pairs(removed) do counts[name] = count end
  return counts
end

--- Removes runs that have ended, and what is of no use any more.
---@param app table { store, config }
---@param values table { older_than (seconds), status (list), dry_run, output }
---@param context table { terminal, interrupt }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.prune(app, values, context)
  local counts, message, code = until_interrupted(context.interrupt, function(pause)
    return remove(app, values, pause)
  end)
  if not counts then return failed(message, code) end
  if not context.terminal then
    io.write(output.json_line(assert(json.encode(counts, ORDER))), "\n")
  elseif values.dry_run then
    io.write(number(counts.runs, "run"), " would be pruned\n")
  else
    io.write((sentence(counts)))
  end
  return 0
end

return M
