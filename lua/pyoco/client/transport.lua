--- Requests to a gateway, for the client library and for the command line: addresses, the key, multipart bodies, event
--- streams, and failures as nil, message, code, failure. `failure` is { status, body } of an answer that is no success,
--- and nil when there was no answer.
local crypto = require "host.crypto"
local http = require "host.http"
local json = require "host.json"
local sse = require "pyoco.client.sse"

local M = {}

local Transport = {}
Transport.__index = Transport

local CONNECT_TIMEOUT_SEC = 5
local STALL_SEC = 120 -- of large files: the gateway stores what has come before it answers

--- Codes of refusals; the other 4xx are "invalid", 5xx "unavailable".
local CODES = { [401] = "unauthorized", [403] = "forbidden", [404] = "not_found", [409] = "conflict",
  [413] = "too_large", [415] = "unsupported", [429] = "unavailable", [500] = "internal" }

--- Text for a path segment or a query.
---@param text any
---@return string
function M.segment(text)
  return (tostring(text):gsub("[^%w%-_.~]", function(char) return ("%%%02X"):format(char:byte()) end))
end

--- "?a=1&b=2" from a list of { name, value }; nil values are left out.
local function query_text(query)
  local parts = {}
  for _, pair in ipairs(query or {}) do
    if pair[2] ~= nil then parts[#parts + 1] = pair[1] .. "=" .. M.segment(pair[2]) end
  end
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

local function refused(answer, method, path)
  local code = CODES[answer.status] or (answer.status >= 500 and "unavailable" or "invalid")
  return nil, ("HTTP %d %s %s: %s"):format(answer.status, method, path, answer.body), code,
    { status = answer.status, body = answer.body, headers = answer.headers }
end

local function is_success(status) return status >= 200 and status <= 299 end

--- Headers of a request: the given ones, the type of its body, the key.
local function headers_of(self, opts)
  local headers = {}
  for name, value in pairs(opts.headers or {}) do headers[name] = value end
  if opts.body then headers["content-type"] = opts.content_type or "application/json" end
  if self.api_key then headers[self.api_key_header] = self.api_key end
  return headers
end

--- Sends a request and takes 2xx as success.
---@param method string
---@param path string
---@param opts table|nil { query = {{name, value}}, body = text, content_type (default JSON), headers, timeout_sec, and
---  as host.http.request takes them: form, stall_sec, on_headers, on_data, on_idle, idle_ms }
---@return table|nil answer { status, headers, body }
---@return string|nil message
---@return string|nil code "unavailable" | "timeout" | "invalid" | "not_found" | "conflict" | "cancelled" ...
---@return table|nil failure { status, body, headers } of an answer that is no success
function Transport:request(method, path, opts)
  opts = opts or {}
  local answer, message, code = http.request {
    method = method, url = self.base_url .. path .. query_text(opts.query), body = opts.body,
    headers = headers_of(self, opts), timeout_sec = opts.timeout_sec or self.timeout_sec,
    connect_timeout_sec = CONNECT_TIMEOUT_SEC, form = opts.form, stall_sec = opts.stall_sec,
    on_headers = opts.on_headers, on_data = opts.on_data, on_idle = opts.on_idle, idle_ms = opts.idle_ms,
  }
  if not answer then return nil, message, code end
  if not is_success(answer.status) then return refused(answer, method, path) end
  return answer
end

--- Posts a form: fields first, then files, as the reference's client does.
---@param path string
---@param fields table list of { name, text }
---@param files table list of { name, filename, content_type, data }
---@param opts table|nil as request
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Transport:post_form(path, fields, files, opts)
  local all = {}
  for key, value in pairs(opts or {}) do all[key] = value end
  all.body, all.content_type = http.multipart(fields, files)
  return self:request("POST", path, all)
end

--- Posts a form with a file that is read from disk while it is sent. No limit of time, as long as it moves.
---@param path string
---@param fields table list of { name, text }
---@param file table { name, path, filename, content_type }
---@param opts table|nil as request
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Transport:post_file(path, fields, file, opts)
  local all = { timeout_sec = 0, stall_sec = STALL_SEC, form = table.move(fields, 1, #fields, 1, {}) }
  all.form[#fields + 1] = file
  for key, value in pairs(opts or {}) do all[key] = value end
  return self:request("POST", path, all)
end

--- Gets a body of any size into a file, which appears (or is replaced) when it is complete. When the gateway says the
--- body's SHA-256 (as etag) it is checked.
---@param path string
---@param to string the file
---@param opts table|nil as request
---@return table|nil answer { status, headers, size (bytes) }
---@return string|nil message
---@return string|nil code "internal": the file cannot be written, or the body is damaged
---@return table|nil failure
function Transport:get_file(path, to, opts)
  local part = to .. ".part"
  local file, why = io.open(part, "wb")
  if not file then return nil, why, "internal" end
  local all = { timeout_sec = 0, stall_sec = STALL_SEC }
  for key, value in pairs(opts or {}) do all[key] = value end
  local status, size, hasher, refusal, fault = 200, 0, crypto.hasher(), {}, nil
  all.on_headers = function(got) status = got end
  all.on_data = function(bytes)
    if not is_success(status) then
      refusal[#refusal + 1] = bytes
      return true
    end
    size, hasher = size + #bytes, hasher:update(bytes)
    local ok, message = file:write(bytes)
    fault = not ok and message or nil
    return ok ~= nil
  end
  local answer, message, code, failure = self:request("GET", path, all)
  local closed, problem = file:close()
  if failure then
    failure.body = table.concat(refusal)
    message = message .. failure.body
  elseif answer then
    local sha256 = (answer.headers.etag or ""):match('^"(%x+)"$')
    problem = fault or not closed and problem
      or sha256 and #sha256 == 64 and sha256 ~= hasher:hex() and "what came is damaged: its SHA-256 is not " .. sha256
    if problem then answer, message, code = nil, problem, "internal" end
  end
  local moved = answer and os.rename(part, to)
  if not moved then os.remove(part) end
  if not answer then return nil, message, code, failure end
  if not moved then return nil, "cannot write " .. to, "internal" end
  answer.size = size
  return answer
end

--- Follows an event stream until it ends, on_event returns false, or it breaks. Blocks; Ctrl-C ends it.
---@param path string
---@param query table|nil list of { name, value }
---@param on_event fun(event: table): boolean|nil gets { event, data (text), id }
---@param on_idle fun(): boolean|nil called about ten times a second meanwhile; false ends it
---@return table|nil answer { status, headers, stopped }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Transport:stream(path, query, on_event, on_idle)
  local feed, status, body = sse.reader(on_event), 200, {}
  local answer, message, code = http.request {
    url = self.base_url .. path .. query_text(query), timeout_sec = 0, connect_timeout_sec = CONNECT_TIMEOUT_SEC,
    headers = headers_of(self, { headers = { accept = "text/event-stream" } }),
    on_headers = function(got) status = got end,
    on_data = function(chunk)
      if status == 200 then return feed(chunk) end
      body[#body + 1] = chunk
    end,
    on_idle = on_idle, idle_ms = 100,
  }
  if not answer then return nil, message, code end
  answer.body = table.concat(body)
  if answer.status ~= 200 then return refused(answer, "GET", path) end
  return answer
end

local Events = {}
Events.__index = Events

--- Turns the loop once, and reads what has come.
function Events:_turn()
  require("luv").run("once")
  local chunk, status = self.transfer:take()
  if chunk then
    self.status = status
    if status == 200 and chunk ~= "" then self.feed(chunk) elseif chunk ~= "" then self.body = self.body .. chunk end
  end
end

--- The next event, its data decoded; nil when the stream has ended. When it broke, message and code say why, and stay
--- in the fields of these names.
---@return table|nil event { event, data, id }
---@return string|nil message
---@return string|nil code
function Events:next()
  while not self.queue[self.first] and not self.ended do self:_turn() end
  local event = self.queue[self.first]
  if not event then return nil, self.message, self.code end
  self.queue[self.first], self.first = nil, self.first + 1
  return { event = event.event, id = event.id, data = json.decode(event.data) or event.data }
end

--- Ends the stream.
function Events:close()
  self.ended = true
  self.transfer:stop()
end

Events.__call, Events.__close = Events.next, Events.close

--- Takes what the transfer ended with.
local function on_end(self)
  return function(answer, message, code, rest)
    self.ended = true
    if not answer then
      self.message, self.code = message, code
      self.feed(rest)
    elseif answer.status == 200 then
      self.status = 200
      self.feed(answer.body)
    else
      answer.body = self.body .. answer.body
      self.refusal = answer
    end
  end
end

--- Opens an event stream to be read one event at a time, on the VM's event loop:
---   for event in events do ... end
---@param path string
---@param query table|nil list of { name, value }
---@param headers table|nil
---@return table|nil events next(), close(); may be called and closed like an iterator
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Transport:events(path, query, headers)
  local self_headers = { accept = "text/event-stream" }
  for name, value in pairs(headers or {}) do self_headers[name] = value end
  local events = setmetatable({ queue = {}, first = 1, body = "" }, Events)
  local last = 0
  events.feed = sse.reader(function(event)
    last = last + 1
    events.queue[last] = event
  end)
  events.transfer = http.start({ url = self.base_url .. path .. query_text(query), timeout_sec = 0,
    connect_timeout_sec = CONNECT_TIMEOUT_SEC, headers = headers_of(self, { headers = self_headers }) },
    on_end(events))
  while not events.ended and (events.status or 0) ~= 200 do events:_turn() end
  if events.refusal then return refused(events.refusal, "GET", path) end
  if events.message and not events.queue[1] then return nil, events.message, events.code end
  return events
end

--- Closes the connections that this VM has kept.
function Transport.close(_) http.close() end

--- A transport.
---@param base_url string "http://host:port"
---@param opts table|nil { api_key, api_key_header (default X-API-Key), timeout_sec (default 30) }
---@return table
function M.new(base_url, opts)
  opts = opts or {}
  return setmetatable({ base_url = (base_url:gsub("/+$", "")), api_key = opts.api_key,
    api_key_header = opts.api_key_header or "X-API-Key", timeout_sec = opts.timeout_sec or 30 }, Transport)
end

return M
