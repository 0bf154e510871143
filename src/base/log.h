/* SPDX-License-Identifier: Apache-2.0
 *
 * Logging in logrus' text and JSON forms, as SPIRE's tools expect:
 *   time="2026-11-22T19:02:41Z" level=info msg="Starting Server APIs" address="127.0.0.1:8081"
 * subsystem_name=endpoints Libraries below `rpc` return errors and do not log. Field names live in
 * base/logfields.h.
 */
#ifndef CS_BASE_LOG_H
#define CS_BASE_LOG_H

#include "base/err.h"

#include <stdint.h>

enum cs_level {
    CS_LOG_PANIC,
    CS_LOG_FATAL,
    CS_LOG_ERROR,
    CS_LOG_WARN,
    CS_LOG_INFO,
    CS_LOG_DEBUG,
    CS_LOG_TRACE
};
/* SPIRE's three settings of log_format: none (times in seconds), "json" and "text" (both with
 * nanoseconds, trailing zeros left out). Times are local. */
enum cs_log_format { CS_LOG_TEXT, CS_LOG_JSON, CS_LOG_TEXT_NANO };
/* "" (or NULL), "text", "json" in any case. CS_INVALID: `unknown logger format: "xml"`. */
CS_CHECKED cs_code cs_log_format_parse(const char *s, enum cs_log_format *out, struct cs_err *e);

/* A sink is shared by all loggers of a process. Any thread; a line is written with one write(2). */
struct cs_log_sink;
/* path NULL: standard output. The file is appended to; cs_log_sink_reopen after rotation. */
CS_CHECKED cs_code cs_log_sink_open(const char *path, enum cs_log_format format, enum cs_level level,
                                    struct cs_log_sink **out, struct cs_err *e);
CS_CHECKED cs_code cs_log_sink_reopen(struct cs_log_sink *s, struct cs_err *e);
void cs_log_sink_set_level(struct cs_log_sink *s, enum cs_level level);
enum cs_level cs_log_sink_level(const struct cs_log_sink *s);
/* Source location fields (file, func) on each line, as log_source_location asks. */
void cs_log_sink_set_source(struct cs_log_sink *s, bool on);
void cs_log_sink_free(struct cs_log_sink *s);

/* A logger is a sink and a fixed set of fields, by value: copy freely. `fields` is borrowed. */
struct cs_kv {
    const char *key;
    enum { CS_KV_STR, CS_KV_INT, CS_KV_BOOL, CS_KV_ERR, CS_KV_STRS } kind;
    union {
        const char *str; /* NULL prints as empty */
        int64_t num;
        bool yes;
        const struct cs_err *err; /* prints e->text under the key */
        const char *const *strs;  /* NULL-terminated list: [a b] in text, array in JSON; NULL: [] and null */
    };
};
#define KV(k, v) ((struct cs_kv){.key = (k), .kind = CS_KV_STR, .str = (v)})
#define KV_INT(k, v) ((struct cs_kv){.key = (k), .kind = CS_KV_INT, .num = (v)})
#define KV_BOOL(k, v) ((struct cs_kv){.key = (k), .kind = CS_KV_BOOL, .yes = (v)})
#define KV_STRS(k, v) ((struct cs_kv){.key = (k), .kind = CS_KV_STRS, .strs = (v)})
#define KV_ERR(e) ((struct cs_kv){.key = "error", .kind = CS_KV_ERR, .err = (e)})

struct cs_log {
    struct cs_log_sink *sink; /* NULL: everything is dropped */
    struct cs_kv fixed[4];    /* e.g. subsystem_name; unused rows have key NULL */
};
struct cs_log cs_log_with(struct cs_log parent, struct cs_kv kv); /* drops the oldest past four */
static inline struct cs_log cs_log_sub(struct cs_log parent, const char *subsystem)
{
    return cs_log_with(parent, KV("subsystem_name", subsystem));
}

bool cs_log_on(const struct cs_log *l, enum cs_level level);
/* Use through the macro: arguments are not evaluated when the level is off. Fields are sorted by
 * key as logrus does; text values are quoted where logrus quotes. */
void cs_log_emit(const struct cs_log *l, enum cs_level level, const char *file, int line, const char *func,
                 const char *msg, const struct cs_kv *kv, size_t n);
#define cs_log(l, level, msg, ...)                                                                           \
    do {                                                                                                     \
        if (cs_log_on((l), (level))) {                                                                       \
            const struct cs_kv kv_[] = {(struct cs_kv){.key = NULL}, ##__VA_ARGS__};                         \
            cs_log_emit((l), (level), __FILE__, __LINE__, __func__, (msg), kv_ + 1,                          \
                        sizeof kv_ / sizeof kv_[0] - 1);                                                     \
        }                                                                                                    \
    } while (0)
#define cs_log_error(l, msg, ...) cs_log((l), CS_LOG_ERROR, (msg), ##__VA_ARGS__)
#define cs_log_warn(l, msg, ...) cs_log((l), CS_LOG_WARN, (msg), ##__VA_ARGS__)
#define cs_log_info(l, msg, ...) cs_log((l), CS_LOG_INFO, (msg), ##__VA_ARGS__)
#define cs_log_debug(l, msg, ...) cs_log((l), CS_LOG_DEBUG, (msg), ##__VA_ARGS__)

/* A limiter for messages a peer can cause: lets `burst` lines through per second and then says how
 * many it held back (held_before may be NULL: not asked for). Zero-initialise. Any thread. */
struct cs_log_limit {
    _Atomic int64_t window_s;
    _Atomic uint32_t seen, held;
};
bool cs_log_limit_ok(struct cs_log_limit *lim, uint32_t burst, uint32_t *held_before);

/* "warn" and "warning", any case. CS_INVALID: `not a valid logrus Level: "loud"`. */
CS_CHECKED cs_code cs_level_parse(const char *s, enum cs_level *out, struct cs_err *e);
const char *cs_level_name(enum cs_level level); /* "warning" */

#endif
