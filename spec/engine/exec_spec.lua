--- ctx:exec: programs started, heard, ended. Real processes; every `it` must leave none (spec/support/leaks.lua).
local json = require "host.json"
local native = require "host.process"
local uv = require "luv"
local flow = require "spec.support.flow"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

--- Runs one task that runs one program; returns its result, its record and the engine.
local function exec(spec, options)
  local result
  local record, eng = flow.task(function(ctx) result = ctx:exec(spec) end, options)
  return result, record, eng
end

--- Runs a program that must succeed.
local function result_of(spec, options)
  local result, record = exec(spec, options)
  assert.is_nil(record.error)
  return result
end

--- Runs a program whose task must fail; returns the error.
local function error_of(spec, options)
  local _, record = exec(spec, options)
  assert.equal("FAILED", record.state)
  return record.error
end

local function is_alive(pid)
  local text = tmp.read(("/proc/%d/stat"):format(pid))
  return text ~= nil and not text:find("%) [ZX] ")
end

describe("ctx:exec", function()
  local folder

  before_each(function() folder = tmp.dir() end)
  after_each(function() tmp.remove(folder) end)

  --- A pipe by name, on which a program waits (`read x < NAME`) until `go` is called.
  local function gate()
    local path = folder .. "/gate"
    assert(os.execute("mkfifo " .. path))
    return path, function()
      local file <close> = assert(io.open(path, "w"))
      file:write("go\n")
    end
  end

  describe("gives a program", function()
    it("its arguments as they are", function()
      local result = result_of { "printf", "[%s]", "a b", "", "'\"$HOME`*", "日本", 7, 0.5 }
      assert.equal("[a b][]['\"$HOME`*][日本][7][0.5]", result.stdout)
    end)

    it("a shell for a text", function()
      assert.equal("2\n", result_of({ shell = "printf 'a\\nb\\n' | wc -l" }).stdout)
    end)

    it("its folder, from ours", function()
      assert.equal(folder .. "\n", result_of({ "pwd", cwd = folder }).stdout)
      assert.equal(uv.cwd() .. "/spec\n", result_of({ "pwd", cwd = "spec" }).stdout)
    end)

    it("all of its stdin, however long, and no other", function()
      assert.equal("", result_of({ "cat" }).stdout)
      local text = ("x"):rep(3000000)
      assert.equal("3000000\n", result_of({ "wc", "-c", stdin = text }).stdout)
      assert.is_true(result_of({ "true", stdin = text }).ok)
    end)

    it("our environment, what the run is called, and its own", function()
      local result = result_of({ shell = 'echo "$HOME|$PYOCO_RUN_ID|$PYOCO_FLOW|$PYOCO_TASK|$PYOCO_ATTEMPT|$LR|$N"',
        env = { LR = "0.1 x", N = 3 } }, { run = { run_id = "r1", flow_name = "night" } })
      assert.equal(("%s|r1|night|t|1|0.1 x|3\n"):format(os.getenv("HOME") or ""), result.stdout)
    end)

    it("no variable that is false", function()
      assert.equal("none\n", result_of({ shell = "echo ${PYOCO_TASK-none}", env = { PYOCO_TASK = false } }).stdout)
    end)

    it("nothing that is secret", function()
      local script = tmp.write(folder .. "/main.lua", [[
        package.path = require("host").home .. "/?.lua;" .. package.path
        local flow = require "spec.support.flow"
        io.write(flow.task(function(ctx) return ctx:exec{ "env" }.stdout end).output)]])
      local child = process.run({ script }, { env = { PYOCO_NATS_PASSWORD = "s3cret-1", PYOCO_NATS_TOKEN = "s3cret-2",
        PYOCO_API_KEY = "s3cret-3", PYOCO_NATS_URL = "nats://me:s3cret-4@h1:1,nats://h2:2" } })
      assert.equal(0, child.code, child.stderr)
      assert.is_nil(child.stdout:find("s3cret", 1, true))
      assert.truthy(child.stdout:find("PYOCO_NATS_URL=nats://h1:1,nats://h2:2\n", 1, true), child.stdout)
    end)

    it("no descriptor of ours but the standard three", function()
      local file <close> = assert(io.open("/etc/hostname"))
      assert.truthy(file)
      assert.equal("0\n1\n2\n3\n", result_of({ "ls", "/proc/self/fd" }).stdout) -- 3: the folder itself
    end)

    it("default signals, none of them blocked", function()
      local text = result_of({ "cat", "/proc/self/status" }).stdout
      assert.equal(0, tonumber(text:match("SigIgn:%s*(%x+)"), 16) & 0x7fffffff) -- 32 and up: as we got them
      assert.equal("0000000000000000", text:match("SigBlk:%s*(%x+)"))
    end)

    it("a session and a group of its own", function()
      local pid, group, session = result_of({ shell = "cut -d' ' -f1,5,6 /proc/$$/stat" }).stdout:match(
        "^(%d+) (%d+) (%d+)\n$")
      assert.equal(pid, group)
      assert.equal(pid, session)
    end)
  end)

  describe("tells", function()
    it("how it ended", function()
      local result = result_of { shell = "echo out; echo err >&2" }
      assert.same({ ok = true, code = 0, stdout = "out\n", stderr = "err\n", truncated = false }, result)
    end)

    it("a failure with its exit code and the last lines of stderr", function()
      assert.equal("sh: exit code 3\nline 2\nline 3",
        error_of { "sh", "-c", "echo out; printf 'line 2\nline 3\n' >&2; exit 3" })
      local text = error_of { shell = "seq 1 100 >&2; exit 1" }
      assert.equal("seq 1 100 >&2; exit 1: exit code 1\n91\n92\n93\n94\n95\n96\n97\n98\n99\n100", text)
    end)

    it("a death with the signal's name", function()
      assert.equal("sh: killed by SIGSEGV", error_of { "sh", "-c", "ulimit -c 0; kill -SEGV $$" })
      assert.equal("SIGKILL", result_of({ shell = "kill -KILL $$", check = false }).signal)
    end)

    it("a failure as a result when it is not to be checked", function()
      local result = result_of { shell = "echo sorry >&2; exit 3", check = false }
      assert.is_false(result.ok)
      assert.equal(3, result.code)
      assert.is_nil(result.signal)
      assert.equal("echo sorry >&2; exit 3: exit code 3\nsorry", result.error)
    end)

    it("the last line that is JSON as its output", function()
      local function output_of(text, stdin) return result_of({ shell = text, stdin = stdin }).output end
      assert.same({ loss = 0.5 }, output_of [[echo '{"epoch":1}'; echo '{"loss":0.5}'; echo done]])
      assert.equal(42, output_of "echo 41; echo 42")
      assert.equal("x", output_of [[printf '"x"']])
      assert.is_nil(output_of "echo not json; echo 'true story'; echo [1")
      assert.is_nil(output_of "echo null")
      assert.is_false(output_of "echo false")
      assert.is_nil(output_of "true")
      local long = json.encode { text = ("y"):rep(900000) }
      assert.equal(900000, #output_of("cat", "log\n" .. long .. "\n").text)
    end)

    it("the last 64 KB of its output, from a whole character on", function()
      local result = result_of { "cat", stdin = ("ä"):rep(100000) .. "xyz" }
      assert.is_true(result.truncated)
      assert.is_true(#result.stdout <= 65536 and #result.stdout > 65530)
      assert.truthy(result.stdout:find("^ä") and result.stdout:find("äxyz$"))
      assert.is_true(utf8.len(result.stdout) ~= nil)
    end)

    it("bytes that are not UTF-8 as U+FFFD", function()
      local result, record = exec { shell = [[printf 'a\377b\n\303'; printf '\244\n']] }
      assert.equal("a\u{FFFD}b\nä\n", result.stdout)
      assert.equal("a\u{FFFD}b\nä\n", record.log_tail)
    end)
  end)

  describe("says what is wrong with", function()
    it("a program that is not there", function()
      assert.equal("cannot start 'no-such-program': no such program in PATH (/usr/bin:/bin)",
        error_of { "no-such-program", env = { PATH = "/usr/bin:/bin" } })
      assert.equal("cannot start '/nonexistent/x': no such file", error_of { "/nonexistent/x" })
      assert.equal(("cannot start './x': no such file in '%s'"):format(folder), error_of { "./x", cwd = folder })
      local result = result_of { "no-such-program", check = false }
      assert.same({ false, 127 }, { result.ok, result.code })
      assert.truthy(result.error:find("no-such-program", 1, true))
    end)

    it("a file that is no program", function()
      tmp.write(folder .. "/plain", "echo hi\n")
      assert.equal("cannot start './plain': it is not executable (chmod +x makes it so)",
        error_of { "./plain", cwd = folder })
      assert(uv.fs_chmod(folder .. "/plain", tonumber("755", 8)))
      assert.equal("cannot start './plain': it is no program; a script begins with a line like #!/bin/sh",
        error_of { "./plain", cwd = folder })
      tmp.write(folder .. "/plain", "#!/no/such/python\n")
      assert.equal("cannot start './plain': the interpreter that its first line (#!) names does not exist",
        error_of { "./plain", cwd = folder })
    end)

    it("a folder that is not there", function()
      assert.equal("cannot start 'true' in the folder '/nonexistent': No such file or directory",
        error_of { "true", cwd = "/nonexistent" })
      assert.equal("cannot start 'true' in the folder '/etc/hostname': Not a directory",
        error_of { "true", cwd = "/etc/hostname" })
    end)

    it("arguments that the kernel does not take", function()
      assert.equal("cannot start 'true': its arguments and environment are too long; hand large data over on stdin",
        error_of { "true", ("x"):rep(200000) })
    end)

    it("a spec, at the place of the call", function()
      local place = "^spec/engine/exec_spec.lua:%d+: ctx:exec: "
      for expected, spec in pairs {
        ["no program: ctx:exec{ \"program\", \"argument\", ... } or { shell = \"...\" }"] = {},
        ["expected a table, got a string"] = "ls",
        ["program: an empty text"] = { "" },
        ["argument 1: expected a text or a number, got a table"] = { "ls", {} },
        ["argument 1: a text with a NUL byte cannot be given to a program"] = { "ls", "a\0b" },
        ["the list has a hole: one of the arguments is nil"] = { "ls", nil, "x" },
        ["give a program as a list, or a text for the shell, not both"] = { "ls", shell = "ls" },
        ["unknown field 'tiemout_sec'; did you mean timeout_sec?"] = { "ls", tiemout_sec = 3 },
        ["timeout_sec: expected seconds above 0, at most 31536000, got 0"] = { "ls", timeout_sec = 0 },
        ["env: expected a table of NAME = text, got a string"] = { "ls", env = "A=1" },
        ["env: 'A=B' cannot be the name of a variable"] = { "ls", env = { ["A=B"] = "1" } },
        ["env: '1' cannot be the name of a variable"] = { "ls", env = { "A=1" } },
        ["env.A: expected a text or a number, got a table"] = { "ls", env = { A = {} } },
        ["env.A: a text with a NUL byte cannot be given to a program"] = { "ls", env = { A = "\0" } },
        ["cwd: expected the path of a folder, got 3"] = { "ls", cwd = 3 },
        ["stdin: expected a text, got a table"] = { "ls", stdin = {} },
      } do
        local text = error_of(spec)
        assert.truthy(text:find(place), text)
        assert.equal(expected, (text:gsub(place, "")))
      end
    end)

    it("a call where it cannot wait", function()
      local record = flow.task(function(ctx)
        table.sort({ 2, 1 }, function() ctx:exec { "true" } end)
      end)
      assert.truthy(record.error:find("cannot wait here", 1, true), record.error)
    end)
  end)

  describe("hears", function()
    it("each line when it comes", function()
      local path, go = gate()
      local heard = {}
      local record = flow.task(function(ctx) ctx:exec { shell = "echo first; read x < " .. path .. "; echo $x" } end, {
        on_event = function(event)
          if event.type ~= "log" then return end
          heard[#heard + 1] = event.text
          if event.text == "first\n" then go() end
        end })
      assert.equal("SUCCEEDED", record.state)
      assert.same({ "first\n", "go\n" }, heard)
      assert.equal("first\ngo\n", record.log_tail)
    end)

    it("a progress bar that only returns the carriage", function()
      local path, go = gate()
      local record = flow.task(function(ctx) ctx:exec { shell = "printf '10%%\\r'; read x < " .. path } end, {
        on_event = function(event) if event.text == "10%\r" then go() end end })
      assert.equal("SUCCEEDED", record.state)
    end)

    it("nothing when it is quiet", function()
      local result, record = exec { "echo", "x", quiet = true }
      assert.equal("x\n", result.stdout)
      assert.is_nil(record.log_tail)
    end)

    it("a very long line in pieces, whole characters each", function()
      local pieces = {}
      exec({ "cat", stdin = ("x" .. ("ä"):rep(150000)) }, { on_event = function(event)
        if event.type == "log" then pieces[#pieces + 1] = event.text:gsub("\n$", "") end
      end })
      assert.equal("x" .. ("ä"):rep(150000), table.concat(pieces))
      assert.is_true(#pieces >= 3)
      for _, piece in ipairs(pieces) do
        assert.is_true(#piece <= 131072)
        assert.is_true(utf8.len(piece) ~= nil)
      end
    end)

    it("a gigabyte, in little memory", function()
      local most, bytes = 0, 0
      local half = 500000000 -- one line, then many
      local shell = ("head -c %d /dev/zero | tr '\\0' x; yes 'a line of text' | head -c %d"):format(half, half)
      local result, record = exec({ shell = shell }, { on_event = function(event)
        if event.type == "log" then
          bytes = bytes + #event.text
          most = math.max(most, collectgarbage "count")
        end
      end })
      assert.is_true(result.ok)
      assert.is_true(bytes >= 1000000000)
      assert.is_true(#record.log_tail <= 4096)
      assert.is_true(most < 65536, ("%.0f KB"):format(most))
    end)
  end)

  describe("waits", function()
    it("while other tasks go on", function()
      local path, go = gate()
      local eng = flow.run {
        { "a", function(ctx) ctx:exec { shell = "read x < " .. path } end },
        { "b", function(ctx) ctx:sleep(0) go() end },
      }
      assert.equal("COMPLETED", eng.status)
    end)

    it("while another task computes, until the program has spoken", function()
      local heard
      local eng = flow.run({
        { "a", function(ctx) ctx:exec { "echo", "x" } end },
        { "b", function() while not heard do end end },
      }, { on_event = function(event) heard = heard or event.type == "log" end })
      assert.equal("COMPLETED", eng.status)
    end)

    it("for a program that closes its output and goes on", function()
      local path, go = gate()
      local result
      flow.task(function(ctx)
        result = ctx:exec { shell = "echo x; exec >&- 2>&-; read x < " .. path .. "; exit 5", check = false }
      end, { on_event = function(event) if event.type == "log" then go() end end })
      assert.equal(5, result.code)
    end)

    it("not for what it leaves in the background with its output", function()
      local result = result_of { shell = "sleep 1000 & echo $!" }
      assert.is_false(is_alive(tonumber(result.stdout))) -- the run is over
    end)

    it("in a coroutine of the task's own", function()
      local record = flow.task(function(ctx)
        return coroutine.wrap(function() return ctx:exec({ "echo", "x" }).stdout end)()
      end)
      assert.equal("x\n", record.output)
    end)
  end)

  describe("ends", function()
    --- Runs a program that prints the pids of processes that must be gone at the end of the run; returns the engine.
    local function all_gone(shell, options, spec)
      local pids, text = {}, ""
      local given = { shell = shell, check = false }
      for key, value in pairs(spec or {}) do given[key] = value end
      local told = options and options.on_event
      options = setmetatable({ on_event = function(event)
        if event.type == "log" then text = text .. event.text end
        if told then told(event) end
      end }, { __index = options })
      local result, _, eng = exec(given, options)
      for pid in text:gmatch("%d+") do pids[#pids + 1] = tonumber(pid) end
      assert.is_true(#pids > 0, text)
      for _, pid in ipairs(pids) do assert.is_false(is_alive(pid), ("%d of %s"):format(pid, text)) end
      return eng, result
    end

    it("daemons at the end of the run", function()
      all_gone "setsid sh -c 'echo $$; sleep 1000 & echo $!; wait' & echo $!"
      all_gone "(setsid sh -c 'echo $$; (sleep 1000 & echo $!) & ' &) ; echo $$"
      all_gone "env -i setsid sh -c 'trap \"\" TERM HUP; echo $$; sleep 1000' & sleep 0; echo $!"
    end)

    it("not our own children that are not the run's", function()
      local mine = process.spawn("sleep", { "1000" })
      all_gone "sleep 1000 & echo $!"
      assert.is_nil(mine.code)
      mine:stop()
    end)

    it("one that takes too long", function()
      local result = result_of { "sleep", 1000, timeout_sec = 0.05, check = false }
      assert.is_true(result.timed_out)
      assert.equal("SIGTERM", result.signal)
      assert.equal("sleep: timed out after 0.05 s (timeout_sec), killed by SIGTERM", result.error)
    end)

    it("one that takes too long and ends well when asked to: that is no success", function()
      local result = result_of { shell = "trap 'exit 0' TERM; sleep 1000 & wait", timeout_sec = 1, check = false }
      assert.same({ false, true, 0 }, { result.ok, result.timed_out, result.code })
    end)

    it("one that ignores SIGTERM after the grace period, and its group", function()
      local _, result = all_gone("trap '' TERM; sleep 1000 & echo $$ $!; while :; do wait; sleep 1000; done",
        { command_grace_sec = 0.05 }, { timeout_sec = 1 })
      assert.equal("SIGKILL", result.signal)
    end)

    it("those of its group that ignore SIGTERM, when it does not", function()
      all_gone("(trap '' TERM; sleep 1000) & echo $$ $!; wait", { command_grace_sec = 1000 }, { timeout_sec = 1 })
    end)

    it("when the run is cancelled, and hears its last words", function()
      local engine, eng
      eng = all_gone("trap 'echo bye; exit 0' TERM; sleep 1000 & echo $$ $!; wait", {
        on_start = function(it) engine = it end,
        on_event = function(event) if event.type == "log" then engine:cancel() end end })
      assert.equal("CANCELLED", eng.status)
      assert.equal("run cancelled", eng.records.t.error)
      assert.truthy(eng.records.t.log_tail:find("bye\n", 1, true))
    end)

    it("one that ignores the cancel", function()
      local engine, eng
      eng = all_gone("trap '' TERM; echo $$; while :; do sleep 1000; done", { command_grace_sec = 0.05,
        on_start = function(it) engine = it end,
        on_event = function(event) if event.type == "log" then engine:cancel() end end })
      assert.equal("CANCELLED", eng.status)
    end)

    it("with the process that runs the flow, even if that is killed", function()
      tmp.write(folder .. "/main.lua", [[
        package.path = require("host").home .. "/?.lua;" .. package.path
        require("spec.support.flow").task(function(ctx) ctx:exec{ shell = "echo $$; exec sleep 1000" } end,
          { on_event = function(event) if event.type == "log" then io.stdout:write(event.text):flush() end end })]])
      local child = process.host { folder .. "/main.lua" }
      local pid = process.wait_for(function() return tonumber(child.stdout:match("%d+")) end)
      assert.is_true(is_alive(pid))
      child:kill "sigkill"
      process.wait_for(function() return not is_alive(pid) end)
      child:wait()
    end)
  end)

  describe("runs at once", function()
    it("as many as it may", function()
      local rows, running, begun, most = {}, {}, 0, 0
      for i = 1, 7 do
        local name = "t" .. i
        rows[i] = { name, function(ctx)
          ctx:exec { shell = ("echo begin; until [ -e %s/%s ]; do sleep 0.002; done"):format(folder, name) }
        end }
      end
      local eng = flow.run(rows, { max_commands = 3, on_event = function(event)
        if event.type ~= "log" then return end
        begun = begun + 1
        running[#running + 1] = event.task
        most = math.max(most, #running)
        -- one ends only when three run: if fewer did at once, this would go on for ever
        while #running == 3 or begun == 7 and #running > 0 do
          tmp.write(folder .. "/" .. table.remove(running, 1), "")
        end
      end })
      assert.equal("COMPLETED", eng.status)
      assert.equal(3, most)
    end)

    it("those that come first in the graph, whoever asked first", function()
      local order, asked = {}, folder .. "/asked"
      local function once(ctx) ctx:exec { "echo", "x" } end
      local function twice(ctx)
        once(ctx)
        tmp.write(asked, "") -- and asks again before anybody else can
        once(ctx)
      end
      local function patient(ctx) ctx:exec { "sh", "-c", 'until [ -e "$0" ]; do sleep 0.01; done; echo x', asked } end
      flow.run({ { "a", twice }, { "b", patient }, { "c", once }, { "d", once } },
        { max_commands = 1, on_event = function(event)
          if event.type == "log" then order[#order + 1] = event.task end
        end })
      assert.equal("a b a c d", table.concat(order, " "))
    end)
  end)

  it("reaps orphans while the run goes on, but not what others wait for", function()
    local zombies, closed
    local record = flow.task(function(ctx)
      local pipe = io.popen("exit 7")
      pipe:read("a") -- it has ended
      for _ = 1, 20 do ctx:exec { shell = "(setsid true &)" } end
      repeat -- the last orphan has its own moment to end
        ctx:exec { "true" }
        zombies = 0
        for _, pid in ipairs(native.children()) do
          local stat = tmp.read(("/proc/%d/stat"):format(pid)) or ""
          if stat:find("%) Z ") and not stat:find("(sh)", 1, true) then zombies = zombies + 1 end
        end
      until zombies == 0
      closed = { pipe:close() }
    end)
    assert.is_nil(record.error)
    assert.same({ nil, "exit", 7 }, closed)
  end)

  it("leaves nothing of a thousand programs", function()
    local before = native.children()
    local record = flow.task(function(ctx)
      for _ = 1, 1000 do ctx:exec { "true" } end
    end)
    assert.is_nil(record.error)
    assert.same(before, native.children())
  end)
end)
