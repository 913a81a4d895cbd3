--- The statement of a page of runs, for pyoco.store.readmodel, which chooses where runs are taken from.
local M = {}

local PAST_MAX = 100000 -- as in src/readmodel/writer.c

--- Filters that are equalities, most selective first. sparse: its index leaves out rows without a value.
M.FILTERS = {
  { name = "schedule_id", column = "schedule", sparse = true },
  { name = "workflow_yaml_sha256", column = "sha256", sparse = true },
  { name = "tenant_id", column = "tenant", sparse = true },
  { name = "status", column = "status" },
  { name = "flow", column = "flow" },
  { name = "tag", column = "tag" },
}

--- Collects parameters: each call gives the placeholder of a value.
---@return any[] values
---@return fun(value: any): string
function M.parameters()
  local values = {}
  return values, function(value)
    values[#values + 1] = value
    return "?" .. #values
  end
end

--- Conditions on the row r of runs.
local function filter_conditions(set, query, param)
  local list = {}
  for _, filter in ipairs(set) do
    list[#list + 1] = ("r.%s=%s"):format(filter.column, param(query[filter.name]))
    if filter.sparse then list[#list + 1] = ("r.%s<>''"):format(filter.column) end
  end
  return list
end

--- Conditions on the texts of r.
local function text_conditions(query, param)
  return query.q and { ("has_text(%s, r.run_id, r.flow, r.worker, r.error)"):format(param(query.q)) } or {}
end

--- Conditions on the place that a run has in the walk, of table t.
local function place_conditions(query, t, param)
  local list = {}
  if query.updated_after then list[#list + 1] = ("%s.updated_at>%s"):format(t, param(query.updated_after)) end
  local cursor = query.cursor
  if cursor then
    list[#list + 1] = ("(%s.updated_at, %s.run_id) %s (%s, %s)"):format(t, t, query.oldest_first and ">" or "<",
      param(cursor.updated_at), param(cursor.run_id))
  end
  return list
end

local function joined(...)
  local all = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #all + 1, all) end
  return #all > 0 and "WHERE " .. table.concat(all, " AND ") or ""
end

--- Where runs are taken from: `how` = { index = an index of them, walked whole or to the `probe`-th run } or
--- { rare = what look_up gives }: those with the text and those too new for the index of texts.
local function source(how, order, set, query, param)
  if how.rare then
    return ("(SELECT value AS id FROM json_each(%s) UNION SELECT id FROM runs WHERE id>%s) c"
      .. " CROSS JOIN runs r ON r.id=c.id"):format(param(how.rare.ids), param(how.rare.indexed))
  end
  local walk = "runs r INDEXED BY " .. how.index
  if not how.probe then return walk end
  return ("(SELECT r.* FROM %s %s ORDER BY r.updated_at %s, r.run_id %s LIMIT %d) r"):format(walk,
    joined(filter_conditions(set, query, param), place_conditions(query, "r", param)), order, order, how.probe)
end

--- The statement of a page: runs that are unchanged since the walk began, and those that have moved, at their places.
--- Its rows: updated_at at the place in the walk, run_id, summary, whether the cursor's walk is still known, walk, seq.
---@param how table where runs are taken from: { index, probe } or { rare = { ids, indexed } }
---@param set table[] rows of FILTERS that the query sets
---@param query table as for Model:page
---@return string sql
---@return any[] values of its parameters
function M.page(how, set, query)
  local values, param = M.parameters()
  local order = query.oldest_first and "ASC" or "DESC"
  local cursor = query.cursor or {}
  local walk, seq = param(cursor.walk or ""), param(cursor.seq or 0)
  local filters = joined(filter_conditions(set, query, param), text_conditions(query, param)):gsub("^WHERE", " AND")
  local limit = param(query.limit + 1)
  local function part(from, t, condition)
    local where = joined({ condition }, place_conditions(query, t, param)) .. filters
    return ("SELECT * FROM (SELECT %s.updated_at AS at, %s.run_id, r.summary FROM %s %s"
      .. " ORDER BY %s.updated_at %s, %s.run_id %s LIMIT %s)"):format(t, t, from, where, t, order, t, order, limit)
  end
  local unchanged = ("(r.seq<=%s OR NOT (SELECT ok FROM v))"):format(seq)
  local parts = { part(source(how, order, set, query, param), "r", unchanged) }
  if cursor.walk then
    parts[2] = part("past p CROSS JOIN runs r ON r.run_id=p.run_id", "p",
      ("p.seq>%s AND p.prev<=%s AND (SELECT ok FROM v)"):format(seq, seq))
  end
  return ("WITH v(ok, walk, seq) AS MATERIALIZED (SELECT walk=%s AND seq>=%s AND seq-%s<%d, walk, seq FROM meta)"
    .. " SELECT at, run_id, summary, (SELECT ok FROM v), (SELECT walk FROM v), (SELECT seq FROM v) FROM (%s)"
    .. " ORDER BY 1 %s, 2 %s LIMIT %s"):format(walk, seq, seq, PAST_MAX, table.concat(parts, " UNION ALL "), order,
    order, limit), values
end

return M
