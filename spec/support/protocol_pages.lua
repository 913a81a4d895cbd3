--- docs/protocol/: pages that are written whole (http.md, commands.md, openapi.json), and tables in pages that people
--- write, between `<!-- table: NAME -->` and `<!-- end -->`. All of them come from the tables that the programs use.
local json = require "host.json"
local config = require "pyoco.config"
local err = require "pyoco.err"
local gateway = require "pyoco.gateway"
local outcome = require "pyoco.worker.outcome"
local resource = require "pyoco.store.resource"
local snapshot = require "pyoco.run.snapshot"
local sorted = require "pyoco.sorted"
local states = require "pyoco.run.states"
local wire = require "pyoco.run.wire"

local M = {}

local function defaults() return assert(config.load { env = {}, cwd = "/nonexistent" }) end

local function markdown(heads, rows)
  local lines = { "| " .. table.concat(heads, " | ") .. " |", "|" .. ("---|"):rep(#heads) }
  for _, row in ipairs(rows) do lines[#lines + 1] = "| " .. table.concat(row, " | ") .. " |" end
  return table.concat(lines, "\n")
end

--- A list of keys as text of lines that are not too long.
local function key_list(keys)
  local lines, line = {}, ""
  for _, key in ipairs(keys) do
    local piece = "`" .. key .. "` "
    if #line + #piece > 110 then lines[#lines + 1], line = line:gsub(" $", ""), "" end
    line = line .. piece
  end
  lines[#lines + 1] = line:gsub(" $", "")
  return table.concat(lines, "\n")
end

local function days(ns) return ns and ns > 0 and ("%g days"):format(ns / 86400e9) or "none" end

--- The variable that names a bucket or stream.
local function variable(name, cfg)
  for _, section in ipairs(config.sections()) do
    for _, row in ipairs(section[3]) do
      if cfg[row[1]] == name and row.env then return "`" .. row.env .. "`" end
    end
  end
  return "fixed"
end

--- Name of a table -> its text.
M.TABLES = {
  states = function()
    local rows = {}
    for i, move in ipairs(states.MOVES) do rows[i] = { move[1], move[3], move[4], move.doc } end
    return markdown({ "from", "to", "who", "when" }, rows)
  end,
  outcomes = function()
    local rows = {}
    for _, name in ipairs(sorted.keys(outcome.TABLE)) do
      local row = outcome.TABLE[name]
      local delay = row.delay == "ack_wait" and " after ack_wait" or row.delay_sec and row.delay_sec > 0
        and (" after %g s"):format(row.delay_sec) or ""
      rows[#rows + 1] = { "`" .. name .. "`", row.ack .. delay, row.dlq and "`" .. row.dlq .. "`" or "", row.doc }
    end
    return markdown({ "outcome", "the message", "dead letter", "when" }, rows)
  end,
  streams = function()
    local cfg, rows = defaults(), {}
    for i, one in ipairs(resource.streams(cfg)) do
      rows[i] = { "`" .. one.name .. "`", "`" .. one.subjects[1] .. "`", one.retention, days(one.max_age),
        one.max_msgs and tostring(one.max_msgs) or "none" }
    end
    return markdown({ "stream", "subjects", "retention", "age limit", "message limit" }, rows)
  end,
  buckets = function()
    local cfg, rows = defaults(), {}
    for i, one in ipairs(resource.buckets(cfg)) do
      rows[i] = { "`" .. one.bucket .. "`", variable(one.bucket, cfg), tostring(one.history),
        days(one.max_age_sec and one.max_age_sec * 1e9) }
    end
    return markdown({ "bucket", "named by", "history", "age limit" }, rows)
  end,
  objects = function()
    local cfg, rows = defaults(), {}
    for i, one in ipairs(resource.object_stores(cfg)) do
      rows[i] = { "`" .. one.bucket .. "`", variable(one.bucket, cfg) }
    end
    return markdown({ "object store", "named by" }, rows)
  end,
  errors = function()
    local rows = {}
    for _, name in ipairs(sorted.keys(err.codes)) do
      rows[#rows + 1] = { "`" .. name .. "`", tostring(err.codes[name].status), err.codes[name].doc }
    end
    return markdown({ "code", "HTTP status", "meaning" }, rows)
  end,
  events = function()
    local rows = {}
    for _, name in ipairs(sorted.keys(err.events)) do
      local err_id, msg_id, level = err.ids(name)
      rows[#rows + 1] = { "`" .. err_id .. "`, `" .. msg_id .. "`", level, (name:gsub("_", " ")) }
    end
    return markdown({ "ids", "level", "event" }, rows)
  end,
  ["initial flow"] = function() return key_list(snapshot.INITIAL_KEYS.flow) end,
  ["initial yaml"] = function() return key_list(snapshot.INITIAL_KEYS.yaml) end,
  ["initial bundle"] = function() return key_list(snapshot.INITIAL_KEYS.bundle) end,
  ["worker snapshot"] = function() return key_list(snapshot.WORKER_KEYS) end,
}
for name, keys in pairs(wire.KEYS) do M.TABLES[name] = function() return key_list(keys) end end

--- A page with its tables as they are now.
---@param text string
---@return string text
---@return table names of the tables that it has
function M.render(text)
  local names = {}
  local fresh = text:gsub("(<!%-%- table: ([%l ]+) %-%->\n).-(<!%-%- end %-%->)", function(head, name, tail)
    names[#names + 1] = name
    local make = assert(M.TABLES[name], "no table is called " .. name)
    return head .. make() .. "\n" .. tail
  end)
  return fresh, names
end

--- The pages that are written whole: path -> text.
---@return table<string, string>
function M.whole()
  local openapi = gateway.openapi()
  return {
    ["docs/protocol/openapi.json"] = openapi,
    ["docs/protocol/http.md"] = require("pyoco.http.openapi_doc").markdown(json.decode(openapi)),
    ["docs/protocol/commands.md"] = require("pyoco.cli.commands_doc").markdown { require("pyoco.cli.client").program,
      require("pyoco.cli.admin").program, require("pyoco.gateway.main").PROGRAM, require("pyoco.worker").PROGRAM,
      require("pyoco.up.server").program, require("pyoco.up.main").program },
  }
end

--- The pages with tables among their text.
M.PAGES = { "docs/protocol/nats.md", "docs/protocol/errors.md" }

return M
