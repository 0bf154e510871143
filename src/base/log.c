/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines in the two forms of logrus 1.9: TextFormatter (without a terminal) and JSONFormatter.
 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define FIELDS_MAX 48             /* of a line; more are dropped */
#define LINE_MAX_BYTES (1u << 20) /* a longer line is written without its fields */
#define LINE_STACK 2048

struct cs_log_sink {
    pthread_mutex_t lock; /* one line at a time, and no line into a file that is being changed */
    int fd;
    char *path; /* NULL: standard output */
    enum cs_log_format format;
    _Atomic int level;
    atomic_bool source;
};

/* --- Sinks --- */

static int open_log(const char *path)
{
    return open(path, O_APPEND | O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
}

cs_code cs_log_sink_open(const char *path, enum cs_log_format format, enum cs_level level,
                         struct cs_log_sink **out, struct cs_err *e)
{
    *out = NULL;
    struct cs_log_sink *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->fd = STDOUT_FILENO;
    if (path != NULL) {
        s->path = cs_strdup(path);
        s->fd = s->path == NULL ? -1 : open_log(path);
        if (s->fd < 0) {
            cs_code code =
                s->path == NULL ? cs_nomem(e) : cs_fail_errno(e, CS_INTERNAL, errno, "open %s", path);
            cs_free(s->path);
            cs_free(s);
            return code;
        }
    }
    pthread_mutex_init(&s->lock, NULL);
    s->format = format;
    atomic_init(&s->level, (int)level);
    atomic_init(&s->source, false);
    *out = s;
    return CS_OK;
}

cs_code cs_log_sink_reopen(struct cs_log_sink *s, struct cs_err *e)
{
    if (s->path == NULL)
        return CS_OK;
    int fd = open_log(s->path);
    if (fd < 0) {
        int errnum = errno;
        (void)cs_fail_errno(e, CS_INTERNAL, errnum, "open %s", s->path);
        return e != NULL ? cs_wrap(e, "unable to reopen %s", s->path) : CS_INTERNAL;
    }
    pthread_mutex_lock(&s->lock);
    int old = s->fd;
    s->fd = fd;
    pthread_mutex_unlock(&s->lock);
    close(old);
    return CS_OK;
}

void cs_log_sink_set_level(struct cs_log_sink *s, enum cs_level level)
{
    atomic_store_explicit(&s->level, (int)level, memory_order_relaxed);
}

enum cs_level cs_log_sink_level(const struct cs_log_sink *s)
{
    return (enum cs_level)atomic_load_explicit(&s->level, memory_order_relaxed);
}

void cs_log_sink_set_source(struct cs_log_sink *s, bool on)
{
    atomic_store_explicit(&s->source, on, memory_order_relaxed);
}

void cs_log_sink_free(struct cs_log_sink *s)
{
    if (s == NULL)
        return;
    if (s->path != NULL)
        close(s->fd);
    pthread_mutex_destroy(&s->lock);
    cs_free(s->path);
    cs_free(s);
}

/* One write(2) for a line unless the kernel takes less. A log that cannot be written is nobody's
 * error: there is no place to say so. */
static void sink_write(struct cs_log_sink *s, const struct cs_buf *line)
{
    const uint8_t *p = line->data;
    size_t left = line->len;

    pthread_mutex_lock(&s->lock);
    while (left > 0) {
        ssize_t n = write(s->fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        p += n;
        left -= (size_t)n;
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- Fields --- */

struct cs_log cs_log_with(struct cs_log parent, struct cs_kv kv)
{
    size_t max = sizeof parent.fixed / sizeof parent.fixed[0], n = 0;

    while (n < max && parent.fixed[n].key != NULL) {
        if (strcmp(parent.fixed[n].key, kv.key) == 0) {
            parent.fixed[n] = kv;
            return parent;
        }
        n++;
    }
    if (n == max) {
        memmove(parent.fixed, parent.fixed + 1, (max - 1) * sizeof parent.fixed[0]);
        n = max - 1;
    }
    parent.fixed[n] = kv;
    return parent;
}

/* The fields of a line, sorted by key as Go sorts strings; each key once, the last value counts. */
struct fields {
    struct cs_kv at[FIELDS_MAX];
    size_t len;
};

/* Keys that the form uses itself get "fields." in front, as logrus does. */
static const char *settle_key(const char *key)
{
    static const char *const clashes[][2] = {{"time", "fields.time"},
                                             {"msg", "fields.msg"},
                                             {"level", "fields.level"},
                                             {"logrus_error", "fields.logrus_error"}};
    for (size_t i = 0; i < sizeof clashes / sizeof clashes[0]; i++) {
        if (strcmp(key, clashes[i][0]) == 0)
            return clashes[i][1];
    }
    return key;
}

static void add_field(struct fields *f, struct cs_kv kv)
{
    if (kv.key == NULL)
        return;
    kv.key = settle_key(kv.key);
    size_t i = f->len;
    for (; i > 0; i--) {
        int order = strcmp(f->at[i - 1].key, kv.key);
        if (order == 0) {
            f->at[i - 1] = kv;
            return;
        }
        if (order < 0)
            break;
    }
    if (f->len == FIELDS_MAX)
        return;
    memmove(f->at + i + 1, f->at + i, (f->len - i) * sizeof f->at[0]);
    f->at[i] = kv;
    f->len++;
}

static const char *text_of(const struct cs_kv *kv)
{
    const char *s = kv->kind == CS_KV_ERR ? (kv->err != NULL ? kv->err->text : NULL) : kv->str;
    return s != NULL ? s : "";
}

/* --- TextFormatter --- */

static bool needs_quoting(struct cs_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '-' && c <= '9') || c == '_' ||
                     c == '@' || c == '^' || c == '+';
        if (!plain) /* '-' to '9' are '-', '.', '/' and the digits */
            return true;
    }
    return false;
}

static void text_str(struct cs_buf *b, struct cs_slice s)
{
    if (needs_quoting(s))
        cs_quote(b, s);
    else
        cs_buf_add_slice(b, s);
}

static void text_list(struct cs_buf *b, const char *const *list)
{
    char mem[512];
    struct cs_buf CS_CLEANUP(cs_buf_free) all = cs_buf_on(mem, sizeof mem);

    all.max = LINE_MAX_BYTES;
    cs_buf_add_byte(&all, '[');
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        if (i > 0)
            cs_buf_add_byte(&all, ' ');
        cs_buf_add_str(&all, list[i]);
    }
    cs_buf_add_byte(&all, ']');
    if (!cs_buf_ok(&all))
        b->failed = true;
    text_str(b, cs_buf_slice(&all));
}

static void text_value(struct cs_buf *b, const struct cs_kv *kv)
{
    switch (kv->kind) {
    case CS_KV_INT:
        cs_buf_printf(b, "%lld", (long long)kv->num);
        break;
    case CS_KV_BOOL:
        cs_buf_add_str(b, kv->yes ? "true" : "false");
        break;
    case CS_KV_STRS:
        text_list(b, kv->strs);
        break;
    case CS_KV_STR:
    case CS_KV_ERR:
        text_str(b, cs_slice_str(text_of(kv)));
        break;
    }
}

static void text_line(struct cs_buf *b, const char *time, enum cs_level level, const char *msg,
                      const struct fields *f)
{
    cs_buf_add_str(b, "time=");
    text_str(b, cs_slice_str(time));
    cs_buf_add_str(b, " level=");
    cs_buf_add_str(b, cs_level_name(level));
    if (msg[0] != '\0') {
        cs_buf_add_str(b, " msg=");
        text_str(b, cs_slice_str(msg));
    }
    for (size_t i = 0; i < f->len; i++) {
        cs_buf_add_byte(b, ' ');
        cs_buf_add_str(b, f->at[i].key);
        cs_buf_add_byte(b, '=');
        text_value(b, &f->at[i]);
    }
    cs_buf_add_byte(b, '\n');
}

/* --- JSONFormatter --- */

/* No list at all is Go's nil slice. */
static void json_list(struct cs_buf *b, const char *const *list)
{
    if (list == NULL) {
        cs_buf_add_str(b, "null");
        return;
    }
    cs_buf_add_byte(b, '[');
    for (size_t i = 0; list[i] != NULL; i++) {
        if (i > 0)
            cs_buf_add_byte(b, ',');
        cs_quote_json(b, cs_slice_str(list[i]));
    }
    cs_buf_add_byte(b, ']');
}

static void json_value(struct cs_buf *b, const struct cs_kv *kv)
{
    switch (kv->kind) {
    case CS_KV_INT:
    case CS_KV_BOOL:
        text_value(b, kv);
        break;
    case CS_KV_STRS:
        json_list(b, kv->strs);
        break;
    case CS_KV_STR:
    case CS_KV_ERR:
        cs_quote_json(b, cs_slice_str(text_of(kv)));
        break;
    }
}

/* time, level and msg stand among the fields, in the order of their names. */
static void json_line(struct cs_buf *b, const char *time, enum cs_level level, const char *msg,
                      const struct fields *f)
{
    const struct cs_kv own[] = {KV("level", cs_level_name(level)), KV("msg", msg), KV("time", time)};
    size_t i = 0, j = 0;
    char sep = '{';

    while (i < f->len || j < 3) {
        bool mine = i == f->len || (j < 3 && strcmp(own[j].key, f->at[i].key) < 0);
        const struct cs_kv *kv = mine ? &own[j++] : &f->at[i++];
        cs_buf_add_byte(b, (uint8_t)sep);
        cs_quote_json(b, cs_slice_str(kv->key));
        cs_buf_add_byte(b, ':');
        json_value(b, kv);
        sep = ',';
    }
    cs_buf_add_str(b, "}\n");
}

/* --- Lines --- */

bool cs_log_on(const struct cs_log *l, enum cs_level level)
{
    return l->sink != NULL && level <= cs_log_sink_level(l->sink);
}

static void put_line(struct cs_buf *b, enum cs_log_format format, enum cs_level level, const char *msg,
                     const struct fields *f)
{
    char mem[48];
    struct cs_buf CS_CLEANUP(cs_buf_free) time = cs_buf_on(mem, sizeof mem);
    int64_t now = cs_now_ns(&cs_clock_system);

    cs_time_rfc3339_local(&time, now / CS_NS_PER_S, format == CS_LOG_TEXT ? 0 : (int32_t)(now % CS_NS_PER_S));
    if (format == CS_LOG_JSON)
        json_line(b, cs_buf_cstr(&time), level, msg, f);
    else
        text_line(b, cs_buf_cstr(&time), level, msg, f);
}

void cs_log_emit(const struct cs_log *l, enum cs_level level, const char *file, int line, const char *func,
                 const char *msg, const struct cs_kv *kv, size_t n)
{
    if (!cs_log_on(l, level))
        return;
    struct fields f;
    f.len = 0;
    for (size_t i = 0; i < sizeof l->fixed / sizeof l->fixed[0]; i++)
        add_field(&f, l->fixed[i]);
    for (size_t i = 0; i < n; i++)
        add_field(&f, kv[i]);
    char where[128];
    if (atomic_load_explicit(&l->sink->source, memory_order_relaxed)) {
        const char *slash = strrchr(file, '/');
        snprintf(where, sizeof where, "%s:%d", slash != NULL ? slash + 1 : file, line);
        add_field(&f, KV("file", where));
        add_field(&f, KV("func", func));
    }

    char mem[LINE_STACK];
    struct cs_buf CS_CLEANUP(cs_buf_free) b = cs_buf_on(mem, sizeof mem);
    b.max = LINE_MAX_BYTES;
    put_line(&b, l->sink->format, level, msg, &f);
    if (!cs_buf_ok(&b)) {
        /* too long, or no memory: the message alone is better than nothing */
        cs_buf_reset(&b);
        f.len = 0;
        put_line(&b, l->sink->format, level, msg, &f);
    }
    if (cs_buf_ok(&b))
        sink_write(l->sink, &b);
}

bool cs_log_limit_ok(struct cs_log_limit *lim, uint32_t burst, uint32_t *held_before)
{
    int64_t now = cs_mono_ns(&cs_clock_system) / CS_NS_PER_S + 1; /* 0 is a fresh limiter */
    int64_t window = atomic_load(&lim->window_s);

    if (held_before != NULL)
        *held_before = 0;
    if (window != now && atomic_compare_exchange_strong(&lim->window_s, &window, now)) {
        atomic_store(&lim->seen, 0);
    }
    if (atomic_fetch_add(&lim->seen, 1) < burst) {
        if (held_before != NULL)
            *held_before = atomic_exchange(&lim->held, 0);
        return true;
    }
    atomic_fetch_add(&lim->held, 1);
    return false;
}

/* --- Names --- */

static const char *const level_names[] = {
    [CS_LOG_PANIC] = "panic", [CS_LOG_FATAL] = "fatal", [CS_LOG_ERROR] = "error", [CS_LOG_WARN] = "warning",
    [CS_LOG_INFO] = "info",   [CS_LOG_DEBUG] = "debug", [CS_LOG_TRACE] = "trace",
};

cs_code cs_level_parse(const char *s, enum cs_level *out, struct cs_err *e)
{
    *out = CS_LOG_PANIC;
    for (size_t i = 0; s != NULL && i < sizeof level_names / sizeof level_names[0]; i++) {
        if (strcasecmp(s, level_names[i]) == 0 || (i == CS_LOG_WARN && strcasecmp(s, "warn") == 0)) {
            *out = (enum cs_level)i;
            return CS_OK;
        }
    }
    struct cs_buf CS_CLEANUP(cs_buf_free) quoted = {.max = CS_ERR_TEXT_MAX * 4};
    cs_quote(&quoted, cs_slice_str(s != NULL ? s : ""));
    return cs_fail(e, CS_INVALID, "not a valid logrus Level: %s", cs_buf_cstr(&quoted));
}

const char *cs_level_name(enum cs_level level)
{
    return (size_t)level < sizeof level_names / sizeof level_names[0] ? level_names[level] : "unknown";
}

cs_code cs_log_format_parse(const char *s, enum cs_log_format *out, struct cs_err *e)
{
    *out = CS_LOG_TEXT;
    if (s == NULL || s[0] == '\0')
        return CS_OK;
    if (strcasecmp(s, "text") == 0)
        *out = CS_LOG_TEXT_NANO;
    else if (strcasecmp(s, "json") == 0)
        *out = CS_LOG_JSON;
    else {
        struct cs_buf CS_CLEANUP(cs_buf_free) quoted = {.max = CS_ERR_TEXT_MAX * 4};
        cs_quote(&quoted, cs_slice_str(s));
        return cs_fail(e, CS_INVALID, "unknown logger format: %s", cs_buf_cstr(&quoted));
    }
    return CS_OK;
}
