/* SPDX-License-Identifier: Apache-2.0
 *
 * Kubeconfig files (client-go's clientcmd/api/v1): the current context, its cluster and its user. What would
 * change who we are and is not built is refused, not passed over.
 */
#include "base/text.h"
#include "plugins/modules/kube/access.h"

#include <stdio.h>
#include <strings.h>
#include <yaml.h>

#define DOCUMENT_MAX ((size_t)1 << 20)
/* For "%.*s". */
#define NAME_OF(s) (int)((s).len < 128 ? (s).len : 128), (s).len > 0 ? (const char *)(s).data : ""

struct reader {
    yaml_document_t doc;
    const char *folder, *name;
};

/* --- Looking things up: nothing is copied or expanded, so aliases cost nothing --- */

static yaml_node_t *member(struct reader *r, yaml_node_t *map, const char *key)
{
    if (map == NULL || map->type != YAML_MAPPING_NODE)
        return NULL;
    const size_t n = strlen(key);
    for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
        yaml_node_t *k = yaml_document_get_node(&r->doc, p->key);
        if (k != NULL && k->type == YAML_SCALAR_NODE && k->data.scalar.length == n &&
            memcmp(k->data.scalar.value, key, n) == 0)
            return yaml_document_get_node(&r->doc, p->value);
    }
    return NULL;
}

static bool is_null(const yaml_node_t *n)
{
    const struct cs_slice s = cs_slice_of(n->data.scalar.value, n->data.scalar.length);
    return n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (s.len == 0 || cs_slice_is(s, "null") || cs_slice_is(s, "~"));
}

/* Empty when it is not there, or not a text. */
static struct cs_slice text(struct reader *r, yaml_node_t *map, const char *key)
{
    yaml_node_t *n = member(r, map, key);
    if (n == NULL || n->type != YAML_SCALAR_NODE || is_null(n))
        return (struct cs_slice){0};
    return cs_slice_of(n->data.scalar.value, n->data.scalar.length);
}

/* The `kind` of the item called `name` in the list `list`: {name: NAME, KIND: {...}}. */
static yaml_node_t *named(struct reader *r, const char *list, const char *kind, struct cs_slice name,
                          struct cs_err *e)
{
    yaml_node_t *items = member(r, yaml_document_get_root_node(&r->doc), list);
    const bool is_list = items != NULL && items->type == YAML_SEQUENCE_NODE;
    yaml_node_item_t *i = is_list ? items->data.sequence.items.start : NULL;
    for (; is_list && i < items->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(&r->doc, *i);
        yaml_node_t *found = cs_slice_eq(text(r, item, "name"), name) ? member(r, item, kind) : NULL;
        if (found != NULL)
            return found;
    }
    (void)cs_fail(e, CS_INVALID, "kubeconfig %s: %s \"%.*s\" does not exist", r->name, kind, NAME_OF(name));
    return NULL;
}

static bool is_true(struct cs_slice s)
{
    return s.len == 4 && strncasecmp((const char *)s.data, "true", 4) == 0;
}

/* --- Values --- */

static cs_code copy_text(struct reader *r, struct cs_slice s, const char *what, char **out, struct cs_err *e)
{
    if (s.len == 0)
        return CS_OK;
    if (memchr(s.data, '\0', s.len) != NULL || memchr(s.data, '\n', s.len) != NULL ||
        memchr(s.data, '\r', s.len) != NULL)
        return cs_fail(e, CS_INVALID, "kubeconfig %s: %s is not one line of text", r->name, what);
    *out = cs_strndup((const char *)s.data, s.len);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

/* A file named in a kubeconfig is looked for beside it. */
static cs_code read_file(struct reader *r, struct cs_slice path, const char *what, struct cs_buf *out,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *name = NULL;
    CS_CLEANUP(cs_freep) char *whole = NULL;
    CS_TRY(copy_text(r, path, what, &name, e));
    whole = name[0] == '/' ? cs_strdup(name) : cs_asprintf("%s/%s", r->folder, name);
    if (whole == NULL)
        return cs_nomem(e);
    return kube_file_read(whole, out, e) == CS_OK ? CS_OK : cs_wrap(e, "kubeconfig %s: %s", r->name, what);
}

/* "KEY-data" in base64, else the file "KEY". */
static cs_code read_material(struct reader *r, yaml_node_t *map, const char *key, struct cs_buf *out,
                             struct cs_err *e)
{
    char data_key[64];
    (void)snprintf(data_key, sizeof data_key, "%s-data", key);
    struct cs_slice data = text(r, map, data_key), path = text(r, map, key);
    if (data.len == 0)
        return path.len > 0 ? read_file(r, path, key, out, e) : CS_OK;
    struct cs_err fault;
    if (!cs_buf_reserve(out, data.len))
        return cs_nomem(e);
    if (cs_b64_decode(out, data, CS_B64_STD, &fault) != CS_OK) /* whose text might show a key */
        return cs_fail(e, CS_INVALID, "kubeconfig %s: %s is not base64", r->name, data_key);
    return CS_OK;
}

/* --- The two halves of a context --- */

static cs_code read_server(struct reader *r, struct cs_slice server, struct kube_access *out,
                           struct cs_err *e)
{
    if (server.len == 0)
        return cs_fail(e, CS_INVALID, "kubeconfig %s: the cluster has no server", r->name);
    CS_TRY(copy_text(r, server, "server", &out->server, e));
    if (strncmp(out->server, "https://", 8) != 0 && strncmp(out->server, "http://", 7) != 0)
        return cs_fail(e, CS_INVALID, "kubeconfig %s: server \"%.256s\" is not an http or https URL", r->name,
                       out->server);
    if (strpbrk(out->server, "?#@ ") != NULL)
        return cs_fail(e, CS_INVALID, "kubeconfig %s: server \"%.256s\" is not a plain URL", r->name,
                       out->server);
    for (size_t n = strlen(out->server); n > 0 && out->server[n - 1] == '/'; n--)
        out->server[n - 1] = '\0';
    return CS_OK;
}

static cs_code read_cluster(struct reader *r, yaml_node_t *cluster, struct kube_access *out, struct cs_err *e)
{
    CS_TRY(read_server(r, text(r, cluster, "server"), out, e));
    CS_TRY(copy_text(r, text(r, cluster, "tls-server-name"), "tls-server-name", &out->server_name, e));
    CS_TRY(copy_text(r, text(r, cluster, "proxy-url"), "proxy-url", &out->proxy, e));
    if (out->ca_replaced)
        return CS_OK;
    CS_TRY(read_material(r, cluster, "certificate-authority", &out->ca, e));
    out->insecure = is_true(text(r, cluster, "insecure-skip-tls-verify"));
    if (out->insecure && out->ca.len > 0)
        return cs_fail(
            e, CS_INVALID,
            "kubeconfig %s: specifying a root certificates file with the insecure flag is not allowed",
            r->name);
    return CS_OK;
}

static cs_code check_user(struct reader *r, yaml_node_t *user, struct cs_slice name, struct cs_err *e)
{
    static const char *const not_built[] = {"exec",      "auth-provider", "as",       "as-uid",
                                            "as-groups", "username",      "password", NULL};
    for (size_t i = 0; not_built[i] != NULL; i++) {
        yaml_node_t *n = member(r, user, not_built[i]);
        if (n != NULL && (n->type != YAML_SCALAR_NODE || !is_null(n)))
            return cs_fail(e, CS_UNIMPLEMENTED, "kubeconfig %s: user \"%.*s\": %s is not supported", r->name,
                           NAME_OF(name), not_built[i]);
    }
    return CS_OK;
}

/* tokenFile outranks token (client-go). */
static cs_code read_token(struct reader *r, yaml_node_t *user, struct kube_access *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf file = {0};
    struct cs_slice token = text(r, user, "token"), path = text(r, user, "tokenFile");
    if (path.len > 0) {
        CS_TRY(read_file(r, path, "tokenFile", &file, e));
        token = cs_buf_slice(&file);
    }
    return token.len > 0 ? kube_bearer(token, r->name, &out->authorization, e) : CS_OK;
}

static cs_code read_user(struct reader *r, yaml_node_t *user, struct cs_slice name, struct kube_access *out,
                         struct cs_err *e)
{
    CS_TRY(check_user(r, user, name, e));
    CS_TRY(read_material(r, user, "client-certificate", &out->client_cert, e));
    CS_TRY(read_material(r, user, "client-key", &out->client_key, e));
    if ((out->client_cert.len > 0) != (out->client_key.len > 0))
        return cs_fail(e, CS_INVALID,
                       "kubeconfig %s: user \"%.*s\": client-certificate and client-key go together", r->name,
                       NAME_OF(name));
    return read_token(r, user, out, e);
}

static cs_code read_context(struct reader *r, struct kube_access *out, struct cs_err *e)
{
    const struct cs_slice current = text(r, yaml_document_get_root_node(&r->doc), "current-context");
    if (current.len == 0)
        return cs_fail(e, CS_INVALID, "kubeconfig %s: no current-context", r->name);
    yaml_node_t *context = named(r, "contexts", "context", current, e);
    if (context == NULL)
        return CS_INVALID;
    const struct cs_slice cluster_name = text(r, context, "cluster"), user_name = text(r, context, "user");
    yaml_node_t *cluster = named(r, "clusters", "cluster", cluster_name, e);
    if (cluster == NULL)
        return CS_INVALID;
    CS_TRY(read_cluster(r, cluster, out, e));
    if (user_name.len == 0 || out->user_replaced)
        return CS_OK;
    yaml_node_t *user = named(r, "users", "user", user_name, e);
    return user != NULL ? read_user(r, user, user_name, out, e) : CS_INVALID;
}

/* libyaml's copies of keys and tokens. */
static void wipe_document(yaml_document_t *d)
{
    for (yaml_node_t *n = d->nodes.start; n < d->nodes.top; n++)
        if (n->type == YAML_SCALAR_NODE)
            cs_wipe(n->data.scalar.value, n->data.scalar.length);
}

static void wipe_parser(yaml_parser_t *p)
{
    cs_wipe(p->buffer.start, (size_t)(p->buffer.end - p->buffer.start));
    cs_wipe(p->raw_buffer.start, (size_t)(p->raw_buffer.end - p->raw_buffer.start));
}

cs_code kube_access_parse(struct cs_slice in, const char *folder, const char *name, struct kube_access *out,
                          struct cs_err *e)
{
    struct reader r = {.folder = folder, .name = name};
    yaml_parser_t parser;
    if (in.len > DOCUMENT_MAX)
        return cs_fail(e, CS_EXHAUSTED, "kubeconfig %s has more than %zu bytes", name, DOCUMENT_MAX);
    if (yaml_parser_initialize(&parser) == 0)
        return cs_nomem(e);
    yaml_parser_set_input_string(&parser, in.len > 0 ? in.data : (const uint8_t *)"", in.len);
    cs_code rc;
    if (yaml_parser_load(&parser, &r.doc) == 0) {
        /* not the line itself, which may hold a key */
        rc = parser.error == YAML_MEMORY_ERROR
                 ? cs_nomem(e)
                 : cs_fail(e, CS_INVALID, "kubeconfig %s: line %zu: %s", name, parser.problem_mark.line + 1,
                           parser.problem != NULL ? parser.problem : "not YAML");
    } else {
        rc = yaml_document_get_root_node(&r.doc) != NULL
                 ? read_context(&r, out, e)
                 : cs_fail(e, CS_INVALID, "kubeconfig %s is empty", name);
        wipe_document(&r.doc);
        yaml_document_delete(&r.doc);
    }
    wipe_parser(&parser);
    yaml_parser_delete(&parser);
    return rc;
}
