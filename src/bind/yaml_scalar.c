/* YAML 1.1 plain scalars: the forms that PyYAML's resolver knows. Its oddities are kept on purpose, so that a
 * document means here what it means there: 010 is 8, 1:30 is 90, on is true, but 1e5, 0o17 and -.5 are text.
 */
#include "yaml_parts.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"
#define NUMBER_MAX 200 /* characters */

static bool is_one_of(const char *text, const char *const *list) {
    for (; *list; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

static void be_bad(yaml_value *out, const char *fault, const char *hint) {
    out->kind = YAML_BAD;
    out->fault = fault;
    out->hint = hint;
}

/* The groups after the first of a base 60 number: (:[0-5]?[0-9])+ . Returns what follows, NULL when there are
 * none. */
static const char *skip_sixties(const char *p) {
    const char *start = p;
    while (*p == ':' && p[1] >= '0' && p[1] <= '9') {
        bool has_two = p[2] >= '0' && p[2] <= '9';
        if (has_two && p[1] > '5')
            return NULL;
        p += has_two ? 3 : 2;
    }
    return p > start ? p : NULL;
}

/* value * base + digit, or false when it does not fit in 64 bits. */
static bool add_digit(unsigned long long *value, unsigned base, unsigned digit) {
    return !__builtin_mul_overflow(*value, base, value) && !__builtin_add_overflow(*value, digit, value);
}

static bool read_magnitude(const char *p, unsigned base, unsigned long long *value) {
    *value = 0;
    for (; *p; p++) {
        if (*p == '_')
            continue;
        unsigned digit = *p <= '9' ? (unsigned)(*p - '0') : (unsigned)((*p | 32) - 'a' + 10);
        if (!add_digit(value, base, digit))
            return false;
    }
    return true;
}

static bool read_sixties(const char *p, unsigned long long *value) {
    unsigned long long group = 0;
    *value = 0;
    for (;; p++) {
        if (*p == ':' || !*p) {
            if (__builtin_mul_overflow(*value, 60ULL, value) || __builtin_add_overflow(*value, group, value))
                return false;
            group = 0;
            if (!*p)
                return true;
        } else if (*p != '_' && !add_digit(&group, 10, (unsigned)(*p - '0'))) {
            return false;
        }
    }
}

static bool is_all(const char *p, const char *set) {
    return *p && p[strspn(p, set)] == 0 && p[strspn(p, "_")] != 0;
}

static bool resolve_int(const char *text, yaml_value *out) {
    const char *p = text + (*text == '-' || *text == '+');
    unsigned long long value;
    bool is_fit;
    if (p[0] == '0' && p[1] == 'b' && is_all(p + 2, "01_"))
        is_fit = read_magnitude(p + 2, 2, &value);
    else if (p[0] == '0' && p[1] == 'x' && is_all(p + 2, "0123456789abcdefABCDEF_"))
        is_fit = read_magnitude(p + 2, 16, &value);
    else if (p[0] == '0' && p[strspn(p, "01234567_")] == 0)
        is_fit = read_magnitude(p, 8, &value);
    else if (*p >= '1' && *p <= '9' && p[strspn(p, DIGITS "_")] == 0)
        is_fit = read_magnitude(p, 10, &value);
    else if (*p >= '1' && *p <= '9' && p[strspn(p, DIGITS "_")] == ':') {
        const char *rest = skip_sixties(p + strspn(p, DIGITS "_"));
        if (!rest || *rest)
            return false;
        is_fit = read_sixties(p, &value);
    } else
        return false;
    unsigned long long limit = (unsigned long long)LUA_MAXINTEGER + (*text == '-');
    if (!is_fit || value > limit) {
        be_bad(out, "integer beyond 64 bits", "put it in quotes to have it as text");
    } else {
        out->kind = YAML_INT;
        out->integer = *text == '-' ? (lua_Integer)(0ULL - value) : (lua_Integer)value;
    }
    return true;
}

/* Behind an optional exponent [eE][-+][0-9]+ . */
static const char *skip_exponent(const char *p) {
    if ((*p | 32) == 'e' && (p[1] == '-' || p[1] == '+')) {
        size_t digits = strspn(p + 2, DIGITS);
        if (digits > 0)
            return p + 2 + digits;
    }
    return p;
}

static double read_float(const char *text) {
    char copy[NUMBER_MAX + 1], *out = copy;
    double sum = 0;
    for (const char *p = text; *p; p++) { /* base 60 groups one by one, the last with its fraction */
        if (*p == ':') {
            *out = 0;
            sum = (sum + strtod(copy, NULL)) * 60;
            out = copy;
        } else if (*p != '_') {
            *out++ = *p;
        }
    }
    *out = 0;
    return sum + strtod(copy, NULL);
}

static bool resolve_float(const char *text, yaml_value *out) {
    static const char *const specials[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
    bool has_sign = *text == '-' || *text == '+';
    const char *p = text + has_sign;
    if (is_one_of(p, specials) && !(has_sign && (p[1] | 32) == 'n')) {
        be_bad(out, "infinity and NaN cannot be JSON", "put it in quotes to have it as text, or use null");
        return true;
    }
    if (*p >= '0' && *p <= '9') {
        p += strspn(p, DIGITS "_");
        const char *sixties = *p == ':' ? skip_sixties(p) : NULL;
        p = sixties ? sixties : p;
        if (*p != '.')
            return false;
        p += 1 + strspn(p + 1, DIGITS "_");
        if (!sixties)
            p = skip_exponent(p);
    } else if (*text == '.' && text[1] >= '0' && text[1] <= '9') {
        p = skip_exponent(p + 1 + strspn(p + 1, DIGITS "_"));
    } else {
        return false;
    }
    if (*p)
        return false;
    double sign = *text == '-' ? -1.0 : 1.0;
    out->kind = YAML_FLOAT;
    out->number = sign * read_float(text + has_sign);
    if (isinf(out->number))
        be_bad(out, "number out of range (at most 1.8e308)", "put it in quotes to have it as text");
    return true;
}

/* --- dates --- */

/* Reads min to max digits; false when there are fewer. */
static bool read_digits(const char **p, int min, int max, int *value) {
    int n = 0;
    for (*value = 0; n < max && **p >= '0' && **p <= '9'; n++, (*p)++)
        *value = *value * 10 + (**p - '0');
    return n >= min;
}

static bool read_char(const char **p, char c) {
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static bool is_day(int year, int month, int day) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return year >= 1 && month >= 1 && month <= 12 && day >= 1 &&
           day <= days[month - 1] + (is_leap && month == 2);
}

/* hh:mm:ss with fraction and zone at p; appends their ISO form to out. False when the text has another form.
 */
static bool read_time(const char *p, char *out, size_t size, bool *is_valid) {
    int hour, minute, second, micros = 0, zone_hour = 0, zone_minute = 0;
    if (!read_digits(&p, 1, 2, &hour) || !read_char(&p, ':') || !read_digits(&p, 2, 2, &minute) ||
        !read_char(&p, ':') || !read_digits(&p, 2, 2, &second))
        return false;
    if (read_char(&p, '.')) {
        const char *fraction = p;
        read_digits(&p, 0, 6, &micros);
        for (long n = p - fraction; n < 6; n++)
            micros *= 10;
        p += strspn(p, DIGITS);
    }
    char zone[16] = "";
    const char *rest = p + strspn(p, " \t");
    if (*rest == 'Z') {
        strcpy(zone, "+00:00");
        p = rest + 1;
    } else if (*rest == '+' || *rest == '-') {
        char sign = *rest;
        p = rest + 1;
        if (!read_digits(&p, 1, 2, &zone_hour) ||
            (read_char(&p, ':') && !read_digits(&p, 2, 2, &zone_minute)))
            return false;
        if (zone_hour == 0 && zone_minute == 0)
            sign = '+';
        snprintf(zone, sizeof zone, "%c%02d:%02d", sign, zone_hour % 100, zone_minute % 100);
    }
    if (*p)
        return false;
    *is_valid = hour < 24 && minute < 60 && second < 60 && zone_hour < 24 && zone_minute < 60;
    int n = snprintf(out, size, "T%02d:%02d:%02d", hour, minute, second);
    if (micros)
        n += snprintf(out + n, size - (size_t)n, ".%06d", micros);
    snprintf(out + n, size - (size_t)n, "%s", zone);
    return true;
}

static bool resolve_date(const char *text, yaml_value *out) {
    const char *p = text;
    int year, month, day;
    if (!read_digits(&p, 4, 4, &year) || !read_char(&p, '-') || !read_digits(&p, 1, 2, &month) ||
        !read_char(&p, '-') || !read_digits(&p, 1, 2, &day))
        return false;
    bool is_valid = true;
    int n = snprintf(out->date, sizeof out->date, "%04d-%02d-%02d", year, month, day);
    if (*p == 0) {
        if (p - text != 10) /* without a time only 2024-01-02 is a date */
            return false;
    } else {
        if (*p == 'T' || *p == 't')
            p++;
        else if (*p == ' ' || *p == '\t')
            p += strspn(p, " \t");
        else
            return false;
        if (!read_time(p, out->date + n, sizeof out->date - (size_t)n, &is_valid))
            return false;
    }
    out->kind = YAML_DATE;
    if (!is_valid || !is_day(year, month, day))
        be_bad(out, "no such date or time", "put it in quotes to have it as text");
    return true;
}

void yaml_resolve(const char *text, size_t len, yaml_value *out) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", NULL};
    static const char *const falses[] = {"no",    "No",  "NO",  "false", "False",
                                         "FALSE", "off", "Off", "OFF",   NULL};
    out->kind = YAML_TEXT;
    if (len == 0) {
        out->kind = YAML_NULL;
    } else if (strchr(DIGITS "+-.", text[0])) {
        if (resolve_date(text, out))
            return;
        out->kind = YAML_TEXT;
        if (len <= NUMBER_MAX && !resolve_int(text, out))
            resolve_float(text, out);
        else if (len > NUMBER_MAX && text[strspn(text, DIGITS "+-_.:")] == 0)
            be_bad(out, "number too long (more than 200 characters)", "put it in quotes to have it as text");
    } else if (len <= 5 && strchr("~nNyYtTfFoO", text[0])) {
        if (is_one_of(text, nulls))
            out->kind = YAML_NULL;
        else if (is_one_of(text, trues) || is_one_of(text, falses)) {
            out->kind = YAML_BOOL;
            out->truth = is_one_of(text, trues);
        }
    }
}
