--- The gateway as a command line sees it: pyoco.client.transport, whose failures carry as fourth value what output.fail
--- needs: { shape, reason, hints, status }.
local json = require "host.json"
local called = require "pyoco.cli.called"
local transport = require "pyoco.client.transport"

local M = {}

local Api = {}
Api.__index = Api

--- What to do next, by status.
local HINTS = {
  [401] = "the gateway wants a key: --api-key KEY, or PYOCO_API_KEY",
  [403] = "the key is not valid (any more); ask for a new one",
  [404] = "check the id",
  [405] = "this gateway does not know the call; is it of the same version?",
  [409] = "it does not fit what is there; the reason says why",
  [413] = "make it smaller, or raise the gateway's limit (docs/reference/config.md)",
  [422] = "mend what the reason names, and send it again",
  [503] = "NATS or the gateway is not ready; try again in a moment, and look at GET /ready",
}

--- What to do next, by what the refusal says: where the ids of things are to be found, for example.
local DETAILS = {
  ["run not found"] = "check the id; `%s submit` and `submit-yaml` print it",
  ["schedule not found"] = "check the id; `%s schedules` lists them",
  ["wheel not found"] = "check the name; `%s wheels` lists them",
  ["worker not found"] = "check the id; `%s workers --scope all --include-hidden` lists them",
  ["nats unavailable: MaxPayloadError"] = "it is more than NATS takes in one message (its max_payload, 1 MB as it "
    .. "comes): make it smaller, or pass a reference to the data",
  ["dead letter not found"] = "check the number; `%s dlq list` lists them",
}

--- A path segment, escaped: ids come from the command line.
M.segment = transport.segment

--- Lines for the faults of a document: "FILE:LINE:COLUMN: message".
local function document_hints(body, file)
  local hints, answer = {}, json.decode(body)
  for _, fault in ipairs(type(answer) == "table" and type(answer.errors) == "table" and answer.errors or {}) do
    local hint = type(fault.hint) == "string" and " (" .. fault.hint .. ")" or ""
    hints[#hints + 1] = ("%s:%s:%s: %s%s"):format(file or "document", fault.line, fault.column, fault.message, hint)
  end
  return hints
end

local function hint_of(failure)
  local answer = json.decode(failure.body)
  local detail = type(answer) == "table" and DETAILS[answer.detail]
  return detail and detail:format(called.program "client") or HINTS[failure.status] or "the gateway's log says more"
end

--- Passes an answer on; gives a failure its shape and hints.
local function shaped(self, file, answer, message, code, failure)
  if answer then return answer end
  if code == "cancelled" then return nil, message, code end
  if not failure then
    return nil, message, code, { shape = code == "invalid" and "arguments" or "connection", reason = message,
      hints = { ("is the gateway at %s running? Start everything with `%s`, or name another address with "
        .. "--server URL or PYOCO_SERVER_URL"):format(self.transport.base_url, called.program "up") } }
  end
  local hints = document_hints(failure.body, file)
  hints[#hints + 1] = hint_of(failure)
  return nil, message, code, { shape = "http", reason = message, hints = hints, status = failure.status }
end

--- Sends a request and takes 2xx as success.
---@param method string
---@param path string
---@param opts table|nil as transport's, and file (name for document faults)
---@return table|nil { status, headers, body }
---@return string|nil message
---@return string|nil code
---@return table|nil failure { shape, reason, hints, status }
function Api:request(method, path, opts)
  return shaped(self, opts and opts.file, self.transport:request(method, path, opts))
end

--- Posts a form.
---@param path string
---@param fields table list of { name, text }
---@param files table list of { name, filename, content_type, data }
---@param opts table|nil as request
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Api:post_form(path, fields, files, opts)
  return shaped(self, opts and opts.file, self.transport:post_form(path, fields, files, opts))
end

--- Posts a form with a file that is read from disk while it is sent.
---@param path string
---@param fields table list of { name, text }
---@param file table { name, path, filename, content_type }
---@param opts table|nil as request
---@return table|nil answer
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Api:post_file(path, fields, file, opts)
  return shaped(self, nil, self.transport:post_file(path, fields, file, opts))
end

--- Gets a body of any size into a file.
---@param path string
---@param to string
---@param opts table|nil as request
---@return table|nil answer { status, headers, size }
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function Api:get_file(path, to, opts)
  local answer, message, code, failure = self.transport:get_file(path, to, opts)
  if code == "internal" and not failure then
    return nil, message, code, { shape = "file", reason = message,
      hints = { "check the folder, or name another file with --out" } }
  end
  return shaped(self, nil, answer, message, code, failure)
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
  return shaped(self, nil, self.transport:stream(path, query, on_event, on_idle))
end

---@param cfg table server_url, api_key, api_key_header
---@return table
function M.new(cfg)
  return setmetatable({ transport = transport.new(cfg.server_url,
    { api_key = cfg.api_key, api_key_header = cfg.api_key_header }) }, Api)
end

return M
