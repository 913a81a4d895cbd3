--- client.lua dlq list, show, requeue: what could not be run.
local json = require "host.json"
local called = require "pyoco.cli.called"
local output = require "pyoco.cli.output"
local text = require "pyoco.cli.text"
local sorted = require "pyoco.sorted"

local M = {}

local cell = text.cell

local COLUMNS = { "seq", "time", "reason", "flow_name", "tag", "run_id", "error" }
local ERROR_CELLS = 60

local function row_of(letter)
  local row = {}
  for i, name in ipairs(COLUMNS) do row[i] = cell(letter[name]) end
  row[2], row[7] = text.when(letter.timestamp), text.cut(row[7], ERROR_CELLS)
  return row
end

--- dlq list: letters, newest first.
---@param api table
---@param values table { limit, before, reason, flow, tag, output }
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.list(api, values, context)
  local answer, message, code, failure = api:request("GET", "/dlq", { query = { { "limit", values.limit },
    { "before", values.before }, { "reason", values.reason }, { "flow", values.flow }, { "tag", values.tag } } })
  if not answer then return nil, message, code, failure end
  if (values.output or (context.terminal and "table")) ~= "table" then return output.answer(answer) end
  local page, rows = json.decode(answer.body), {}
  for i, letter in ipairs(page.items) do rows[i] = row_of(letter) end
  io.stdout:write(output.table(COLUMNS, rows))
  if page.next_before ~= json.null then
    io.stdout:write(context.paint("dim", ("older ones:  %s dlq list --before %d"):format(
      called.program "client", page.next_before)), "\n")
  end
  return 0
end

--- dlq show: one letter whole.
---@param api table
---@param values table { seq, output }
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.show(api, values, context)
  return output.show(context, function(letter)
    for _, name in ipairs(sorted.keys(letter)) do
      local value = letter[name]
      if type(value) == "table" then value = assert(json.encode(value)) end
      if name == "timestamp" or name == "stored_at" then value = text.when(value) end
      io.stdout:write(text.pad(name, 14), cell(value), "\n")
    end
    if type(letter.run_id) == "string" and letter.requeued_to == json.null then
      io.stdout:write(context.paint("dim", ("run it again:  %s dlq requeue %d"):format(called.program "client",
        values.seq)), "\n")
    end
  end, api:request("GET", ("/dlq/%d"):format(values.seq)))
end

--- dlq requeue: the run of a letter again.
---@param api table
---@param values table { seq, output }
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.requeue(api, values, context)
  return output.show(context, function(run)
    io.stdout:write(("run %s is %s anew, as run %s\n"):format(run.requeued_from, run.status, run.run_id),
      context.paint("dim", ("see it run:  %s watch %s"):format(called.program "client", run.run_id)), "\n")
  end, api:request("POST", ("/dlq/%d/requeue"):format(values.seq)))
end

return M
