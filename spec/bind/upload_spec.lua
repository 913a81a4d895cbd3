--- Uploads: forms with a large file, on a real server whose app tells what it got. No NATS.
local crypto = require "host.crypto"
local http = require "host.http"
local httpd = require "host.httpd"
local json = require "host.json"
local shared = require "host.shared"
local uv = require "luv"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local web = require "spec.support.web"

local APP = [[
local shared = require "host.shared"
local response = require "pyoco.http.response"
local app = require("pyoco.http.app").new { config = { max = 1000000 } }

local function tell(_, req)
  local file = req.body.file
  local bytes = file.data or assert(io.open(file.path, "rb")):read "a"
  shared.set("spec.bytes", bytes)
  if req.query.slow then
    shared.incr("spec.slow")
    while not shared.get("spec.release") do end
  end
  return { filename = file.filename, type = file.content_type, size = file.size or #bytes, sha256 = file.sha256,
    tags = req.body.tags, on_disk = file.path ~= nil }
end

local form = { { "file", "file", required = true }, { "tags", "string" } }
app:post("/upload", tell, { form = form, upload = { part = "file", max = "max", too_large = "file too large" } })
app:post("/plain", tell, { form = form })
app:get("/ping", function() return "pong" end)
app:authenticate(function(_, req)
  if req.headers["x-key"] == "good" then return true end
  return nil, "api key required", "unauthorized"
end)
return app
]]

local HEAD = 'Content-Disposition: form-data; name="file"; filename="a.bin"\r\nContent-Type: x/y\r\n\r\n'

describe("host.httpd uploads", function()
  local server, remove, spool

  local level = os.getenv "PYOCO_LOG_LEVEL"
  setup(function() uv.os_setenv("PYOCO_LOG_LEVEL", "CRITICAL") end)
  teardown(function()
    if level then uv.os_setenv("PYOCO_LOG_LEVEL", level) else uv.os_unsetenv "PYOCO_LOG_LEVEL" end
  end)

  local function serve(options)
    local dir
    dir, remove = web.folder()
    spool = tmp.dir()
    web.write(dir .. "/app.lua", APP)
    local all = { script = dir .. "/app.lua", port = 0, threads = 16, service = false, max_body_bytes = 2000,
      spool_dir = spool, request_timeout_ms = 400 }
    for k, v in pairs(options or {}) do all[k] = v end
    server = assert(httpd.serve(all))
  end

  local function serves(name, body, options)
    it(name, function()
      finally(function()
        http.close()
        if server then server:stop(5) end
        if remove then remove() end
        if spool then tmp.remove(spool) end
        server, remove, spool = nil, nil, nil
        for _, key in ipairs(shared.keys("spec.")) do shared.delete(key) end
        process.settle()
      end)
      serve(options)
      body()
    end)
  end

  local function post(path, body, kind, headers)
    local all = { ["content-type"] = kind, ["x-key"] = "good" }
    for name, value in pairs(headers or {}) do all[name] = value end
    local answer = assert(http.request { url = ("http://127.0.0.1:%d%s"):format(server:port(), path), method = "POST",
      body = body, headers = all })
    if (answer.headers["content-type"] or ""):find("json", 1, true) then answer.json = json.decode(answer.body) end
    return answer
  end

  --- What the server sends for a request whose bytes are given.
  local function raw(headers, body, enough)
    return (web.raw(server:port(), "POST /upload HTTP/1.1\r\nHost: a\r\nX-Key: good\r\n" .. headers .. "\r\n" .. body,
      enough))
  end

  local function chunked(text, size)
    local parts = {}
    for at = 1, #text, size do
      local piece = text:sub(at, at + size - 1)
      parts[#parts + 1] = ("%x\r\n%s\r\n"):format(#piece, piece)
    end
    return table.concat(parts) .. "0\r\n\r\n"
  end

  local function descriptors()
    local count, scan = 0, uv.fs_scandir("/proc/self/fd")
    while uv.fs_scandir_next(scan) do count = count + 1 end
    return count
  end

  serves("come as a file on disk when they are large, as bytes when they are small", function()
    local large = assert(crypto.random(500000)) .. "\r\n--nearly\r\n"
    for _, bytes in ipairs { large, "small", "" } do
      local body, kind = http.multipart({ { "tags", "a,b" } },
        { { name = "file", filename = "a b.bin", content_type = "x/y", data = bytes } })
      local answer = post("/upload", body, kind)
      assert.equal(200, answer.status, answer.body)
      assert.is_true(bytes == shared.get "spec.bytes")
      assert.same({ filename = "a b.bin", type = "x/y", size = #bytes, tags = "a,b", on_disk = bytes == large,
        sha256 = bytes == large and crypto.sha256(bytes) or nil }, answer.json)
    end
    assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(spool)))
  end)

  serves("are read alike wherever the pieces of the body end", function()
    local bytes = "\r\n--x\r\n-\r\n--\r\n--xx--\r--x\n" .. ("\r\n--xyzz"):rep(20) .. "\r"
    local body = "preamble\r\n--xyzzy \t\r\n" .. HEAD .. bytes .. "\r\n--xyzzy\r\n"
      .. 'Content-Disposition: form-data; name="tags"\r\n\r\nlast\r\n--xyzzy--\r\nepilogue'
    for size = 1, 40 do
      local text = raw("Content-Type: multipart/form-data; boundary=xyzzy\r\nTransfer-Encoding: chunked\r\n"
        .. "Connection: close\r\n", chunked(body, size))
      assert.truthy(text:find("200 OK", 1, true), text)
      assert.truthy(text:find('"on_disk":true', 1, true), text)
      assert.truthy(text:find('"tags":"last"', 1, true), text)
      assert.is_true(bytes == shared.get "spec.bytes", "pieces of " .. size)
    end
  end)

  serves("are asked for by clients that wait for it", function()
    local body, kind = http.multipart({}, { { name = "file", filename = "a", data = ("x"):rep(5000) } })
    local head = ("Content-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\nExpect: 100-continue\r\n"):format(
      kind, #body)
    local c = web.connect(server:port(), "POST /upload HTTP/1.1\r\nHost: a\r\nX-Key: good\r\n" .. head .. "\r\n")
    assert.is_true(c:wait(function() return c.text == "HTTP/1.1 100 Continue\r\n\r\n" end))
    c:send(body)
    c:wait()
    assert.truthy(c.text:find("HTTP/1.1 200 OK", 1, true), c.text)
    c:close()
  end)

  serves("are refused before they are read, without a key or when too large", function()
    local before = descriptors()
    for _, case in ipairs { { "", 5000, "401 Unauthorized", "api key required" },
      { "X-Key: good\r\n", 3000000, "413 Content Too Large", "file too large" },
      { "X-Key: good\r\n", 5000, "422 Unprocessable Entity", "no boundary", "multipart/form-data" } } do
      -- nothing of the body is sent: the answer must come without it
      local text, closed = web.raw(server:port(), ("POST /upload HTTP/1.1\r\nHost: a\r\n%sContent-Length: %d\r\n"
        .. "Content-Type: %s\r\nExpect: 100-continue\r\n\r\n"):format(case[1], case[2],
        case[5] or "multipart/form-data; boundary=b"))
      assert.truthy(text:find("^HTTP/1.1 " .. case[3]), text)
      assert.truthy(text:find(case[4], 1, true), text)
      assert.truthy(text:find("connection: close", 1, true), text)
      assert.is_true(closed)
    end
    process.wait_for(function() return descriptors() <= before end, 5000, "the descriptors to go")
    assert.equal(0, server:stats().uploads)
  end)

  serves("are refused when the file turns out too large, whoever has sent its size", function()
    local body, kind = http.multipart({}, { { name = "file", filename = "a", data = ("x"):rep(1000001) } })
    local answer = post("/upload", body, kind)
    assert.same({ 413, "file too large" }, { answer.status, answer.json.detail })
    local text = raw(("Content-Type: %s\r\nTransfer-Encoding: chunked\r\n"):format(kind), chunked(body, 65536))
    assert.truthy(text:find("413 Content Too Large", 1, true), text)
    -- what stands around a file is no way around the limit
    text = raw("Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n",
      chunked(("x"):rep(2200000), 65536))
    assert.truthy(text:find("413 Content Too Large", 1, true), text)
    assert.is_nil(shared.get "spec.bytes")
    body, kind = http.multipart({}, { { name = "file", filename = "a", data = ("x"):rep(1000000) } })
    assert.equal(200, post("/upload", body, kind).status)
  end)

  serves("are for the routes that want them; others keep to the limit of all bodies", function()
    local body, kind = http.multipart({}, { { name = "file", filename = "a", data = ("x"):rep(5000) } })
    local answer = post("/plain", body, kind)
    assert.same({ 413, "body too large, the limit is 2000 bytes" }, { answer.status, answer.json.detail })
    assert.equal(413, post("/nowhere", body, kind).status)
    assert.equal(413, post("/upload", body, "application/json").status)
    local small = http.multipart({}, { { name = "file", filename = "a", data = "x" } })
    local text = web.raw(server:port(), ("POST /plain HTTP/1.1\r\nHost: a\r\nX-Key: good\r\nContent-Type: %s\r\n"
      .. "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%s"):format(
      "multipart/form-data; boundary=" .. small:match("^%-%-([^\r]+)"), chunked(small, 7)))
    assert.truthy(text:find('"on_disk":false', 1, true), text)
  end)

  serves("are read from disk as they are from memory, whatever is wrong with them", function()
    local fine = "--b\r\n" .. HEAD .. "some\r\n-- bytes\r\n--b\r\n"
      .. 'Content-Disposition: form-data; name="tags"\r\n\r\nx,y\r\n--b--\r\n'
    local pieces = { "\r\n", "--b", "--", "\r", "\n", "\r\n\r\n", " ", "-", 'name="file"', "b", ";", "\0", '"' }
    local seed = os.time()
    math.randomseed(seed)
    local accepted = 0
    for round = 1, 150 do
      local body = fine
      for _ = 1, math.random(0, 3) do
        local at = math.random(0, #body)
        local to = math.random(3) == 1 and math.min(#body, at + math.random(8)) or at
        body = body:sub(1, at) .. (math.random(4) > 1 and pieces[math.random(#pieces)] or "") .. body:sub(to + 1)
      end
      local head = "Content-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n"
      local function outcome(text)
        local status = text:match("^HTTP/1.1 (%d+)")
        if status ~= "200" then return status end
        local told = json.decode(text:match("\r\n\r\n(.*)$"))
        return ("file %s, %s, %d, %s, %s"):format(told.filename, told.type, told.size, told.tags,
          shared.get "spec.bytes")
      end
      local from_memory = outcome(raw(("%sContent-Length: %d\r\n"):format(head, #body), body))
      local from_disk = raw(head .. "Transfer-Encoding: chunked\r\n", chunked(body, math.random(1, 30)))
      if not from_disk:find("file is there twice", 1, true) then
        assert.equal(from_memory, outcome(from_disk), ("seed %d round %d: %q"):format(seed, round, body))
      end
      if #from_memory > 3 then accepted = accepted + 1 end
    end
    assert.is_true(accepted > 20)
  end)

  serves("of bad form are told what is wrong, and change nothing", function()
    local before = descriptors()
    local pad = ("x"):rep(3000)
    for _, case in ipairs {
      { pad, "boundary does not occur" },
      { "--b\r\n" .. HEAD .. pad, "ends within a part" },
      { "--b\r\n" .. HEAD .. pad .. "\r\n--b", "ends within a part" },
      { "--b\r\n" .. HEAD .. pad .. "\r\n--bX\r\n", "ends within a part" },
      { "--b\r\n" .. HEAD .. pad .. "\r\n--b-X", "ends within a part" },
      { "--b" .. (" "):rep(4000), "ends within a part" },
      { "--b\r\nContent-Disposition: " .. ("x"):rep(9000), "headers of a part are too long" },
      { "--b\r\n\r\n" .. pad .. "\r\n--b--", "no content-disposition" },
      { "--b\r\nX: y\r\n\r\n" .. pad .. "\r\n--b--", "no content-disposition" },
      { "--b\r\n" .. HEAD .. pad .. "\r\n--b\r\n" .. HEAD .. "again\r\n--b--", "the file is there twice" },
      { ('--b\r\nContent-Disposition: form-data; name="n"\r\n\r\nv\r\n'):rep(101) .. "--b--", "more than 100 parts" },
      { '--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n' .. ("x"):rep(70000) .. "\r\n--b--",
        "fields are too large", 413 },
      { '--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n' .. pad .. "\r\n--b--", "Field required" },
      { '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' .. pad .. "\r\n--b--", "UploadFile" },
    } do
      local text = raw(("Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\nConnection: close\r\n")
        :format(#case[1]), case[1])
      assert.truthy(text:find("^HTTP/1.1 " .. (case[3] or 422)), text)
      assert.truthy(text:find(case[2], 1, true), text)
      text = raw("Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n",
        chunked(case[1], 1000))
      assert.truthy(text:find("^HTTP/1.1 " .. (case[3] or 422)), text)
      assert.truthy(text:find(case[2], 1, true), text)
    end
    assert.is_nil(shared.get "spec.bytes")
    process.wait_for(function() return descriptors() <= before end, 5000, "the descriptors to go")
    assert.equal(0, server:stats().uploads)
  end)

  serves("that stall are 408, and one whose client leaves is gone", function()
    local before = descriptors()
    local start = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n"
    local text = raw(start, "--b\r\n" .. HEAD .. "some")
    assert.truthy(text:find("^HTTP/1.1 408 Request Timeout"), text)
    local c = web.connect(server:port(), "POST /upload HTTP/1.1\r\nHost: a\r\nX-Key: good\r\n" .. start
      .. "\r\n--b\r\n")
    web.wait_for(function() return server:stats().uploads == 1 end)
    c:close()
    web.wait_for(function() return server:stats().uploads == 0 end)
    process.wait_for(function() return descriptors() <= before end, 5000, "the descriptors to go")
    assert.is_nil(shared.get "spec.bytes")
  end)

  serves("in progress leave the VMs to others, and more than the limit are refused", function()
    local body, kind = http.multipart({}, { { name = "file", filename = "a", data = ("x"):rep(5000) } })
    local request = ("POST /upload?slow=1 HTTP/1.1\r\nHost: a\r\nX-Key: good\r\nContent-Type: %s\r\n"
      .. "Content-Length: %d\r\nConnection: close\r\n\r\n%s"):format(kind, #body, body)
    local slow = { web.connect(server:port(), request), web.connect(server:port(), request) }
    web.wait_for(function() return shared.get "spec.slow" == 2 end)
    local answer = http.request { url = ("http://127.0.0.1:%d/ping"):format(server:port()),
      headers = { ["x-key"] = "good" } }
    assert.same({ 200, '"pong"' }, { answer.status, answer.body })
    answer = post("/upload", body, kind)
    assert.same({ 503, "too many uploads at once, try again" }, { answer.status, answer.json.detail })
    assert.truthy(answer.headers["retry-after"])
    -- clients that wait for each piece of an answer for a short time only hear from us meanwhile
    assert.is_true(slow[1]:wait(function() return select(2, slow[1].text:gsub("100 Continue", "")) == 4 end))
    shared.set("spec.release", true)
    for _, c in ipairs(slow) do
      c:wait()
      assert.truthy(c.text:find("HTTP/1.1 200 OK\r\n.*true"), c.text)
      assert.is_true(select(2, c.text:gsub("100 Continue", "")) <= 4)
      c:close()
    end
    assert.equal(200, post("/upload", body, kind).status)
    assert.equal(1, server:stats().vms) -- those that stood in are gone
  end, { vms = 1, max_uploads = 2, continue_ms = 20 })

  serves("are 503 when there is no disk for them", function()
    tmp.remove(spool) -- a folder that is not there at the start stops it
    local body, kind = http.multipart({}, { { name = "file", filename = "a", data = ("x"):rep(5000) } })
    local answer = post("/upload", body, kind)
    assert.same({ 503, "no room for this upload on the gateway's disk" }, { answer.status, answer.json.detail })
  end)
end)
