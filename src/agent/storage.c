/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/storage.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "crypto/pem.h"

#include <jansson.h>

#define FILE_MAX ((size_t)64 << 20)
#define CERTS_MAX 4096
/* Go's zero time, which stands for "not running". */
#define ZERO_TIME "0001-01-01T00:00:00Z"

/* --- Reading --- */

static cs_code parse_cert(json_t *item, struct x509_chain *out, struct cs_err *e)
{
    if (!json_is_string(item))
        return cs_fail(e, CS_INVALID, "certificate is not a string");
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_TRY(
        cs_b64_decode(&pem, cs_slice_of(json_string_value(item), json_string_length(item)), CS_B64_STD, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain one = {0};
    CS_TRY(x509_chain_parse_pem(cs_buf_slice(&pem), 1, &one, e));
    return x509_chain_add(out, one.at[0], e);
}

static cs_code parse_certs(json_t *list, const char *what, struct x509_chain *out, struct cs_err *e)
{
    if (list == NULL || json_is_null(list))
        return CS_OK;
    if (!json_is_array(list) || json_array_size(list) > CERTS_MAX)
        return cs_fail(e, CS_INVALID, "failed to parse %s: not a list of certificates", what);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (parse_cert(item, out, e) != CS_OK) {
            (void)cs_wrap(e, "failed to parse %s", what);
            return CS_INVALID;
        }
    }
    return CS_OK;
}

static cs_code parse_start(json_t *item, int64_t *out, struct cs_err *e)
{
    if (item == NULL || json_is_null(item))
        return CS_OK;
    if (!json_is_string(item))
        return cs_fail(e, CS_INVALID, "bootstrap_start_time is not a string");
    int32_t ns = 0;
    CS_TRY(
        cs_time_parse_rfc3339(cs_slice_of(json_string_value(item), json_string_length(item)), out, &ns, e));
    if (*out < 0)
        *out = 0;
    return CS_OK;
}

static cs_code parse_int(json_t *root, const char *key, int64_t *out, struct cs_err *e)
{
    json_t *item = json_object_get(root, key);
    if (item == NULL || json_is_null(item))
        return CS_OK;
    if (!json_is_integer(item))
        return cs_fail(e, CS_INVALID, "%s is not an integer", key);
    *out = json_integer_value(item);
    return CS_OK;
}

static cs_code parse_root(json_t *root, struct agent_storage *s, struct cs_err *e)
{
    if (!json_is_object(root))
        return cs_fail(e, CS_INVALID, "not a JSON object");
    json_t *flag = json_object_get(root, "reattestable");
    if (flag != NULL && !json_is_boolean(flag) && !json_is_null(flag))
        return cs_fail(e, CS_INVALID, "reattestable is not a boolean");
    s->reattestable = json_is_true(flag);
    CS_TRY(parse_certs(json_object_get(root, "svid"), "SVID", &s->svid, e));
    CS_TRY(parse_certs(json_object_get(root, "bundle"), "bundle", &s->bundle, e));
    CS_TRY(parse_start(json_object_get(root, "bootstrap_start_time"), &s->bootstrap_start, e));
    CS_TRY(parse_int(root, "bootstrap_use", &s->bootstrap_use, e));
    return parse_int(root, "connection_attempts", &s->connection_attempts, e);
}

cs_code agent_storage_parse(struct cs_slice json, struct agent_storage *s, struct cs_err *e)
{
    json_error_t fault;
    json_t *root = json_loadb((const char *)json.data, json.len, 0, &fault);
    if (root == NULL)
        return cs_fail(e, CS_INVALID, "line %d: %s", fault.line, fault.text);
    cs_code rc = parse_root(root, s, e);
    json_decref(root);
    return rc;
}

/* --- Writing --- */

static void print_certs(struct cs_buf *out, const struct x509_chain *c)
{
    if (c->count == 0) {
        cs_buf_add_str(out, "null");
        return;
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    for (size_t i = 0; i < c->count; i++) {
        cs_buf_reset(&pem);
        pem_write(&pem, PEM_CERTIFICATE, c->at[i]->der);
        cs_buf_add_str(out, i == 0 ? "[\"" : ",\"");
        cs_b64_encode(out, cs_buf_slice(&pem), CS_B64_STD);
        cs_buf_add_str(out, "\"");
    }
    cs_buf_add_str(out, "]");
    out->failed |= pem.failed;
}

cs_code agent_storage_print(const struct agent_storage *s, struct cs_buf *out, struct cs_err *e)
{
    cs_buf_add_str(out, "{\"svid\":");
    print_certs(out, &s->svid);
    cs_buf_add_str(out, ",\"bundle\":");
    print_certs(out, &s->bundle);
    cs_buf_printf(out, ",\"reattestable\":%s,\"bootstrap_use\":%lld,\"bootstrap_start_time\":\"",
                  s->reattestable ? "true" : "false", (long long)s->bootstrap_use);
    if (s->bootstrap_start == 0)
        cs_buf_add_str(out, ZERO_TIME);
    else
        cs_time_rfc3339(out, s->bootstrap_start);
    cs_buf_printf(out, "\",\"connection_attempts\":%lld}", (long long)s->connection_attempts);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code store(const struct agent_storage *next, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    CS_CLEANUP(cs_buf_free) struct cs_buf json = {0};
    CS_TRY(agent_storage_print(next, &json, e));
    if (cs_file_write_atomic(next->path, cs_buf_slice(&json), 0600, e) != CS_OK)
        return cs_wrap(e, "failed to write data file");
    return CS_OK;
}

cs_code agent_storage_set_svid(struct agent_storage *s, const struct x509_chain *svid, bool reattestable,
                               struct cs_err *e)
{
    struct agent_storage next = *s;
    next.svid = (struct x509_chain){0};
    next.reattestable = svid != NULL && svid->count > 0 && reattestable;
    CS_CLEANUP(x509_chain_free) struct x509_chain copy = {0};
    if (svid != NULL)
        CS_TRY(x509_chain_copy(svid, &copy, e));
    next.svid = copy;
    CS_TRY(store(&next, e));
    struct x509_chain old = s->svid;
    *s = next;
    copy = old;
    return CS_OK;
}

cs_code agent_storage_set_bundle(struct agent_storage *s, const struct x509_chain *bundle, struct cs_err *e)
{
    struct agent_storage next = *s;
    CS_CLEANUP(x509_chain_free) struct x509_chain copy = {0};
    if (bundle != NULL)
        CS_TRY(x509_chain_copy(bundle, &copy, e));
    next.bundle = copy;
    CS_TRY(store(&next, e));
    struct x509_chain old = s->bundle;
    *s = next;
    copy = old;
    return CS_OK;
}

cs_code agent_storage_set_bootstrap(struct agent_storage *s, int64_t use, int64_t start, int64_t attempts,
                                    struct cs_err *e)
{
    struct agent_storage next = *s;
    next.bootstrap_use = use;
    next.bootstrap_start = start;
    next.connection_attempts = attempts;
    CS_TRY(store(&next, e));
    *s = next;
    return CS_OK;
}

/* --- Life --- */

static cs_code load(struct agent_storage *s, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    cs_code rc = cs_file_read(s->path, FILE_MAX, &text, e);
    if (rc == CS_NOT_FOUND)
        return CS_OK;
    if (rc != CS_OK)
        return cs_wrap(e, "failed to read data");
    if (agent_storage_parse(cs_buf_slice(&text), s, e) != CS_OK)
        return cs_wrap(e, "failed to unmarshal data");
    return CS_OK;
}

cs_code agent_storage_open(const char *dir, struct agent_storage **out, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = NULL;
    CS_AUTO(agent_storage) s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->path = cs_asprintf("%s/%s", dir, AGENT_STORAGE_FILE);
    if (s->path == NULL)
        return cs_nomem(e);
    CS_TRY(load(s, e));
    *out = CS_MOVE(s);
    return CS_OK;
}

void agent_storage_free(struct agent_storage *s)
{
    if (s == NULL)
        return;
    x509_chain_free(&s->svid);
    x509_chain_free(&s->bundle);
    cs_free(s->path);
    cs_free(s);
}
