/* SPDX-License-Identifier: Apache-2.0 */
#include "server/health.h"

#include "base/mem.h"
#include "crypto/jose.h"

#include <pthread.h>

struct outcome {
    bool ran, failed;
    unsigned failures; /* in a row */
    char text[CS_ERR_TEXT_MAX];
};

struct server_health {
    const struct server_health_check *checks;
    size_t count;
    struct cs_log log;
    pthread_mutex_t lock; /* outcomes */
    struct outcome *outcomes;
};

cs_code server_health_new(const struct server_health_check *checks, size_t count, struct cs_log log,
                          struct server_health **out, struct cs_err *e)
{
    *out = NULL;
    struct server_health *h = cs_calloc(1, sizeof *h);
    struct outcome *outcomes = cs_calloc(count, sizeof *outcomes);
    if (h == NULL || outcomes == NULL || pthread_mutex_init(&h->lock, NULL) != 0) {
        cs_free(h);
        cs_free(outcomes);
        return cs_nomem(e);
    }
    h->checks = checks;
    h->count = count;
    h->outcomes = outcomes;
    h->log = cs_log_sub(log, "health");
    *out = h;
    return CS_OK;
}

void server_health_free(struct server_health *h)
{
    if (h == NULL)
        return;
    pthread_mutex_destroy(&h->lock);
    cs_free(h->outcomes);
    cs_free(h);
}

/* Logs each failure, and its beginning and end once more, as SPIRE does. */
static void report(const struct server_health *h, const char *name, const struct outcome *before,
                   const struct outcome *now)
{
    static const char what[] = "subsystem is not live or ready";
    if (now->failed)
        cs_log_error(&h->log, "Health check has failed", KV("check", name), KV("error", what));
    if (now->failed && !before->failed)
        cs_log_warn(&h->log, "Health check failed", KV("check", name), KV("details", now->text),
                    KV("error", what));
    if (!now->failed && before->failed)
        cs_log_info(&h->log, "Health check recovered", KV("check", name), KV("error", what),
                    KV_INT("failures", before->failures));
}

bool server_health_run(struct server_health *h)
{
    bool well = true;
    for (size_t i = 0; i < h->count; i++) {
        struct cs_err err = {0};
        struct outcome now = {.ran = true};
        now.failed = h->checks[i].run(h->checks[i].arg, &err) != CS_OK;
        if (now.failed)
            memcpy(now.text, err.text, sizeof now.text);
        pthread_mutex_lock(&h->lock);
        struct outcome before = h->outcomes[i];
        now.failures = now.failed ? before.failures + 1 : 0;
        h->outcomes[i] = now;
        pthread_mutex_unlock(&h->lock);
        report(h, h->checks[i].name, &before, &now);
        well = well && !now.failed;
    }
    return well;
}

bool server_health_json(void *health, struct cs_buf *json)
{
    struct server_health *h = health;
    bool well = true;
    cs_buf_add_byte(json, '{');
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->count; i++) {
        const struct outcome *o = &h->outcomes[i];
        well = well && o->ran && !o->failed;
        cs_buf_printf(json, "%s\"%s\":", i > 0 ? "," : "", h->checks[i].name);
        if (!o->ran) {
            cs_buf_add_str(json, "null");
        } else if (!o->failed) {
            cs_buf_add_str(json, "{}");
        } else {
            cs_buf_printf(json, "{\"%s\":", h->checks[i].detail);
            jose_json_string(json, cs_slice_str(o->text));
            cs_buf_add_byte(json, '}');
        }
    }
    pthread_mutex_unlock(&h->lock);
    cs_buf_add_byte(json, '}');
    return well;
}
