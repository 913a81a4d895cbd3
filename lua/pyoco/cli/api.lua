--- The gateway as a command line sees it. Failures carry, as fourth value, what output.fail needs:
--- { shape, reason, hints }.
local http = require "host.http"
local json = require "host.json"
local sse = require "pyoco.cli.sse"

local M = {}

local Api = {}
Api.__index = Api

--- What to do next, by status.
local HINTS = {
  [401] = "the gateway wants a key: --api-key KEY, or PYOCO_API_KEY",
  [403] = "the key is not valid (any more); ask for a new one",
  [404] = "check the id; `client.lua submit` and `submit-yaml` print it",
  [405] = "this gateway does not know the call; is it of the same version?",
  [413] = "make it smaller, or raise the gateway's limit (docs/reference/config.md)",
  [422] = "mend what the reason names, and send it again",
  [503] = "NATS or the gateway is not ready; try again in a moment, and look at GET /ready",
}

local function encode_component(text)
  return (tostring(text):gsub("[^%w%-_.~]", function(char) return ("%%%02X"):format(char:byte()) end))
end

--- A path segment, escaped: ids come from the command line.
---@param id string
---@return string
function M.segment(id) return encode_component(id) end

--- "?a=1&b=2" from a list of { name, value }; nil values are left out.
local function query_text(query)
  local parts = {}
  for _, pair in ipairs(query or {}) do
    if pair[2] ~= nil then parts[#parts + 1] = pair[1] .. "=" .. encode_component(pair[2]) end
  end
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

--- Lines for the faults of a document: "FILE:LINE:COLUMN: message".
local function document_hints(body, file)
  local hints, answer = {}, json.decode(body)
  for _, fault in ipairs(type(answer) == "table" and type(answer.errors) == "table" and answer.errors or {}) do
    local hint = type(fault.hint) == "string" and " (" .. fault.hint .. ")" or ""
    hints[#hints + 1] = ("%s:%s:%s: %s%s"):format(file or "document", fault.line, fault.column, fault.message, hint)
  end
  return hints
end

--- Turns an answer that is no success into a failure.
local function refused(answer, method, path, file)
  local reason = ("HTTP %d %s %s: %s"):format(answer.status, method, path, answer.body)
  local hints = document_hints(answer.body, file)
  hints[#hints + 1] = HINTS[answer.status] or "the gateway's log says more"
  local code = answer.status == 404 and "not_found" or answer.status == 422 and "invalid" or "unavailable"
  return nil, reason, code, { shape = "http", reason = reason, hints = hints, status = answer.status }
end

local function no_connection(server, message, code)
  if code == "cancelled" then return nil, message, code end
  return nil, message, code, { shape = code == "invalid" and "arguments" or "connection", reason = message,
    hints = { ("is the gateway at %s running? Start everything with `pyoco-host up.lua`, or name another address "
      .. "with --server URL or PYOCO_SERVER_URL"):format(server) } }
end

--- Adds the key, if there is one, to the headers of a request.
local function with_key(self, headers)
  headers = headers or {}
  if self.key then headers[self.key_header] = self.key end
  return headers
end

--- Sends a request and takes 2xx as success.
---@param method string
---@param path string
---@param opts table|nil { query = {{name, value}}, body, content_type, headers, file (name for document
---  faults), timeout_sec }
---@return table|nil { status, headers, body }
---@return string|nil message
---@return string|nil code "unavailable" | "timeout" | "invalid" | "not_found" | "cancelled"
---@return table|nil failure { shape, reason, hints, status }
function Api:request(method, path, opts)
  opts = opts or {}
  local headers = opts.body and { ["content-type"] = opts.content_type or "application/json" } or {}
  for name, value in pairs(opts.headers or {}) do headers[name] = value end
  local answer, message, code = http.request {
    method = method, url = self.server .. path .. query_text(opts.query), body = opts.body,
    headers = with_key(self, headers),
    timeout_sec = opts.timeout_sec or 30, connect_timeout_sec = 5,
  }
  if not answer then return no_connection(self.server, message, code) end
  if answer.status < 200 or answer.status > 299 then return refused(answer, method, path, opts.file) end
  return answer
end

--- Follows an event stream until it ends, on_event returns false, or it breaks.
---@param path string
---@param query table|nil list of { name, value }
---@param on_event fun(event: table): boolean|nil
---@param on_idle fun()|nil called about ten times a second meanwhile
---@return table|nil answer { status, headers, stopped }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Api:stream(path, query, on_event, on_idle)
  local feed, status, body = sse.reader(on_event), 200, {}
  local answer, message, code = http.request {
    url = self.server .. path .. query_text(query), headers = with_key(self, { accept = "text/event-stream" }),
    timeout_sec = 0, connect_timeout_sec = 5,
    on_headers = function(got) status = got end,
    on_data = function(chunk)
      if status == 200 then return feed(chunk) end
      body[#body + 1] = chunk
    end,
    on_idle = on_idle, idle_ms = 100,
  }
  if not answer then return no_connection(self.server, message, code) end
  answer.body = table.concat(body)
  if answer.status ~= 200 then return refused(answer, "GET", path) end
  return answer
end

---@param cfg table server_url, api_key, api_key_header
---@return table
function M.new(cfg)
  return setmetatable({ server = cfg.server_url, key = cfg.api_key, key_header = cfg.api_key_header }, Api)
end

return M
