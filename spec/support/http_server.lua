--- A small HTTP server on this process's luv loop, for answers that no healthy gateway gives. One request for each
--- connection; it serves while the spec waits (spec.support.process turns the loop).
local uv = require "luv"

local M = {}

--- The request in a buffer, once it is whole.
local function parse(buffer)
  local head, at = buffer:match("^(.-)\r\n\r\n()")
  if not head then return nil end
  local headers = {}
  for name, value in head:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do headers[name:lower()] = value end
  local body = buffer:sub(at)
  if #body < (tonumber(headers["content-length"]) or 0) then return nil end
  local method, path = head:match("^(%u+) (%S+)")
  return { method = method, path = path, headers = headers, body = body }
end

local function respond(socket, answer)
  local body = answer.body or ""
  local lines = { ("HTTP/1.1 %d X"):format(answer.status or 200), "connection: close" }
  if not answer.stream then lines[#lines + 1] = "content-length: " .. #body end
  for name, value in pairs(answer.headers or { ["content-type"] = "application/json" }) do
    lines[#lines + 1] = name .. ": " .. value
  end
  socket:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. body)
  if not answer.stays_open then
    socket:shutdown(function() if not socket:is_closing() then socket:close() end end)
  end
end

--- Starts a server on a free port.
---@param handler fun(request: table): table gets { method, path, headers, body, and for a
---  response that stays open: send(text), finish() }; gives { status = 200, headers, body,
---  stream = no content-length, stays_open }, or nil to cut the connection
---@return table { url, requests = what came so far, stop() }
function M.start(handler)
  local listener, sockets = uv.new_tcp(), {}
  assert(listener:bind("127.0.0.1", 0))
  local self = { url = "http://127.0.0.1:" .. math.tointeger(listener:getsockname().port), requests = {} }
  listener:listen(16, function()
    local socket, buffer = uv.new_tcp(), ""
    listener:accept(socket)
    sockets[socket] = true
    socket:read_start(function(_, chunk)
      if not chunk then
        if not socket:is_closing() then socket:close() end
        return
      end
      buffer = buffer .. chunk
      local request = parse(buffer)
      if not request then return end
      buffer = ""
      function request.send(text) socket:write(text) end
      function request.finish() socket:shutdown(function() if not socket:is_closing() then socket:close() end end) end
      table.insert(self.requests, request)
      local answer = handler(request)
      if answer then respond(socket, answer) else socket:close() end
    end)
  end)

  --- Closes everything.
  function self.stop()
    listener:close()
    for socket in pairs(sockets) do
      if not socket:is_closing() then socket:close() end
    end
    for _ = 1, 3 do uv.run("nowait") end
  end

  return self
end

return M
