--- The task roots of a worker's runs, the Lua flows in them, and what is stored of the flow that a run was made of.
local crypto = require "host.crypto"
local task = require "host.task"
local uv = require "luv"
local engine = require "pyoco.engine"
local canonical = require "pyoco.flow.canonical"
local load = require "pyoco.flow.load"
local async = require "pyoco.worker.async"
local filled = require("pyoco.null").filled

local M = {}

local LIST_MAX_SEC = 1

--- The task roots of a run: the configured ones, then the folders of wheels, whose C modules are found as well.
---@param task_path string[]
---@param wheels string[]|nil folders
---@return string[] roots
function M.roots(task_path, wheels)
  if not wheels or #wheels == 0 then return task_path end
  local places = {}
  for i, root in ipairs(wheels) do places[i] = root .. "/?.so;" end
  package.cpath = table.concat(places) .. package.cpath
  return table.move(wheels, 1, #wheels, #task_path + 1, { table.unpack(task_path) })
end

--- Leaves the default folder out when it is not there: a worker that has its flows from wheels needs none.
local function without_default(roots)
  local default, kept = require("pyoco.config").row("task_path")[3], {}
  for _, root in ipairs(roots) do
    if root ~= default[1] or uv.fs_stat(root) then kept[#kept + 1] = root end
  end
  return kept
end

--- The flows, and beside what is wrong with their files, what is with the operator's resolver.
local function list_with_resolver(roots, resolver)
  local list = load.list(roots)
  if not resolver then return list end
  local resolvers = require "pyoco.flow.resolver"
  local resolve, message = resolvers.load(resolver, roots)
  if not resolve then list.errors[#list.errors + 1] = { file = (resolvers.parse(resolver)), message = message } end
  return list
end

--- The Lua flows of the task roots, for the registry. A file that does not come to an end is given up.
---@param roots string[]
---@param has_wheels boolean whether the worker installs wheels
---@param resolver string|nil --flow-resolver: it is loaded too, and what is wrong with it listed
---@return table { flows, errors }
function M.list(roots, has_wheels, resolver)
  if has_wheels then roots = without_default(roots) end
  local stop = async.after(LIST_MAX_SEC, task.cancel)
  local ok, list = engine.guard(list_with_resolver, roots, resolver)
  stop()
  if ok and not task.cancelled() then return list end
  return { flows = {}, errors = { { message = task.cancelled()
    and ("listing the flows took longer than %d s: a file's top level does not end"):format(LIST_MAX_SEC) or list } } }
end

--- Stores what a run was made of, once for each version (DESIGN D15): the compiled graph and the source of a Lua flow,
--- the graph of a bundle's workflow that no gateway has stored.
---@param store table
---@param flow table
---@param image table gets graph_sha256 and source_sha256
function M.publish(store, flow, image)
  local is_unknown = filled(image.bundle_hash) and not filled(image.graph_sha256)
  if not flow.source and not is_unknown then return end
  local graph = canonical.encode(flow.graph)
  image.graph_sha256 = crypto.sha256(graph)
  store.documents:keep(graph, image.graph_sha256)
  if not flow.source then return end
  image.source_sha256 = crypto.sha256(flow.source)
  store.documents:keep(flow.source, image.source_sha256)
end

return M
