--- `client.lua submit-batch`: many runs out of one file, a result for each.
local called = require "pyoco.cli.called"
local json = require "host.json"
local output = require "pyoco.cli.output"
local params = require "pyoco.cli.params"
local text = require "pyoco.cli.text"

local M = {}

local MAX_RUNS = 1000       -- the gateway's limit
local MAX_BYTES = 1500000   -- its default limit of a body is 2 MB
local ORDER = { order = { "run_id", "status", "bundle_hash", "replayed" }, sort = true }

local function bad_input(message, code)
  local shape = code == "not_found" and "file" or "arguments"
  return nil, message, code or "invalid", { shape = shape, reason = message, hints = { shape == "file"
    and "check the path; it is taken from the current folder, - is standard input"
    or "a run is an object: {\"flow_name\": ..., \"params\": {...}, \"tag\": ..., \"idempotency_key\": ...}" } }
end

local function is_object(value) return type(value) == "table" and value ~= json.null and not json.is_array(value) end

--- The runs of a text that is one JSON array.
local function from_array(bytes, name)
  local list, message = json.decode(bytes)
  if list == nil then return bad_input(("%s: %s"):format(name, message)) end
  for i, value in ipairs(list) do
    if not is_object(value) then return bad_input(("%s: item %d is not a JSON object"):format(name, i)) end
  end
  return list
end

--- The runs of JSON Lines; blank lines are passed over.
local function from_lines(bytes, name)
  local list, number = {}, 0
  for line in (bytes .. "\n"):gmatch "([^\n]*)\n" do
    number = number + 1
    if line:find "%S" then
      local value, message = json.decode(line)
      if value == nil then
        return bad_input(("%s, line %d: %s"):format(name, number, (message:gsub("^line 1 ", ""))))
      end
      if not is_object(value) then return bad_input(("%s, line %d is not a JSON object"):format(name, number)) end
      list[#list + 1] = value
    end
  end
  return list
end

local function read_runs(path)
  local bytes, message, code
  if path == "-" then bytes = io.stdin:read "a" else bytes, message, code = params.read_file(path) end
  if not bytes then return bad_input(message, code) end
  return (bytes:find "^%s*%[" and from_array or from_lines)(bytes, path == "-" and "standard input" or path)
end

--- The bodies to send: as many runs in each as the gateway takes.
local function bodies_of(list)
  local bodies, parts, size = {}, {}, 0
  local function close()
    if #parts > 0 then
      bodies[#bodies + 1] = { text = '{"runs":[' .. table.concat(parts, ",") .. "]}", count = #parts }
    end
    parts, size = {}, 0
  end
  for _, run in ipairs(list) do
    local bytes = assert(json.encode(run))
    if #parts == MAX_RUNS or size + #bytes > MAX_BYTES then close() end
    parts[#parts + 1], size = bytes, size + #bytes + 1
  end
  close()
  return bodies
end

--- Why a run was refused, in one line.
local function reason_of(detail)
  if type(detail) ~= "table" then return tostring(detail) end
  local faults = {}
  for i, item in ipairs(detail) do faults[i] = ("%s: %s"):format(table.concat(item.loc, "."), item.msg) end
  return table.concat(faults, "; ")
end

--- Prints the results of one answer; what a person sees are the refusals only.
local function print_results(results, first, context)
  for i, result in ipairs(results) do
    if not context.terminal then
      io.stdout:write(output.json_line(assert(json.encode(result, ORDER))), "\n")
    elseif result.error then
      io.stdout:write(context.paint("red", "refused"), (" run %d: %s\n"):format(first + i - 1,
        text.clean(reason_of(result.error.detail))))
    end
  end
end

local function cut_short(failure, sent, all)
  if sent > 0 and failure then
    table.insert(failure.hints, 1,
      ("%d of %d runs were answered before; those with an idempotency_key may be sent again"):format(sent, all))
  end
  return failure
end

--- Sends the runs of a file and prints a result for each, in order.
---@param api table
---@param values table file
---@param context table { terminal, paint }
---@return integer|nil exit code: 1 when a run was refused
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.run(api, values, context)
  local list, message, code, failure = read_runs(values.file)
  if not list then return nil, message, code, failure end
  local sent, accepted = 0, 0
  for _, body in ipairs(bodies_of(list)) do
    local answer
    answer, message, code, failure = api:request("POST", "/runs/batch", { body = body.text, timeout_sec = 60 })
    if not answer then return nil, message, code, cut_short(failure, sent, #list) end
    local value = assert(json.decode(answer.body))
    print_results(value.results, sent + 1, context)
    sent, accepted = sent + body.count, accepted + value.accepted
  end
  if context.terminal then
    io.stdout:write(("%d of %d runs are queued\n"):format(accepted, #list),
      context.paint("dim", ("see them:  %s list"):format(called.program "client")), "\n")
  end
  return accepted == #list and 0 or 1
end

return M
