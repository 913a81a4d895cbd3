--- What happens to a request, as one list of steps. A step gets (app, req) and returns nothing to go on, or the
--- response. Order of the contract (section 6): the shape of the request is checked before the key.
---
--- What a handler sees: req.params (path), req.query, req.body (all validated when the row has schemas; without, query
--- is name -> list of texts and body the raw text), req.raw_body, req.headers, req.method, req.path, req.remote_addr,
--- req.id, req.row, req.caller (empty, until the auth hook sets it), req:json().
local crypto = require "host.crypto"
local json = require "host.json"
local err = require "pyoco.err"
local failure_log = require "pyoco.http.failure_log"
local multipart = require "pyoco.http.multipart"
local response = require "pyoco.http.response"
local validate = require "pyoco.http.validate"

local M = {}

local READS = { GET = true, HEAD = true, OPTIONS = true }

local Request = {}
Request.__index = Request

--- Decodes the body of a route without schema.
---@return any value
---@return string|nil message
---@return string|nil code "invalid" | "too_large"
function Request:json()
  return json.decode(self.raw_body)
end

--- Makes the host's request table the one that handlers see.
---@param req table as httpd hands it over
---@return table req the same table
function M.request(req)
  req.raw_body, req.caller = req.body, {}
  return setmetatable(req, Request)
end

local function invalid(faults) return response.error(422, faults) end

local function content_type(req)
  local header = req.headers["content-type"]
  return header and header:match("^%s*([^;%s]+)"):lower(), header
end

local id_prefix, id_count = nil, 0 -- random for each VM, then counted: an id costs next to nothing

--- An id from the client is kept when it is a plain token.
local function give_id(_, req)
  local given = req.headers["x-request-id"]
  if given and #given <= 128 and given:find("^[%w._-]+$") then
    req.id = given
    return
  end
  id_prefix, id_count = id_prefix or crypto.hex_encode(crypto.random(6)), id_count + 1
  req.id = ("%s-%x"):format(id_prefix, id_count)
end

--- HEAD of a row with `head` is a GET whose answer goes without its body. Others are 405, as the contract has it.
local function find_row(app, req)
  local row, params, allow = app.router:find(req.method, req.raw_path)
  if not row and req.method == "HEAD" and params == "method" then
    local get, get_params = app.router:find("GET", req.raw_path)
    if get and get.head then return get, get_params end
  end
  return row, params, allow
end

local function route(app, req)
  local row, params, allow = find_row(app, req)
  if row then
    req.row, req.params = row, params
    return
  end
  if params == "method" then return response.error(405, "Method Not Allowed", nil, { allow = allow }) end
  local shorter = req.raw_path:match("^(/.*[^/])/+$")
  if shorter and select(2, app.router:find(req.method, shorter)) ~= "not_found" then
    local query = req.query_string ~= "" and "?" .. req.query_string or ""
    return response.redirect(shorter .. query)
  end
  return response.error(404, "Not Found")
end

--- Without keys, a browser on another site could act for us: refuse what changes state (Part A, cross-site requests).
local function same_site(app, req)
  local origin = req.headers.origin
  if not origin or READS[req.method] or app.authenticate_fn then return end
  if origin:match("^%a+://(.+)$") ~= req.headers.host then
    return response.error(403, "cross-site request refused: its origin " .. origin .. " is not this server; " ..
      "use the API from the same address, or turn on API keys")
  end
end

local function read_query(_, req)
  local values = req.query_string == "" and {} or multipart.query(req.query_string)
  req.query_texts = values
  if not req.row.query then
    req.query = values
    return
  end
  local query, faults = validate.query(req.row.query, values)
  if not query then return invalid(faults) end
  req.query = query
end

local function no_body(req, schema)
  local faults = validate.absent_body(schema)
  if faults then return invalid(faults) end
  req.body = validate.body(schema, {})
end

local function read_json(req, schema)
  if req.raw_body == "" then return no_body(req, schema) end
  local kind = content_type(req)
  if kind and kind ~= "application/json" and not kind:find("^application/[%w.-]+%+json$") then
    return response.error(415, "content-type " .. kind .. " is not taken here; send application/json")
  end
  local value, message, code, place = json.decode(req.raw_body)
  if value == nil and message then
    if code == "too_large" then return response.error(413, message) end
    return invalid(validate.broken_json(message, place))
  end
  if value == json.null then return no_body(req, schema) end
  local body, faults = validate.body(schema, value)
  if not body then return invalid(faults) end
  req.body = body
end

--- A body that is the file itself: its other fields come as query parameters.
local function raw_parts(req, part_name, kind)
  local parts = { { name = part_name, filename = part_name, content_type = kind, data = req.raw_body } }
  for name, values in pairs(req.query_texts) do
    parts[#parts + 1] = { name = name, data = values[#values] }
  end
  return parts
end

local function form_parts(req)
  if req.parts then return multipart.received(req.parts) end
  local kind, header = content_type(req)
  if req.raw_body == "" and not kind then return {} end
  if kind == "multipart/form-data" then return multipart.parse(req.raw_body, header) end
  if kind == "application/x-www-form-urlencoded" then return multipart.urlencoded(req.raw_body) end
  local raw = req.row.raw
  if raw and raw.types[kind or ""] then return raw_parts(req, raw.part, kind) end
  local wanted = { "multipart/form-data" }
  for name in pairs(raw and raw.types or {}) do wanted[#wanted + 1] = name end
  table.sort(wanted)
  return nil, ("content-type %s is not taken here; send %s"):format(kind or "(none)", table.concat(wanted, ", ")),
    "unsupported"
end

local function read_form(req, schema)
  local parts, message, code = form_parts(req)
  if not parts then return response.error(err.status(code), message) end
  local body, faults = validate.form(schema, parts)
  if not body then return invalid(faults) end
  req.body = body
end

local function read_body(_, req)
  if req.row.body then return read_json(req, req.row.body) end
  if req.row.form then return read_form(req, req.row.form) end
end

--- An expected failure as its response. detail: a table beside the text, `errors` of documents; or the items of a 422.
---@param message string
---@param code string
---@param detail table|nil of a 429: { retry_after = seconds }
---@return table response
function M.failure(message, code, detail)
  local status = err.status(code)
  if status == 500 then return response.text("Internal Server Error", 500) end
  if status == 429 then
    return response.error(429, message, nil, { ["retry-after"] = ("%d"):format(detail and detail.retry_after or 1) })
  end
  local headers = status == 503 and { ["retry-after"] = "1" } or nil
  return response.error(status, err.public(message), type(detail) == "table" and { errors = detail } or nil, headers)
end

local function authenticate(app, req)
  local is_public = req.row.public
  if type(is_public) == "function" then is_public = is_public(app) end
  if not app.authenticate_fn or is_public then return end
  local ok, message, code, detail = app.authenticate_fn(app, req)
  if response.is(ok) then return ok end
  if not ok then return M.failure(message, code, detail) end
end

local function run(app, req)
  local row = req.row
  local value, message, code, detail = row.run(app, req)
  if response.is(value) then return value end
  if value ~= nil then return response.json(value) end
  if message == nil then
    error(("the handler of %s %s returned nothing; return a value, a response, or nil, message, code"):format(
      row.method, row.path))
  end
  local answer = M.failure(message, code, detail)
  if message == "warming" and READS[req.method] and not req.has_waited then
    answer.wants = "runs" -- C waits for them, and asks once more
  else
    failure_log.write(app, req, message, code, detail)
  end
  return answer
end

--- The steps, in order: { name, function }. A script may insert its own.
M.steps = {
  { "id", give_id },
  { "route", route },
  { "same_site", same_site },
  { "query", read_query },
  { "body", read_body },
  { "authenticate", authenticate },
  { "run", run },
}

local AROUND_BYTES = 1048576 -- the most that a body has beside its file

--- Whether a request whose body has not been read may come as an upload: its file on disk, whatever its size. The key
--- is asked for here already: strangers get no disk.
---@param app table
---@param req table made by M.request; its body is not there
---@return table|nil { upload = { part, boundary, max_bytes (0 = no limit), too_large = text } }, or a response that
---  refuses it; nil when the route takes none
function M.admit(app, req)
  give_id(app, req)
  if route(app, req) or not req.row.upload then return nil end
  local refusal = same_site(app, req) or read_query(app, req) or authenticate(app, req)
  if refusal then return refusal end
  local upload = req.row.upload
  local boundary = multipart.boundary(select(2, content_type(req)))
  if not boundary then return response.error(422, "multipart body: the content-type has no boundary") end
  local max, declared = math.max(0, app.config[upload.max]), tonumber(req.headers["content-length"])
  if max > 0 and declared and declared > max + AROUND_BYTES then
    req.body = { [upload.part] = { size = declared } }
    failure_log.write(app, req, upload.too_large, "too_large")
    return response.error(413, upload.too_large)
  end
  return { upload = { part = upload.part, boundary = boundary, max_bytes = max, too_large = upload.too_large } }
end

--- Runs the steps. Raises what they raise.
---@param app table
---@param req table made by M.request
---@return table response
function M.run(app, req)
  err.take_cause() -- of a request before
  for _, step in ipairs(app.steps) do
    local answer = step[2](app, req)
    if answer then return answer end
  end
  error "no step gave a response"
end

return M
