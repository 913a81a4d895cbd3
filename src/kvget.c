/* ph_kv_get: one KV entry for C users; see tail.h. STREAM.MSG.GET serves every bucket, direct reads or not. */
#include "tail.h"
#include "jsapi.h"
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_key(const char *key) {
    size_t len = strlen(key);
    return len > 0 && len < 200 && key[0] != '.' && key[len - 1] != '.' && !strstr(key, "..") &&
           strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/=.") == len;
}

/* Decodes base64 into out (at least 3/4 of the text + 3 bytes). Returns the length, or -1. */
static long decode(const char *text, char *out) {
    size_t len = strlen(text);
    int n = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)text, (int)len);
    if (n < 0)
        return -1;
    for (size_t i = len; i > 0 && text[i - 1] == '=' && len - i < 2; i--)
        n--;
    return n;
}

static bool is_marker(const char *headers_base64) {
    char block[1024];
    if (strlen(headers_base64) > 1000)
        return false;
    long n = decode(headers_base64, block);
    if (n < 0)
        return false;
    block[n] = '\0';
    const char *operation = strstr(block, "\r\nKV-Operation:");
    return operation && !strstr(operation, "PUT");
}

static const char *fill(const cJSON *message, const char *key, ph_entry_buf *out, ph_error *err) {
    const char *data = ph_js_string(message, "data");
    size_t key_len = strlen(key);
    char *storage = malloc(key_len + 1 + strlen(data) / 4 * 3 + 4);
    if (!storage) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return PH_INTERNAL;
    }
    memcpy(storage, key, key_len + 1);
    long len = decode(data, storage + key_len + 1);
    if (len < 0) {
        free(storage);
        snprintf(err->text, sizeof err->text, "the server's copy of %s is not base64", key);
        return PH_INTERNAL;
    }
    out->storage = storage;
    out->entry = (ph_entry){.key = storage,
                            .value = storage + key_len + 1,
                            .len = (size_t)len,
                            .revision = ph_js_number(message, "seq"),
                            .created_ns = ph_js_time(ph_js_string(message, "time"))};
    return NULL;
}

const char *ph_kv_get(natsConnection *nc, const char *bucket, const char *key, int64_t timeout_ms, ph_entry_buf *out,
                      ph_error *err) {
    *out = (ph_entry_buf){0};
    if (!is_key(key)) {
        snprintf(err->text, sizeof err->text, "'%.100s' cannot be a key", key);
        return PH_INVALID;
    }
    char subject[200], body[400];
    snprintf(subject, sizeof subject, "STREAM.MSG.GET.KV_%.64s", bucket);
    snprintf(body, sizeof body, "{\"last_by_subj\":\"$KV.%.64s.%s\"}", bucket, key);
    cJSON *answer = NULL;
    ph_nats_asker asker = {0};
    const char *code = ph_js_call(&asker, nc, subject, body, timeout_ms, &answer, err);
    ph_nats_asker_close(&asker);
    if (code)
        return code;
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(answer, "message");
    if (is_marker(ph_js_string(message, "hdrs"))) {
        snprintf(err->text, sizeof err->text, "no key %s in bucket %s", key, bucket);
        code = PH_NOT_FOUND;
    } else {
        code = fill(message, key, out, err);
    }
    cJSON_Delete(answer);
    return code;
}

void ph_entry_buf_free(ph_entry_buf *buf) {
    free(buf->storage);
    *buf = (ph_entry_buf){0};
}
