/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/hclog.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <jansson.h>

/* Deeper JSON is no log line of anybody. */
#define DEPTH_MAX 16

static bool begins(struct cs_slice s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && memcmp(s.data, with, n) == 0;
}

/* --- The flood gate --- */

void plugin_hclog_end(struct plugin_hclog *h)
{
    if (h->held > 0)
        cs_log_warn(h->log, "Plugin logs too much; lines were dropped", KV_INT("dropped", h->held),
                    KV("subsystem_name", h->subsystem));
    h->held = 0;
}

/* Asked before anything is done with a line: dropping one of a flood costs next to nothing. */
static bool worth_a_look(struct plugin_hclog *h)
{
    int64_t now = cs_mono_ns(&cs_clock_system) / CS_NS_PER_S + 1; /* 0 is a fresh one */
    if (now != h->second) {
        plugin_hclog_end(h);
        h->second = now;
        h->lines = h->looked_at = 0;
        h->bytes = 0;
    }
    bool full = h->lines >= PLUGIN_HCLOG_RATE || h->bytes >= PLUGIN_HCLOG_BYTES ||
                h->looked_at >= PLUGIN_HCLOG_LOOKED_AT;
    h->held += full;
    h->looked_at += !full;
    return !full;
}

/* Trace is a level SPIRE never shows of a plugin. A line that is shown counts. */
static bool shown(struct plugin_hclog *h, enum cs_level level, size_t len)
{
    if (level == CS_LOG_TRACE || !cs_log_on(h->log, level))
        return false;
    h->lines++;
    h->bytes += len;
    return true;
}

/* --- Levels --- */

static const struct {
    const char *name, *mark;
    enum cs_level level;
} levels[] = {{"trace", "[TRACE]", CS_LOG_TRACE},
              {"debug", "[DEBUG]", CS_LOG_DEBUG},
              {"info", "[INFO]", CS_LOG_INFO},
              {"warn", "[WARN]", CS_LOG_WARN},
              {"error", "[ERROR]", CS_LOG_ERROR}};
#define LEVELS (sizeof levels / sizeof levels[0])

static bool level_of(const char *name, enum cs_level *out)
{
    for (size_t i = 0; i < LEVELS; i++)
        if (strcasecmp(levels[i].name, name) == 0) {
            *out = levels[i].level;
            return true;
        }
    return false;
}

/* --- Lines without form --- */

static enum cs_level plain_level(struct plugin_hclog *h, struct cs_slice line)
{
    for (size_t i = 0; i < LEVELS; i++)
        if (begins(line, levels[i].mark))
            return levels[i].level;
    if (begins(line, "panic: ") || begins(line, "fatal error: "))
        h->in_panic = true;
    return h->in_panic ? CS_LOG_ERROR : CS_LOG_DEBUG;
}

/* A C string has no NUL. */
static char *text_of(struct cs_slice line)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    for (;;) {
        const uint8_t *nul = line.len > 0 ? memchr(line.data, 0, line.len) : NULL;
        size_t n = nul != NULL ? (size_t)(nul - line.data) : line.len;
        cs_buf_add_slice(&out, cs_slice_of(line.data, n));
        if (nul == NULL)
            return cs_buf_take_str(&out);
        cs_buf_add_str(&out, "\xef\xbf\xbd");
        line = cs_slice_of(nul + 1, line.len - n - 1);
    }
}

static void plain_line(struct plugin_hclog *h, struct cs_slice line)
{
    enum cs_level level = plain_level(h, line);
    if (!shown(h, level, line.len))
        return;
    CS_CLEANUP(cs_freep) char *text = text_of(line);
    const struct cs_kv kv[] = {KV("subsystem_name", h->subsystem)};
    if (text != NULL)
        cs_log_emit(h->log, level, __FILE__, __LINE__, __func__, text, kv, 1);
}

/* --- hclog's JSON --- */

/* A value as Go prints it (%v), which is what SPIRE's log makes of it; but whole numbers without exponent. */
static void add_value(struct cs_buf *out, json_t *v, bool inside)
{
    const char *key, *sep = "";
    json_t *item;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        cs_buf_add_str(out, "map[");
        json_object_foreach(v, key, item)
        {
            cs_buf_printf(out, "%s%s:", sep, key);
            add_value(out, item, true);
            sep = " ";
        }
        cs_buf_add_str(out, "]");
        break;
    case JSON_ARRAY:
        cs_buf_add_str(out, "[");
        json_array_foreach(v, i, item)
        {
            cs_buf_add_str(out, i > 0 ? " " : "");
            add_value(out, item, true);
        }
        cs_buf_add_str(out, "]");
        break;
    case JSON_STRING:
        cs_buf_add_str(out, json_string_value(v));
        break;
    case JSON_INTEGER:
        cs_buf_printf(out, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        cs_buf_printf(out, "%.15g", json_real_value(v));
        break;
    case JSON_NULL:
        cs_buf_add_str(out, inside ? "<nil>" : "");
        break;
    default:
        cs_buf_add_str(out, json_is_true(v) ? "true" : "false");
    }
}

/* The names are the plugin's own choice. What would break the form of a line is replaced, and names that we
 * give a meaning get "fields." in front, as logrus does with those of its own. */
static void add_key(struct cs_buf *out, const char *key)
{
    static const char *const ours[] = {"plugin_name", "plugin_type", "external", "subsystem_name"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (strcmp(key, ours[i]) == 0)
            cs_buf_add_str(out, "fields.");
    if (strcmp(key, "@timestamp") == 0)
        key = "timestamp";
    for (size_t n = 0; key[n] != '\0' && n < PLUGIN_HCLOG_KEY_MAX; n++) {
        char c = key[n];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("_-.@", c) != NULL;
        cs_buf_add_byte(out, (uint8_t)(plain ? c : '_'));
    }
}

struct fields {
    struct cs_kv kv[PLUGIN_HCLOG_FIELDS + 1];
    char *made[2 * PLUGIN_HCLOG_FIELDS];
    size_t count, made_count;
};

static const char *keep(struct fields *f, struct cs_buf *text)
{
    char *s = cs_buf_take_str(text);
    if (s != NULL)
        f->made[f->made_count++] = s;
    return s;
}

static void add_field(struct fields *f, const char *key, json_t *value)
{
    struct cs_buf name = {0}, text = {0};
    if (f->count > PLUGIN_HCLOG_FIELDS)
        return;
    add_key(&name, key);
    add_value(&text, value, false);
    const char *k = keep(f, &name), *v = keep(f, &text);
    cs_buf_free(&name);
    cs_buf_free(&text);
    if (k != NULL && v != NULL)
        f->kv[f->count++] = KV(k, v);
}

static void free_fields(struct fields *f)
{
    for (size_t i = 0; i < f->made_count; i++)
        cs_free(f->made[i]);
}

static void json_line(struct plugin_hclog *h, json_t *object, enum cs_level level)
{
    CS_CLEANUP(free_fields) struct fields f = {.count = 0};
    const char *key, *msg = json_string_value(json_object_get(object, "@message"));
    json_t *value;
    f.kv[f.count++] = KV("subsystem_name", h->subsystem);
    json_object_foreach(object, key, value)
    {
        if (strcmp(key, "@message") != 0 && strcmp(key, "@level") != 0)
            add_field(&f, key, value);
    }
    cs_log_emit(h->log, level, __FILE__, __LINE__, __func__, msg != NULL ? msg : "", f.kv, f.count);
}

static bool too_deep(struct cs_slice line)
{
    size_t open = 0;
    for (size_t i = 0; i < line.len; i++) {
        open += line.data[i] == '{' || line.data[i] == '[';
        if (open > DEPTH_MAX)
            return true;
        if ((line.data[i] == '}' || line.data[i] == ']') && open > 0)
            open--;
    }
    return false;
}

void plugin_hclog_line(struct plugin_hclog *h, struct cs_slice line)
{
    while (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    if (line.len == 0 || !worth_a_look(h))
        return;
    json_t *object = line.data[0] == '{' && !too_deep(line)
                         ? json_loadb((const char *)line.data, line.len, 0, NULL)
                         : NULL;
    const char *name = json_string_value(json_object_get(object, "@level"));
    enum cs_level level;
    if (name == NULL || !level_of(name, &level))
        plain_line(h, line);
    else if (shown(h, level, line.len))
        json_line(h, object, level);
    json_decref(object);
}
