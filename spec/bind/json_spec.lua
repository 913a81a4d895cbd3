--- host.json: what becomes text, what comes back, what is refused and where.
local json = require "host.json"

--- Decodes and encodes again with sorted keys.
local function round_trip(text)
  return json.encode(assert(json.decode(text)), { sort = true })
end

describe("json.encode with max_bytes", function()
  it("gives a text of so many bytes, not one more", function()
    for _, value in ipairs { "", "text", 5, 1.5, true, json.null, { 1, { "a" } }, { a = { b = "c" } }, {},
      json.array {}, { { { {} } } }, "\u{20AC}", "a\0b", '"\n' } do
      for _, options in ipairs { {}, { ascii = true }, { pretty = true }, { sort = true } } do
        local text = json.encode(value, options)
        options.max_bytes = #text
        assert.equal(text, json.encode(value, options))
        options.max_bytes = #text - 1
        if options.max_bytes > 0 then
          local none, message, code = json.encode(value, options)
          assert.is_nil(none)
          assert.equal(("more than %d bytes"):format(#text - 1), message)
          assert.equal("too_large", code)
        end
      end
    end
  end)

  it("does not make what is too long: 16 GB are refused at once", function()
    local long, list = ("x"):rep(16 << 20), {}
    for i = 1, 1000 do list[i] = long end
    local _, _, code = json.encode(list, { max_bytes = 1000 })
    assert.equal("too_large", code)
    local shared = { 1 }
    for _ = 1, 100 do shared = { shared, shared } end -- unfolds to 2^100 values
    _, _, code = json.encode(shared, { max_bytes = 1 << 20 })
    assert.equal("too_large", code)
  end)

  it("tells what cannot be JSON apart", function()
    local _, message, code = json.encode({ a = print }, { max_bytes = 1000 })
    assert.equal("a: a function cannot be JSON", message)
    assert.equal("invalid", code)
  end)
end)

describe("json.decode", function()
  it("keeps integers, floats and long digits as what they are", function()
    local v = json.decode "[1, 1.0, 1e3, -0, 9007199254740993, 9223372036854775807, 9223372036854775808, 0.1]"
    assert.equal("integer", math.type(v[1]))
    assert.equal("float", math.type(v[2]))
    assert.equal("float", math.type(v[3]))
    assert.equal(0, v[4])
    assert.equal(9007199254740993, v[5])
    assert.equal(math.maxinteger, v[6])
    assert.equal("float", math.type(v[7]))
    assert.equal(0.1, v[8])
  end)

  it("brings every value back as it went", function()
    for _, text in ipairs { "{}", "[]", '[[],{}]',
      '{"a":[1,2.5,"x",null,true,false],"b":{"c":[]}}', '"x"', "null", "1.0",
      "-17", "1e+300", "1795324788.7545433", "1795324788.754543", "0.1", "-0.5", "1.2345678901234568e+17",
      "0.000001", "100.0", "4503599627.370495", "1.7976931348623157e+308" } do
      assert.equal(text, round_trip(text))
    end
  end)

  it("marks arrays, so that an empty one stays an array", function()
    local v = json.decode '{"a":[],"o":{}}'
    assert.is_true(json.is_array(v.a))
    assert.is_false(json.is_array(v.o))
    assert.equal('{"a":[],"o":{}}', json.encode(v, { sort = true }))
  end)

  it("has null as a value", function()
    assert.equal(json.null, json.decode "null")
    assert.equal(json.null, json.decode('{"a":null}').a)
  end)

  it("reads every escape, NUL and text outside the first plane", function()
    assert.equal('"\\/\b\f\n\r\té€😀', json.decode [["\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\ude00"]])
    assert.equal("a\0b", json.decode [["a\u0000b"]])
    assert.equal("\\u0000", json.decode [["\\u0000"]])
    assert.equal("\\\0", json.decode [["\\\u0000"]])
    assert.equal(1, json.decode([[{"k\u0000":1}]])["k\0"])
    assert.equal("日本", json.decode '"日本"')
  end)

  it("sees a byte that matters at any place of a string", function()
    local bad = { "\0", "\31", "\127", "\x80", "\xff", "é", "\\n", " ", "!", "#", "[", "]", "\\\"" }
    for before = 0, 17 do
      for after = 0, 17, 4 do
        for _, middle in ipairs(bad) do
          local text = ("a"):rep(before) .. middle .. ("b"):rep(after)
          local value, _, _, place = json.decode('"' .. text .. '"')
          if middle:find "^[\0\31\x80\xff]$" then
            assert.is_nil(value)
            assert.equal(before + 1, place.offset)
          else
            assert.equal(text, json.encode(value):sub(2, -2))
          end
        end
      end
    end
  end)

  it("takes the last of two equal keys, and a byte order mark", function()
    assert.equal(2, json.decode('{"a":1,"a":2}').a)
    assert.equal(1, json.decode("\xEF\xBB\xBF[1]")[1])
  end)

  it("says line, column, offset and what to do", function()
    local _, message, code, place = json.decode '{\n  "é": 1,\n}'
    assert.equal("line 3 column 1: a comma before } is not allowed", message)
    assert.equal("invalid", code)
    assert.same({ line = 3, column = 1, offset = 13 }, place)
    assert.equal("line 1 column 6: unexpected }", select(2, json.decode '{"é":}'))
  end)

  local refused = {
    { "", "the text is empty" }, { "  ", "ends too early" }, { "[1", "ends too early" },
    { '{"a":', "ends too early" },
    { "[1,]", "a comma before ]" }, { "{'a':1}", "double quotes" }, { '{"a" 1}', "missing before it" },
    { '["a" "b"]', "missing before it" }, { "[1] 2", "missing before it" },
    { "{}}", "unexpected }" }, { "[}", "unexpected }" },
    { "// x\n1", "no comments" }, { "nul", "unexpected n" }, { "NaN", "unexpected N" },
    { "True", "unexpected T" },
    { "01", "may not start with 0" }, { "-", "a digit after -" }, { "1.", "after the point" },
    { "1e", "exponent" },
    { "1e999", "out of range" }, { ("1"):rep(70), "too long" }, { '"a', "closing quote" },
    { '"\\x"', "unknown escape" },
    { '"\\u12g4"', "four hex digits" }, { '"\\ud800"', "half of a surrogate" },
    { '"\\udc00"', "half of a surrogate" },
    { '"a\nb"', "control character" }, { '"\0"', "control character" }, { "1\0", "byte 0x00" },
    { '"\xff"', "not UTF-8" },
    { '"\xed\xa0\x80"', "not UTF-8" }, { '"\xc0\x80"', "not UTF-8" },
    { '"\xf4\x90\x80\x80"', "not UTF-8" }, { "\xff", "0xFF" },
    { ("["):rep(129), "too deeply" }, { ("["):rep(100000), "too deeply" },
    { "+1", "unexpected +" }, { ".5", "unexpected ." },
  }
  for _, row in ipairs(refused) do
    it("refuses " .. ("%q"):format(row[1]:sub(1, 20)), function()
      local value, message, code, place = json.decode(row[1])
      assert.is_nil(value)
      assert.truthy(message:find(row[2], 1, true), message)
      assert.equal("invalid", code)
      assert.truthy(place.offset <= #row[1])
    end)
  end

  it("obeys its limits", function()
    assert.is_nil((json.decode("[[1]]", { max_depth = 1 })))
    assert.truthy(json.decode("[[1]]", { max_depth = 2 }))
    assert.truthy(json.decode(("["):rep(900) .. ("]"):rep(900), { max_depth = 900 }))
    local _, message, code = json.decode("[1,2]", { max_bytes = 4 })
    assert.equal("line 1 column 1: the text has 5 bytes, allowed are 4", message)
    assert.equal("too_large", code)
    assert.has_error(function() json.decode("1", { max_depth = 901 }) end)
    assert.has_error(function() json.decode() end)
  end)

  it("may be called by a finaliser while it makes a big value", function()
    local parts, calls = {}, 0
    for i = 1, 3000 do parts[i] = ('{"k%d":"value %d","n":%d.5}'):format(i, i, i) end
    for _ = 1, 1000 do
      setmetatable({}, { __gc = function()
        calls = calls + 1
        json.decode '{"a":["x",{"z":1.5}]}'
      end })
    end
    local list = assert(json.decode("[" .. table.concat(parts, ",") .. "]"))
    assert.is_true(calls > 0)
    for i = 1, 3000 do assert.same({ ["k" .. i] = "value " .. i, n = i + 0.5 }, list[i]) end
  end)
end)

describe("json.encode", function()
  it("writes tables as arrays or objects by their keys and mark", function()
    assert.equal("[1,2]", json.encode { 1, 2 })
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array()))
    assert.equal("[]", json.encode(json.array {}))
    assert.equal('{"a":1}', json.encode { a = 1 })
    assert.equal("null", json.encode(nil))
    assert.equal("[null]", json.encode { json.null })
    assert.equal('[1,2,3]', json.encode { [3] = 3, [1] = 1, [2] = 2 })
  end)

  it("escapes what must be escaped, and everything beyond ASCII when asked", function()
    assert.equal([["\"\\/\b\f\n\r\t\u0001é"]], json.encode('"\\/\b\f\n\r\t\1é'))
    assert.equal([["\u00e9\u20ac\ud83d\ude00"]], json.encode("é€😀", { ascii = true }))
    assert.equal([[{"k\u0000":"\u0000\u65e5"}]], json.encode({ ["k\0"] = "\0日" }, { ascii = true }))
    assert.equal([["a\u0000é"]], json.encode("a\0é"))
  end)

  it("orders keys: named ones first, the rest by name", function()
    local v = { c = 1, a = 2, b = { z = 1, y = 2 }, d = 4 }
    assert.equal('{"a":2,"b":{"y":2,"z":1},"c":1,"d":4}', json.encode(v, { sort = true }))
    assert.equal('{"d":4,"b":{"y":2,"z":1},"a":2,"c":1}', json.encode(v, { sort = true, order = { "d", "none", "b" } }))
    local long = ("k"):rep(50)
    assert.equal('{"' .. long .. '":1,"a":2}', json.encode({ a = 2, [long] = 1 }, { order = { ("k"):rep(50), "a" } }))
    assert.equal('{"d":4,"c":1', json.encode(v, { order = { "d", "c" } }):sub(1, 12))
  end)

  it("indents when asked", function()
    assert.equal('{\n  "a": [\n    1,\n    {}\n  ],\n  "b": [],\n  "c": "x: [,"\n}',
      json.encode({ a = { 1, {} }, b = json.array(), c = "x: [," }, { pretty = true, sort = true }))
  end)

  it("keeps every float", function()
    for i = 1, 2000 do
      local x = string.unpack("d", string.pack("I8", math.random(0) & 0x7fefffffffffffff))
      for _, value in ipairs { x, math.random() * 10 ^ (i % 20), math.random(1 << 40) / 1e6 } do
        local text = json.encode(value)
        assert.equal(value, json.decode(text))
        assert.equal("float", math.type(json.decode(text)), text)
      end
    end
    assert.equal("0.25", json.encode(0.25))
    assert.equal("-0.0", json.encode(-0.0))
    assert.equal("-9223372036854775808", json.encode(math.mininteger))
  end)

  local cyclic = { a = {} }
  cyclic.a.b = { cyclic }
  local refused = {
    { { tasks = { a = { output = { 1, 2, 0 / 0 } } } }, "tasks.a.output[3]: NaN cannot be JSON" },
    { { a = 1 / 0 }, "a: infinity cannot be JSON" },
    { { a = { print } }, "a[1]: a function cannot be JSON" },
    { io.stdout, "value: a userdata cannot be JSON" },
    { { coroutine.create(print) }, "[1]: a thread cannot be JSON" },
    { cyclic, "a.b[1]: a table that contains itself cannot be JSON" },
    { { x = { 1, 2, a = 3 } }, "x: mixed keys: an array with the key 'a' cannot be JSON" },
    { { x = { [true] = 1 } }, "x: mixed keys: a key that is a boolean cannot be JSON (keys are text, or 1..n)" },
    { { x = { [7] = 1 } }, "x: mixed keys: a key that is a number cannot be JSON (keys are text, or 1..n)" },
    { json.array { a = 1 }, "value: mixed keys: an array with the key 'a' cannot be JSON" },
    { { "a", "\xff" }, "[2]: text that is not UTF-8 cannot be JSON (byte 1; encode bytes with crypto.base64_encode)" },
  }
  for _, row in ipairs(refused) do
    it("refuses: " .. row[2], function()
      local text, message, code = json.encode(row[1])
      assert.is_nil(text)
      assert.equal(row[2], message)
      assert.equal("invalid", code)
    end)
  end

  it("names the path in UTF-8 even where the key is not", function()
    assert.equal("a?.?: text that is not UTF-8 cannot be JSON (byte 1; encode bytes with crypto.base64_encode)",
      (select(2, json.encode { ["a?"] = { ["\xff"] = 1 } })))
    for n = 0, 3 do
      local key = ("a"):rep(n) .. ("日本"):rep(200)
      assert.truthy(utf8.len((select(2, json.encode { [key] = print }))))
    end
  end)

  it("refuses holes and what is nested too deeply, and takes one table twice", function()
    assert.truthy(select(2, json.encode { 1, nil, 3 }):find("hole", 1, true))
    local deep = {}
    for _ = 1, 127 do deep = { deep } end
    assert.truthy(json.encode(deep))
    assert.truthy(select(2, json.encode { { deep } }):find("nested more than 128 levels", 1, true))
    local shared = { 1 }
    assert.equal("[[1],[1]]", json.encode { shared, shared })
  end)

  it("refuses wrong options and a foreign metatable as mistakes of the caller", function()
    assert.has_error(function() json.encode() end)
    assert.has_error(function() json.encode({}, { order = 3 }) end)
    assert.has_error(function() json.array(setmetatable({}, {})) end)
    local t = json.array { 1 }
    assert.equal(t, json.array(t))
  end)
end)

describe("json under mutation", function()
  local documents = {
    [[{"a":[1,-2.5e+3,"x\u0000\ud83d\ude00\n"],"é":{"b":null,"c":[true,false,{}]}}]],
    [[ [ 12345678901234567890 , 1.0, "日本", "\\" , [ [ [ ] ] ] ] ]],
    '"\\u00e9"', "[]", "-1.5E-10",
  }
  it("answers or explains after the loss, change or doubling of any byte", function()
    for _, text in ipairs(documents) do
      assert(json.decode(text))
      for i = 1, #text do
        local head, tail = text:sub(1, i - 1), text:sub(i + 1)
        for _, middle in ipairs { "", "\0", "\xff", '"', "]", "{", "\\", text:sub(i, i):rep(2) } do
          local value, message, code, place = json.decode(head .. middle .. tail)
          if value == nil then
            assert.equal("invalid", code)
            assert.truthy(message:find("^line %d+ column %d+: ."))
            assert.truthy(place.line == 1 and place.column >= 1)
          else
            assert(json.encode(value))
          end
        end
        json.decode(head)
      end
    end
  end)

  describe("clean", function()
    it("gives the same text when it is UTF-8", function()
      for _, text in ipairs { "", "plain", ("12345678"):rep(3) .. "ä日😀\0", "\u{10FFFF}" } do
        assert.equal(text, json.clean(text))
      end
    end)

    it("puts U+FFFD in the place of each byte that is not", function()
      for text, expected in pairs {
        ["\xFF"] = "\u{FFFD}",
        ["1234567\xFFa"] = "1234567\u{FFFD}a",
        ["ä\xC3"] = "ä\u{FFFD}",                                   -- cut short
        ["\xC0\x80"] = "\u{FFFD}\u{FFFD}",                        -- overlong
        ["\xED\xA0\x80x"] = "\u{FFFD}\u{FFFD}\u{FFFD}x",         -- a surrogate
        ["\xF4\x90\x80\x80"] = ("\u{FFFD}"):rep(4),              -- beyond U+10FFFF
      } do
        assert.equal(expected, json.clean(text))
        assert.is_truthy(json.encode(json.clean(text)))
      end
    end)

    it("does so in time that grows with the text", function()
      local text = ("\xFFa"):rep(1000000)
      assert.equal(4000000, #json.clean(text))
    end)
  end)
end)
