--- Lists of runs (CONTRACT 7.9), out of the read model.
local crypto = require "host.crypto"
local json = require "host.json"
local fault = require "pyoco.service.fault"

local M = {}

local CURSOR_MAX = 1024

--- base64url of {"u": updated_at, "r": run_id}; w and s are ours (pyoco.store.readmodel).
local function encode_cursor(cursor)
  return crypto.base64url_encode((assert(json.encode({ u = cursor.updated_at, r = cursor.run_id, w = cursor.walk,
    s = cursor.seq }))))
end

--- The cursor of a text, or nil when it is none.
local function decode_cursor(text)
  if #text > CURSOR_MAX then return nil end
  local bytes = crypto.base64url_decode((text:gsub("=+$", "")))
  local value = bytes and json.decode(bytes)
  if type(value) ~= "table" or type(value.u) ~= "number" or type(value.r) ~= "string" then return nil end
  local is_walk = type(value.w) == "string" and math.type(value.s) == "integer"
  return { updated_at = value.u + 0.0, run_id = value.r, walk = is_walk and value.w or nil,
    seq = is_walk and value.s or nil }
end

local function given(text)
  if text ~= nil and text ~= "" then return text end
end

local FIELDS = { status = "status", flow = "flow_name", tag = "tag" }

--- Whole snapshots of a page. One that is gone or has changed so that it fits no more is left out.
local function whole(app, rows, query)
  local ids = {}
  for i, row in ipairs(rows) do ids[i] = row.run_id end
  local found, message, code = app.store.runs:get_many(ids)
  if not found then return nil, message, code end
  local list = {}
  for i = 1, #ids do
    local snapshot, fits = found[i], true
    for filter, field in pairs(FIELDS) do
      fits = fits and snapshot and (not query[filter] or snapshot[field] == query[filter])
    end
    if fits then list[#list + 1] = snapshot end
  end
  return list
end

--- GET /runs.
---@param app table { store with model }
---@param caller table { tenant_id }
---@param request table { status, flow, tag, workflow_yaml_sha256, schedule_id, q (texts; "" = not given),
---  updated_after, limit, cursor (text), full, oldest_first (booleans) }
---@return string|nil body JSON: a list, or { items, next_cursor }
---@return string|nil message
---@return string|nil code "invalid" | "unavailable"
function M.runs(app, caller, request)
  local query = { limit = request.limit, updated_after = request.updated_after, oldest_first = request.oldest_first,
    tenant_id = caller.tenant_id }
  for _, name in ipairs { "status", "flow", "tag", "workflow_yaml_sha256", "schedule_id", "q" } do
    query[name] = given(request[name])
  end
  if given(request.cursor) then
    query.cursor = decode_cursor(request.cursor)
    if not query.cursor then return nil, "invalid list query", "invalid" end
  end
  local status = app.store:status()
  if status ~= "connected" then return fault.of_store("NATS is " .. status, "unavailable") end
  local rows, cursor, code = app.store.model:page(query)
  if not rows then return nil, cursor, code end

  local items = {}
  if request.full then
    local list, message
    list, message, code = whole(app, rows, query)
    if not list then return fault.of_store(message, code) end
    for i, snapshot in ipairs(list) do items[i] = assert(json.encode(snapshot)) end
  else
    for i, row in ipairs(rows) do items[i] = row.summary end
  end
  local array = "[" .. table.concat(items, ",") .. "]"
  if not (request.updated_after or request.cursor or query.workflow_yaml_sha256) then return array end
  local next_cursor = cursor and '"' .. encode_cursor(cursor) .. '"' or "null"
  return '{"items":' .. array .. ',"next_cursor":' .. next_cursor .. "}"
end

--- How many runs there are by status.
---@param app table { store with model }
---@param caller table { tenant_id }
---@param request table { flow, tag } texts, "" = not given
---@return table|nil { counts = { [status] = count }, total }; a run without status counts as UNKNOWN
---@return string|nil message
---@return string|nil code "unavailable"
function M.counts(app, caller, request)
  local status = app.store:status()
  if status ~= "connected" then return fault.of_store("NATS is " .. status, "unavailable") end
  local rows, message, code = app.store.model:status_counts { flow = given(request.flow), tag = given(request.tag),
    tenant_id = caller.tenant_id }
  if not rows then return nil, message, code end
  local answer = { counts = {}, total = 0 }
  for _, row in ipairs(rows) do
    answer.counts[row[1] == "" and "UNKNOWN" or row[1]] = row[2]
    answer.total = answer.total + row[2]
  end
  return answer
end

return M
