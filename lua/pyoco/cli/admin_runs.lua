--- admin.lua runs prune.
local json = require "host.json"
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

local function set_of(list)
  if not list or #list == 0 then return nil end
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

--- Removes runs that have ended, and what is of no use any more.
---@param app table { store, config }
---@param values table { older_than (seconds), status (list), dry_run, output }
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.prune(app, values, context)
  local now, message, code = app.store.garbage:time()
  if not now then return failed(message, code) end
  local counts
  counts, message, code = prune.run(app, { before = now - values.older_than, statuses = set_of(values.status),
    dry_run = values.dry_run })
  if not counts then return failed(message, code) end
  if values.dry_run then
    counts = { dry_run = true, runs = counts.runs }
  else
    local removed
    removed, message, code = garbage.collect(app)
    if not removed then return failed(message, code) end
    counts.orphans, removed.objects = removed.objects, nil
    for name, count in pairs(removed) do counts[name] = count end
  end
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
