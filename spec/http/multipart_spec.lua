local http = require "host.http"
local multipart = require "pyoco.http.multipart"

describe("pyoco.http.multipart", function()
  it("reads what clients send: fields, files, any bytes", function()
    local data = "version: 1\r\n--not-the-boundary\r\n\0\255"
    local parts = assert(multipart.parse(http.multipart({ { "flow_name", "train" }, { "tag", "" } },
      { { name = "workflow", filename = 'a "b".yaml', content_type = "application/x-yaml", data = data } })))
    assert.same({ { name = "flow_name", data = "train" }, { name = "tag", data = "" },
      { name = "workflow", filename = 'a "b".yaml', content_type = "application/x-yaml", data = data } }, parts)
  end)

  it("reads quoted boundaries, escapes, preambles, epilogues and empty names", function()
    local parts = assert(multipart.parse('preamble\r\n--b b\r\ncontent-disposition: form-data; name="";' ..
      ' filename="a\\"b"\r\n\r\nx\r\n--b b--\r\nepilogue', 'multipart/form-data; charset=utf-8; boundary="b b"'))
    assert.same({ { name = "", filename = 'a"b', data = "x" } }, parts)
    assert.same({}, multipart.parse("--b--\r\n", "multipart/form-data; boundary=b"))
  end)

  it("takes parameters of headers in any case and order, and none out of another's quotes", function()
    local body = '--b\r\ncontent-disposition: form-data; FileName="a; name=x; name=\\"y\\""; Name = workflow' ..
      "\r\n\r\nx\r\n--b--"
    for _, header in ipairs { "Multipart/Form-Data; Boundary=b", 'multipart/form-data; charset=x ; BOUNDARY = "b"',
        'multipart/form-data; a="; boundary=c"; boundary=b' } do
      local parts = multipart.parse(body, header)
      assert.same({ { name = "workflow", filename = 'a; name=x; name="y"', data = "x" } }, parts)
    end
  end)

  for what, case in pairs {
    ["no boundary in the header"] = { "x", "multipart/form-data", "has no boundary" },
    ["no boundary in the body"] = { "x", "multipart/form-data; boundary=b", "does not occur" },
    ["a cut off body"] = { "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx", "multipart/form-data; boundary=b",
      "ends within a part" },
    ["a part without name"] = { "--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
      "multipart/form-data; boundary=b", "content%-disposition: form%-data with a name" },
    ["a part without blank line"] = { "--b\r\nContent-Disposition: form-data; name=a\r\n--b--",
      "multipart/form-data; boundary=b", "no blank line" },
    ["too many parts"] = { ("--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n"):rep(101) .. "--b--",
      "multipart/form-data; boundary=b", "more than 100 parts" },
    ["a part with endless headers"] = { "--b\r\nX: " .. ("a"):rep(9000) .. "\r\n\r\nx\r\n--b--",
      "multipart/form-data; boundary=b", "headers of a part are too long" },
  } do
    it("refuses " .. what, function()
      local parts, message, code = multipart.parse(case[1], case[2])
      assert.is_nil(parts)
      assert.equal("invalid", code)
      assert.truthy(message:find(case[3]), message)
    end)
  end

  it("reads queries", function()
    assert.same({ a = { "1", "3" }, b = { "x y&" }, c = { "" }, ["d e"] = { "" } },
      multipart.query("a=1&b=x+y%26&a=3&c=&d%20e"))
    assert.same({ { name = "a", data = "1=2" } }, multipart.urlencoded("a=1=2"))
  end)
end)
