/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines and errors of one call. A line carries who called what, and a request id that ties the
 * lines of a call together.
 */
#include "server/api/internal.h"
#include "server/entrycache/wire.h"

#include <stdio.h>

#define LINE_FIELDS 64
/* Lines per second that callers from the network can cause. */
#define FAILURES_PER_S 500

struct line {
    struct cs_kv at[LINE_FIELDS];
    size_t n;
};

/* A later field replaces one of the same key, as logrus has it. */
static void line_add(struct line *l, struct cs_kv kv)
{
    if (kv.key == NULL)
        return;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->at[i].key, kv.key) == 0) {
            l->at[i] = kv;
            return;
        }
    if (l->n < LINE_FIELDS)
        l->at[l->n++] = kv;
}

void api_log(const struct api_call *c, enum cs_level level, const char *msg, const struct cs_kv *kv, size_t n)
{
    const struct api *a = c->api;
    if (!cs_log_on(&a->log, level))
        return;
    struct line l = {.n = 0};
    line_add(&l, KV("service", c->policy->service));
    line_add(&l, KV("method", c->policy->method));
    if (!c->local)
        line_add(&l, KV("caller_addr", rpc_conn_address(rpc_call_conn(c->rpc))));
    if (c->peer != NULL)
        line_add(&l, KV("caller_id", c->peer->spiffe_id));
    line_add(&l, KV("request_id", c->request_id));
    if (c->as != NULL) {
        line_add(&l, KV("authorized_as", c->as));
        line_add(&l, KV("authorized_via", c->via));
    }
    for (size_t i = 0; i < c->field_count; i++)
        line_add(&l, c->field[i]);
    for (size_t i = 0; i < n; i++)
        line_add(&l, kv[i]);
    cs_log_emit(&a->log, level, __FILE__, __LINE__, __func__, msg, l.at, l.n);
}

void api_field(struct api_call *c, struct cs_kv kv)
{
    for (size_t i = 0; i < c->field_count; i++)
        if (strcmp(c->field[i].key, kv.key) == 0) {
            c->field[i] = kv;
            return;
        }
    if (c->field_count < API_LOG_FIELDS)
        c->field[c->field_count++] = kv;
}

bool api_may_log(struct api_call *c)
{
    uint32_t held = 0;
    if (c->local || cs_log_limit_ok(&c->api->failures, FAILURES_PER_S, &held)) {
        if (held > 0)
            API_LOG(c, CS_LOG_WARN, "Error messages of callers were left out", KV_INT("count", held));
        return true;
    }
    return false;
}

void api_status_error(struct cs_err *e)
{
    struct cs_err plain = *e;
    (void)cs_fail(e, plain.code, "rpc error: code = %s desc = %s", cs_code_name(plain.code), plain.text);
}

/* SPIRE's datastore and limiter make status errors, which log with their code; other causes are plain. */
static bool logs_as_status(cs_code code, const struct cs_err *cause)
{
    if (cause->code == CS_UNKNOWN || cause->code == CS_INTERNAL || cause->code == CS_OK)
        return false;
    return code == CS_EXHAUSTED || strncmp(cause->text, "datastore-", strlen("datastore-")) == 0;
}

static void log_failure(struct api_call *c, cs_code code, const char *msg, const struct cs_err *cause)
{
    if (!api_may_log(c))
        return;
    char line[CS_ERR_TEXT_MAX];
    if (code == CS_INVALID) {
        snprintf(line, sizeof line, "Invalid argument: %s", msg);
    } else {
        snprintf(line, sizeof line, "%s", msg);
        if (line[0] >= 'a' && line[0] <= 'z')
            line[0] = (char)(line[0] - 'a' + 'A');
    }
    if (cause == NULL || code == CS_NOT_FOUND) {
        api_log(c, CS_LOG_ERROR, line, NULL, 0);
        return;
    }
    struct cs_err shown = *cause;
    if (logs_as_status(code, cause))
        api_status_error(&shown);
    API_LOG(c, CS_LOG_ERROR, line, KV_ERR(&shown));
}

cs_code api_fail(struct api_call *c, struct cs_err *e, cs_code code, const char *msg)
{
    log_failure(c, code, msg, NULL);
    return cs_fail(e, code, "%s", msg);
}

cs_code api_fail_cause(struct api_call *c, struct cs_err *e, cs_code code, const char *msg)
{
    struct cs_err cause = *e;
    log_failure(c, code, msg, &cause);
    if (code == CS_NOT_FOUND)
        return cs_fail(e, code, "%s", msg);
    return cs_fail(e, code, "%s: %s", msg, cause.text);
}

void api_status_write(struct cs_buf *b, uint32_t field, const struct cs_err *st)
{
    const char *text = st->code == CS_OK ? "OK" : st->text;
    struct cs_slice message = cs_slice_str(text);
    size_t code_size = st->code == CS_OK ? 0 : 1 + wire_varint_size((uint64_t)st->code);
    wire_len(b, field, code_size + wire_str_size(message.len));
    wire_int(b, 1, (int64_t)st->code);
    wire_str(b, 2, message);
}
