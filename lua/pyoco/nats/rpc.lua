--- The two ways to ask NATS something, as one function: rpc(subject, data, timeout_ms, headers).
--- JetStream and KV are written once above it; what waits, a thread or a coroutine, is decided here.
local M = {}

--- rpc over a blocking-mode connection: the calling thread waits.
---@param conn table host.nats blocking-mode connection
---@return fun(subject:string, data:string|nil, timeout_ms:integer|nil, headers:table|nil) rpc: gives a message, or
---nil, message, code
---@return fun(requests:table[], timeout_ms:integer|nil) many: requests { subject, data, headers } in flight together;
---gives a list of replies, each a message or { message, code }; or nil, message, code when nothing was sent
function M.blocking(conn)
  local err = require "pyoco.err" -- here: a slot's VM does without
  return function(subject, data, timeout_ms, headers)
    local reply, message, code = conn:request(subject, data, timeout_ms, headers)
    if reply then return reply end
    err.note_cause(code, message) -- the log tells who asked
    return nil, message, code
  end, function(requests, timeout_ms)
    return conn:request_many(requests, timeout_ms)
  end
end

--- Waits, in a coroutine, until `resume` is called; returns what it was called with. For code that has no engine.
---@param start fun(resume:fun(...)) starts what calls resume, once, at once or later
---@return any ...
function M.await(start)
  local co, is_main = coroutine.running()
  if is_main then error("pyoco.nats.rpc: a loop-mode call waits in a coroutine, not in the main program", 2) end
  local values, is_waiting
  start(function(...)
    if not is_waiting then
      values = table.pack(...)
      return
    end
    local ok, failure = coroutine.resume(co, ...)
    if not ok then error(debug.traceback(co, tostring(failure)), 0) end
  end)
  if values then return table.unpack(values, 1, values.n) end
  is_waiting = true
  return coroutine.yield()
end

--- rpc over a loop-mode connection: the calling coroutine waits.
---@param conn table host.nats loop-mode connection
---@param await nil|fun(start:fun(resume:fun(...))):any how to wait, as engine.await; default M.await
---@return fun(subject:string, data:string|nil, timeout_ms:integer|nil, headers:table|nil) rpc: gives a message, or
---nil, message, code
---@return fun(requests:table[], timeout_ms:integer|nil) many: as M.blocking's
function M.loop(conn, await)
  await = await or M.await
  local function start(subject, data, timeout_ms, headers, done)
    local ok, message, code = conn:request_async(subject, data, timeout_ms, headers, done)
    if not ok then done(nil, message, code) end
  end
  return function(subject, data, timeout_ms, headers)
    return await(function(resume) start(subject, data, timeout_ms, headers, resume) end)
  end, function(requests, timeout_ms)
    local replies, missing = {}, #requests
    if missing == 0 then return replies end
    await(function(resume)
      for i, request in ipairs(requests) do
        start(request[1], request[2], timeout_ms, request[3], function(msg, message, code)
          replies[i] = msg or { message = message, code = code }
          missing = missing - 1
          if missing == 0 then resume() end
        end)
      end
    end)
    return replies
  end
end

return M
