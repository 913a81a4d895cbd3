--- pyoco.config: sources, precedence, types, faults and the generated page.
local config = require "pyoco.config"
local dotenv = require "pyoco.config_dotenv"
local host = require "host"
local process = require "spec.support.process"
local uv = require "luv"

local function temporary_folder(files)
  local dir = assert(uv.fs_mkdtemp("/tmp/pyoco-config-XXXXXX"))
  for name, text in pairs(files) do
    local file <close> = assert(io.open(dir .. "/" .. name, "wb"))
    file:write(text)
  end
  return dir
end

local function remove(dir)
  local entries = assert(uv.fs_scandir(dir))
  for name in function() return uv.fs_scandir_next(entries) end do os.remove(dir .. "/" .. name) end
  uv.fs_rmdir(dir)
end

--- Loads with a .env of this text and returns load's results.
local function load(opts)
  local dir = temporary_folder(opts.dotenv and { [".env"] = opts.dotenv } or {})
  local cfg, origins, warnings = config.load { env = opts.env or {}, flags = opts.flags, cwd = dir, only = opts.only }
  remove(dir)
  return cfg, origins, warnings
end

describe("config.load", function()
  it("gives every default of the contract without any source", function()
    local cfg, origins = load {}
    assert.equal("nats://127.0.0.1:4222", cfg.nats_url)
    assert.equal("pyoco_runs", cfg.runs_bucket)
    assert.equal("PYOCO_WORK", cfg.work_stream)
    assert.equal("pyoco.work", cfg.work_subject_prefix)
    assert.same({ "default" }, cfg.worker_tags)
    assert.equal(262144, cfg.max_run_snapshot_bytes)
    assert.equal(true, cfg.dlq_publish_execution_error)
    assert.equal("default", origins.nats_url)
  end)

  it("lets a flag win over the environment, that over .env, that over the default", function()
    local text = "PYOCO_HTTP_PORT=1\nPYOCO_RUNS_KV_BUCKET=from_file\nPYOCO_DEFAULT_TAG=file"
    local cfg, origins = load { dotenv = text, env = { PYOCO_HTTP_PORT = "2", PYOCO_DEFAULT_TAG = "env" },
      flags = { http_port = "3" } }
    assert.equal(3, cfg.http_port)
    assert.equal("flag --port", origins.http_port)
    assert.equal("env", cfg.default_tag)
    assert.equal("environment PYOCO_DEFAULT_TAG", origins.default_tag)
    assert.equal("from_file", cfg.runs_bucket)
    assert.truthy(origins.runs_bucket:find("/.env:2 PYOCO_RUNS_KV_BUCKET", 1, true))
  end)

  it("reads both names of an option that has two, its own first", function()
    local other = "PYOCO_SPAWN_CHILD_WAIT_TIMEOUT_SEC"
    local cfg, origins = load { env = { [other] = "7" } }
    assert.same({ 7, "environment " .. other }, { cfg.spawn_timeout_sec, origins.spawn_timeout_sec })
    cfg, origins = load { dotenv = other .. "=8", env = { PYOCO_SPAWN_TIMEOUT_SEC = "9" } }
    assert.same({ 9, "environment PYOCO_SPAWN_TIMEOUT_SEC" }, { cfg.spawn_timeout_sec, origins.spawn_timeout_sec })
    local fine, message, code = load { env = { [other] = "soon" } }
    assert.is_nil(fine)
    assert.truthy(message:find(other, 1, true), message)
    assert.equal("invalid", code)
    local _, _, warnings = load { dotenv = other .. "=8" }
    assert.same({}, warnings)
  end)

  it("takes an empty variable as not set", function()
    local cfg = load { dotenv = "PYOCO_DEFAULT_TAG=file", env = { PYOCO_DEFAULT_TAG = "" } }
    assert.equal("file", cfg.default_tag)
  end)

  it("lists all faults at once, with variable, value and range", function()
    local cfg, message, code = load { env = { PYOCO_HTTP_PORT = "99999", PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.01",
      PYOCO_DLQ_PUBLISH_EXECUTION_ERROR = "maybe", PYOCO_NATS_URL = "http://x", PYOCO_HTTP_AUTH_MODE = "basic" } }
    assert.is_nil(cfg)
    assert.equal("invalid", code)
    for _, part in ipairs {
      'environment PYOCO_HTTP_PORT is "99999": expected a whole number from 0 to 65535',
      'PYOCO_RUN_HEARTBEAT_INTERVAL_SEC is "0.01": expected a number, at least 0.1',
      'PYOCO_DLQ_PUBLISH_EXECUTION_ERROR is "maybe": expected true or false',
      'PYOCO_NATS_URL is "http://x": expected addresses like nats://host:4222',
      'PYOCO_HTTP_AUTH_MODE is "basic": expected one of none, api_key',
    } do assert.truthy(message:find(part, 1, true), part .. "\nis not in\n" .. message) end
  end)

  it("names file and line of a bad value in .env", function()
    local _, message = load { dotenv = "\nPYOCO_HTTP_PORT=many" }
    assert.truthy(message:find('/.env:2 PYOCO_HTTP_PORT is "many"', 1, true), message)
  end)

  it("names the flag of a bad value", function()
    local _, message = load { flags = { worker_slots = "gpu" } }
    assert.truthy(message:find('flag --slots is "gpu": expected a number from 1 to 256', 1, true), message)
  end)

  it("never shows a secret in a fault", function()
    local row = config.row("nats_password")
    assert.is_true(row.secret)
    local _, message = load { flags = { nats_url = "nats://bob:pass@word@a b" } }
    assert.truthy(message:find('"nats://a b"', 1, true), message)
    assert.falsy(message:find("word", 1, true), message)
  end)

  it("has flags without a value for what is on or off", function()
    local args = require "pyoco.cli.args"
    local program = { name = "x", config = { "worker_allow_commands", "worker_slots" } }
    local values = assert(args.parse(program, { "--allow-commands", "--slots", "2" }))
    assert.is_true((load { flags = values.flags }).worker_allow_commands)
    assert.is_false((load { flags = assert(args.parse(program, {})).flags }).worker_allow_commands)
    assert.is_true((load { env = { PYOCO_WORKER_ALLOW_COMMANDS = "yes" } }).worker_allow_commands)
  end)

  it("understands tags, slots, folders and booleans", function()
    local cfg = load { env = { PYOCO_WORKER_TAGS = " cpu, gpu,cpu", PYOCO_WORKER_SLOTS = "gpu=1,cpu=8",
      PYOCO_TASK_PATH = "a:/b/c", PYOCO_DLQ_PUBLISH_EXECUTION_ERROR = " OFF " } }
    assert.same({ "cpu", "gpu" }, cfg.worker_tags)
    assert.same({ gpu = 1, cpu = 8 }, cfg.worker_slots)
    assert.same({ "a", "/b/c" }, cfg.task_path)
    assert.is_false(cfg.dlq_publish_execution_error)
    assert.equal(4, (load { flags = { worker_slots = "4" } }).worker_slots)
  end)

  it("takes the default tag when a worker names none", function()
    local cfg = load { env = { PYOCO_DEFAULT_TAG = "other" }, flags = { worker_tags = " , " } }
    assert.same({ "other" }, cfg.worker_tags)
  end)

  it("refuses a tag with a dot or a blank", function()
    for _, tag in ipairs { "a.b", "a b" } do
      local _, message = load { flags = { worker_tags = tag } }
      assert.truthy(message:find(("flag --tags is %q"):format(tag), 1, true), message)
    end
  end)

  it("refuses subject prefixes that overlap", function()
    local _, message = load { env = { PYOCO_DLQ_SUBJECT_PREFIX = "pyoco.work.dead" } }
    assert.truthy(message:find("PYOCO_DLQ_SUBJECT_PREFIX overlaps PYOCO_WORK_SUBJECT_PREFIX", 1, true), message)
  end)

  it("warns of a mistyped variable, and ignores strangers", function()
    local _, _, warnings = load { env = { PYOCO_NATS_ULR = "x", PYOCO_OF_MINE = "1", PYOCO_BOGUSS = "1" } }
    assert.same({ "PYOCO_NATS_ULR (environment) is not an option; did you mean PYOCO_NATS_URL?" }, warnings)
  end)

  it("reads only the sections asked for", function()
    local cfg = load { only = { "client" }, env = { PYOCO_HTTP_PORT = "wrong" } }
    assert.equal("http://127.0.0.1:8000", cfg.server_url)
    assert.is_nil(cfg.http_port)
  end)

  it("gives each caller its own copy of a default list", function()
    local first = load {}
    first.task_path[1] = "changed"
    assert.same({ "flows" }, (load {}).task_path)
  end)
end)

describe(".env", function()
  it("is not read when PYOCO_LOAD_DOTENV says no", function()
    for _, no in ipairs { "0", "false", "No", "off" } do
      assert.equal(8000, (load { dotenv = "PYOCO_HTTP_PORT=1", env = { PYOCO_LOAD_DOTENV = no } }).http_port)
    end
  end)

  it("may be named by PYOCO_ENV_FILE, and must then exist", function()
    local dir = temporary_folder { ["mine.env"] = "PYOCO_HTTP_PORT=7" }
    local cfg = config.load { env = { PYOCO_ENV_FILE = "mine.env" }, cwd = dir }
    local home = config.load { env = { PYOCO_ENV_FILE = "~/mine.env", HOME = dir }, cwd = "/" }
    local none, message = config.load { env = { PYOCO_ENV_FILE = "other.env" }, cwd = dir }
    remove(dir)
    assert.equal(7, cfg.http_port)
    assert.equal(7, home.http_port)
    assert.is_nil(none)
    assert.truthy(message:find("PYOCO_ENV_FILE: " .. dir .. "/other.env: is not a file", 1, true), message)
  end)

  it("never sets logging variables or where .env is", function()
    local cfg = load { dotenv = "PYOCO_LOG_LEVEL=DEBUG\nPYOCO_LOG_FORMAT=text\nPYOCO_ENV_FILE=x" }
    assert.equal("INFO", cfg.log_level)
    assert.equal("json", cfg.log_format)
    assert.equal(".env", cfg.env_file)
  end)

  it("warns of a variable that has no effect there, unless it says what holds anyway", function()
    local _, _, warnings = load { dotenv = 'PYOCO_LOG_LEVEL="info"\nPYOCO_LOG_UTC=no\nPYOCO_LOAD_DOTENV=1' }
    assert.equal(1, #warnings)
    assert.truthy(warnings[1]:find("/.env:2 PYOCO_LOG_UTC has no effect in this file; set it in the env", 1, true))
  end)

  it("that is there and cannot be read stops the start", function()
    local dir = temporary_folder { [".env"] = "PYOCO_HTTP_PORT=7" }
    assert(uv.fs_chmod(dir .. "/.env", 0))
    assert(uv.fs_chmod(dir, 493))
    local child = process.spawn("setpriv", { "--reuid=65534", "--clear-groups", host.exe, "admin.lua", "config" },
      { cwd = dir })
    child:wait()
    remove(dir)
    assert.equal(1, child.code)
    assert.truthy(child.stderr:find(".env: Permission denied; make it readable", 1, true), child.stderr)
  end)

  it("has comments, export, quotes, escapes and last-wins", function()
    local values, _, odd = dotenv.parse(table.concat({
      "# a comment", "", "A=plain # comment", "export B = spaced ", "C='single # kept' ", 'D="line\\n\\"q\\" \\u00e9"',
      "E=no#comment", "A=last", "not a pair", "F=", 'G="0" # 0|1', "H='it's'", "1X=bad",
      "I=\"C:\\\\dir\"", "J='a\\n'\r" }, "\n"))
    assert.same({ A = "last", B = "spaced", C = "single # kept", D = 'line\n"q" é', E = "no#comment", F = "", G = "0",
      H = "it's", I = "C:\\dir", J = "a\\n" }, values)
    assert.same({ 9, 13 }, odd)
  end)

  it("warns of a line that is no pair", function()
    local _, _, warnings = load { dotenv = "PYOCO_HTTP_PORT" }
    assert.truthy(warnings[1]:find("/.env:1 is skipped: expected KEY=VALUE", 1, true))
  end)
end)

describe("what flows see of the environment", function()
  it("has no secret, whatever a document exposes", function()
    local given = { PYOCO_AUTH_PEPPER = "hidden", PYOCO_NATS_PASSWORD = "hidden", PYOCO_API_KEY = "hidden",
      PYOCO_NATS_URL = "nats://u:hidden@h:4222,nats://u:hidden@i", SPEC_OWN = "mine" }
    local names, before = { "NOT_SET" }, {}
    for name, value in pairs(given) do
      names[#names + 1], before[name] = name, os.getenv(name)
      uv.os_setenv(name, value)
    end
    local seen = config.exposed(names)
    for name in pairs(given) do
      if before[name] then uv.os_setenv(name, before[name]) else uv.os_unsetenv(name) end
    end
    assert.same({ PYOCO_NATS_URL = "nats://h:4222,nats://i", SPEC_OWN = "mine" }, seen)
  end)
end)

describe("the schema", function()
  it("has a unique name, a known type and a text for every row, and defaults that its own checks accept", function()
    local names, variables, types = {}, {}, require "pyoco.config_type"
    for _, section in ipairs(config.sections()) do
      for _, row in ipairs(section[3]) do
        assert.is_nil(names[row[1]], row[1])
        assert.truthy(types[row[2]], row[1])
        assert.truthy(row.doc and row.doc:match("%.$"), row[1])
        names[row[1]] = true
        if row.env then
          assert.is_nil(variables[row.env], row.env)
          variables[row.env] = true
          if row[3] ~= nil and type(row[3]) ~= "table" then
            local cfg, message = load { env = { [row.env] = row[1] ~= "env_file" and tostring(row[3]) or nil } }
            assert.truthy(cfg, message)
            assert.equal(row[3], cfg[row[1]])
          end
        end
      end
    end
  end)

  --- Variable = default of CONTRACT section 2; false = not set.
  local CONTRACT = {
    PYOCO_NATS_URL = "nats://127.0.0.1:4222", PYOCO_WORK_SUBJECT_PREFIX = "pyoco.work", PYOCO_DEFAULT_TAG = "default",
    PYOCO_RUNS_KV_BUCKET = "pyoco_runs", PYOCO_WORKFLOW_BUNDLES_KV_BUCKET = "pyoco_workflow_bundles",
    PYOCO_RUN_RELATIONS_KV_BUCKET = "pyoco_run_relations", PYOCO_YAML_SCHEDULES_KV_BUCKET = "pyoco_yaml_schedules",
    PYOCO_WORKERS_KV_BUCKET = "pyoco_workers", PYOCO_WORKERS_KV_TTL_SEC = 15.0, PYOCO_AUTH_KV_BUCKET = "pyoco_auth",
    PYOCO_HTTP_AUTH_MODE = "none", PYOCO_HTTP_API_KEY_HEADER = "X-API-Key", PYOCO_AUTH_PEPPER = false,
    PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = 1.0, PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC = 5.0,
    PYOCO_WORKER_DISCONNECT_TIMEOUT_SEC = 20.0, PYOCO_CANCEL_GRACE_PERIOD_SEC = 30.0,
    PYOCO_ACK_PROGRESS_INTERVAL_SEC = 10.0, PYOCO_CONSUMER_ACK_WAIT_SEC = 30.0, PYOCO_CONSUMER_MAX_DELIVER = 20,
    PYOCO_CONSUMER_MAX_ACK_PENDING = 200, PYOCO_DLQ_STREAM = "PYOCO_DLQ", PYOCO_DLQ_SUBJECT_PREFIX = "pyoco.dlq",
    PYOCO_DLQ_MAX_AGE_SEC = 604800, PYOCO_DLQ_MAX_MSGS = 100000, PYOCO_DLQ_MAX_BYTES = 536870912,
    PYOCO_DLQ_PUBLISH_EXECUTION_ERROR = true, PYOCO_MAX_RUN_SNAPSHOT_BYTES = 262144,
    PYOCO_WHEEL_OBJECT_STORE_BUCKET = "pyoco_wheels", PYOCO_WHEEL_MAX_BYTES = 536870912,
    PYOCO_WHEEL_SYNC_ENABLED = false, PYOCO_WHEEL_SYNC_DIR = ".pyoco/wheels", PYOCO_WHEEL_SYNC_INTERVAL_SEC = 10.0,
    PYOCO_WHEEL_INSTALL_TIMEOUT_SEC = 180.0, PYOCO_WHEEL_HISTORY_KV_BUCKET = "pyoco_wheel_history",
    PYOCO_WHEEL_HISTORY_TTL_SEC = 7776000, PYOCO_WORKFLOW_YAML_MAX_BYTES = 262144,
    PYOCO_WORKFLOW_BUNDLE_MAX_BYTES = 262144, PYOCO_SCHEDULE_POLL_INTERVAL_SEC = 1.0,
    PYOCO_SPAWN_REQUIRES_APPROVAL = true, PYOCO_SPAWN_MAX_CHILD_RUNS = 100,
    PYOCO_SPAWN_MAX_PARALLEL_CHILD_RUNS = 8, PYOCO_SPAWN_CHILD_TAG = false, PYOCO_SPAWN_TIMEOUT_SEC = 3600.0,
    PYOCO_SPAWN_POLL_INTERVAL_SEC = 0.2, PYOCO_DASHBOARD_LANG = "auto", PYOCO_LOG_LEVEL = "INFO",
    PYOCO_LOG_FORMAT = "json", PYOCO_LOG_UTC = true, PYOCO_LOG_INCLUDE_TRACEBACK = true, PYOCO_LOAD_DOTENV = true,
    PYOCO_ENV_FILE = ".env",
  }

  --- Rows by variable.
  local function variables()
    local by_name = {}
    for _, section in ipairs(config.sections()) do
      for _, row in ipairs(section[3]) do
        if row.env then by_name[row.env] = row end
      end
    end
    return by_name
  end

  it("has every variable of the contract, with its default", function()
    local rows = variables()
    for name, default in pairs(CONTRACT) do
      assert.truthy(rows[name], name .. " has no row")
      assert.equal(default, rows[name][3] or false, name)
    end
  end)

  --- Texts that an option of a type refuses; those of any text refuse nothing.
  local REFUSED = { boolean = { "maybe", "2" }, integer = { "many", "1.5", "1e3" }, number = { "many", "1s", "nan" },
    choice = { "other" }, tag = { "a.b", "a b" }, tags = { "a.b" }, name = { "a.b", "ü" }, header = { "X Y", "X:Y" },
    kv_key = { "a b", ".a" }, subject = { "a..b", "a.*" }, slots = { "0", "gpu=0", "x" },
    nats_url = { "http://x", "x" },
    resolver = { "m:f", "a.lua:" }, http_url = { "x", "nats://x" }, paths = { ":" },
    networks = { "10.0.0.0/33", "1.2.3", "x" }, short_text = { ("x"):rep(513) }, string = {}, path = {},
    line = { "a\nb", "a\27b" } }

  it("refuses what does not fit, naming variable, value and range, for every row", function()
    local count = 0
    for name, row in pairs(variables()) do
      assert.truthy(REFUSED[row[2]], name .. ": say in REFUSED what its type refuses")
      local bad = { table.unpack(REFUSED[row[2]]) }
      if row.min then bad[#bad + 1] = ("%.14g"):format(row.min - 1) end
      if row.max then bad[#bad + 1] = ("%.14g"):format(row.max + 1) end
      for _, text in ipairs(bad) do
        local cfg, message = load { env = { [name] = text } }
        assert.is_nil(cfg, name .. "=" .. text)
        local shown = row.secret and "not usable" or ("%q"):format(text)
        local wanted = ("environment %s is %s: expected %s"):format(name, shown, config.expected(row))
        assert.truthy(message:find(wanted, 1, true), message)
        if row.min then assert.truthy(wanted:find(("%s"):format(row.min), 1, true)) end
        if row.max then assert.truthy(wanted:find(("%s"):format(row.max), 1, true)) end
        count = count + 1
      end
    end
    assert.is_true(count > 100)
  end)

  it("stops every program that is started with a bad value", function()
    for _, script in ipairs { "gateway.lua", "worker.lua", "up.lua", "admin.lua" } do
      local got = process.run({ script, script == "admin.lua" and "config" or nil },
        { env = { PYOCO_CONSUMER_ACK_WAIT_SEC = "0.5" } })
      assert.equal(1, got.code, script)
      local fault = 'environment PYOCO_CONSUMER_ACK_WAIT_SEC is "0.5": expected a number, at least 1'
      assert.truthy(got.stderr:find(fault, 1, true), script .. ": " .. got.stderr)
    end
  end)

  it("is what docs/reference/config.md shows (make docs writes it)", function()
    local file <close> = assert(io.open(host.home .. "/docs/reference/config.md", "rb"))
    assert.equal(require("pyoco.config_doc").markdown(), file:read("a"))
  end)
end)
