/* host.crypto: hashes, keys, random bytes and text forms of bytes, on OpenSSL's libcrypto (3.0 or newer).
 *   sha256(s) -> hex                       sha256_bytes(s) -> 32 bytes
 *   hmac_sha256(key, s) -> hex             hmac_sha256_bytes(key, s) -> 32 bytes
 *   hasher() -> h                          SHA-256 in pieces; h:update(s) -> h, h:hex(), h:bytes() of all so
 * far pbkdf2(secret, salt, iterations, len) -> bytes    PBKDF2-HMAC-SHA256; blocks, about 0.1 s per 300,000
 * iterations random(n) -> n bytes (n <= 1 MiB)      uuid4() -> "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx"
 *   equal(a, b) -> boolean                 in time that depends on the length only
 *   hex_encode(s)                          hex_decode(text)
 *   base64_encode(s)                       base64_decode(text)
 *   base64url_encode(s [, {padding=true}]) base64url_decode(text)     padding: default none
 * The decoders return nil, message, "invalid" at the first wrong character; padding may be left out, white
 * space may not be put in. random and uuid4 fail with "internal" when the system has no randomness.
 * Ownership: a hasher (host.crypto.hasher) owns its context. Threads: any. */
#include "host.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <string.h>

int luaopen_host_crypto(lua_State *L);

#define HASHER "host.crypto.hasher"
#define RANDOM_MAX (1 << 20)

static const char base64_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int push_hex(lua_State *L, const unsigned char *bytes, size_t len) {
    static const char digits[] = "0123456789abcdef";
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len * 2);
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    luaL_pushresultsize(&b, len * 2);
    return 1;
}

/* --- hashes --- */
static int sha256_of(lua_State *L, bool as_hex) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!SHA256((const unsigned char *)text, len, digest))
        return luaL_error(L, "SHA-256 failed");
    if (as_hex)
        return push_hex(L, digest, sizeof digest);
    lua_pushlstring(L, (char *)digest, sizeof digest);
    return 1;
}

static int l_crypto_sha256(lua_State *L) {
    return sha256_of(L, true);
}

static int l_crypto_sha256_bytes(lua_State *L) {
    return sha256_of(L, false);
}

static int hmac_of(lua_State *L, bool as_hex) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    size_t key_len, len;
    const char *key = luaL_checklstring(L, 1, &key_len), *text = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, key_len <= INT32_MAX, 1, "key too long");
    if (!HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, len, digest, NULL))
        return luaL_error(L, "HMAC failed");
    if (as_hex)
        return push_hex(L, digest, sizeof digest);
    lua_pushlstring(L, (char *)digest, sizeof digest);
    return 1;
}

static int l_crypto_hmac_sha256(lua_State *L) {
    return hmac_of(L, true);
}

static int l_crypto_hmac_sha256_bytes(lua_State *L) {
    return hmac_of(L, false);
}

static int l_crypto_pbkdf2(lua_State *L) {
    unsigned char key[512];
    size_t secret_len, salt_len;
    const char *secret = luaL_checklstring(L, 1, &secret_len), *salt = luaL_checklstring(L, 2, &salt_len);
    lua_Integer iterations = luaL_checkinteger(L, 3), len = luaL_checkinteger(L, 4);
    luaL_argcheck(L, secret_len <= INT32_MAX, 1, "too long");
    luaL_argcheck(L, salt_len <= INT32_MAX, 2, "too long");
    luaL_argcheck(L, iterations >= 1 && iterations <= 100000000, 3, "must be 1 to 100000000");
    luaL_argcheck(L, len >= 1 && len <= (lua_Integer)sizeof key, 4, "must be 1 to 512 bytes");
    if (!PKCS5_PBKDF2_HMAC(secret, (int)secret_len, (const unsigned char *)salt, (int)salt_len,
                           (int)iterations, EVP_sha256(), (int)len, key))
        return luaL_error(L, "PBKDF2 failed");
    lua_pushlstring(L, (char *)key, (size_t)len);
    OPENSSL_cleanse(key, sizeof key);
    return 1;
}

/* --- hasher --- */
static EVP_MD_CTX *check_hasher(lua_State *L) {
    return *(EVP_MD_CTX **)luaL_checkudata(L, 1, HASHER);
}

static int l_crypto_hasher(lua_State *L) {
    EVP_MD_CTX **slot = lua_newuserdatauv(L, sizeof *slot, 0);
    *slot = NULL;
    luaL_setmetatable(L, HASHER);
    *slot = EVP_MD_CTX_new();
    if (!*slot || !EVP_DigestInit_ex(*slot, EVP_sha256(), NULL))
        return luaL_error(L, "SHA-256 failed");
    return 1;
}

static int hasher_update(lua_State *L) {
    EVP_MD_CTX *context = check_hasher(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (!EVP_DigestUpdate(context, text, len))
        return luaL_error(L, "SHA-256 failed");
    lua_settop(L, 1);
    return 1;
}

/* The digest of all so far; a copy is finished, so that more may follow. */
static int hasher_result(lua_State *L, bool as_hex) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_MD_CTX *context = check_hasher(L), *copy = EVP_MD_CTX_new();
    bool is_done = copy && EVP_MD_CTX_copy_ex(copy, context) && EVP_DigestFinal_ex(copy, digest, &len);
    EVP_MD_CTX_free(copy);
    if (!is_done)
        return luaL_error(L, "SHA-256 failed");
    if (as_hex)
        return push_hex(L, digest, len);
    lua_pushlstring(L, (char *)digest, len);
    return 1;
}

static int hasher_hex(lua_State *L) {
    return hasher_result(L, true);
}

static int hasher_bytes(lua_State *L) {
    return hasher_result(L, false);
}

static int hasher_gc(lua_State *L) {
    EVP_MD_CTX **slot =
        lua_touserdata(L, 1); /* no luaL_checkudata: it allocates, and a finalizer that raises leaks */
    EVP_MD_CTX_free(*slot);
    *slot = NULL;
    return 0;
}

/* --- random --- */
static int l_crypto_random(lua_State *L) {
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "must be 0 to 1048576 bytes");
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, (size_t)n);
    if (n > 0 && RAND_bytes((unsigned char *)out, (int)n) != 1)
        return ph_fail(L, PH_INTERNAL, "the system gives no random bytes");
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

static int l_crypto_uuid4(lua_State *L) {
    unsigned char b[16];
    char text[40];
    if (RAND_bytes(b, sizeof b) != 1)
        return ph_fail(L, PH_INTERNAL, "the system gives no random bytes");
    b[6] = (b[6] & 0x0F) | 0x40;
    b[8] = (b[8] & 0x3F) | 0x80;
    snprintf(text, sizeof text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    lua_pushstring(L, text);
    return 1;
}

static int l_crypto_equal(lua_State *L) {
    size_t a_len, b_len;
    const char *a = luaL_checklstring(L, 1, &a_len), *b = luaL_checklstring(L, 2, &b_len);
    lua_pushboolean(L, a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0);
    return 1;
}

/* --- text forms --- */
static int l_crypto_hex_encode(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    return push_hex(L, (const unsigned char *)bytes, len);
}

static int hex_digit(int c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static int l_crypto_hex_decode(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len / 2 + 1);
    for (size_t i = 0; i < len; i++) {
        int digit = hex_digit((unsigned char)text[i]);
        if (digit < 0)
            return ph_fail(L, PH_INVALID, "not hex: character %zu", i + 1);
        out[i / 2] = (char)(i % 2 ? (unsigned char)out[i / 2] << 4 | digit : digit);
    }
    if (len % 2)
        return ph_fail(L, PH_INVALID, "not hex: an odd number of digits");
    luaL_pushresultsize(&b, len / 2);
    return 1;
}

static int base64_encode(lua_State *L, const char *letters, bool is_padded) {
    size_t len;
    const unsigned char *in = (const unsigned char *)luaL_checklstring(L, 1, &len);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, (len + 2) / 3 * 4), *p = out;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        unsigned group =
            (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        *p++ = letters[group >> 18];
        *p++ = letters[group >> 12 & 63];
        if (left > 1)
            *p++ = letters[group >> 6 & 63];
        else if (is_padded)
            *p++ = '=';
        if (left > 2)
            *p++ = letters[group & 63];
        else if (is_padded)
            *p++ = '=';
    }
    luaL_pushresultsize(&b, (size_t)(p - out));
    return 1;
}

static int base64_decode(lua_State *L, const char *letters, const char *name) {
    size_t len, n = 0;
    const char *text = luaL_checklstring(L, 1, &len);
    size_t end = len;
    while (end > 0 && len - end < 2 && text[end - 1] == '=')
        end--;
    if (end % 4 == 1 || (end < len && len % 4 != 0))
        return ph_fail(L, PH_INVALID, "not %s: %zu characters cannot be whole bytes", name, len);
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, end / 4 * 3 + 3);
    unsigned bits = 0;
    for (size_t i = 0; i < end; i++) {
        const char *at = text[i] ? strchr(letters, text[i]) : NULL;
        if (!at)
            return ph_fail(L, PH_INVALID, "not %s: character %zu", name, i + 1);
        bits = bits << 6 | (unsigned)(at - letters);
        if (i % 4 != 0)
            out[n++] = (char)(bits >> (6 - i % 4 * 2));
    }
    if ((end % 4 == 2 && bits & 15) || (end % 4 == 3 && bits & 3))
        return ph_fail(L, PH_INVALID, "not %s: the last character has stray bits", name);
    luaL_pushresultsize(&b, n);
    return 1;
}

static int l_crypto_base64_encode(lua_State *L) {
    return base64_encode(L, base64_letters, true);
}

static int l_crypto_base64_decode(lua_State *L) {
    return base64_decode(L, base64_letters, "base64");
}

static int l_crypto_base64url_encode(lua_State *L) {
    bool is_padded = false;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "padding");
        is_padded = lua_toboolean(L, -1);
    }
    return base64_encode(L, base64url_letters, is_padded);
}

static int l_crypto_base64url_decode(lua_State *L) {
    return base64_decode(L, base64url_letters, "base64url");
}

static const luaL_Reg functions[] = {
    {"sha256", l_crypto_sha256},
    {"sha256_bytes", l_crypto_sha256_bytes},
    {"hmac_sha256", l_crypto_hmac_sha256},
    {"hmac_sha256_bytes", l_crypto_hmac_sha256_bytes},
    {"hasher", l_crypto_hasher},
    {"pbkdf2", l_crypto_pbkdf2},
    {"random", l_crypto_random},
    {"uuid4", l_crypto_uuid4},
    {"equal", l_crypto_equal},
    {"hex_encode", l_crypto_hex_encode},
    {"hex_decode", l_crypto_hex_decode},
    {"base64_encode", l_crypto_base64_encode},
    {"base64_decode", l_crypto_base64_decode},
    {"base64url_encode", l_crypto_base64url_encode},
    {"base64url_decode", l_crypto_base64url_decode},
    {NULL, NULL},
};

static const luaL_Reg hasher_methods[] = {
    {"update", hasher_update},
    {"hex", hasher_hex},
    {"bytes", hasher_bytes},
    {NULL, NULL},
};

int luaopen_host_crypto(lua_State *L) {
    if (luaL_newmetatable(L, HASHER)) {
        luaL_newlib(L, hasher_methods);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, hasher_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    luaL_newlib(L, functions);
    return 1;
}
