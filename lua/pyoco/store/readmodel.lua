--- Questions to the gateway's read model (host.readmodel; its tables: src/readmodel/writer.c): pages of runs, counts.
---
--- A walk over pages sees each run that was there when it began exactly once, however often runs change meanwhile: a
--- cursor carries the model's write number of the walk's first page (`walk`, `seq`), and a run that was written since
--- stands where it stood then (table past). A cursor without them, of another gateway or too old, goes on by its key.
local clock = require "host.clock"
local statement = require "pyoco.store.readmodel_page"

local M = {}

local WAIT_MS = 1000  -- for the tail to bring what this process has written
local ESTIMATE_SEC = 2
local RARE = 1000     -- runs with a text: up to so many come out of the index of texts, the newest of more are soon met
local PROBE = 200     -- newest runs that are looked at before the index of texts is,
local FREQUENT = 3    -- and how many of them have a text that is soon met often enough
local LAG_MAX = 3000  -- runs that the index of texts lags behind; with more it is still being filled
local PART_MAX = 12   -- characters of a text that are looked up; the rest is compared

local Model = {}
Model.__index = Model

local function reader(self)
  if self.reader then return self.reader end
  local opened, message, code = require("host.readmodel").reader()
  if not opened then return nil, message, code end
  self.reader = opened
  return opened
end

--- Rows of a statement.
local function select(self, sql, ...)
  local open, message, code = reader(self)
  if not open then return nil, message, code end
  return open:select(WAIT_MS, sql, ...)
end

--- About how many runs have that value; a figure of two seconds ago is good enough to choose an index by.
local function estimate(self, column, value)
  local key, now = column .. "\0" .. value, clock.monotonic()
  if now > self.estimates_until then self.estimates, self.estimates_until = {}, now + ESTIMATE_SEC end
  if not self.estimates[key] then
    local rows = select(self, ("SELECT sum(n) FROM counters WHERE %s=?1"):format(column), value)
    self.estimates[key] = rows and rows[1][1] or 0
  end
  return self.estimates[key]
end

--- The filters of a query that are set, and the index to walk.
local function plan(self, query)
  local set, index = {}, nil
  for _, filter in ipairs(statement.FILTERS) do
    if query[filter.name] then set[#set + 1] = filter end
  end
  if #set == 0 then return set, "by_time" end
  if #set == 1 or set[1].column == "schedule" or set[1].column == "sha256" then return set, "by_" .. set[1].column end
  if query.flow and query.status then return set, "by_flow_status" end
  local least = math.huge
  for _, filter in ipairs(set) do
    local n = estimate(self, filter.column, query[filter.name])
    if n < least then index, least = "by_" .. filter.column, n end
  end
  return set, index
end

--- The part of a text that its index is asked for, as FTS5 quotes it; nil when it has none for such a text (of fewer
--- than three characters, or no UTF-8).
local function indexed_part(text)
  local count = utf8.len(text)
  if not count or count < 3 or text:find "%z" then return nil end
  if count > PART_MAX then text = text:sub(1, utf8.offset(text, PART_MAX + 1) - 1) end
  return '"' .. text:gsub('"', '""') .. '"'
end

--- Runs with a rare text: { ids = JSON list, indexed = the last id that the index of texts knew }. Nil when the text
--- is not rare, or not in the index: the runs themselves are gone through then, newest first.
local function look_up(self, text)
  local part = indexed_part(text)
  if not part then return nil end
  local rows, message, code = select(self, ("SELECT t.rowid, m.indexed, (SELECT max(id) FROM runs) FROM meta m"
    .. " LEFT JOIN (SELECT rowid FROM texts WHERE texts MATCH ?1 LIMIT %d) t"):format(RARE + 1), part)
  if not rows then return nil, message, code end
  local indexed, newest = rows[1][2], rows[1][3] or 0
  if #rows > RARE or newest - indexed > LAG_MAX then return nil end
  local ids = {}
  for i, row in ipairs(rows) do ids[i] = row[1] end -- one row without an id when there is none
  return { ids = "[" .. table.concat(ids, ",") .. "]", indexed = indexed }
end

--- Runs of a page, one more than it holds if there are more: {at, run_id, summary, ok, walk, seq}.
local function find(self, query)
  local set, index = plan(self, query)
  local function run(how)
    local sql, values = statement.page(how, set, query)
    return select(self, sql, table.unpack(values))
  end
  if not query.q then return run { index = index } end
  if not query.cursor then -- a text that is met often fills the page out of the newest runs
    local found, message, code = run { index = index, probe = PROBE }
    if not found or #found > query.limit then return found, message, code end
    if #found >= FREQUENT then return run { index = index } end
  end
  local rare, message, code = look_up(self, query.q)
  if message then return nil, message, code end
  return run { index = index, rare = rare }
end

--- A page of runs, newest first.
---@param query table { limit, and what is wanted of: status, flow, tag, tenant_id, workflow_yaml_sha256, schedule_id
---  (equal), updated_after (unix seconds, above), q (text in run_id, flow, worker or error), oldest_first (boolean),
---  cursor = { updated_at, run_id, walk, seq } of an earlier page }
---@return table[]|nil rows { run_id, summary = JSON text }
---@return table|string|nil cursor of the next page, nil when there is none; or the message ("warming")
---@return string|nil code "unavailable"
function Model:page(query)
  local found, message, code = find(self, query)
  if not found then return nil, message, code end
  local rows = {}
  for i = 1, math.min(#found, query.limit) do rows[i] = { run_id = found[i][2], summary = found[i][3] } end
  local last = found[query.limit]
  if #found <= query.limit or not last then return rows end
  local keeps = last[4] == 1
  return rows, { updated_at = last[1], run_id = last[2], walk = last[5], seq = keeps and query.cursor.seq or last[6] }
end

--- Runs of a status that were last updated before a time, oldest first.
---@param status string
---@param before number unix seconds
---@param after table|nil { updated_at, run_id }: only those behind it
---@param limit integer
---@return table[]|nil rows { run_id, updated_at }
---@return string|nil message
---@return string|nil code "unavailable"
function Model:old(status, before, after, limit)
  after = after or { updated_at = -math.huge, run_id = "" }
  local found, message, code = select(self, "SELECT run_id, updated_at FROM runs INDEXED BY by_status WHERE status=?1"
    .. " AND updated_at<?2 AND (updated_at, run_id)>(?3, ?4) ORDER BY updated_at, run_id LIMIT ?5", status, before,
    after.updated_at, after.run_id, limit)
  if not found then return nil, message, code end
  for i, row in ipairs(found) do found[i] = { run_id = row[1], updated_at = row[2] } end
  return found
end

--- Runs that have ended and were last written before a revision.
---@param revision integer
---@param limit integer
---@return string[]|nil run_ids
---@return string|nil message
---@return string|nil code "unavailable"
function Model:ended_before(revision, limit)
  local rows, message, code = select(self, "SELECT run_id FROM runs WHERE rev<?1"
    .. " AND status IN ('COMPLETED', 'FAILED', 'CANCELLED') LIMIT ?2", revision, limit)
  if not rows then return nil, message, code end
  for i, row in ipairs(rows) do rows[i] = row[1] end
  return rows
end

--- How many runs there are by status.
---@param day integer a local date as 20261125
---@param tenant_id string|nil only this tenant's
---@return table[]|nil list { status ("" = none), count, count of that day }, sorted
---@return string|nil message
---@return string|nil code "unavailable"
function Model:counts(day, tenant_id)
  local sql = ("SELECT status, sum(n), sum(CASE WHEN day=?1 THEN n ELSE 0 END) FROM counters %s GROUP BY status"
    .. " ORDER BY status"):format(tenant_id and "WHERE tenant=?2" or "")
  if tenant_id then return select(self, sql, day, tenant_id) end
  return select(self, sql, day)
end

--- How many runs there are by status, of some of them.
---@param query table what is wanted of: flow, tag, tenant_id
---@return table[]|nil list { status ("" = none), count }
---@return string|nil message
---@return string|nil code "unavailable"
function Model:status_counts(query)
  local values, param = statement.parameters()
  local where = { "n>0" }
  for _, filter in ipairs { { "flow", query.flow }, { "tag", query.tag }, { "tenant", query.tenant_id } } do
    if filter[2] then where[#where + 1] = ("%s=%s"):format(filter[1], param(filter[2])) end
  end
  return select(self, ("SELECT status, sum(n) FROM counters WHERE %s GROUP BY status"):format(
    table.concat(where, " AND ")), table.unpack(values))
end

--- Where the model's writes stand now: what is behind it has changed since.
---@return table|nil position { walk, seq } of this filling of the model
---@return string|nil message
---@return string|nil code "unavailable"
function Model:position()
  local rows, message, code = select(self, "SELECT walk, seq FROM meta")
  if not rows then return nil, message, code end
  return { walk = rows[1][1], seq = rows[1][2] }
end

--- Runs of a status that have not been written since a position, in the order of their updated_at.
---@param status string
---@param position table made by position(); one of another filling of the model finds none
---@param after table|nil the last one of an earlier call { run_id, updated_at }
---@param limit integer
---@return table[]|nil list of { run_id, updated_at }
---@return string|nil message
---@return string|nil code "unavailable"
function Model:unchanged(status, position, after, limit)
  local rows, message, code = select(self, "SELECT run_id, updated_at FROM runs INDEXED BY by_status WHERE status=?1"
    .. " AND seq<=?2 AND (updated_at, run_id) > (?3, ?4) AND (SELECT walk FROM meta)=?5"
    .. " ORDER BY updated_at, run_id LIMIT ?6", status, position.seq, after and after.updated_at or -math.huge,
    after and after.run_id or "", position.walk, limit)
  if not rows then return nil, message, code end
  for i, row in ipairs(rows) do rows[i] = { run_id = row[1], updated_at = row[2] } end
  return rows
end

local STATUSES_AT_ONCE = 32

--- What status runs have.
---@param run_ids string[]
---@return table|nil run_id -> status; runs that the model does not know are not there
---@return string|nil message
---@return string|nil code "unavailable"
function Model:statuses(run_ids)
  local found, marks = {}, ("?,"):rep(STATUSES_AT_ONCE):sub(1, -2)
  for from = 1, #run_ids, STATUSES_AT_ONCE do
    local part = table.move(run_ids, from, from + STATUSES_AT_ONCE - 1, 1, {})
    for i = #part + 1, STATUSES_AT_ONCE do part[i] = "" end
    local rows, message, code = select(self, "SELECT run_id, status FROM runs WHERE run_id IN (" .. marks .. ")",
      table.unpack(part))
    if not rows then return nil, message, code end
    for _, row in ipairs(rows) do found[row[1]] = row[2] end
  end
  return found
end

--- Notes a write of this process, so that the next question sees it.
---@param revision integer
function Model:wrote(revision) -- luacheck: no self
  require("host.readmodel").wrote(revision)
end

--- The model of this process, for one VM. Its database is opened when it is first asked.
---@return table
function M.new()
  return setmetatable({ estimates = {}, estimates_until = 0 }, Model)
end

return M
