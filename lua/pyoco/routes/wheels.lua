--- Wheels: the registry of packages (CONTRACT 8.1 to 8.6).
local response = require "pyoco.http.response"
local filters = require "pyoco.routes.filters"
local history = require "pyoco.service.wheel_history"
local wheel = require "pyoco.service.wheel"

--- Where a request came from, for the history.
local function source(req)
  local headers = req.headers
  return { remote_addr = req.remote_addr, x_forwarded_for = headers["x-forwarded-for"],
    x_real_ip = headers["x-real-ip"], user_agent = headers["user-agent"], host = headers.host, scheme = req.scheme }
end

local function printable(text) return text and text:match("^[%g ]+$") end

local function upload(app, req)
  local part = req.body.wheel
  return wheel.upload(app, req.caller, {
    file = { filename = part.filename, content_type = printable(part.content_type), data = part.data, path = part.path,
      sha256 = part.sha256, size = part.size or #part.data },
    replace = req.body.replace, tags = req.body.tags, source = source(req),
  })
end

local function download(app, req)
  local object, message, code = wheel.source(app, req.params.name)
  if not object then return nil, message, code end
  return response.object { object = object, headers = { ["content-type"] = "application/octet-stream",
    ["content-disposition"] = ('attachment; filename="%s"'):format(req.params.name),
    etag = object.sha256 and ('"%s"'):format(object.sha256) } }
end

return {
  { "GET", "/wheels", name = "wheels.list", doc = "All wheels, sorted by name.",
    run = function(app) return wheel.list(app) end },

  { "POST", "/wheels", name = "wheels.upload",
    doc = "Store a wheel under its file name; its version must be above all of its package. Answers what is stored, "
      .. "and as warnings what workers will not like.",
    form = {
      { "wheel", "file", required = true, doc = "The wheel; its file name is its name." },
      { "replace", "boolean", default = true, doc = "Kept for older clients: a version is never replaced." },
      { "tags", "string", doc = "Which workers take it, separated by commas; none = all." },
    },
    upload = { part = "wheel", max = "wheel_max_bytes", too_large = "wheel too large" },
    run = upload },

  { "GET", "/wheels/history", name = "wheels.history", doc = "Who uploaded and deleted wheels, newest first.",
    query = {
      { "limit", "integer", default = 100, ge = 1, le = 500, doc = "At most this many." },
      { "wheel_name", "string", doc = "Only events of this wheel." },
      { "action", "string", doc = "`upload` or `delete`." },
    },
    run = function(app, req)
      return history.list(app, { limit = req.query.limit, wheel_name = filters.word(req.query.wheel_name),
        action = filters.word(req.query.action) })
    end },

  { "GET", "/wheels/:name", name = "wheels.download", doc = "The bytes of a wheel.", run = download },

  { "DELETE", "/wheels/:name", name = "wheels.delete", doc = "Delete a wheel; its version is free again.",
    run = function(app, req) return wheel.delete(app, req.caller, req.params.name, source(req)) end },
}
