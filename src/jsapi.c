/* See jsapi.h. */
#include "jsapi.h"
#include "nats.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t ph_js_number(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (uint64_t)item->valuedouble : 0;
}

const char *ph_js_string(const cJSON *object, const char *name) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
    return text ? text : "";
}

static const char *code_of(const cJSON *error) {
    switch ((int)ph_js_number(error, "code")) {
    case 404:
        return PH_NOT_FOUND;
    case 503:
        return PH_UNAVAILABLE;
    case 400:
        return PH_INVALID;
    default:
        return PH_INTERNAL;
    }
}

const char *ph_js_call(ph_nats_asker *asker, natsConnection *nc, const char *subject, const char *body,
                       int64_t timeout_ms, cJSON **answer, ph_error *err) {
    char full[400];
    snprintf(full, sizeof full, "$JS.API.%s", subject);
    natsMsg *msg = NULL;
    ph_nats_out out = {.subject = full, .data = body, .len = body ? strlen(body) : 0};
    natsStatus s = ph_nats_ask(asker, nc, &out, timeout_ms, &msg);
    if (s != NATS_OK)
        return ph_nats_fail(s, err, full);
    cJSON *json = cJSON_ParseWithLength(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    ph_nats_free(msg);
    if (!json) {
        snprintf(err->text, sizeof err->text, "%s: the answer is no JSON", full);
        return PH_INTERNAL;
    }
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
    if (!error) {
        *answer = json;
        return NULL;
    }
    const char *code = code_of(error);
    snprintf(err->text, sizeof err->text, "%s: %s", full, ph_js_string(error, "description"));
    cJSON_Delete(json);
    return code;
}

int64_t ph_js_time(const char *text) {
    struct tm tm = {0};
    int used = 0;
    if (sscanf(text, "%d-%d-%dT%d:%d:%d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec,
               &used) != 6)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    int64_t ns = 0, digit = 100000000;
    const char *p = text + used;
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++, digit /= 10)
            ns += (*p - '0') * digit;
    return (int64_t)timegm(&tm) * 1000000000 + ns;
}

/* "$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>"; newer servers put a domain
 * and a hash before the stream, and a token behind. */
bool ph_js_parse_reply(const char *reply, ph_js_meta *meta) {
    const char *token[12];
    int count = 0;
    for (const char *p = reply; p && count < 12; p = strchr(p, '.'), p = p ? p + 1 : NULL)
        token[count++] = p;
    if (count < 9 || strncmp(reply, "$JS.ACK.", 8) != 0)
        return false;
    int first = count >= 11 ? 7 : 5; /* the stream sequence */
    meta->stream_seq = strtoull(token[first], NULL, 10);
    meta->consumer_seq = strtoull(token[first + 1], NULL, 10);
    meta->time_ns = strtoll(token[first + 2], NULL, 10);
    meta->pending = strtoull(token[first + 3], NULL, 10);
    return true;
}
