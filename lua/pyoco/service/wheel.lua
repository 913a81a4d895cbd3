--- The registry of wheels: what POST, GET and DELETE /wheels do (CONTRACT 8, Part A 17.2).
local crypto = require "host.crypto"
local json = require "host.json"
local names = require "pyoco.wheel.name"
local versions = require "pyoco.wheel.version"
local fault = require "pyoco.service.fault"
local history = require "pyoco.service.wheel_history"
local warnings = require "pyoco.service.wheel_warnings"
local or_null = require("pyoco.null").or_null

local M = {}

local TAG = "^[%w_-]+$"
local EQUAL = "wheel version already exists; bump version"
local LOWER = "wheel version must be greater than existing latest version"

--- A wheel as it is served: the program's fields and the specification's.
local function served(wheel)
  return { name = wheel.name, bucket = wheel.bucket, size_bytes = wheel.size, digest = or_null(wheel.digest),
    sha256_b64 = or_null(wheel.digest and wheel.digest:match("^SHA%-256=(.*)$")), sha256_hex = or_null(wheel.sha256),
    mtime = or_null(wheel.mtime), modified = or_null(wheel.modified), nuid = or_null(wheel.nuid),
    tags = json.array(wheel.tags) }
end

--- GET /wheels.
---@param app table { store }
---@return table[]|nil sorted by name
---@return string|nil message
---@return string|nil code "unavailable"
function M.list(app)
  local wheels, message, code = app.store.wheels:list()
  if not wheels then return fault.of_store(message, code) end
  local found = json.array {}
  for _, wheel in ipairs(wheels) do
    if names.is_plain(wheel.name) then found[#found + 1] = served(wheel) end
  end
  return found
end

--- The tags of an upload; nil when one is not of letters, digits, _ and -.
local function tags_of(text)
  local tags, seen = {}, {}
  for tag in (text or ""):gmatch("[^,]+") do
    tag = tag:match("^%s*(.-)%s*$")
    if tag ~= "" then
      if not tag:find(TAG) then return nil end
      if not seen[tag] then tags[#tags + 1] = tag end
      seen[tag] = true
    end
  end
  return json.array(tags)
end

--- The order of the checks is the contract's.
local function check(app, request)
  local file = request.file
  if not names.is_plain(file.filename) then return nil, "invalid wheel name", "invalid" end
  local wheel = names.parse(file.filename)
  if not wheel then return nil, "invalid wheel filename", "invalid" end
  local tags = tags_of(request.tags)
  if not tags then return nil, "invalid wheel tags", "invalid" end
  local limit = app.config.wheel_max_bytes
  if limit > 0 and file.size > limit then return nil, "wheel too large", "too_large" end
  return wheel, tags
end

--- Whether a version may be added to what is stored: it has to be above all others of its package, whatever their
--- platforms. Objects whose names are no wheel's do not count.
local function check_version(wheel, stored)
  local is_lower = false
  for _, other in ipairs(stored) do
    local parsed = names.parse(other.name)
    if parsed and parsed.package == wheel.package then
      local order = versions.compare(wheel.parsed_version, parsed.parsed_version)
      if order == 0 then return nil, EQUAL, "conflict" end
      is_lower = is_lower or order < 0
    end
  end
  if is_lower then return nil, LOWER, "conflict" end
  return true
end

--- Two gateways may have let two files of one package pass at the same time. Both look again once theirs is stored: of
--- what came before it, in the order of the bucket, it has to be the highest version still. If not, it goes again.
local function check_again(app, wheel, made)
  local stored = app.store.wheels:list()
  if not stored then return true end -- it is stored; NATS went away just now
  local before = {}
  for _, other in ipairs(stored) do
    if other.seq < made.seq then before[#before + 1] = other end
  end
  local ok, message, code = check_version(wheel, before)
  if ok then return true end
  local gone, why = app.store.wheels:delete(made.name, made.nuid)
  if not gone then
    app.log:error("a wheel that lost a race could not be withdrawn", { wheel_name = made.name, reason = why })
  end
  return nil, message, code
end

--- Stores the file under its name.
local function store(app, request, tags, sha256)
  local file, reading = request.file, nil
  local source = file.data
  if file.path then
    local why
    reading, why = io.open(file.path, "rb")
    if not reading then return nil, "the upload cannot be read back: " .. why, "internal" end
    source = function(size)
      local bytes, problem = reading:read(size)
      return bytes, problem, problem and "internal"
    end
  end
  local made, message, code = app.store.wheels:create(file.filename, source, { tags = tags, sha256 = sha256,
    content_type = file.content_type })
  if reading then reading:close() end
  if code == "conflict" then return nil, EQUAL, code end
  if not made then return fault.of_store(message, code) end
  if made.sha256 == sha256 then return made end
  app.store.wheels:delete(made.name, made.nuid)
  return nil, ("the upload changed on this gateway's disk: SHA-256 %s, then %s"):format(sha256, made.sha256), "internal"
end

--- POST /wheels.
---@param app table { store, config, log }
---@param caller table { tenant_id, api_key_id } or empty
---@param request table { file = { filename, content_type|nil, size, data (bytes) or path (of a file), sha256 (hex; with
---  path) }, replace (boolean), tags (text with commas, or nil), source (of the history's event) }
---@return table|nil the wheel as it is served, with sha256_hex and warnings (what our workers will make of it)
---@return string|nil message
---@return string|nil code "invalid" | "too_large" | "conflict" | "unavailable"
function M.upload(app, caller, request)
  local wheel, tags, code = check(app, request)
  if not wheel then return nil, tags, code end -- then the second is the message
  local stored, ok, made, message
  stored, message, code = app.store.wheels:list()
  if not stored then return fault.of_store(message, code) end
  ok, message, code = check_version(wheel, stored)
  if not ok then return nil, message, code end
  local warned = warnings.of(app, wheel, request.file)
  local sha256 = request.file.sha256 or crypto.sha256(request.file.data)
  made, message, code = store(app, request, tags, sha256)
  if not made then return nil, message, code end
  ok, message, code = check_again(app, wheel, made)
  if not ok then return nil, message, code end
  history.add(app, caller, { action = "upload", wheel = made, replace = request.replace, source = request.source })
  local answer = served(made)
  answer.warnings = warned
  return answer
end

--- What the store says of a wheel, in the contract's words.
local function found(value, message, code)
  if value then return value end
  if code == "not_found" then return nil, "wheel not found", code end
  return fault.of_store(message, code)
end

--- GET /wheels/{name}: where its bytes are.
---@param app table { store }
---@param name string
---@return table|nil source (pyoco.nats.objects)
---@return string|nil message
---@return string|nil code "not_found" | "unavailable"
function M.source(app, name)
  if not names.is_plain(name) then return nil, "wheel not found", "not_found" end
  return found(app.store.wheels:source(name))
end

--- DELETE /wheels/{name}. Frees the version.
---@param app table { store, log }
---@param caller table
---@param name string
---@param source table of the history's event
---@return table|nil { name, deleted = true }
---@return string|nil message
---@return string|nil code "not_found" | "unavailable"
function M.delete(app, caller, name, source)
  if not names.is_plain(name) then return nil, "wheel not found", "not_found" end
  local wheel, message, code = found(app.store.wheels:info(name))
  if not wheel then return nil, message, code end
  local ok
  ok, message, code = found(app.store.wheels:delete(name))
  if not ok then return nil, message, code end
  history.add(app, caller, { action = "delete", wheel = wheel, source = source })
  return { name = name, deleted = true }
end

return M
