/* SPDX-License-Identifier: Apache-2.0 */
#include "datastore/dsn.h"

#include "base/text.h"

#include <ctype.h>
#include <limits.h>
#include <strings.h>

/* A parameter of the Go driver that is a pragma here. `values` is a list of "given=used" pairs, NULL for
 * a number. */
struct param {
    const char *name, *alias;
    const char *pragma;
    const char *values;
};

#define ON_OFF "0=0 no=0 false=0 off=0 1=1 yes=1 true=1 on=1"
static const struct param params[] = {
    {"_auto_vacuum", "_vacuum", "auto_vacuum", "0=0 none=0 1=1 full=1 2=2 incremental=2"},
    {"_case_sensitive_like", "_cslike", "case_sensitive_like", ON_OFF},
    {"_defer_foreign_keys", "_defer_fk", "defer_foreign_keys", ON_OFF},
    {"_ignore_check_constraints", NULL, "ignore_check_constraints", ON_OFF},
    {"_locking_mode", "_locking", "locking_mode", "normal=NORMAL exclusive=EXCLUSIVE"},
    {"_query_only", NULL, "query_only", ON_OFF},
    {"_recursive_triggers", "_rt", "recursive_triggers", ON_OFF},
    {"_secure_delete", NULL, "secure_delete", ON_OFF " fast=FAST"},
    {"_synchronous", "_sync", "synchronous", "0=0 off=0 1=1 normal=1 2=2 full=2 3=3 extra=3"},
    {"_writable_schema", NULL, "writable_schema", ON_OFF},
    {"_cache_size", NULL, "cache_size", NULL},
};

void ds_dsn_free(struct ds_dsn *d)
{
    cs_buf_free(&d->uri);
    cs_buf_free(&d->pragmas);
}

static int hex_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo %XX (and '+' in a query). */
static cs_code unescape(struct cs_slice in, bool query, struct cs_buf *out, struct cs_err *e)
{
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.data[i];
        if (c == '%') {
            bool two = in.len - i > 2;
            int hi = two ? hex_of(in.data[i + 1]) : -1;
            int lo = two ? hex_of(in.data[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return cs_fail(e, CS_INVALID, "datastore-sql: connection string: invalid URL escape");
            c = (uint8_t)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        if (c == 0)
            return cs_fail(e, CS_INVALID, "datastore-sql: connection string holds a NUL byte");
        cs_buf_add_byte(out, c);
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static bool word_is(const char *w, size_t n, const char *s)
{
    return strlen(s) == n && strncasecmp(w, s, n) == 0;
}

/* "PRAGMA x = v;" for a value that the table allows. */
static cs_code add_pragma(struct ds_dsn *d, const struct param *p, const char *value, struct cs_err *e)
{
    if (!p->values) {
        int64_t n = 0;
        if (cs_parse_i64(cs_slice_str(value), &n, NULL) != CS_OK)
            return cs_fail(e, CS_INVALID, "datastore-sql: Invalid %s: %s", p->name, value);
        cs_buf_printf(&d->pragmas, "PRAGMA %s = %lld;", p->pragma, (long long)n);
        return CS_OK;
    }
    for (const char *w = p->values; *w;) {
        const char *eq = strchr(w, '=');
        size_t used = strcspn(eq + 1, " ");
        if (word_is(w, (size_t)(eq - w), value)) {
            cs_buf_printf(&d->pragmas, "PRAGMA %s = %.*s;", p->pragma, (int)used, eq + 1);
            return CS_OK;
        }
        w = eq + 1 + used;
        w += *w == ' ';
    }
    return cs_fail(e, CS_INVALID, "datastore-sql: Invalid %s: %s", p->name, value);
}

static cs_code add_param(struct ds_dsn *d, const char *name, const char *value, struct cs_err *e)
{
    if (value[0] == '\0')
        return CS_OK;
    if (strcmp(name, "_busy_timeout") == 0 || strcmp(name, "_timeout") == 0) {
        int64_t n = 0;
        if (cs_parse_i64(cs_slice_str(value), &n, NULL) != CS_OK || n < 0 || n > INT_MAX)
            return cs_fail(e, CS_INVALID, "datastore-sql: Invalid _busy_timeout: %s", value);
        d->busy_timeout_ms = (int)n;
        return CS_OK;
    }
    for (size_t i = 0; i < sizeof params / sizeof params[0]; i++)
        if (strcmp(name, params[i].name) == 0 || (params[i].alias && strcmp(name, params[i].alias) == 0))
            return add_pragma(d, &params[i], value, e);
    return CS_OK; /* SQLite's own, or without a meaning here (_mutex, _txlock, _loc) */
}

static cs_code parse_query(struct ds_dsn *d, struct cs_slice q, struct cs_err *e)
{
    while (q.len > 0) {
        const uint8_t *amp = memchr(q.data, '&', q.len);
        size_t n = amp ? (size_t)(amp - q.data) : q.len;
        const uint8_t *eq = memchr(q.data, '=', n);
        size_t klen = eq ? (size_t)(eq - q.data) : n;
        CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf val = {0};
        CS_TRY(unescape(cs_slice_of(q.data, klen), true, &key, e));
        if (eq)
            CS_TRY(unescape(cs_slice_of(eq + 1, n - klen - 1), true, &val, e));
        const char *k = cs_buf_cstr(&key), *v = cs_buf_cstr(&val);
        if (!cs_buf_ok(&key) || !cs_buf_ok(&val))
            return cs_nomem(e);
        CS_TRY(add_param(d, k, v, e));
        q = cs_slice_of(q.data + n + (amp != NULL), q.len - n - (amp != NULL));
    }
    return CS_OK;
}

/* Length of the scheme before ':', 0 for none (RFC 3986 section 3.1). */
static size_t scheme_len(const char *s)
{
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || (n > 0 && strchr("+-.", s[n]) && s[n]))
        n++;
    return n > 0 && s[n] == ':' && isalpha((unsigned char)s[0]) ? n : 0;
}

cs_code ds_dsn_parse(const char *s, struct ds_dsn *out, struct cs_err *e)
{
    out->busy_timeout_ms = 5000;
    size_t scheme = scheme_len(s);
    if (scheme > 0 && !word_is(s, scheme, "file"))
        return cs_fail(e, CS_INVALID, "datastore-sql: unsupported scheme \"%.*s\"", (int)scheme, s);
    const char *rest = scheme > 0 ? s + scheme + 1 : s;
    size_t path = strcspn(rest, "?#");
    struct cs_slice query = {0};
    if (rest[path] == '?')
        query = cs_slice_of(rest + path + 1, strcspn(rest + path + 1, "#"));

    /* What applies to every connection unless the string says otherwise; mattn's build has NORMAL as its
     * default with a write-ahead log: an acknowledged change survives the process, not always the power. */
    cs_buf_add_str(&out->pragmas,
                   "PRAGMA foreign_keys = ON;PRAGMA journal_mode = WAL;PRAGMA synchronous = NORMAL;");
    CS_TRY(parse_query(out, query, e));

    cs_buf_add_str(&out->uri, "file:");
    cs_buf_add(&out->uri, rest, path);
    if (query.len > 0) {
        cs_buf_add_byte(&out->uri, '?');
        cs_buf_add_slice(&out->uri, query);
    }
    (void)cs_buf_cstr(&out->uri); /* both are used as C strings */
    (void)cs_buf_cstr(&out->pragmas);
    return cs_buf_ok(&out->uri) && cs_buf_ok(&out->pragmas) ? CS_OK : cs_nomem(e);
}
