--- admin.lua as an administrator runs it: its arguments, and the commands that need no NATS.
local json = require "host.json"
local args = require "pyoco.cli.args"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

--- Runs admin.lua in a folder of its own, so that no .env of ours is read.
local function admin(arguments, opts)
  return process.run({ "admin.lua", table.unpack(arguments) }, opts)
end

describe("groups of commands", function()
  local program = { name = "p", doc = "d", groups = { key = "Keys." }, commands = {
    { "key create", doc = "Make one.", options = { { "--tenant", required = true, doc = "Whose." } } },
    { "key list", doc = "All.", options = {} },
    { "plain", doc = "No group.", options = {} } } }

  it("give the command by its two words", function()
    local values = args.parse(program, { "key", "create", "--tenant", "a" })
    assert.same({ "key create", "a" }, { values.command, values.tenant })
    assert.equal("plain", args.parse(program, { "plain" }).command)
  end)

  it("name what is wrong within the group", function()
    local function message(...) return (select(2, args.parse(program, { ... }))) end
    assert.equal("unknown command 'creat'; did you mean create?", message("key", "creat"))
    assert.equal("unknown command 'kee'; did you mean key?", message("kee", "create"))
    assert.equal("a command is required", message "key")
    assert.equal("missing option '--tenant'", message("key", "create"))
    assert.truthy(select(4, args.parse(program, { "key", "create" })):find("^Usage: p key create"))
  end)

  it("have help of their own", function()
    assert.truthy(args.parse(program, { "key", "--help" }).help:find("Make one.", 1, true))
    assert.truthy(args.parse(program, { "key", "create", "--help" }).help:find("Whose.", 1, true))
  end)
end)

describe("admin.lua", function()
  it("refuses a wrong command line as every program of ours does", function()
    local got = admin { "confg" }
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-0018: "))
    assert.truthy(got.stderr:find("unknown command 'confg'; did you mean config?", 1, true), got.stderr)
  end)
end)

describe("admin.lua config", function()
  local dir
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  local function rows(opts)
    opts.cwd = dir
    local got = admin({ "--nats-url", "nats://me:hidden@127.0.0.1:4", "config" }, opts)
    assert.equal(0, got.code, got.stderr)
    local by_name = {}
    for _, row in ipairs(json.decode(got.stdout)) do by_name[row.name] = row end
    return by_name, got.stdout
  end

  it("warns of what is not an option", function()
    local got = admin({ "config" }, { cwd = dir, env = { PYOCO_WORKER_SLOT = "2" } })
    assert.equal(0, got.code)
    assert.truthy(got.stderr:find("warning: PYOCO_WORKER_SLOT (environment) is not an option; did you mean", 1, true))
  end)

  it("shows each value and where it comes from, and of a secret only whether it is set", function()
    tmp.write(dir .. "/.env", "\nPYOCO_DEFAULT_TAG=gpu\n")
    local got, text = rows { env = { PYOCO_NATS_PASSWORD = "hidden", PYOCO_WORKER_SLOTS = "gpu=1,cpu=8" } }
    assert.same({ name = "default_tag", variable = "PYOCO_DEFAULT_TAG", flag = json.null, value = "gpu",
      from = dir .. "/.env:2 PYOCO_DEFAULT_TAG", secret = false }, got.default_tag)
    assert.same({ "nats://127.0.0.1:4", "flag --nats-url" }, { got.nats_url.value, got.nats_url.from })
    assert.same({ "set", "environment PYOCO_NATS_PASSWORD" }, { got.nats_password.value, got.nats_password.from })
    assert.equal("not set", got.nats_token.value)
    assert.same({ cpu = 8, gpu = 1 }, got.worker_slots.value)
    assert.same({ 5, "default" }, { got.worker_heartbeat_interval_sec.value, got.worker_heartbeat_interval_sec.from })
    assert.falsy(text:find("hidden", 1, true))
  end)

  it("is a table for people", function()
    local got = admin({ "config", "--output", "table" }, { cwd = dir, env = { PYOCO_WORKER_SLOTS = "gpu=1,cpu=8" } })
    assert.truthy(got.stdout:find("^variable +value +from *\n"))
    assert.truthy(got.stdout:find("\nPYOCO_WORKER_SLOTS +cpu=8,gpu=1 +environment PYOCO_WORKER_SLOTS *\n"))
  end)

  it("refuses a bad value with variable, value and range", function()
    local got = admin({ "config" }, { cwd = dir, env = { PYOCO_HTTP_PORT = "99999" } })
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('environment PYOCO_HTTP_PORT is "99999": expected a whole number from 0 to 65535',
      1, true), got.stderr)
  end)
end)
