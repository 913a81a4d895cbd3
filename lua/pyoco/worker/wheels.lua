--- A worker's wheels: looks into the registry at start and at an interval, installs what is wanted, removes what is not
--- (CONTRACT 8.8, DESIGN D11). Each wheel is unpacked into a folder of its own that never changes; what the next run
--- uses is a list of such folders, so a run that goes on keeps its code, and a wheel that cannot be installed stops
--- nothing but itself. All waiting is in coroutines: the supervisor's loop goes on.
local json = require "host.json"
local fit = require "pyoco.wheel.fit"
local install = require "pyoco.wheel.install"
local async = require "pyoco.worker.async"
local child = require "pyoco.worker.wheel_child"
local choice = require "pyoco.worker.wheel_choice"
local folders = require "pyoco.worker.wheel_folder"

local M = {}
local Wheels = {}
Wheels.__index = Wheels

local RETRY_MAX_SEC = 600

-- failures -----------------------------------------------------------------------------------------------------

--- Whether an upload of a wheel was found to be wrong: it stays so, another upload is another one.
local function is_refused(self, wheel)
  local failure = self.failures[wheel.name]
  return failure ~= nil and failure.refused and failure.nuid == wheel.nuid
end

--- Notes that a wheel cannot be installed; it is tried again after a growing delay, unless it was refused.
local function note_failure(self, one, text, is_wrong)
  local wheel, before = one.wheel, self.failures[one.wheel.name]
  local attempts = before and before.nuid == wheel.nuid and before.attempts + 1 or 1
  local delay = math.min(self.cfg.wheel_sync_interval_sec * 2 ^ math.min(attempts - 1, 30), RETRY_MAX_SEC)
  self.failures[wheel.name] = { nuid = wheel.nuid, wheel_name = wheel.name, package_name = one.parsed.package,
    package_version = one.parsed.version, error = text, refused = is_wrong or false, attempts = attempts,
    retry_at = not is_wrong and self.now() + delay or nil }
  if not before or before.error ~= text then
    self.log:error("wheel sync failed", { wheel_name = wheel.name }, { message = text })
  end
end

--- Whether it is too early to try a wheel again.
local function is_waiting(self, wheel)
  local failure = self.failures[wheel.name]
  return failure ~= nil and failure.nuid == wheel.nuid and failure.retry_at ~= nil and self.now() < failure.retry_at
end

--- Forgets failures of uploads that are gone.
local function forget(self, listed)
  local there = {}
  for _, wheel in ipairs(listed) do there[wheel.name] = wheel.nuid end
  for name, failure in pairs(self.failures) do
    if there[name] ~= failure.nuid then self.failures[name] = nil end
  end
end

-- one wheel ----------------------------------------------------------------------------------------------------

--- Runs a command of pyoco.wheel.install within the time that an install may take.
local function run_child(self, command)
  local result, message = child.run(command, self.cfg.wheel_install_timeout_sec, function(kill)
    self.kill_child = kill
  end)
  self.kill_child = nil
  return result, message
end

--- Fetches a wheel's file. Returns the upload that it is of: it may have been replaced since it was listed.
local function fetch(self, one, path)
  local max = self.cfg.wheel_max_bytes
  local wheel, message, code = self.store.wheels:get_file(one.wheel.name, path, { max_bytes = max > 0 and max or nil })
  if wheel then return wheel end
  if self.stopped then return nil end
  note_failure(self, one, ("wheel fetch failed: %s: %s"):format(one.wheel.name, message), code == "too_large")
end

--- Checks and unpacks a fetched file in a process of its own.
local function unpack(self, one, path, dir)
  local limits = fit.limits(self.cfg)
  local result, message = run_child(self, { "unpack", path, one.wheel.name, dir, tostring(limits.max_bytes),
    tostring(limits.max_ratio), tostring(limits.max_entries) })
  if result and result.code == 0 and result.signal == 0 then return true end
  if self.stopped then return false end
  local text
  if not result then
    text = ("wheel install failed: %s: %s"):format(one.wheel.name, message)
  elseif result.is_late then
    text = ("wheel install timed out: %s"):format(one.wheel.name)
  else
    text = ("wheel install failed (code=%d): %s: %s"):format(result.signal ~= 0 and -result.signal or result.code,
      one.wheel.name, (result.stderr:gsub("%s+$", "")))
  end
  note_failure(self, one, text, result ~= nil and result.code == install.REFUSED)
  return false
end

--- Makes what is installed now what the next run gets. The table is never changed: a run in hand keeps its own.
local function switch(self)
  local set = { roots = {}, sites = {} }
  for i, site in ipairs(self.folder:sites()) do
    set.roots[i], set.sites[site] = self.folder:site(site), true
  end
  self.set = set
  self.on_change()
end

--- Installs a wheel.
---@return boolean done
local function install_one(self, one)
  local site = folders.site_name(one.parsed.package, one.parsed.version, tostring(one.wheel.nuid))
  local folder = self.folder
  local path, dir = folder:staging(site .. ".whl"), folder:staging(site)
  local wheel = fetch(self, one, path)
  if not wheel or self.stopped then return false end
  if wheel.nuid ~= one.wheel.nuid then return false end -- replaced meanwhile: the next round sees it
  if not unpack(self, one, path, dir) then return false end
  local tags = table.move(wheel.tags, 1, #wheel.tags, 1, json.array {})
  table.sort(tags)
  local ok, message = folder:commit(wheel.name, { nuid = tostring(wheel.nuid), package_name = one.parsed.package,
    package_version = one.parsed.version, size_bytes = wheel.size, sha256_hex = wheel.sha256, tags = tags,
    installed_at = self.now(), site = site })
  if not ok then
    note_failure(self, one, ("wheel install failed: %s: %s"):format(wheel.name, message))
    return false
  end
  self.failures[wheel.name] = nil
  self.log:info("wheel installed", { wheel_name = wheel.name })
  switch(self)
  return true
end

-- a round ------------------------------------------------------------------------------------------------------

--- Installs what is wanted and not there. A wheel that turns out to be wrong is passed over for the next older one.
---@return table[] chosen
---@return table[] skipped
---@return table usable
---@return string[] updated
local function install_all(self, listed)
  local updated = {}
  while true do
    local chosen, skipped, usable = choice.pick(listed, self.cfg.worker_tags, function(wheel)
      return is_refused(self, wheel)
    end, self.supported)
    local is_new_choice = false
    for _, one in ipairs(chosen) do
      if not self.folder:has(one.wheel.name, tostring(one.wheel.nuid)) and not is_waiting(self, one.wheel)
        and not self.stopped then
        if install_one(self, one) then
          updated[#updated + 1] = one.wheel.name
        elseif is_refused(self, one.wheel) then
          is_new_choice = true
        end
      end
    end
    if not is_new_choice then return chosen, skipped, usable, updated end
  end
end

--- Removes what is installed and not wanted. While the version that is wanted cannot be installed, the one before it
--- stays, if it is in the registry still.
---@return string[] removed
local function remove_rest(self, chosen, usable)
  local wanted, missing, removed = {}, {}, {}
  for _, one in ipairs(chosen) do
    wanted[one.wheel.name] = true
    missing[one.parsed.package] = not self.folder.rows[one.wheel.name] or nil
  end
  for name, row in pairs(self.folder.rows) do
    local stays = wanted[name] or (missing[row.package_name] and usable[name])
    if not stays then removed[#removed + 1] = name end
  end
  if #removed == 0 then return removed end
  local ok, message = self.folder:drop(removed)
  if not ok then error("the manifest cannot be written: " .. message, 0) end
  for _, name in ipairs(removed) do self.log:info("wheel removed", { wheel_name = name }) end
  switch(self)
  return removed
end

--- Removes what nobody uses any more.
local function clean(self)
  local paths = self.folder:rubbish(self.used())
  if #paths == 0 then return end
  local result, message = run_child(self, { "remove", table.unpack(paths) })
  local fault = not result and message or result.code ~= 0 and result.stderr or nil
  if fault and fault ~= self.told_rest and not self.stopped then
    self.log:warning("what is left of wheels cannot be removed", { reason = fault })
  end
  self.told_rest = fault
end

local function failures_of(self)
  local list = {}
  for _, failure in pairs(self.failures) do
    local copy = {}
    for key, value in pairs(failure) do copy[key] = value end
    list[#list + 1] = copy
  end
  table.sort(list, function(a, b) return a.wheel_name < b.wheel_name end)
  return list
end

--- Takes the folder. What an earlier life has installed is used again if it is whole: the machine may have lost its
--- power before all of it was on the disk.
local function open_folder(self)
  local folder, message = folders.open(self.cfg.wheel_sync_dir, self.cfg.worker_id)
  if not folder then error("wheel folder: " .. message, 0) end
  self.folder = folder
  if folder.dir ~= self.cfg.wheel_sync_dir then
    self.log:info("another worker uses the wheel folder; this one has its own", { reason = folder.dir })
  end
  local damaged = {}
  for name, row in pairs(folder.rows) do
    local result = run_child(self, { "verify", folder:site(row.site) })
    if self.stopped then return end
    if not result or result.code ~= 0 or result.signal ~= 0 then
      damaged[#damaged + 1] = name
      self.log:warning("an installed wheel is damaged; it is installed again", { wheel_name = name,
        reason = result and result.stderr })
    end
  end
  local ok = true
  if #damaged > 0 then ok, message = folder:drop(damaged) end
  if not ok then
    self.folder = folder:close() -- nil: the next round begins with it
    error("wheel folder: " .. message, 0)
  end
  switch(self)
  clean(self)
end

--- One look into the registry, and what follows from it.
local function round(self)
  if not self.folder then open_folder(self) end
  if self.stopped then return end
  local listed, message = self.store.wheels:list()
  if not listed then error(message, 0) end
  forget(self, listed)
  local chosen, skipped, usable, updated = install_all(self, listed)
  if self.stopped then return end
  local removed = remove_rest(self, chosen, usable)
  clean(self)
  local selected = {}
  for i, one in ipairs(chosen) do selected[i] = one.wheel.name end
  self.report:done(self.now(), { selected = selected, updated = updated, removed = removed, skipped = skipped,
    failures = failures_of(self) })
end

--- Makes a round, whatever comes of it; nothing while one goes on. In a coroutine.
function Wheels:sync()
  if self.is_busy or self.stopped then return end
  self.is_busy = true
  local ok, message = xpcall(round, function(text) return type(text) == "string" and text or debug.traceback(text) end,
    self)
  self.is_busy = false
  if self.stopped then return end
  if not ok then
    self.report:failed(self.now(), message)
    if message ~= self.told then self.log:error("wheel sync failed", nil, { message = message }) end
  end
  self.told = not ok and message or nil
  self.report:installed(self.folder and self.folder.rows or {})
  self.publish(self.report.block)
end

-- life ---------------------------------------------------------------------------------------------------------

--- Starts: the first round, then one at each interval.
---@param on_ready fun() called when the first round is over, however it ended
function Wheels:start(on_ready)
  async.go(function()
    self:sync()
    if self.stopped then return end
    self.stop_timer = async.every(self.cfg.wheel_sync_interval_sec, function()
      async.go(function() self:sync() end)
    end)
    on_ready()
  end)
end

--- Ends it, in the middle of a round too: the next start puts that in order.
function Wheels:stop()
  self.stopped = true
  if self.stop_timer then self.stop_timer() end
  if self.kill_child then self.kill_child() end
end

--- The wheels of a worker.
---@param deps table cfg, store, log, now (server's unix seconds), report (of pyoco.worker.wheel_report), publish
---  (function(block): stores it in the registry), used (function: set of the sites that runs in hand use), on_change
---  (function: the next run gets other wheels)
---@return table wheels: start, stop; .set = { roots = task roots, sites = set of their names }
function M.new(deps)
  return setmetatable({ cfg = deps.cfg, store = deps.store, log = deps.log, now = deps.now, publish = deps.publish,
    used = deps.used, on_change = deps.on_change, set = { roots = {}, sites = {} }, failures = {},
    supported = fit.supported(), report = deps.report }, Wheels)
end

return M
