/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-server bundle count|delete|list|set|show
 */
#include "spiffe/bundle.h"
#include "bundle.pb-c.h"
#include "cli/server/internal.h"
#include "crypto/pem.h"
#include "spiffe/id.h"

#include <strings.h>

#define SERVICE "/spire.api.server.bundle.v1.Bundle/"
#define BANNER "****************************************"

struct bundle_opts {
    struct cli_common common;
    const char *id, *format, *path, *mode;
};

#define OFF(field) offsetof(struct bundle_opts, field)
#define FORMAT_FLAG(help)                                                                                    \
    {                                                                                                        \
        "format", CLI_STRING, OFF(format), help, "pem"                                                       \
    }
#define ID_FLAG                                                                                              \
    {                                                                                                        \
        "id", CLI_STRING, OFF(id), "SPIFFE ID or name of the trust domain", NULL                             \
    }

static const struct cli_flag count_flags[] = {CLI_SERVER_FLAGS(struct bundle_opts), CLI_END};
static const struct cli_flag show_flags[] = {
    FORMAT_FLAG("How pretty output prints it: \"pem\" or \"spiffe\""),
    CLI_SERVER_FLAGS(struct bundle_opts),
    CLI_END,
};
static const struct cli_flag list_flags[] = {
    ID_FLAG,
    FORMAT_FLAG("How pretty output prints bundles: \"pem\" or \"spiffe\""),
    CLI_SERVER_FLAGS(struct bundle_opts),
    CLI_END,
};
static const struct cli_flag set_flags[] = {
    ID_FLAG,
    {"path", CLI_STRING, OFF(path), "File with the bundle; standard input when not given", NULL},
    FORMAT_FLAG("What the bundle is written as: \"pem\" or \"spiffe\""),
    CLI_SERVER_FLAGS(struct bundle_opts),
    CLI_END,
};
static const struct cli_flag delete_flags[] = {
    ID_FLAG,
    {"mode", CLI_STRING, OFF(mode),
     "What to do with entries that federate with it: restrict, delete or dissociate", "restrict"},
    CLI_SERVER_FLAGS(struct bundle_opts),
    CLI_END,
};

static bool given(const char *s)
{
    return s != NULL && s[0] != '\0';
}

static cs_code format_arg(const char *format, bool *spiffe, struct cs_err *e)
{
    *spiffe = given(format) && strcasecmp(format, "spiffe") == 0;
    if (*spiffe || !given(format) || strcasecmp(format, "pem") == 0)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf lower = {0};
    for (const char *p = format; *p != '\0'; p++)
        cs_buf_add_byte(&lower, (uint8_t)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p));
    return cs_fail(e, CS_INVALID, "invalid format: \"%s\"", cs_buf_cstr(&lower));
}

/* --- Printing --- */

static cs_code bundle_from_proto(const Types__Bundle *in, struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str(in->trust_domain), &b, e));
    for (size_t i = 0; i < in->n_x509_authorities; i++) {
        const Types__X509Certificate *c = in->x509_authorities[i];
        if (spiffe_bundle_add_x509_der(b, cs_slice_of(c->asn1.data, c->asn1.len), c->tainted, e) != CS_OK)
            return cs_wrap(e, "unable to parse root CA %zu", i);
    }
    for (size_t i = 0; i < in->n_jwt_authorities; i++) {
        const Types__JWTKey *k = in->jwt_authorities[i];
        if (spiffe_bundle_add_jwt(b, cs_slice_str(k->key_id),
                                  cs_slice_of(k->public_key.data, k->public_key.len), k->expires_at,
                                  k->tainted, e) != CS_OK)
            return cs_wrap(e, "unable to parse JWT authority %zu", i);
    }
    spiffe_bundle_set_refresh_hint(b, in->refresh_hint);
    spiffe_bundle_set_sequence(b, in->sequence_number);
    return spiffe_bundle_build(b, out, e);
}

static cs_code write_spiffe(struct cs_buf *out, const Types__Bundle *m, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) b = NULL;
    CS_TRY(bundle_from_proto(m, &b, e));
    CS_TRY(spiffe_bundle_write_jwks(out, b, SPIFFE_JWKS_NO_WIT, e));
    cs_buf_add_byte(out, '\n');
    return CS_OK;
}

static cs_code print_bundle(struct cli_env *env, const Types__Bundle *m, const char *format, bool banner,
                            struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    bool spiffe;
    CS_TRY(format_arg(format, &spiffe, e));
    if (banner)
        cs_buf_printf(&out, BANNER "\n* %s\n" BANNER "\n", m->trust_domain);
    if (spiffe)
        CS_TRY(write_spiffe(&out, m, e));
    for (size_t i = 0; i < m->n_x509_authorities && !spiffe; i++)
        pem_write(&out, PEM_CERTIFICATE,
                  cs_slice_of(m->x509_authorities[i]->asn1.data, m->x509_authorities[i]->asn1.len));
    if (!cs_buf_ok(&out))
        return cs_nomem(e);
    fwrite(out.data, 1, out.len, env->out);
    return CS_OK;
}

static cs_code run_show(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct bundle_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Bundlev1__GetBundleRequest req = BUNDLEV1__GET_BUNDLE_REQUEST__INIT;
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, SERVICE "GetBundle", MSG(req), &types__bundle__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    return print_bundle(env, (const Types__Bundle *)reply, o->format, false, e);
}

static cs_code list_one(struct cli_env *env, struct cli_session *s, const struct bundle_opts *o,
                        struct cs_err *e)
{
    Bundlev1__GetFederatedBundleRequest req = BUNDLEV1__GET_FEDERATED_BUNDLE_REQUEST__INIT;
    ProtobufCMessage *reply;
    if ((req.trust_domain = cs_arena_strdup(s->arena, o->id)) == NULL)
        return cs_nomem(e);
    CS_TRY(cli_call(s, SERVICE "GetFederatedBundle", MSG(req), &types__bundle__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    return print_bundle(env, (const Types__Bundle *)reply, o->format, false, e);
}

static cs_code run_list(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct bundle_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    if (given(o->id))
        return list_one(env, s, o, e);
    Bundlev1__ListFederatedBundlesRequest req = BUNDLEV1__LIST_FEDERATED_BUNDLES_REQUEST__INIT;
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, SERVICE "ListFederatedBundles", MSG(req),
                    &bundlev1__list_federated_bundles_response__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    const Bundlev1__ListFederatedBundlesResponse *r = (const Bundlev1__ListFederatedBundlesResponse *)reply;
    for (size_t i = 0; i < r->n_bundles; i++) {
        if (i > 0)
            fputc('\n', env->out);
        CS_TRY(print_bundle(env, r->bundles[i], o->format, true, e));
    }
    return CS_OK;
}

static cs_code run_count(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct bundle_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Bundlev1__CountBundlesRequest req = BUNDLEV1__COUNT_BUNDLES_REQUEST__INIT;
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, SERVICE "CountBundles", MSG(req), &bundlev1__count_bundles_response__descriptor,
                    &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    int n = ((const Bundlev1__CountBundlesResponse *)reply)->count;
    fprintf(env->out, "%d %s\n", n, n == 1 ? "bundle" : "bundles");
    return CS_OK;
}

/* --- set --- */

static cs_code x509_to_proto(struct cs_arena *a, const struct spiffe_bundle *b, Types__Bundle *m,
                             struct cs_err *e)
{
    m->x509_authorities = cs_arena_zalloc(a, (b->x509_count + 1) * sizeof *m->x509_authorities);
    if (m->x509_authorities == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < b->x509_count; i++) {
        Types__X509Certificate *c = cs_arena_alloc(a, sizeof *c);
        if (c == NULL)
            return cs_nomem(e);
        types__x509_certificate__init(c);
        struct cs_slice der = b->x509[i].cert->der;
        c->asn1.data = cs_arena_memdup(a, der.data, der.len);
        c->asn1.len = der.len;
        if (c->asn1.data == NULL)
            return cs_nomem(e);
        m->x509_authorities[m->n_x509_authorities++] = c;
    }
    return CS_OK;
}

static cs_code jwt_to_proto(struct cs_arena *a, const struct spiffe_bundle *b, Types__Bundle *m,
                            struct cs_err *e)
{
    m->jwt_authorities = cs_arena_zalloc(a, (b->jwt_count + 1) * sizeof *m->jwt_authorities);
    if (m->jwt_authorities == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < b->jwt_count; i++) {
        Types__JWTKey *k = cs_arena_alloc(a, sizeof *k);
        if (k == NULL)
            return cs_nomem(e);
        types__jwtkey__init(k);
        k->key_id = cs_arena_strdup(a, b->jwt[i].kid);
        k->public_key.data = cs_arena_memdup(a, b->jwt[i].spki.data, b->jwt[i].spki.len);
        k->public_key.len = b->jwt[i].spki.len;
        k->expires_at = b->jwt[i].expires_at;
        if (k->key_id == NULL || k->public_key.data == NULL)
            return cs_nomem(e);
        m->jwt_authorities[m->n_jwt_authorities++] = k;
    }
    return CS_OK;
}

static cs_code parse_bundle(struct cs_arena *a, const struct bundle_opts *o, struct cs_slice text,
                            bool spiffe, Types__Bundle *m, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) b = NULL;
    struct cs_slice td = cs_slice_str(o->id);
    if (spiffe) {
        CS_TRY(spiffe_td_parse(cs_slice_str(o->id), &td, e));
        if (spiffe_bundle_parse_jwks(td, text, &b, e) != CS_OK)
            return cs_wrap(e, "unable to parse to spiffe bundle");
        m->refresh_hint = b->refresh_hint;
        m->sequence_number = b->sequence_number;
        CS_TRY(jwt_to_proto(a, b, m, e));
    } else {
        /* the domain is judged by the server, so any text goes through here */
        if (spiffe_bundle_parse_pem(cs_slice_str("unnamed"), text, &b, e) != CS_OK)
            return cs_wrap(e, "unable to parse bundle data");
    }
    m->trust_domain = cs_arena_strndup(a, (const char *)td.data, td.len);
    if (m->trust_domain == NULL)
        return cs_nomem(e);
    return x509_to_proto(a, b, m, e);
}

static cs_code run_set(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct bundle_opts *o = opts;
    bool spiffe;
    if (!given(o->id))
        return cs_fail(e, CS_INVALID, "id flag is required");
    CS_TRY(format_arg(o->format, &spiffe, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (srv_read_input(env, given(o->path) ? o->path : "-", &text, e) != CS_OK)
        return cs_wrap(e, "unable to load bundle data");
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Types__Bundle m = TYPES__BUNDLE__INIT, *one[1] = {&m};
    CS_TRY(parse_bundle(s->arena, o, cs_buf_slice(&text), spiffe, &m, e));
    Bundlev1__BatchSetFederatedBundleRequest req = BUNDLEV1__BATCH_SET_FEDERATED_BUNDLE_REQUEST__INIT;
    req.n_bundle = 1;
    req.bundle = one;
    ProtobufCMessage *reply;
    if (cli_call(s, SERVICE "BatchSetFederatedBundle", MSG(req),
                 &bundlev1__batch_set_federated_bundle_response__descriptor, &reply, e) != CS_OK)
        return cs_wrap(e, "failed to set federated bundle");
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    const Bundlev1__BatchSetFederatedBundleResponse *r =
        (const Bundlev1__BatchSetFederatedBundleResponse *)reply;
    if (r->n_results != 1 || r->results[0]->status == NULL)
        return cs_fail(e, CS_INTERNAL, "failed to set federated bundle: the server gave no status");
    if (r->results[0]->status->code != CS_OK)
        return cs_fail(e, CS_INTERNAL, "failed to set federated bundle: %s", r->results[0]->status->message);
    fputs("bundle set.\n", env->out);
    return CS_OK;
}

/* --- delete --- */

static cs_code mode_arg(const char *mode, Bundlev1__BatchDeleteFederatedBundleRequest__Mode *out,
                        struct cs_err *e)
{
    if (!given(mode) || strcmp(mode, "restrict") == 0)
        *out = BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__MODE__RESTRICT;
    else if (strcmp(mode, "dissociate") == 0)
        *out = BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__MODE__DISSOCIATE;
    else if (strcmp(mode, "delete") == 0)
        *out = BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__MODE__DELETE;
    else
        return cs_fail(e, CS_INVALID, "unsupported mode \"%s\"", mode);
    return CS_OK;
}

static cs_code run_delete(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct bundle_opts *o = opts;
    Bundlev1__BatchDeleteFederatedBundleRequest req = BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__INIT;
    if (!given(o->id))
        return cs_fail(e, CS_INVALID, "id is required");
    CS_TRY(mode_arg(o->mode, &req.mode, e));
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    char *one[1] = {cs_arena_strdup(s->arena, o->id)};
    if (one[0] == NULL)
        return cs_nomem(e);
    req.n_trust_domains = 1;
    req.trust_domains = one;
    ProtobufCMessage *reply;
    if (cli_call(s, SERVICE "BatchDeleteFederatedBundle", MSG(req),
                 &bundlev1__batch_delete_federated_bundle_response__descriptor, &reply, e) != CS_OK)
        return cs_wrap(e, "failed to delete federated bundle");
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    const Bundlev1__BatchDeleteFederatedBundleResponse *r =
        (const Bundlev1__BatchDeleteFederatedBundleResponse *)reply;
    if (r->n_results != 1 || r->results[0]->status == NULL)
        return cs_fail(e, CS_INTERNAL, "failed to delete federated bundle: the server gave no status");
    if (r->results[0]->status->code != CS_OK)
        return cs_fail(e, CS_INTERNAL, "failed to delete federated bundle \"%s\": %s",
                       r->results[0]->trust_domain, r->results[0]->status->message);
    fputs("bundle deleted.\n", env->out);
    return CS_OK;
}

#define COMMAND(verb, text)                                                                                  \
    const struct cli_command srv_bundle_##verb = {                                                           \
        .path = "bundle " #verb,                                                                             \
        .synopsis = text,                                                                                    \
        .flags = verb##_flags,                                                                               \
        .opts_size = sizeof(struct bundle_opts),                                                             \
        .run = run_##verb,                                                                                   \
    }
COMMAND(count, "Count bundles");
COMMAND(delete, "Deletes federated bundle data");
COMMAND(list, "Lists federated bundle data");
COMMAND(set, "Creates or updates federated bundle data");
COMMAND(show, "Prints server CA bundle to stdout");
