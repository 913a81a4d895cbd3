--- host.crypto against published test vectors.
local crypto = require "host.crypto"

describe("crypto hashes", function()
  it("has SHA-256 (FIPS 180)", function()
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", crypto.sha256 "")
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", crypto.sha256 "abc")
    assert.equal(crypto.sha256 "abc", crypto.hex_encode(crypto.sha256_bytes "abc"))
  end)

  it("hashes in pieces, and tells the digest of all so far at any time", function()
    local hasher = crypto.hasher()
    assert.equal(crypto.sha256 "", hasher:hex())
    assert.equal(crypto.sha256 "ab", hasher:update("a"):update("b"):hex())
    assert.equal(crypto.sha256_bytes "ab\0c", hasher:update("\0c"):bytes())
    assert.has_error(function() hasher.update({}, "x") end)
  end)

  it("has HMAC (RFC 4231 case 2) and PBKDF2 (RFC 7914 section 11)", function()
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      crypto.hmac_sha256("Jefe", "what do ya want for nothing?"))
    assert.equal(crypto.hmac_sha256("", ""), crypto.hex_encode(crypto.hmac_sha256_bytes("", "")))
    assert.equal("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
      .. "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
      crypto.hex_encode(crypto.pbkdf2("passwd", "salt", 1, 64)))
  end)

  it("refuses a key of no or too many bytes, and no iterations", function()
    assert.has_error(function() crypto.pbkdf2("a", "b", 0, 32) end)
    assert.has_error(function() crypto.pbkdf2("a", "b", 1, 0) end)
    assert.has_error(function() crypto.pbkdf2("a", "b", 1, 513) end)
  end)
end)

describe("crypto random", function()
  it("gives as many bytes as asked, other ones each time", function()
    assert.equal("", crypto.random(0))
    assert.equal(32, #crypto.random(32))
    assert.equal(100000, #crypto.random(100000))
    assert.not_equal(crypto.random(32), crypto.random(32))
    assert.has_error(function() crypto.random(-1) end)
    assert.has_error(function() crypto.random(1 << 21) end)
  end)

  it("makes version 4 identifiers", function()
    local seen = {}
    for _ = 1, 100 do
      local id = crypto.uuid4()
      assert.truthy(id:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-4%x%x%x%-[89ab]%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"), id)
      assert.is_nil(seen[id])
      seen[id] = true
    end
  end)

  it("compares", function()
    assert.is_true(crypto.equal("", ""))
    assert.is_true(crypto.equal("a\0b", "a\0b"))
    assert.is_false(crypto.equal("a\0b", "a\0c"))
    assert.is_false(crypto.equal("a", "ab"))
  end)
end)

describe("crypto text forms", function()
  it("has base64 (RFC 4648 section 10)", function()
    local rows = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v",
      foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy" }
    for bytes, text in pairs(rows) do
      assert.equal(text, crypto.base64_encode(bytes))
      assert.equal(bytes, crypto.base64_decode(text))
      assert.equal(bytes, crypto.base64_decode((text:gsub("=", ""))))
    end
  end)

  it("has base64url with and without padding", function()
    assert.equal("-_8", crypto.base64url_encode "\xfb\xff")
    assert.equal("-_8=", crypto.base64url_encode("\xfb\xff", { padding = true }))
    assert.equal("\xfb\xff", crypto.base64url_decode "-_8")
    assert.equal("\xfb\xff", crypto.base64url_decode "-_8=")
    assert.equal("+/8=", crypto.base64_encode "\xfb\xff")
  end)

  it("brings any bytes back", function()
    for n = 0, 70 do
      local bytes = crypto.random(n)
      assert.equal(bytes, crypto.base64_decode(crypto.base64_encode(bytes)))
      assert.equal(bytes, crypto.base64url_decode(crypto.base64url_encode(bytes)))
      assert.equal(bytes, crypto.hex_decode(crypto.hex_encode(bytes)))
    end
    assert.equal("\xab\xcd", crypto.hex_decode "ABcd")
  end)

  it("refuses text of another form and says where", function()
    local rows = {
      { "base64_decode", "Zm9-", "not base64: character 4" },
      { "base64_decode", "Z", "not base64: 1 characters cannot" },
      { "base64_decode", "Zg=", "not base64: 3 characters cannot" }, { "base64_decode", "Zh==", "stray bits" },
      { "base64_decode", "Zm9v====", "character" }, { "base64_decode", "Zm\0v", "character 3" },
      { "base64url_decode", "+_8", "not base64url: character 1" }, { "hex_decode", "abg0", "not hex: character 3" },
      { "hex_decode", "abc", "odd number" },
    }
    for _, row in ipairs(rows) do
      local value, message, code = crypto[row[1]](row[2])
      assert.is_nil(value)
      assert.truthy(message:find(row[3], 1, true), message)
      assert.equal("invalid", code)
    end
  end)
end)
