/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/text.h"
#include "cli/server/internal.h"
#include "spiffe/id.h"

#define INPUT_LIMIT (64u * 1024 * 1024)

cs_code srv_id_arg(struct cs_arena *a, const char *text, Types__SPIFFEID **out, struct cs_err *e)
{
    struct spiffe_id id;
    CS_TRY(spiffe_id_parse(cs_slice_str(text), &id, e));
    Types__SPIFFEID *m = cs_arena_alloc(a, sizeof *m);
    if (m == NULL)
        return cs_nomem(e);
    types__spiffeid__init(m);
    struct cs_slice td = spiffe_id_td(id), path = spiffe_id_path(id);
    m->trust_domain = cs_arena_strndup(a, (const char *)td.data, td.len);
    m->path = cs_arena_strndup(a, (const char *)path.data, path.len);
    *out = m;
    return m->trust_domain != NULL && m->path != NULL ? CS_OK : cs_nomem(e);
}

const char *srv_id_text(struct cs_arena *a, const Types__SPIFFEID *id)
{
    return id == NULL ? "" : cs_arena_printf(a, "spiffe://%s%s", id->trust_domain, id->path);
}

cs_code srv_selector_arg(struct cs_arena *a, const char *text, Types__Selector **out, struct cs_err *e)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return cs_fail(e, CS_INVALID, "selector \"%s\" must be formatted as type:value", text);
    Types__Selector *s = cs_arena_alloc(a, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    types__selector__init(s);
    s->type = cs_arena_strndup(a, text, (size_t)(colon - text));
    s->value = cs_arena_strdup(a, colon + 1);
    *out = s;
    return s->type != NULL && s->value != NULL ? CS_OK : cs_nomem(e);
}

cs_code srv_selectors_arg(struct cs_arena *a, const struct cli_strings *in, size_t *n, Types__Selector ***out,
                          struct cs_err *e)
{
    *out = cs_arena_zalloc(a, (in->len + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->len; i++)
        CS_TRY(srv_selector_arg(a, in->at[i], &(*out)[i], e));
    *n = in->len;
    return CS_OK;
}

cs_code srv_strings(struct cs_arena *a, const struct cli_strings *in, size_t *n, char ***out,
                    struct cs_err *e)
{
    *out = cs_arena_zalloc(a, (in->len + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->len; i++)
        if (((*out)[i] = cs_arena_strdup(a, in->at[i])) == NULL)
            return cs_nomem(e);
    *n = in->len;
    return CS_OK;
}

bool srv_match_arg(const char *text, int *out)
{
    static const struct {
        const char *name;
        int value;
    } modes[] = {{"exact", TYPES__SELECTOR_MATCH__MATCH_BEHAVIOR__MATCH_EXACT},
                 {"any", TYPES__SELECTOR_MATCH__MATCH_BEHAVIOR__MATCH_ANY},
                 {"superset", TYPES__SELECTOR_MATCH__MATCH_BEHAVIOR__MATCH_SUPERSET},
                 {"subset", TYPES__SELECTOR_MATCH__MATCH_BEHAVIOR__MATCH_SUBSET}};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(text, modes[i].name) == 0) {
            *out = modes[i].value;
            return true;
        }
    }
    return false;
}

cs_code srv_int32_arg(int64_t v, const char *what, int32_t *out, struct cs_err *e)
{
    if (v < INT32_MIN || v > INT32_MAX)
        return cs_fail(e, CS_INVALID, "invalid value for %s: overflow converting int(%lld) to int32", what,
                       (long long)v);
    *out = (int32_t)v;
    return CS_OK;
}

cs_code srv_ttl_arg(int64_t ns, int32_t *seconds, struct cs_err *e)
{
    /* as Go: (ttl + 1s - 1ns) / 1s, truncating towards zero */
    int64_t up = ns > INT64_MAX - 999999999 ? ns : ns + 999999999;
    return srv_int32_arg(up / 1000000000, "TTL", seconds, e);
}

cs_code srv_read_input(struct cli_env *env, const char *path, struct cs_buf *out, struct cs_err *e)
{
    if (strcmp(path, "-") != 0)
        return cs_file_read(path, INPUT_LIMIT, out, e);
    char chunk[8192];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, env->in)) > 0) {
        if (out->len + n > INPUT_LIMIT)
            return cs_fail(e, CS_EXHAUSTED, "standard input is larger than %u bytes", INPUT_LIMIT);
        cs_buf_add(out, chunk, n);
    }
    if (ferror(env->in))
        return cs_fail(e, CS_INTERNAL, "cannot read standard input");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
