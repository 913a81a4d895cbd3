---@meta host.crypto

--- Hashes, keys, random bytes and text forms of bytes.
---@class host.crypto
local M = {}

--- SHA-256 in pieces.
---@class host.crypto.Hasher
local Hasher = {}

---@param text string
---@return host.crypto.Hasher
function Hasher:update(text) end

---@return string hex of all so far
function Hasher:hex() end

---@return string 32 bytes of all so far
function Hasher:bytes() end

---@return host.crypto.Hasher
function M.hasher() end

---@param text string
---@return string hex
function M.sha256(text) end

---@param text string
---@return string 32 bytes
function M.sha256_bytes(text) end

---@param key string
---@param text string
---@return string hex
function M.hmac_sha256(key, text) end

---@param key string
---@param text string
---@return string 32 bytes
function M.hmac_sha256_bytes(key, text) end

--- PBKDF2-HMAC-SHA256; blocks, about 0.1 s per 300,000 iterations.
---@param secret string
---@param salt string
---@param iterations integer
---@param length integer
---@return string bytes
function M.pbkdf2(secret, salt, iterations, length) end

---@param count integer at most 1 MiB
---@return string? bytes
---@return string? message
---@return string? code "internal"
function M.random(count) end

---@return string? uuid
---@return string? message
---@return string? code "internal"
function M.uuid4() end

--- Compares in time that depends on the length only.
---@param a string
---@param b string
---@return boolean
function M.equal(a, b) end

---@param bytes string
---@return string
function M.hex_encode(bytes) end

---@param text string
---@return string? bytes
---@return string? message
---@return string? code "invalid"
function M.hex_decode(text) end

---@param bytes string
---@return string
function M.base64_encode(bytes) end

---@param text string
---@return string? bytes
---@return string? message
---@return string? code "invalid"
function M.base64_decode(text) end

---@param bytes string
---@param options { padding: boolean }? default no padding
---@return string
function M.base64url_encode(bytes, options) end

---@param text string
---@return string? bytes
---@return string? message
---@return string? code "invalid"
function M.base64url_decode(text) end

return M
