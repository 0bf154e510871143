/* SPDX-License-Identifier: Apache-2.0
 *
 * Data files of the entry commands: SPIRE's registration entry JSON. Names are matched in any letter
 * case and unknown ones are ignored, as Go's decoder does.
 */
#include "cli/server/entry.h"
#include "spiffe/id.h"

#include <jansson.h>
#include <strings.h>

/* Where an error is: "entries[3].spiffe_id". */
struct place {
    size_t index;
    const char *field;
};

static cs_code bad(const struct place *at, const char *want, struct cs_err *e)
{
    return cs_fail(e, CS_INVALID, "entries[%zu].%s must be %s", at->index, at->field, want);
}

/* A member by name in any case; the exact name wins. JSON null counts as absent. */
static json_t *member(json_t *object, const char *name)
{
    json_t *v = json_object_get(object, name), *each;
    const char *key;
    if (v == NULL) {
        json_object_foreach(object, key, each)
        {
            if (strcasecmp(key, name) == 0)
                v = each;
        }
    }
    return v != NULL && json_is_null(v) ? NULL : v;
}

static cs_code get_string(struct cs_arena *a, json_t *object, struct place at, char **out, struct cs_err *e)
{
    json_t *v = member(object, at.field);
    if (v == NULL) {
        *out = cs_arena_strdup(a, "");
        return *out != NULL ? CS_OK : cs_nomem(e);
    }
    if (!json_is_string(v))
        return bad(&at, "a string", e);
    *out = cs_arena_strndup(a, json_string_value(v), json_string_length(v));
    return *out != NULL ? CS_OK : cs_nomem(e);
}

static cs_code get_int(json_t *object, struct place at, int64_t min, int64_t max, int64_t *out,
                       struct cs_err *e)
{
    json_t *v = member(object, at.field);
    *out = 0;
    if (v == NULL)
        return CS_OK;
    if (!json_is_integer(v))
        return bad(&at, "a whole number", e);
    *out = json_integer_value(v);
    return *out >= min && *out <= max ? CS_OK : bad(&at, "in the range of its type", e);
}

static cs_code get_int32(json_t *object, struct place at, int32_t *out, struct cs_err *e)
{
    int64_t v;
    CS_TRY(get_int(object, at, INT32_MIN, INT32_MAX, &v, e));
    *out = (int32_t)v;
    return CS_OK;
}

static cs_code get_bool(json_t *object, struct place at, protobuf_c_boolean *out, struct cs_err *e)
{
    json_t *v = member(object, at.field);
    if (v != NULL && !json_is_boolean(v))
        return bad(&at, "true or false", e);
    *out = v != NULL && json_is_true(v);
    return CS_OK;
}

static cs_code get_list(json_t *object, struct place at, json_t **out, size_t *n, struct cs_err *e)
{
    *out = member(object, at.field);
    if (*out != NULL && !json_is_array(*out))
        return bad(&at, "a list", e);
    *n = *out != NULL ? json_array_size(*out) : 0;
    return CS_OK;
}

static cs_code get_strings(struct cs_arena *a, json_t *object, struct place at, size_t *n, char ***out,
                           struct cs_err *e)
{
    json_t *list;
    CS_TRY(get_list(object, at, &list, n, e));
    *out = cs_arena_zalloc(a, (*n + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < *n; i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_string(v))
            return bad(&at, "a list of strings", e);
        (*out)[i] = cs_arena_strndup(a, json_string_value(v), json_string_length(v));
        if ((*out)[i] == NULL)
            return cs_nomem(e);
    }
    return CS_OK;
}

static cs_code get_id(struct cs_arena *a, json_t *object, struct place at, const char *what,
                      Types__SPIFFEID **out, struct cs_err *e)
{
    char *text;
    CS_TRY(get_string(a, object, at, &text, e));
    if (srv_id_arg(a, text, out, e) != CS_OK)
        return cs_wrap(e, "invalid %s", what);
    return CS_OK;
}

static cs_code get_selectors(struct cs_arena *a, json_t *object, struct place at, Types__Entry *en,
                             struct cs_err *e)
{
    json_t *list;
    CS_TRY(get_list(object, at, &list, &en->n_selectors, e));
    en->selectors = cs_arena_zalloc(a, (en->n_selectors + 1) * sizeof *en->selectors);
    if (en->selectors == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < en->n_selectors; i++) {
        json_t *v = json_array_get(list, i);
        Types__Selector *s = cs_arena_alloc(a, sizeof *s);
        if (s == NULL)
            return cs_nomem(e);
        types__selector__init(s);
        if (!json_is_object(v))
            return bad(&at, "a list of objects with type and value", e);
        CS_TRY(get_string(a, v, (struct place){at.index, "type"}, &s->type, e));
        CS_TRY(get_string(a, v, (struct place){at.index, "value"}, &s->value, e));
        en->selectors[i] = s;
    }
    return CS_OK;
}

static cs_code get_federates_with(struct cs_arena *a, json_t *object, struct place at, Types__Entry *en,
                                  struct cs_err *e)
{
    CS_TRY(get_strings(a, object, at, &en->n_federates_with, &en->federates_with, e));
    for (size_t i = 0; i < en->n_federates_with; i++) {
        struct cs_slice name;
        if (spiffe_td_parse(cs_slice_str(en->federates_with[i]), &name, e) != CS_OK)
            return cs_wrap(e, "invalid federated trust domain");
        en->federates_with[i] = cs_arena_strndup(a, (const char *)name.data, name.len);
        if (en->federates_with[i] == NULL)
            return cs_nomem(e);
    }
    return CS_OK;
}

static cs_code get_attributes(struct cs_arena *a, json_t *object, struct place at, Types__Entry *en,
                              struct cs_err *e)
{
    json_t *v = member(object, at.field);
    if (v == NULL)
        return CS_OK;
    if (!json_is_object(v))
        return bad(&at, "an object", e);
    Types__Entry__AdditionalAttributes *more = cs_arena_alloc(a, sizeof *more);
    if (more == NULL)
        return cs_nomem(e);
    types__entry__additional_attributes__init(more);
    en->additional_attributes = more;
    CS_TRY(get_bool(v, (struct place){at.index, "disable_x509_svid_prefetch"},
                    &more->disable_x509_svid_prefetch, e));
    return get_bool(v, (struct place){at.index, "jwt_svid_include_jti"}, &more->jwt_svid_include_jti, e);
}

static cs_code get_entry(struct cs_arena *a, json_t *o, size_t i, Types__Entry *en, struct cs_err *e)
{
#define AT(name) ((struct place){i, (name)})
    types__entry__init(en);
    CS_TRY(get_id(a, o, AT("spiffe_id"), "SPIFFE ID", &en->spiffe_id, e));
    CS_TRY(get_id(a, o, AT("parent_id"), "parent ID", &en->parent_id, e));
    CS_TRY(get_federates_with(a, o, AT("federates_with"), en, e));
    CS_TRY(get_string(a, o, AT("entry_id"), &en->id, e));
    CS_TRY(get_selectors(a, o, AT("selectors"), en, e));
    CS_TRY(get_int32(o, AT("x509_svid_ttl"), &en->x509_svid_ttl, e));
    CS_TRY(get_int32(o, AT("jwt_svid_ttl"), &en->jwt_svid_ttl, e));
    CS_TRY(get_bool(o, AT("admin"), &en->admin, e));
    CS_TRY(get_bool(o, AT("downstream"), &en->downstream, e));
    CS_TRY(get_bool(o, AT("store_svid"), &en->store_svid, e));
    CS_TRY(get_int(o, AT("entryExpiry"), INT64_MIN, INT64_MAX, &en->expires_at, e));
    CS_TRY(get_int(o, AT("revision_number"), INT64_MIN, INT64_MAX, &en->revision_number, e));
    CS_TRY(get_int(o, AT("created_at"), INT64_MIN, INT64_MAX, &en->created_at, e));
    CS_TRY(get_strings(a, o, AT("dns_names"), &en->n_dns_names, &en->dns_names, e));
    CS_TRY(get_string(a, o, AT("hint"), &en->hint, e));
    return get_attributes(a, o, AT("additional_attributes"), en, e);
#undef AT
}

static void drop_json(json_t **v)
{
    json_decref(*v);
}

static cs_code parse_object(struct cs_slice text, json_t **out, struct cs_err *e)
{
    json_error_t why;
    *out = json_loadb((const char *)text.data, text.len, JSON_ALLOW_NUL, &why);
    if (*out == NULL && text.len == 0)
        return cs_fail(e, CS_INVALID, "unexpected end of JSON input");
    if (*out == NULL)
        return cs_fail(e, CS_INVALID, "invalid JSON at line %d, column %d: %s", why.line, why.column,
                       why.text);
    return json_is_object(*out) ? CS_OK : cs_fail(e, CS_INVALID, "the JSON document must be an object");
}

cs_code entry_load(struct cs_arena *a, struct cs_slice text, size_t *n, Types__Entry ***out, struct cs_err *e)
{
    CS_CLEANUP(drop_json) json_t *root = NULL;
    CS_TRY(parse_object(text, &root, e));
    json_t *list = member(root, "entries");
    if (list != NULL && !json_is_array(list))
        return cs_fail(e, CS_INVALID, "entries must be a list");
    *n = list != NULL ? json_array_size(list) : 0;
    *out = cs_arena_zalloc(a, (*n + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < *n; i++) {
        json_t *o = json_array_get(list, i);
        if (json_is_null(o))
            return cs_fail(e, CS_INVALID, "missing registration entry");
        if (!json_is_object(o))
            return cs_fail(e, CS_INVALID, "entries[%zu] must be an object", i);
        if (((*out)[i] = cs_arena_alloc(a, sizeof ***out)) == NULL)
            return cs_nomem(e);
        CS_TRY(get_entry(a, o, i, (*out)[i], e));
    }
    return CS_OK;
}

cs_code entry_load_file(struct cli_env *env, struct cs_arena *a, const char *path, size_t *n,
                        Types__Entry ***out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    CS_TRY(srv_read_input(env, path, &b, e));
    return entry_load(a, cs_buf_slice(&b), n, out, e);
}

cs_code entry_load_ids(struct cs_arena *a, struct cs_slice text, size_t *n, char ***out, struct cs_err *e)
{
    CS_CLEANUP(drop_json) json_t *root = NULL;
    CS_TRY(parse_object(text, &root, e));
    json_t *list = member(root, "ids");
    if (list != NULL && !json_is_array(list))
        return cs_fail(e, CS_INVALID, "ids must be a list");
    *n = list != NULL ? json_array_size(list) : 0;
    *out = cs_arena_zalloc(a, (*n + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < *n; i++) {
        json_t *v = json_array_get(list, i);
        if (!json_is_string(v))
            return cs_fail(e, CS_INVALID, "ids[%zu] must be a string", i);
        if (((*out)[i] = cs_arena_strndup(a, json_string_value(v), json_string_length(v))) == NULL)
            return cs_nomem(e);
    }
    return CS_OK;
}
