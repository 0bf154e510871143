/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists in pieces, and watches (Kubernetes API Concepts, "Efficient detection of changes"): from the version
 * of the last object seen; from a new list when the server no longer knows that version.
 */
#include "plugins/modules/kube/internal.h"

#include <stdio.h>
#include <stdlib.h>

#define PIECE 250                        /* objects in one answer */
#define LINE_MAX_BYTES ((size_t)8 << 20) /* one object */
#define VERSION_MAX 128
#define TURN_S 300 /* at least; the server ends a watch after this */
#define TURN_SLACK_NS (30 * CS_NS_PER_S)
#define BACKOFF_MAX_NS (30 * CS_NS_PER_S)
#define REFUSAL_NS (30 * CS_NS_PER_S) /* see is_refused */

struct watching {
    struct kube_client *client;
    const struct kube_watch *w;
    int64_t end;               /* 0: none */
    char version[VERSION_MAX]; /* resourceVersion to go on from */
    struct cs_buf line;        /* begun, not ended */
    bool done, refused;        /* what the caller said: enough; an error */
    bool gone, any;            /* the version is too old; something came */
    bool admitted;             /* we were let in once */
    int64_t refused_since;     /* and are not any more; 0: we are */
};

static void remember(struct watching *x, const char *version)
{
    if (version[0] != '\0' && strlen(version) < sizeof x->version)
        memcpy(x->version, version, strlen(version) + 1);
}

static cs_code tell(struct watching *x, enum kube_event type, const json_t *object, struct cs_err *e)
{
    cs_code rc = x->w->event(x->w->arg, type, object, &x->done, e);
    x->refused = rc != CS_OK;
    return rc;
}

static cs_code query(struct cs_buf *out, const struct kube_watch *w, struct cs_err *e)
{
    cs_buf_add_str(out, w->path);
    cs_buf_add_byte(out, '?');
    if (w->label_selector != NULL) {
        cs_buf_add_str(out, "labelSelector=");
        http_escape(out, cs_slice_str(w->label_selector));
        cs_buf_add_byte(out, '&');
    }
    if (w->field_selector != NULL) {
        cs_buf_add_str(out, "fieldSelector=");
        http_escape(out, cs_slice_str(w->field_selector));
        cs_buf_add_byte(out, '&');
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* What is left of the time, no more than `most`; CS_DEADLINE when nothing is. */
static cs_code time_left(const struct watching *x, int64_t most, int64_t *out, struct cs_err *e)
{
    const int64_t left = x->end != 0 ? x->end - cs_mono_ns(&cs_clock_system) : most;
    if (left <= 0)
        return cs_fail(e, CS_DEADLINE, "%s: timed out", x->w->path);
    *out = left < most ? left : most;
    return CS_OK;
}

/* --- Lists --- */

static cs_code list_piece(struct watching *x, const char *go_on, json_t **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    struct kube_call q = {.method = "GET", .stop = x->w->stop};
    CS_TRY(query(&path, x->w, e));
    cs_buf_printf(&path, "limit=%d", PIECE);
    if (go_on[0] != '\0') {
        cs_buf_add_str(&path, "&continue=");
        http_escape(&path, cs_slice_str(go_on));
    }
    if (!cs_buf_ok(&path))
        return cs_nomem(e);
    CS_TRY(time_left(x, 30 * CS_NS_PER_S, &q.timeout_ns, e));
    q.path = cs_buf_cstr(&path);
    return kube_call(x->client, &q, out, e);
}

static cs_code list_all(struct watching *x, struct cs_err *e)
{
    CS_CLEANUP(kube_json_drop) json_t *piece = NULL;
    const char *go_on = "";
    do {
        json_t *next = NULL, *item;
        size_t i;
        CS_TRY(list_piece(x, go_on, &next, e));
        json_decref(piece); /* go_on was of it */
        piece = next;
        json_array_foreach(json_object_get(piece, "items"), i, item)
        {
            CS_TRY(tell(x, KUBE_LISTED, item, e));
            if (x->done)
                return CS_OK;
        }
        remember(x, kube_version(piece));
        go_on = kube_text(json_object_get(piece, "metadata"), "continue");
    } while (go_on[0] != '\0');
    return CS_OK;
}

cs_code kube_list(struct kube_client *c, const struct kube_watch *w, struct cs_err *e)
{
    struct watching x = {.client = c, .w = w};
    cs_code rc = list_all(&x, e);
    /* a list that took too long for the server's memory begins anew, once */
    return rc == CS_OUT_OF_RANGE ? list_all(&x, e) : rc;
}

/* --- Watches --- */

static cs_code on_object(struct watching *x, const char *type, const json_t *object, struct cs_err *e)
{
    static const struct {
        const char *name;
        enum kube_event type;
    } types[] = {{"ADDED", KUBE_ADDED}, {"MODIFIED", KUBE_MODIFIED}, {"DELETED", KUBE_DELETED}};
    if (strcmp(type, "ERROR") == 0) {
        x->gone = json_integer_value(json_object_get(object, "code")) == 410;
        return cs_fail(e, CS_UNAVAILABLE, "%s: %s", x->w->path, kube_text(object, "message"));
    }
    x->any = true;
    remember(x, kube_version(object));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, type) == 0)
            return tell(x, types[i].type, object, e);
    return CS_OK; /* BOOKMARK, and what may come to be */
}

static cs_code on_line(struct watching *x, struct cs_slice line, struct cs_err *e)
{
    CS_CLEANUP(kube_json_drop) json_t *j = json_loadb((const char *)line.data, line.len, 0, NULL);
    const json_t *object = json_object_get(j, "object");
    if (!json_is_object(object))
        return cs_fail(e, CS_UNAVAILABLE, "%s: an event is not a JSON object", x->w->path);
    CS_TRY(on_object(x, kube_text(j, "type"), object, e));
    return x->done ? cs_fail(e, CS_CANCELLED, "done") : CS_OK;
}

static cs_code on_bytes(void *arg, struct cs_slice piece, struct cs_err *e)
{
    struct watching *x = arg;
    while (piece.len > 0) {
        const uint8_t *nl = memchr(piece.data, '\n', piece.len);
        const size_t n = nl != NULL ? (size_t)(nl - piece.data) : piece.len;
        if (n > LINE_MAX_BYTES - x->line.len)
            return cs_fail(e, CS_EXHAUSTED, "%s: an object has more than %zu bytes", x->w->path,
                           LINE_MAX_BYTES);
        cs_buf_add(&x->line, piece.data, n);
        if (!cs_buf_ok(&x->line))
            return cs_nomem(e);
        if (nl == NULL)
            return CS_OK;
        cs_code rc = x->line.len > 0 ? on_line(x, cs_buf_slice(&x->line), e) : CS_OK;
        cs_buf_reset(&x->line);
        if (rc != CS_OK)
            return rc;
        piece = cs_slice_of(nl + 1, piece.len - n - 1);
    }
    return CS_OK;
}

static void admit(struct watching *x)
{
    x->admitted = true;
    x->refused_since = 0;
}

/* One request: until the server ends it. */
static cs_code turn(struct watching *x, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    struct kube_call q = {.method = "GET", .stop = x->w->stop};
    struct kube_attempt a = {.call = &q, .on_body = on_bytes, .on_body_arg = x};
    uint32_t random = 0;
    CS_TRY(cs_random(&random, sizeof random, e));
    const int64_t seconds = TURN_S + random % TURN_S; /* not all watchers at once */
    CS_TRY(query(&path, x->w, e));
    cs_buf_printf(&path, "watch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=", (int)seconds);
    http_escape(&path, cs_slice_str(x->version));
    if (!cs_buf_ok(&path))
        return cs_nomem(e);
    CS_TRY(time_left(x, seconds * CS_NS_PER_S + TURN_SLACK_NS, &a.timeout_ns, e));
    q.path = cs_buf_cstr(&path);
    cs_buf_reset(&x->line);
    cs_code rc = kube_attempt_make(x->client, &a, &r, e);
    if (r.status == 410)
        x->gone = true;
    const bool success = r.status >= 200 && r.status <= 299;
    if (success)
        admit(x);
    if (rc == CS_OK && !success)
        rc = kube_status_fail(&r, e);
    return rc;
}

/* An API server that was just started refuses everybody until it has read roles and tokens, some seconds
 * long: who was let in before asks again for a while. */
static bool is_refused(struct watching *x)
{
    const int64_t now = cs_mono_ns(&cs_clock_system);
    if (x->refused_since == 0)
        x->refused_since = now;
    return !x->admitted || now - x->refused_since >= REFUSAL_NS;
}

static bool is_final(struct watching *x, cs_code rc)
{
    switch (rc) {
    case CS_CANCELLED:
        return true;
    case CS_INVALID:
    case CS_UNIMPLEMENTED:
    case CS_PRECONDITION:
    case CS_NOT_FOUND:
        return !x->w->keep_trying;
    case CS_UNAUTHENTICATED:
    case CS_DENIED:
        return is_refused(x) && !x->w->keep_trying;
    default:
        x->refused_since = 0; /* it is away again, and will refuse everybody again when it starts */
        return x->end != 0 && cs_mono_ns(&cs_clock_system) >= x->end;
    }
}

/* The list, or the next turn. */
static cs_code step(struct watching *x, struct cs_err *e)
{
    if (x->version[0] != '\0')
        return turn(x, e);
    cs_code rc = list_all(x, e);
    x->any = rc == CS_OK;
    if (rc == CS_OK)
        admit(x);
    if (x->w->listed != NULL && !x->done && !x->refused)
        x->w->listed(x->w->arg, rc != CS_OK ? e : NULL);
    if (rc == CS_OK && x->version[0] == '\0' && !x->done)
        return cs_fail(e, CS_INTERNAL, "%s: the list has no resourceVersion", x->w->path);
    return rc;
}

static cs_code watch(struct watching *x, struct cs_err *e)
{
    for (unsigned failures = 0;;) {
        x->any = x->gone = false;
        const int64_t began = cs_mono_ns(&cs_clock_system);
        cs_code rc = step(x, e);
        if (x->done)
            return CS_OK;
        if (x->refused || is_final(x, rc))
            return rc;
        if (x->gone || rc == CS_OUT_OF_RANGE)
            x->version[0] = '\0';
        const bool good = x->any || cs_mono_ns(&cs_clock_system) - began > 10 * CS_NS_PER_S;
        failures = good ? 0 : failures + 1;
        if (failures > 0 && !http_pause(http_backoff(failures - 1, BACKOFF_MAX_NS), x->w->stop))
            return cs_fail(e, CS_CANCELLED, "%s: stopped", x->w->path);
    }
}

cs_code kube_watch(struct kube_client *c, const struct kube_watch *w, struct cs_err *e)
{
    struct cs_err local;
    struct watching x = {.client = c, .w = w};
    if (w->timeout_ns > 0)
        x.end = cs_mono_ns(&cs_clock_system) + w->timeout_ns;
    cs_code rc = watch(&x, e != NULL ? e : &local);
    cs_buf_free(&x.line);
    return rc;
}
