--- Makes a wheel for our workers from a folder: the same folder gives the same bytes. The folder holds modules and
--- flows as a task root does and, for what the wheel is called, a `wheel.lua` that returns
---
---   { name, version, summary, tags, license, author, author_email, urls = { label = url },
---     entry_points = { group = { name = value } } }
---
--- It is data: it runs with no globals. A README is the wheel's description; what is hidden, spec/, dist/ and *.whl
--- stay out.
local archive = require "host.archive"
local crypto = require "host.crypto"
local host = require "host"
local uv = require "luv"
local fit = require "pyoco.wheel.fit"
local headers = require "pyoco.wheel.headers"
local names = require "pyoco.wheel.name"
local paths = require "pyoco.wheel.paths"
local versions = require "pyoco.wheel.version"
local sorted = require "pyoco.sorted"

local M = {}

local DESCRIPTION = "wheel.lua"
local LEFT_OUT = { [DESCRIPTION] = true, spec = true, dist = true } -- at the top of the folder
local PROGRAM_MODE, FILE_MODE = 493, 420
local FIELDS = { name = "string", version = "string", summary = "string", tags = "string", license = "string",
  author = "string", author_email = "string", urls = "table", entry_points = "table" }

local function read_file(path)
  local file <close>, message = io.open(path, "rb")
  if not file then return nil, message end
  return file:read("a")
end

-- what the wheel is called -------------------------------------------------------------------------------------

--- Reads wheel.lua; an empty description when there is none.
local function read_description(dir)
  local path = dir .. "/" .. DESCRIPTION
  if not uv.fs_stat(path) then return {} end
  local text, message = read_file(path)
  local chunk
  if text then chunk, message = load(text, "@" .. path, "t", {}) end
  if not chunk then return nil, message end
  local ok, value = pcall(chunk)
  if not ok then return nil, tostring(value) end
  if type(value) ~= "table" then return nil, path .. " does not return a table" end
  for key, item in pairs(value) do
    local wanted = FIELDS[key]
    if not wanted then return nil, ("%s: unknown field '%s'"):format(path, tostring(key)) end
    if type(item) ~= wanted then return nil, ("%s: %s is a %s, not a %s"):format(path, key, type(item), wanted) end
  end
  return value
end

--- The description with what the command line says instead, checked and in normal form.
local function complete(spec, opts, has_native)
  for _, key in ipairs { "name", "version", "tags" } do spec[key] = opts[key] or spec[key] end
  for _, key in ipairs { "name", "version" } do
    if not spec[key] then
      return nil, ("the wheel has no %s: write it into %s or give --%s"):format(key, DESCRIPTION, key)
    end
  end
  if not spec.name:find("^%w[%w._-]*$") or not spec.name:find("%w$") then
    return nil, ("'%s' is no name of a package: letters, digits and . _ - between them"):format(spec.name)
  end
  local version, message = versions.normal(spec.version)
  if not version then return nil, message end
  spec.version, spec.tags = version, spec.tags or (has_native and fit.native_tag() or "lua54-none-any")
  spec.stem = ("%s-%s"):format(names.package(spec.name):gsub("-", "_"), version)
  spec.file_name = ("%s-%s.whl"):format(spec.stem, spec.tags)
  spec.parsed, message = names.parse(spec.file_name)
  if not spec.parsed then return nil, message end
  if has_native and fit.is_portable(spec.parsed.tags) then
    return nil, ("the folder holds C modules (%s): its tag cannot end in any"):format(has_native)
  end
  return spec
end

-- files --------------------------------------------------------------------------------------------------------

local function is_left_out(path, name)
  return name:find("^%.") or name:find("%.whl$") or LEFT_OUT[path] or path:find("^[^/]+%.dist%-info$")
end

local collect

local function take(dir, path, kind, found, problems)
  if kind == "directory" then
    collect(dir, path, found, problems)
  elseif kind ~= "file" then
    problems[#problems + 1] = ("%s: not a file (%s)"):format(path, kind)
  elseif path:upper():find("^README[^/]*$") then
    found.readme = path
  else
    found[#found + 1] = path
  end
end

--- Collects the files below a folder, by path. A README at its top is the description.
function collect(dir, below, found, problems)
  local scan, message = uv.fs_scandir(dir .. "/" .. below)
  if not scan then
    problems[#problems + 1] = message
    return
  end
  for name, kind in uv.fs_scandir_next, scan do
    local path = below ~= "" and below .. "/" .. name or name
    if not is_left_out(path, name) then take(dir, path, kind, found, problems) end
  end
end

--- Whether our workers could load a file: its name, and of Lua its syntax.
local function fault_of(file)
  local fault = paths.fault(file.name)
  if fault then return ("%s: %s"):format(paths.shown(file.name), fault) end
  if not file.name:find("%.lua$") then return nil end
  local module = file.name:gsub("%.lua$", ""):gsub("/init$", "")
  if module:find("^pyoco%f[/%z]") or module:find("^host%f[/%z]") then
    return ("%s: modules of pyoco and host cannot be replaced"):format(file.name)
  end
  local chunk, message = load(file.bytes:gsub("^#[^\n]*", ""), "@" .. file.name, "t", {})
  return not chunk and message or nil
end

--- Reads the files to pack. Returns also the name of a C module, if there is one, and the description.
local function read_files(dir)
  local found, problems, files, native = {}, {}, {}, nil
  collect(dir, "", found, problems)
  table.sort(found)
  local set = paths.set()
  for _, path in ipairs(found) do
    local bytes, message = read_file(dir .. "/" .. path)
    local mode = bytes and uv.fs_stat(dir .. "/" .. path).mode & 73 ~= 0 and PROGRAM_MODE or FILE_MODE
    local file = { name = path, bytes = bytes, mode = mode }
    local fault = not bytes and message or fault_of(file)
    local clash = not fault and set:add(path, false)
    problems[#problems + 1] = fault or clash and ("%s: %s"):format(path, clash) or nil
    files[#files + 1] = file
    if path:find("%.so$") then native = path end
  end
  if #files == 0 and #problems == 0 then problems[1] = ("%s holds nothing to pack"):format(dir) end
  return files, problems, native, found.readme and read_file(dir .. "/" .. found.readme)
end

-- dist-info ----------------------------------------------------------------------------------------------------

local function metadata(spec, readme)
  local fields = { { "Metadata-Version", "2.1" }, { "Name", spec.name }, { "Version", spec.version },
    { "Summary", spec.summary }, { "License", spec.license }, { "Author", spec.author },
    { "Author-email", spec.author_email } }
  for _, label in ipairs(sorted.keys(spec.urls or {})) do
    fields[#fields + 1] = { "Project-URL", ("%s, %s"):format(label, spec.urls[label]) }
  end
  if readme then fields[#fields + 1] = { "Description-Content-Type", "text/markdown" } end
  return headers.format(fields, readme)
end

local function wheel_file(spec)
  local fields = { { "Wheel-Version", "1.0" }, { "Generator", "pyoco-host " .. host.version },
    { "Root-Is-Purelib", fit.is_portable(spec.parsed.tags) and "true" or "false" } }
  for _, tag in ipairs(spec.parsed.tags) do fields[#fields + 1] = { "Tag", tag } end
  return headers.format(fields)
end

--- The sections of entry_points.txt; unless the description has its own, each module at the top is one, by its name.
local function entry_points(spec, files)
  local groups = spec.entry_points
  if not groups then
    groups = { ["pyoco.modules"] = {} }
    for _, file in ipairs(files) do
      local module = file.name:match("^([%a_][%w_]*)%.lua$") or file.name:match("^([%a_][%w_]*)/init%.lua$")
      if module then groups["pyoco.modules"][module] = module end
    end
  end
  local lines = {}
  for _, group in ipairs(sorted.keys(groups)) do
    lines[#lines + 1] = ("[%s]"):format(group)
    for _, name in ipairs(sorted.keys(groups[group])) do
      lines[#lines + 1] = ("%s = %s"):format(name, tostring(groups[group][name]))
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

local function record(files, folder)
  local lines = {}
  for i, file in ipairs(files) do
    lines[i] = ("%s,sha256=%s,%d\n"):format(headers.quote(file.name),
      crypto.base64url_encode(crypto.sha256_bytes(file.bytes)), #file.bytes)
  end
  return table.concat(lines) .. folder .. "RECORD,,\n"
end

--- The folder that says what the wheel is; it comes last, as PEP 427 asks for.
local function add_dist_info(spec, files, readme)
  local folder = spec.stem .. ".dist-info/"
  local function add(name, bytes) files[#files + 1] = { name = folder .. name, bytes = bytes, mode = FILE_MODE } end
  local points = entry_points(spec, files)
  add("METADATA", metadata(spec, readme))
  add("WHEEL", wheel_file(spec))
  add("entry_points.txt", points)
  add("RECORD", record(files, folder))
end

--- Writes the archive beside its name first, so that nobody finds a part of it.
local function write(path, files)
  local part = ("%s.%s.part"):format(path, assert(crypto.uuid4()))
  local writer, message = archive.create(part)
  if not writer then return nil, message end
  local ok = true
  for _, file in ipairs(files) do
    if ok then ok, message = writer:add(file.name, file.bytes, file.mode) end
  end
  local closed, why = writer:close()
  if ok and closed then ok, message = os.rename(part, path) end
  if ok and closed then return true end
  os.remove(part)
  return nil, message or why
end

--- Builds a wheel.
---@param dir string
---@param opts table|nil { out = folder of the wheel (default "."), name, version, tags }
---@return table|nil built { path, file_name, name, version, files (count), size }
---@return string|nil message
---@return string|nil code "invalid" | "internal"
---@return string[]|nil problems all that is wrong with the folder
function M.build(dir, opts)
  opts = opts or {}
  local spec, message = read_description(dir)
  if not spec then return nil, message, "invalid" end
  local files, problems, native, readme = read_files(dir)
  if #problems > 0 then return nil, problems[1], "invalid", problems end
  spec, message = complete(spec, opts, native)
  if not spec then return nil, message, "invalid" end
  add_dist_info(spec, files, readme)
  local path = ("%s/%s"):format(opts.out or ".", spec.file_name)
  local ok
  ok, message = write(path, files)
  if not ok then return nil, message, "internal" end
  return { path = path, file_name = spec.file_name, name = spec.name, version = spec.version, files = #files,
    size = uv.fs_stat(path).size }
end

return M
