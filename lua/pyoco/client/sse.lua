--- Reads server-sent events: chunks of any size in, events out.
local M = {}

--- Makes a reader. `event:` and `data:` lines count, several data lines are joined by newlines, a blank line ends the
--- event; comments and other fields are skipped, `id:` is kept.
---@param on_event fun(event: table): boolean|nil gets { event, data, id }; returning false stops
---@return fun(chunk: string): boolean feed; false once stopped
function M.reader(on_event)
  local rest, name, data, id, stopped = "", nil, {}, nil, false

  local function line_is(line)
    if line == "" then
      if #data > 0 then
        stopped = on_event { event = name or "message", data = table.concat(data, "\n"), id = id } == false
      end
      name, data = nil, {}
      return
    end
    local field, value = line:match("^([^:]*): ?(.*)$")
    if field == "event" then name = value elseif field == "data" then data[#data + 1] = value
    elseif field == "id" then id = value end
  end

  return function(chunk)
    rest = rest .. chunk
    while not stopped do
      local line, after = rest:match("^([^\n]*)\n()")
      if not line then break end
      rest = rest:sub(after)
      line_is((line:gsub("\r$", "")))
    end
    return not stopped
  end
end

return M
