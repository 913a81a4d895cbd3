--- Checks of admin.lua doctor that ask NATS: is it there, is JetStream on, are our streams, buckets and consumers as we
--- would make them, who works, what waits.
local called = require "pyoco.cli.called"
local greeting = require "pyoco.client.greeting"
local output = require "pyoco.cli.output"
local null = require "pyoco.null"
local workers = require "pyoco.service.worker"

local M = {}

local TIMEOUT_MS, GREETING_SEC = 2000, 2
local NS_PER_SEC = 1000000000
local FULL_PART, NEARLY_FULL_PART = 0.95, 0.8
local MANY_RUNS = 500000
local WORKERS_MAX = 10000

local finding = require("pyoco.cli.doctor").finding

--- "2.9.10", or nil when the server does not say.
local function version_of(url)
  local said = greeting.read(url, GREETING_SEC)
  return said and said:match '"version":"([^"]+)"'
end

local REMEDIES = {
  unauthorized = "set PYOCO_NATS_USER and PYOCO_NATS_PASSWORD, PYOCO_NATS_TOKEN or PYOCO_NATS_CREDS",
  invalid = "mend PYOCO_NATS_URL: nats://HOST:PORT, several separated by commas",
}

local function check_nats(view)
  local cfg = view.config
  local store, message, code = view.connect(cfg, { name = "pyoco-admin-cli" })
  if not store then
    return { finding("fail", message, REMEDIES[code] or (
      "start it (`%s`, `%s gateway.lua --with-nats`, or `nats-server -js "
      .. "-sd DIR`), or name another: --nats-url URL, PYOCO_NATS_URL"):format(called.program "up", called.host())) }
  end
  view.store = store
  local url = store:connection().url
  return { finding("ok", ("NATS %s at %s"):format(version_of(url) or "(of a version that it does not tell)", url)) }
end

local function size(bytes) return ("%.0f MB"):format(bytes / (1 << 20)) end

local function check_jetstream(view)
  local survey, message = view.store:survey(TIMEOUT_MS)
  if not survey then
    view.store:close()
    view.store = nil
    return { finding("fail", message, "start NATS with -js (and -sd DIR for its store); `nats-server -js`") }
  end
  view.survey = survey
  local account = survey.account
  local limit = account.limits and account.limits.max_storage or -1
  local used = account.storage or 0
  if limit > 0 and used > limit * NEARLY_FULL_PART then
    return { finding(used > limit * FULL_PART and "fail" or "warn",
      ("JetStream uses %s of the %s that this account may"):format(
      size(used), size(limit)), "raise the account's limit, or prune: `" .. called.program "admin"
      .. " runs prune --older-than 30d`") }
  end
  return { finding("ok", ("JetStream is on; %s stored%s"):format(size(used),
    limit > 0 and (" of %s allowed"):format(size(limit)) or "")) }
end

local DURATIONS = { max_age = true, ack_wait = true }

local function shown(field, value)
  if DURATIONS[field] then return value == 0 and "none" or output.duration((value or 0) / NS_PER_SEC) end
  return value == -1 and "none" or tostring(value)
end

local FATAL = { retention = true, subjects = true } -- with these it cannot work

--- One finding for each of our streams that is missing, or not as we would make it.
local function check_resources(view)
  local found, missing = {}, {}
  for _, it in ipairs(view.survey.resources) do
    if it.is_missing then
      missing[#missing + 1] = it.name
    elseif not it.found then
      found[#found + 1] = finding("fail", ("%s %s: %s"):format(it.kind, it.name, it.problem), "NATS's log may say why")
    end
    for _, differs in ipairs(it.differences or {}) do
      found[#found + 1] = finding(FATAL[differs.field] and "fail" or "warn",
        ("%s %s: %s is %s, ours is %s"):format(it.kind,
        it.name, differs.field, shown(differs.field, differs.found), shown(differs.field, differs.wanted)),
        ("another program or version made it, and what exists is never altered; `nats stream edit %s` changes "
          .. "it"):format(
          it.config.name))
    end
    local most = it.found and it.found.max_bytes or -1
    if most > 0 and it.found.discard == "new" and it.state.bytes > most * NEARLY_FULL_PART then
      found[#found + 1] = finding(it.state.bytes > most * FULL_PART and "fail" or "warn",
        ("%s %s: %s of %s are used; when it is "
        .. "full, writes are refused"):format(it.kind, it.name, size(it.state.bytes), size(most)),
        ("`nats stream edit %s --max-bytes=-1`"):format(it.config.name))
    end
  end
  if #missing > 0 then
    found[#found + 1] = finding("warn", ("not there yet: %s"):format(table.concat(missing, ", ")),
      "a gateway or worker makes them when it starts")
  end
  if #found == 0 then
    found[1] = finding("ok", ("%d streams and buckets are there, as we make them"):format(#view.survey.resources))
  end
  return found
end

local function check_consumers(view)
  local found = {}
  for _, it in ipairs(view.survey.consumers) do
    for _, differs in ipairs(it.differences) do
      found[#found + 1] = finding("warn", ("consumer %s: %s is %s, the configuration here says %s"):format(it.name,
        differs.field,
        shown(differs.field, differs.found), shown(differs.field, differs.wanted)),
        ("the first worker of a tag decides, or one of the reference; `nats consumer edit %s %s` changes it"):format(
          view.config.work_stream, it.name))
    end
    if it.max_ack_pending > 0 and it.in_hand >= it.max_ack_pending then
      found[#found + 1] = finding("fail", ("tag %s: %d runs in hand, as many as its consumer allows: no further job "
        .. "is given out")
        :format(it.tag, it.in_hand), "if they wait for child runs, give those a tag of their own "
          .. "(PYOCO_SPAWN_CHILD_TAG and a "
        .. ("worker with it); else `nats consumer edit %s %s --max-pending N`"):format(view.config.work_stream,
          it.name))
    end
  end
  if #found == 0 then
    found[1] = finding("ok", #view.survey.consumers == 0 and "no worker has been here yet: no consumers"
      or ("%d consumer%s, as configured"):format(#view.survey.consumers, #view.survey.consumers == 1 and "" or "s"))
  end
  return found
end

--- The state of one of our streams; nil when it is not there.
local function state_of(view, name)
  for _, it in ipairs(view.survey.resources) do
    if it.name == name then return it.state end
  end
end

--- What a worker's record says of its wheels.
local function wheel_findings(record, found)
  local sync = record.wheel_sync
  if type(sync) ~= "table" or not null.present(sync.last_error) then return end
  local names = {}
  for i, it in ipairs(type(sync.failed_wheels) == "table" and sync.failed_wheels or {}) do names[i] = it.wheel_name end
  found[#found + 1] = finding("warn", ("worker %s does not get its wheels%s: %s"):format(record.worker_id,
    #names > 0 and " (" .. table.concat(names, ", ") .. ")" or "", tostring(sync.last_error)),
    ("`%s wheel inspect FILE` says what is wrong with one; upload it with a greater version"):format(
      called.program "admin"))
end

--- The tags that live workers take, with what is wrong with these workers; nil, and why, when nothing can be read.
local function look_at_workers(view, found)
  local records, message = workers.list(view, { scope = "active", include_hidden = true, limit = WORKERS_MAX })
  if not records then return nil, message end
  local count_of = {}
  for _, record in ipairs(records) do
    for _, tag in ipairs(record.tags) do count_of[tag] = (count_of[tag] or 0) + 1 end
    wheel_findings(record, found)
  end
  return count_of, #records
end

local function nobody()
  return finding("warn", "no worker is there", ("start one: `%s`"):format(called.program "worker"))
end

local function check_workers(view)
  local found = {}
  if not state_of(view, view.config.workers_bucket) then return { nobody() } end
  local count_of, count = look_at_workers(view, found)
  if not count_of then return { finding("fail", "workers cannot be listed: " .. tostring(count),
    "NATS's log may say why") } end
  local queues, message = view.store.queues:list()
  if not queues then
    found[#found + 1] = finding("fail", "queues cannot be read: " .. message, "NATS's log may say why")
  end
  for _, queue in ipairs(queues or {}) do
    if queue.jobs > 0 and not count_of[queue.tag] then
      found[#found + 1] = finding("fail", ("%d job%s of tag %s wait, and no worker takes that tag"):format(queue.jobs,
        queue.jobs == 1 and "" or "s", queue.tag), ("start one: `%s --tags %s`"):format(called.program "worker",
          queue.tag))
    end
  end
  local tags = {}
  for tag, workers_of in pairs(count_of) do tags[#tags + 1] = ("%s %d"):format(tag, workers_of) end
  table.sort(tags)
  table.insert(found, 1, count > 0 and finding("ok", ("%d worker%s; by tag: %s"):format(count, count == 1 and "" or "s",
    table.concat(tags, ", "))) or nobody())
  return found
end

local function check_dead_letters(view)
  local state = state_of(view, view.config.dlq_stream)
  if not state then return { finding("skip", "there is no stream of dead letters yet") } end
  if state.messages == 0 then return { finding("ok", "no dead letters") } end
  return { finding("warn", ("%d dead letter%s: jobs that could not be run"):format(state.messages,
    state.messages == 1 and "" or "s"), ("`%s dlq list` shows them, `dlq requeue SEQ` runs one again"):format(
      called.program "client")) }
end

local function check_retention(view)
  local kept = view.config.runs_retention_sec
  local state = state_of(view, view.config.runs_bucket)
  local count = state and state.messages or 0
  if kept > 0 then return { finding("ok", ("%d runs; ended ones go after %s"):format(count,
    output.duration(kept))) } end
  if count < MANY_RUNS then return { finding("ok", ("%d runs, kept for ever"):format(count)) } end
  return { finding("warn", ("%d runs, kept for ever"):format(count), ("set PYOCO_RUNS_RETENTION_SEC, or `%s runs prune "
    .. "--older-than 30d`"):format(called.program "admin")) }
end

--- The rows (pyoco.cli.doctor).
M.checks = {
  { "NATS", run = check_nats },
  { "JetStream", needs = "store", run = check_jetstream },
  { "resources", needs = "survey", run = check_resources },
  { "consumers", needs = "survey", run = check_consumers },
  { "workers", needs = "survey", run = check_workers },
  { "DLQ", needs = "survey", run = check_dead_letters },
  { "retention", needs = "survey", run = check_retention },
}

return M
