/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/hclog.h"

#include "base/mem.h"

#include <jansson.h>

/* Deeper JSON is no log line of anybody. */
#define DEPTH_MAX 16

static bool begins(struct cs_slice s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && memcmp(s.data, with, n) == 0;
}

static void emit(struct plugin_hclog *h, enum cs_level level, const char *msg, const struct cs_kv *kv,
                 size_t n)
{
    uint32_t held = 0;
    if (!cs_log_on(h->log, level) || !cs_log_limit_ok(&h->limit, PLUGIN_HCLOG_RATE, &held))
        return;
    if (held > 0)
        cs_log_warn(h->log, "Plugin logs too much; lines were dropped", KV_INT("dropped", held),
                    KV("subsystem_name", h->subsystem));
    cs_log_emit(h->log, level, __FILE__, __LINE__, __func__, msg, kv, n);
}

/* Trace is a level SPIRE never shows of a plugin. */
static bool level_of(const char *name, enum cs_level *out)
{
    static const struct {
        const char *name;
        enum cs_level level;
    } levels[] = {{"trace", CS_LOG_TRACE},
                  {"debug", CS_LOG_DEBUG},
                  {"info", CS_LOG_INFO},
                  {"warn", CS_LOG_WARN},
                  {"error", CS_LOG_ERROR}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (strcasecmp(levels[i].name, name) == 0) {
            *out = levels[i].level;
            return true;
        }
    return false;
}

static void plain_line(struct plugin_hclog *h, struct cs_slice line)
{
    static const struct {
        const char *mark;
        enum cs_level level;
    } marks[] = {{"[TRACE]", CS_LOG_TRACE},
                 {"[DEBUG]", CS_LOG_DEBUG},
                 {"[INFO]", CS_LOG_INFO},
                 {"[WARN]", CS_LOG_WARN},
                 {"[ERROR]", CS_LOG_ERROR}};
    enum cs_level level = h->in_panic ? CS_LOG_ERROR : CS_LOG_DEBUG;
    bool marked = false;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0] && !marked; i++)
        if (begins(line, marks[i].mark)) {
            level = marks[i].level;
            marked = true;
        }
    if (!marked && (begins(line, "panic: ") || begins(line, "fatal error: "))) {
        h->in_panic = true;
        level = CS_LOG_ERROR;
    }
    CS_CLEANUP(cs_freep) char *text = cs_strndup((const char *)line.data, line.len);
    const struct cs_kv kv[] = {KV("subsystem_name", h->subsystem)};
    if (text != NULL && level != CS_LOG_TRACE)
        emit(h, level, text, kv, 1);
}

/* The fields of an object as texts; those that are not strings as JSON. */
struct fields {
    struct cs_kv kv[PLUGIN_HCLOG_FIELDS + 1];
    char *made[PLUGIN_HCLOG_FIELDS];
    size_t count, made_count;
};

static void add_field(struct fields *f, const char *key, json_t *value)
{
    if (f->count >= PLUGIN_HCLOG_FIELDS)
        return;
    const char *text = json_string_value(value);
    if (text == NULL) {
        char *made = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (made == NULL)
            return;
        f->made[f->made_count++] = made;
        text = made;
    }
    f->kv[f->count++] = KV(key, text);
}

static void free_fields(struct fields *f)
{
    json_free_t release;
    json_get_alloc_funcs(NULL, &release);
    for (size_t i = 0; i < f->made_count; i++)
        release(f->made[i]);
}

static void json_line(struct plugin_hclog *h, json_t *object, enum cs_level level)
{
    CS_CLEANUP(free_fields) struct fields f = {0};
    const char *key, *msg = json_string_value(json_object_get(object, "@message"));
    json_t *value;
    f.kv[f.count++] = KV("subsystem_name", h->subsystem);
    json_object_foreach(object, key, value)
    {
        if (strcmp(key, "@message") == 0 || strcmp(key, "@level") == 0)
            continue;
        add_field(&f, strcmp(key, "@timestamp") == 0 ? "timestamp" : key, value);
    }
    emit(h, level, msg != NULL ? msg : "", f.kv, f.count);
}

static bool too_deep(struct cs_slice line)
{
    size_t depth = 0, open = 0;
    for (size_t i = 0; i < line.len; i++) {
        depth += line.data[i] == '{' || line.data[i] == '[';
        if (depth > open)
            open = depth;
        if ((line.data[i] == '}' || line.data[i] == ']') && depth > 0)
            depth--;
    }
    return open > DEPTH_MAX;
}

void plugin_hclog_line(struct plugin_hclog *h, struct cs_slice line)
{
    while (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    if (line.len == 0)
        return;
    json_t *object = line.data[0] == '{' && !too_deep(line)
                         ? json_loadb((const char *)line.data, line.len, 0, NULL)
                         : NULL;
    const char *name = json_string_value(json_object_get(object, "@level"));
    enum cs_level level;
    if (name == NULL || !level_of(name, &level))
        plain_line(h, line);
    else if (level != CS_LOG_TRACE)
        json_line(h, object, level);
    json_decref(object);
}
