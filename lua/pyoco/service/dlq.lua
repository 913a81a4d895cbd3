--- Dead letters as a caller sees them, and their runs made anew (decision 0019).
---
--- A letter is never changed or removed by us: the stream's own limits do that. The run that it is requeued as has an
--- id derived from it, so that requeueing twice gives one run, and whether it was done can be told without being noted.
local json = require "host.json"
local ids = require "pyoco.run.id"
local states = require "pyoco.run.states"
local access = require "pyoco.service.access"
local bundle = require "pyoco.service.bundle"
local fault = require "pyoco.service.fault"
local submit = require "pyoco.service.submit"
local present = require("pyoco.null").present

local M = {}

local TAG = "^[%w_-]+$"
local CHUNK = 128
local LOOKED_AT_MAX = 10000 -- of letters that a filter or a tenant leaves out, for one page

--- The id of the run that a letter becomes.
local function requeued_id(letter)
  return ids.derived(("pyoco dead letter %d %s %s"):format(letter.seq, letter.subject, letter.data))
end

--- A letter as it is shown: its body's fields, and where it is kept.
local function shown(letter, with_payload)
  local item = {}
  local body = letter.body or { reason = "unreadable", error = "not a JSON object" }
  for name, value in pairs(body) do item[name] = value end
  item.seq, item.stored_at, item.dlq_subject = letter.seq, letter.stored_at, letter.subject
  if not with_payload then item.payload = nil end
  return item
end

local function fits(caller, letter, filter)
  if not access.may_see(caller, letter.body or {}) then return false end
  local body = letter.body or {}
  return (not filter.reason or body.reason == filter.reason) and (not filter.flow or body.flow_name == filter.flow)
    and (not filter.tag or letter.subject:match "[^.]+$" == filter.tag)
end

--- GET /dlq: letters, newest first.
---@param app table { store }
---@param caller table { tenant_id }
---@param query table { limit, before (sequence), reason, flow, tag }
---@return table|nil { items, next_before = sequence for the next page or null }
---@return string|nil message
---@return string|nil code "unavailable"
function M.list(app, caller, query)
  local items, before, looked_at = json.array {}, query.before, 0
  local picks = query.reason or query.flow or query.tag or present(caller.tenant_id)
  local chunk = picks and CHUNK or query.limit + 1
  repeat
    local letters, older, code = app.store.dlq:page(before, chunk)
    if not letters then
      if code ~= "not_found" then return fault.of_store(older, code) end
      letters, older = {}, nil -- nobody has made the stream yet
    end
    before = older
    for _, letter in ipairs(letters) do
      if fits(caller, letter, query) then
        if #items == query.limit then return { items = items, next_before = items[#items].seq } end
        items[#items + 1] = shown(letter)
      end
    end
    looked_at = looked_at + chunk
  until not before or looked_at >= LOOKED_AT_MAX
  return { items = items, next_before = before or json.null }
end

--- The letter of a sequence, if the caller may see it.
local function find(app, caller, seq)
  local letter, message, code
  if math.type(seq) == "integer" and seq > 0 then letter, message, code = app.store.dlq:get(seq) end
  if not letter and code and code ~= "not_found" then return fault.of_store(message, code) end
  if not letter or not access.may_see(caller, letter.body or {}) then
    return nil, "dead letter not found", "not_found"
  end
  return letter
end

--- GET /dlq/{seq}: a letter whole, and the run that it was requeued as.
---@param app table { store }
---@param caller table
---@param seq integer
---@return table|nil letter with requeued_to = run_id or null
---@return string|nil message "dead letter not found"
---@return string|nil code
function M.get(app, caller, seq)
  local letter, message, code = find(app, caller, seq)
  if not letter then return nil, message, code end
  local run_id = requeued_id(letter)
  local run, why, failed = app.store.runs:get_raw(run_id)
  if not run and failed ~= "not_found" then return fault.of_store(why, failed) end
  local item = shown(letter, true)
  item.requeued_to = run and run_id or json.null
  return item
end

--- The run that a letter is about, if it can be made anew.
local function original(app, caller, letter)
  local run_id = letter.body and letter.body.run_id
  if type(run_id) ~= "string" then
    return nil, ("it is about no run, but a message that is no job: %s"):format(
      tostring(letter.body and letter.body.error or "unreadable")), "conflict"
  end
  local run, message, code = app.store.runs:get(run_id)
  if not run and code ~= "not_found" and code ~= "invalid" then return fault.of_store(message, code) end
  if not access.may_see(caller, run) then
    return nil, ("run %s is no more: its parameters are not known; submit it again"):format(run_id), "conflict"
  end
  if not states.is_terminal(run.status) then
    return nil, ("run %s is %s: it has not ended"):format(run_id, tostring(run.status)), "conflict"
  end
  if type(run.tag) ~= "string" or not run.tag:find(TAG) then
    return nil, ("run %s has the tag %s, which is none"):format(run_id, tostring(run.tag)), "conflict"
  end
  if present(run.parent_run_id) then
    return nil, ("run %s was spawned by run %s: requeue that one"):format(run_id, tostring(run.parent_run_id)),
      "conflict"
  end
  return run
end

--- The document of a run.
local function document_of(app, run, hash, what)
  local text, message, code = app.store.documents:get(hash)
  if text then return text end
  if code ~= "not_found" then return fault.of_store(message, code) end
  return nil, ("the %s of run %s is not stored here; submit it again"):format(what, run.run_id), "conflict"
end

--- Submits a run like another.
local function submit_like(app, caller, run, opts)
  if present(run.bundle_hash) then
    local text, message, code = document_of(app, run, run.bundle_hash, "bundle")
    if not text then return nil, message, code end
    return bundle.submit(app, caller, { bundle = text, tag = run.tag, params = run.params }, opts)
  end
  if present(run.workflow_yaml_sha256) then
    local text, message, code = document_of(app, run, run.workflow_yaml_sha256, "document")
    if not text then return nil, message, code end
    opts.schedule_id = run.schedule_id
    return submit.yaml(app, caller, { workflow = text, flow_name = run.flow_name, tag = run.tag, params = run.params },
      opts)
  end
  return submit.flow(app, caller, { flow_name = run.flow_name, params = run.params, tag = run.tag,
    tags = type(run.tags) == "table" and run.tags or nil }, opts)
end

--- POST /dlq/{seq}/requeue: the run of a letter again, as a new one. A second time it is the same new one.
---@param app table { store, config }
---@param caller table
---@param seq integer
---@return table|nil { run_id, status, bundle_hash, requeued_from }
---@return string|nil message
---@return string|nil code "not_found" | "conflict": it cannot be requeued, the message says why | "unavailable"
---@return table|nil errors of a document that is wrong by now
function M.requeue(app, caller, seq)
  local letter, message, code = find(app, caller, seq)
  if not letter then return nil, message, code end
  local run
  run, message, code = original(app, caller, letter)
  if not run then return nil, message, code end
  local owner = { tenant_id = run.tenant_id, api_key_id = caller.api_key_id or run.api_key_id } -- it stays theirs
  local answer, errors
  answer, message, code, errors = submit_like(app, owner, run, { run_id = requeued_id(letter),
    extra = { requeued_from = run.run_id } })
  if not answer then return nil, message, code, errors end
  answer.requeued_from = run.run_id
  return answer
end

return M
