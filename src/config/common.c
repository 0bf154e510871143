/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps of loading a configuration that the server and the agent share.
 */
#include "config/common.h"

#include "base/file.h"
#include "base/text.h"
#include "spiffe/id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

/* --- notes --- */

void config_notes_free(struct config_notes *n)
{
    for (size_t i = 0; i < n->len; i++) {
        cs_free(n->at[i].text);
        for (size_t k = 0; k < 2; k++) {
            cs_free(n->at[i].field[k].key);
            cs_free(n->at[i].field[k].value);
        }
    }
    cs_free(n->at);
    *n = (struct config_notes){0};
}

static struct cs_kv field_kv(const char *key, const char *value)
{
    return strcmp(key, "alert") == 0 ? KV_BOOL(key, true) : KV(key, value);
}

void config_notes_log(const struct config_notes *n, const struct cs_log *log)
{
    for (size_t i = 0; i < n->len; i++) {
        const struct config_note *note = &n->at[i];
        if (note->field[1].key != NULL)
            cs_log(log, note->level, note->text, field_kv(note->field[0].key, note->field[0].value),
                   field_kv(note->field[1].key, note->field[1].value));
        else if (note->field[0].key != NULL)
            cs_log(log, note->level, note->text, field_kv(note->field[0].key, note->field[0].value));
        else
            cs_log(log, note->level, note->text);
    }
}

static cs_code note_field(struct load *l, struct config_note *n, size_t i, const char *key, const char *value)
{
    if (key == NULL)
        return CS_OK;
    n->field[i].key = cs_strdup(key);
    n->field[i].value = cs_strdup(value);
    return n->field[i].key == NULL || n->field[i].value == NULL ? cs_nomem(l->e) : CS_OK;
}

cs_code load_note(struct load *l, enum cs_level level, const char *text, const char *key, const char *value,
                  const char *key2, const char *value2)
{
    struct config_notes *n = l->notes;
    if (n == NULL)
        return CS_OK;
    if (n->len == n->cap) {
        size_t cap = n->cap == 0 ? 8 : n->cap * 2;
        struct config_note *at = cs_realloc(n->at, cap * sizeof *at);
        if (at == NULL)
            return cs_nomem(l->e);
        n->at = at;
        n->cap = cap;
    }
    struct config_note *note = &n->at[n->len];
    *note = (struct config_note){.level = level, .text = cs_strdup(text)};
    if (note->text == NULL)
        return cs_nomem(l->e);
    n->len++;
    CS_TRY(note_field(l, note, 0, key, value));
    return note_field(l, note, 1, key2, value2);
}

cs_code load_warn_deprecated(struct load *l, const char *text)
{
    return load_note(l, CS_LOG_WARN, text, "alert", "true", "alert_type", "deprecated_config");
}

/* --- text in --- */

static bool is_shell_special(char c)
{
    return c != 0 && (strchr("*#$@!?-", c) != NULL || (c >= '0' && c <= '9'));
}

static bool is_name_char(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What follows a `$`: *name is the variable, the result how many bytes it took (0: no variable, the
 * `$` stays). An empty name with a count means bad syntax, which vanishes, as in Go. */
static size_t variable_name(const char *p, size_t n, struct cs_slice *name)
{
    *name = cs_slice_of(p, 0);
    if (n == 0)
        return 0;
    if (p[0] == '{') {
        if (n > 2 && is_shell_special(p[1]) && p[2] == '}') {
            *name = cs_slice_of(p + 1, 1);
            return 3;
        }
        for (size_t i = 1; i < n; i++) {
            if (p[i] != '}')
                continue;
            *name = cs_slice_of(p + 1, i - 1);
            return i == 1 ? 2 : i + 1;
        }
        return 1; /* no closing brace: the opening one is eaten */
    }
    if (is_shell_special(p[0])) {
        *name = cs_slice_of(p, 1);
        return 1;
    }
    size_t i = 0;
    while (i < n && is_name_char(p[i]))
        i++;
    *name = cs_slice_of(p, i);
    return i;
}

static void add_variable(struct cs_buf *out, struct cs_slice name)
{
    char key[256];
    if (cs_slice_is(name, "$")) {
        cs_buf_add_byte(out, '$');
        return;
    }
    if (name.len == 0 || name.len >= sizeof key || memchr(name.data, 0, name.len) != NULL)
        return;
    memcpy(key, name.data, name.len);
    key[name.len] = 0;
    const char *value = getenv(key);
    if (value != NULL)
        cs_buf_add_str(out, value);
}

void config_expand_env(struct cs_buf *out, struct cs_slice text)
{
    const char *p = (const char *)text.data;
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (p[i] != '$' || i + 1 >= text.len)
            continue;
        struct cs_slice name;
        size_t took = variable_name(p + i + 1, text.len - i - 1, &name);
        cs_buf_add(out, p + from, i - from);
        if (took == 0)
            cs_buf_add_byte(out, '$');
        else
            add_variable(out, name);
        i += took;
        from = i + 1;
    }
    if (from < text.len)
        cs_buf_add(out, p + from, text.len - from);
}

const char *load_quote(struct load *l, const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_quote(&b, cs_slice_str(text));
    const char *s = cs_buf_ok(&b) ? cs_arena_strdup(l->a, cs_buf_cstr(&b)) : NULL;
    return s == NULL ? "?" : s;
}

cs_code load_file(struct load *l, const char *path, struct cs_slice *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_code code = cs_file_read(path, HCL_MAX_SIZE, &b, l->e);
    if (code == CS_NOT_FOUND) {
        const char *abs = NULL;
        if (load_abs_path(l, path, &abs) != CS_OK)
            return cs_fail(l->e, CS_NOT_FOUND,
                           "could not determine CWD; config file not found at %s: use -config", path);
        return cs_fail(l->e, CS_NOT_FOUND, "could not find config file %s: please use the -config flag", abs);
    }
    if (code != CS_OK)
        return cs_wrap(l->e, "unable to read configuration at %s", load_quote(l, path));
    void *copy = cs_arena_memdup(l->a, b.len > 0 ? (const void *)b.data : "", b.len);
    if (copy == NULL)
        return cs_nomem(l->e);
    *text = cs_slice_of(copy, b.len);
    return CS_OK;
}

cs_code load_decode(struct load *l, const char *name, struct cs_slice text, bool expand_env,
                    const struct config_section *s, void *out)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf expanded = {.max = 8 * HCL_MAX_SIZE};
    if (expand_env) {
        config_expand_env(&expanded, text);
        if (!cs_buf_ok(&expanded))
            return cs_fail(l->e, CS_EXHAUSTED, "configuration at %s is too large with its variables expanded",
                           load_quote(l, name));
        text = cs_buf_slice(&expanded);
    }
    struct hcl_items items;
    cs_code code = hcl_parse(text, l->a, &items, l->e);
    if (code == CS_OK)
        code = config_decode(s, items, "root", l->a, out, l->e);
    return code == CS_OK ? CS_OK : cs_wrap(l->e, "unable to decode configuration at %s", load_quote(l, name));
}

/* --- values --- */

const char *load_pick(const char *flag, const char *file, const char *fallback)
{
    return is_set(flag) ? flag : is_set(file) ? file : fallback;
}

cs_code load_keep(struct load *l, const char **text)
{
    *text = cs_arena_strdup(l->a, *text == NULL ? "" : *text);
    return *text == NULL ? cs_nomem(l->e) : CS_OK;
}

cs_code load_duration(struct load *l, const char *text, const char *prefix, int64_t *ns)
{
    if (!is_set(text))
        return CS_OK;
    cs_code code = cs_duration_parse(cs_slice_str(text), ns, l->e);
    return code == CS_OK ? CS_OK : cs_wrap(l->e, "%s", prefix);
}

static cs_code check_log_file(struct load *l, const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return cs_fail_errno(l->e, CS_INVALID, errno, "open %s", path);
    (void)close(fd);
    return CS_OK;
}

cs_code load_log(struct load *l, const char *level, const char *format, const char *file,
                 bool source_location, struct config_log *out)
{
    if (is_set(file))
        CS_TRY(check_log_file(l, file));
    if (cs_level_parse(level, &out->level, l->e) != CS_OK)
        return cs_wrap(l->e, "could not start logger");
    if (format == NULL || *format == 0 || strcasecmp(format, "text") == 0)
        out->format = CS_LOG_TEXT;
    else if (strcasecmp(format, "json") == 0)
        out->format = CS_LOG_JSON;
    else
        return cs_fail(l->e, CS_INVALID, "could not start logger: unknown logger format: %s",
                       load_quote(l, format));
    out->source_location = source_location;
    out->file = file;
    return load_keep(l, &out->file);
}

#define MAX_TRUST_DOMAIN 255

cs_code load_trust_domain(struct load *l, const char *text, const char **name)
{
    struct cs_slice td;
    if (spiffe_td_parse(cs_slice_str(text), &td, l->e) != CS_OK)
        return cs_wrap(l->e, "could not parse trust_domain %s", load_quote(l, text));
    *name = cs_arena_strndup(l->a, (const char *)td.data, td.len);
    if (*name == NULL)
        return cs_nomem(l->e);
    if (td.len <= MAX_TRUST_DOMAIN)
        return CS_OK;
    return load_note(
        l, CS_LOG_WARN,
        "Configured trust domain name should be less than 255 characters to be SPIFFE compliant; a "
        "longer trust domain name may impact interoperability",
        "trust_domain", *name, NULL, NULL);
}

cs_code load_abs_path(struct load *l, const char *path, const char **out)
{
    char cwd[4096] = "";
    if (path[0] != '/' && getcwd(cwd, sizeof cwd) == NULL)
        return cs_fail_errno(l->e, CS_INTERNAL, errno, "failed to get absolute path for %s: getwd", path);
    char *joined = cs_arena_printf(l->a, "%s/%s", cwd, path);
    char *clean = joined == NULL ? NULL : cs_arena_alloc(l->a, strlen(joined) + 2);
    if (clean == NULL)
        return cs_nomem(l->e);
    size_t len = 0;
    for (const char *p = joined; *p != 0;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.') {
            while (len > 0 && clean[--len] != '/') {
            }
        } else if (n > 0 && !(n == 1 && p[0] == '.')) {
            clean[len++] = '/';
            memcpy(clean + len, p, n);
            len += n;
        }
        p += n;
        p += *p == '/';
    }
    if (len == 0)
        clean[len++] = '/';
    clean[len] = 0;
    *out = clean;
    return CS_OK;
}

static const char *const key_type_names[] = {
    [CONFIG_KEY_EC_P256] = "ec-p256",
    [CONFIG_KEY_EC_P384] = "ec-p384",
    [CONFIG_KEY_RSA_2048] = "rsa-2048",
    [CONFIG_KEY_RSA_4096] = "rsa-4096",
};

const char *config_key_type_name(enum config_key_type t)
{
    return key_type_names[t];
}

cs_code load_key_type(struct load *l, const char *text, const char *prefix, const char *const *allowed,
                      enum config_key_type *out)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf list = {0};
    for (size_t i = 0; allowed[i] != NULL; i++) {
        for (size_t t = 0; t < sizeof key_type_names / sizeof key_type_names[0]; t++) {
            if (strcasecmp(text, allowed[i]) == 0 && strcmp(allowed[i], key_type_names[t]) == 0) {
                *out = (enum config_key_type)t;
                return CS_OK;
            }
        }
        cs_buf_printf(&list, "%s%s", i == 0 ? "" : ", ", allowed[i]);
    }
    return cs_fail(l->e, CS_INVALID, "%skey type %s is unknown; must be one of [%s]", prefix,
                   load_quote(l, text), cs_buf_cstr(&list));
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* strings sorted and joined, in the arena; NULL when memory is out. */
static const char *sorted_join(struct load *l, const struct config_strings *s, const char *between)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    const char **sorted = cs_arena_memdup(l->a, s->at, s->len * sizeof *sorted);
    if (sorted == NULL)
        return NULL;
    qsort(sorted, s->len, sizeof *sorted, compare_text);
    for (size_t i = 0; i < s->len; i++) {
        cs_buf_add_str(&b, i == 0 ? "" : between);
        cs_buf_add_str(&b, sorted[i]);
    }
    return cs_buf_ok(&b) ? cs_arena_strdup(l->a, cs_buf_cstr(&b)) : NULL;
}

cs_code load_feature_flags(struct load *l, const struct config_strings *flags)
{
    struct config_strings bad = {0};
    const char **at = cs_arena_alloc(l->a, (flags->len + 1) * sizeof *at);
    if (at == NULL)
        return cs_nomem(l->e);
    for (size_t i = 0; i < flags->len; i++)
        if (strcmp(flags->at[i], "wit-svid") != 0 && strcmp(flags->at[i], "i_am_a_test_flag") != 0)
            at[bad.len++] = flags->at[i];
    if (bad.len == 0)
        return CS_OK;
    bad.at = at;
    const char *list = sorted_join(l, &bad, " ");
    if (list == NULL)
        return cs_nomem(l->e);
    return cs_fail(l->e, CS_INVALID, "error loading feature flags: unknown feature flag(s): [%s]", list);
}

cs_code load_health(struct load *l, const struct health_file *f, struct config_health *out)
{
    /* Brackets around an IPv6 address are for the eye; a listener wants it without. */
    const char *host = load_pick(NULL, f->bind_address, "localhost");
    host += strspn(host, "[]");
    size_t n = strlen(host);
    while (n > 0 && strchr("[]", host[n - 1]) != NULL)
        n--;
    out->listener_enabled = f->listener_enabled.value;
    out->bind_address = cs_arena_strndup(l->a, host, n);
    out->bind_port = load_pick(NULL, f->bind_port, "80");
    out->live_path = load_pick(NULL, f->live_path, "/live");
    out->ready_path = load_pick(NULL, f->ready_path, "/ready");
    return out->bind_address == NULL ? cs_nomem(l->e) : CS_OK;
}

/* --- unknown keys --- */

cs_code load_unknown(struct load *l, const char *section, const struct config_strings *keys, bool *bad)
{
    if (keys->len == 0)
        return CS_OK;
    *bad = true;
    const char *list = sorted_join(l, keys, ",");
    if (list == NULL)
        return cs_nomem(l->e);
    return load_note(l, CS_LOG_ERROR, "Unknown configuration detected", "section", section, "keys", list);
}

static cs_code unknown_sinks(struct load *l, const char *section, const struct config_blocks *b, bool *bad)
{
    for (size_t i = 0; i < b->len; i++)
        CS_TRY(load_unknown(l, section, &((const struct sink_file *)b->at[i])->unknown, bad));
    return CS_OK;
}

cs_code load_unknown_telemetry(struct load *l, const struct telemetry_file *t, bool *bad)
{
    CS_TRY(load_unknown(l, "Prometheus", &t->prometheus.unknown, bad));
    CS_TRY(unknown_sinks(l, "DogStatsd", &t->dogstatsd, bad));
    CS_TRY(unknown_sinks(l, "Statsd", &t->statsd, bad));
    CS_TRY(unknown_sinks(l, "M3", &t->m3, bad));
    return load_unknown(l, "InMem", &t->inmem.unknown, bad);
}

cs_code load_note_experimental(struct load *l)
{
    return load_note(l, CS_LOG_WARN,
                     "Experimental features have been enabled. Please see doc/upgrading.md for upgrade and "
                     "compatibility considerations for experimental features.",
                     NULL, NULL, NULL, NULL);
}

cs_code load_note_flags(struct load *l, const struct config_strings *flags)
{
    for (size_t i = 0; i < flags->len; i++) {
        const char *text =
            cs_arena_printf(l->a, "Developer feature flag %s has been enabled", load_quote(l, flags->at[i]));
        if (text == NULL)
            return cs_nomem(l->e);
        CS_TRY(load_note(l, CS_LOG_WARN, text, NULL, NULL, NULL, NULL));
        if (strcmp(flags->at[i], "wit-svid") == 0)
            return cs_fail(l->e, CS_UNIMPLEMENTED, "feature flag \"wit-svid\" is not supported yet");
    }
    return CS_OK;
}
