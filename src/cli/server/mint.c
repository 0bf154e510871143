/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-server jwt mint, token generate, x509 mint
 */
#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "bundle.pb-c.h"
#include "cli/json.h"
#include "cli/server/internal.h"
#include "crypto/jose.h"
#include "crypto/pem.h"
#include "crypto/x509_csr.h"
#include "spiffe/id.h"
#include "svid.pb-c.h"

#define SVID_SERVICE "/spire.api.server.svid.v1.SVID/"

static bool given(const char *s)
{
    return s != NULL && s[0] != '\0';
}

/* A line on stderr when an SVID expires before now + ttl. Whole seconds are compared with the exact
 * clock, so any positive ttl shows it, as upstream's does. */
static void warn_capped(struct cli_env *env, const char *what, int64_t expires_at, int64_t ttl_ns)
{
    int64_t left = expires_at - cs_now_s(&cs_clock_system);
    if (left > INT64_MAX / CS_NS_PER_S || expires_at * CS_NS_PER_S - cs_now_ns(&cs_clock_system) >= ttl_ns)
        return;
    CS_CLEANUP(cs_buf_free) struct cs_buf t = {0};
    cs_time_rfc3339(&t, expires_at);
    fprintf(env->err, "%s lifetime was capped shorter than specified ttl; expires \"%s\"\n", what,
            cs_buf_cstr(&t));
}

/* --- token generate --- */

struct token_opts {
    struct cli_common common;
    const char *spiffe_id;
    int64_t ttl;
};

static const struct cli_flag token_flags[] = {
    {"ttl", CLI_INT, offsetof(struct token_opts, ttl), "Seconds that the token can be used", "600"},
    {"spiffeID", CLI_STRING, offsetof(struct token_opts, spiffe_id),
     "One more SPIFFE ID for the agent that uses the token", NULL},
    CLI_SERVER_FLAGS(struct token_opts),
    CLI_END,
};

static cs_code run_token(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct token_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Agentv1__CreateJoinTokenRequest req = AGENTV1__CREATE_JOIN_TOKEN_REQUEST__INIT;
    if (given(o->spiffe_id))
        CS_TRY(srv_id_arg(s->arena, o->spiffe_id, &req.agent_id, e));
    CS_TRY(srv_int32_arg(o->ttl, "TTL", &req.ttl, e));
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, "/spire.api.server.agent.v1.Agent/CreateJoinToken", MSG(req),
                    &types__join_token__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    fprintf(env->out, "Token: %s\n", ((const Types__JoinToken *)reply)->value);
    if (!given(o->spiffe_id))
        fputs("Warning: Missing SPIFFE ID.\n", env->out);
    return CS_OK;
}

/* --- jwt mint --- */

struct jwt_opts {
    struct cli_common common;
    const char *spiffe_id, *write;
    struct cli_strings audience;
    int64_t ttl;
};

static const struct cli_flag jwt_flags[] = {
    {"spiffeID", CLI_STRING, offsetof(struct jwt_opts, spiffe_id), "SPIFFE ID of the JWT-SVID", NULL},
    {"ttl", CLI_DURATION, offsetof(struct jwt_opts, ttl), "How long the JWT-SVID lives", NULL},
    {"audience", CLI_STRINGS, offsetof(struct jwt_opts, audience), "Audience of the JWT-SVID; repeatable",
     NULL},
    {"write", CLI_STRING, offsetof(struct jwt_opts, write),
     "File to write the token to, in place of standard output", NULL},
    CLI_SERVER_FLAGS(struct jwt_opts),
    CLI_END,
};

static cs_code run_jwt(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct jwt_opts *o = opts;
    if (!given(o->spiffe_id))
        return cs_fail(e, CS_INVALID, "spiffeID must be specified");
    if (o->audience.len == 0)
        return cs_fail(e, CS_INVALID, "at least one audience must be specified");
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Svidv1__MintJWTSVIDRequest req = SVIDV1__MINT_JWTSVIDREQUEST__INIT;
    CS_TRY(srv_id_arg(s->arena, o->spiffe_id, &req.id, e));
    CS_TRY(srv_ttl_arg(o->ttl, &req.ttl, e));
    CS_TRY(srv_strings(s->arena, &o->audience, &req.n_audience, &req.audience, e));
    ProtobufCMessage *reply;
    if (cli_call(s, SVID_SERVICE "MintJWTSVID", MSG(req), &svidv1__mint_jwtsvidresponse__descriptor, &reply,
                 e) != CS_OK)
        return cs_wrap(e, "unable to mint SVID");
    const Types__JWTSVID *svid = ((const Svidv1__MintJWTSVIDResponse *)reply)->svid;
    if (svid == NULL || svid->token[0] == '\0')
        return cs_fail(e, CS_INTERNAL, "server response missing token");
    warn_capped(env, "JWT-SVID", svid->expires_at, o->ttl);
    if (!given(o->write)) {
        if (o->common.output.json)
            return cli_print_json(env, reply, e);
        fprintf(env->out, "%s\n", svid->token);
        return CS_OK;
    }
    if (cs_file_write_atomic(o->write, cs_slice_str(svid->token), 0600, e) != CS_OK)
        return cs_wrap(e, "unable to write token");
    fprintf(env->out, "JWT-SVID written to %s\n", o->write);
    return CS_OK;
}

/* --- x509 mint --- */

struct x509_opts {
    struct cli_common common;
    const char *spiffe_id, *write;
    struct cli_strings dns_names;
    int64_t ttl;
};

static const struct cli_flag x509_flags[] = {
    {"spiffeID", CLI_STRING, offsetof(struct x509_opts, spiffe_id), "SPIFFE ID of the X509-SVID", NULL},
    {"ttl", CLI_DURATION, offsetof(struct x509_opts, ttl), "How long the X509-SVID lives", NULL},
    {"dns", CLI_STRINGS, offsetof(struct x509_opts, dns_names), "DNS name to put into the SVID; repeatable",
     NULL},
    {"write", CLI_STRING, offsetof(struct x509_opts, write),
     "Folder to write files to, in place of standard output", NULL},
    CLI_SERVER_FLAGS(struct x509_opts),
    CLI_END,
};

/* A fresh P-256 key and the request for it. */
static cs_code make_csr(const struct x509_opts *o, struct crypto_key **key, struct cs_buf *csr,
                        struct cs_err *e)
{
    CS_AUTO(crypto_signer) signer = NULL;
    CS_CLEANUP(cs_freep) struct cs_slice *dns = cs_calloc(o->dns_names.len + 1, sizeof *dns);
    if (dns == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < o->dns_names.len; i++)
        dns[i] = cs_slice_str(o->dns_names.at[i]);
    if (crypto_key_generate(CRYPTO_EC_P256, key, e) != CS_OK)
        return cs_wrap(e, "unable to generate key");
    CS_TRY(crypto_signer_of_key(*key, &signer, e));
    struct x509_csr_params p = {.uri = cs_slice_str(o->spiffe_id), .dns = dns, .dns_count = o->dns_names.len};
    if (x509_csr_write(&p, signer, csr, e) != CS_OK)
        return cs_wrap(e, "unable to generate CSR");
    return CS_OK;
}

static void pem_list(struct cs_buf *out, const ProtobufCBinaryData *certs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pem_write(out, PEM_CERTIFICATE, cs_slice_of(certs[i].data, certs[i].len));
}

static void json_list(struct cs_buf *out, const ProtobufCBinaryData *certs, size_t n)
{
    cs_buf_add_byte(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            cs_buf_add_byte(out, ',');
        cli_json_bytes(out, cs_slice_of(certs[i].data, certs[i].len));
    }
    cs_buf_add_byte(out, ']');
}

/* What was minted. */
struct minted {
    const ProtobufCBinaryData *chain, *roots;
    size_t chain_len, root_count;
    const struct cs_secret *key; /* PKCS#8 */
};

static cs_code print_minted_json(struct cli_env *env, const struct minted *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf b = {0};
    cs_buf_add_str(&b, "{\"x509_svid\":");
    json_list(&b, m->chain, m->chain_len);
    cs_buf_add_str(&b, ",\"private_key\":");
    cli_json_bytes(&b, cs_slice_of(m->key->data, m->key->len));
    cs_buf_add_str(&b, ",\"root_cas\":");
    json_list(&b, m->roots, m->root_count);
    cs_buf_add_byte(&b, '}');
    return cli_print_line(env, &b, e);
}

static cs_code print_minted(struct cli_env *env, const struct minted *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf b = {0};
    cs_buf_add_str(&b, "X509-SVID:\n");
    pem_list(&b, m->chain, m->chain_len);
    cs_buf_add_str(&b, "\nPrivate key:\n");
    pem_write(&b, PEM_PRIVATE_KEY, cs_slice_of(m->key->data, m->key->len));
    cs_buf_add_str(&b, "\nRoot CAs:\n");
    pem_list(&b, m->roots, m->root_count);
    return cli_print_line(env, &b, e);
}

static cs_code write_file(struct cli_env *env, const char *dir, const char *name, const char *label,
                          const char *what, const struct cs_buf *content, mode_t mode, struct cs_err *e)
{
    size_t len = strlen(dir);
    CS_CLEANUP(cs_freep)
    char *path = cs_asprintf("%s%s%s", dir, len > 0 && dir[len - 1] == '/' ? "" : "/", name);
    if (path == NULL || !cs_buf_ok(content))
        return cs_nomem(e);
    if (cs_file_write_atomic(path, cs_buf_slice(content), mode, e) != CS_OK)
        return cs_wrap(e, "unable to write %s", what);
    fprintf(env->out, "%s written to %s\n", label, path);
    return CS_OK;
}

static cs_code write_minted(struct cli_env *env, const char *dir, const struct minted *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf svid = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf bundle = {0};
    pem_list(&svid, m->chain, m->chain_len);
    pem_write(&key, PEM_PRIVATE_KEY, cs_slice_of(m->key->data, m->key->len));
    pem_list(&bundle, m->roots, m->root_count);
    CS_TRY(write_file(env, dir, "svid.pem", "X509-SVID", "SVID", &svid, 0644, e));
    CS_TRY(write_file(env, dir, "key.pem", "Private key", "key", &key, 0600, e));
    return write_file(env, dir, "bundle.pem", "Root CAs", "bundle", &bundle, 0644, e);
}

static cs_code fetch_roots(struct cli_session *s, struct minted *m, struct cs_err *e)
{
    Bundlev1__GetBundleRequest req = BUNDLEV1__GET_BUNDLE_REQUEST__INIT;
    ProtobufCMessage *reply;
    if (cli_call(s, "/spire.api.server.bundle.v1.Bundle/GetBundle", MSG(req), &types__bundle__descriptor,
                 &reply, e) != CS_OK)
        return cs_wrap(e, "unable to get bundle");
    const Types__Bundle *b = (const Types__Bundle *)reply;
    if (b->n_x509_authorities == 0)
        return cs_fail(e, CS_INTERNAL, "server response missing X509 Authorities");
    ProtobufCBinaryData *roots = cs_arena_alloc(s->arena, b->n_x509_authorities * sizeof *roots);
    if (roots == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < b->n_x509_authorities; i++)
        roots[i] = b->x509_authorities[i]->asn1;
    m->roots = roots;
    m->root_count = b->n_x509_authorities;
    return CS_OK;
}

static cs_code mint_x509(struct cli_env *env, struct cli_session *s, const struct x509_opts *o,
                         const struct cs_buf *csr, struct minted *m, struct cs_err *e)
{
    Svidv1__MintX509SVIDRequest req = SVIDV1__MINT_X509_SVIDREQUEST__INIT;
    CS_TRY(srv_ttl_arg(o->ttl, &req.ttl, e));
    req.csr = (ProtobufCBinaryData){.data = csr->data, .len = csr->len};
    ProtobufCMessage *reply;
    if (cli_call(s, SVID_SERVICE "MintX509SVID", MSG(req), &svidv1__mint_x509_svidresponse__descriptor,
                 &reply, e) != CS_OK)
        return cs_wrap(e, "unable to mint SVID");
    const Types__X509SVID *svid = ((const Svidv1__MintX509SVIDResponse *)reply)->svid;
    if (svid == NULL || svid->n_cert_chain == 0)
        return cs_fail(e, CS_INTERNAL, "server response missing SVID chain");
    m->chain = svid->cert_chain;
    m->chain_len = svid->n_cert_chain;
    CS_TRY(fetch_roots(s, m, e));
    warn_capped(env, "X509-SVID", svid->expires_at, o->ttl);
    return CS_OK;
}

static cs_code run_x509(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct x509_opts *o = opts;
    struct spiffe_id id;
    if (!given(o->spiffe_id))
        return cs_fail(e, CS_INVALID, "spiffeID must be specified");
    CS_TRY(spiffe_id_parse(cs_slice_str(o->spiffe_id), &id, e));
    CS_AUTO(crypto_key) key = NULL;
    CS_AUTO(cs_secret) pkcs8 = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    CS_TRY(make_csr(o, &key, &csr, e));
    CS_TRY(crypto_key_pkcs8(key, &pkcs8, e));
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    struct minted m = {.key = pkcs8};
    CS_TRY(mint_x509(env, s, o, &csr, &m, e));
    if (given(o->write))
        return write_minted(env, o->write, &m, e);
    return o->common.output.json ? print_minted_json(env, &m, e) : print_minted(env, &m, e);
}

const struct cli_command srv_token_generate = {
    .path = "token generate",
    .set_name = "generate",
    .synopsis = "Generates a join token",
    .flags = token_flags,
    .opts_size = sizeof(struct token_opts),
    .run = run_token,
};
const struct cli_command srv_jwt_mint = {
    .path = "jwt mint",
    .synopsis = "Mints a JWT-SVID",
    .flags = jwt_flags,
    .opts_size = sizeof(struct jwt_opts),
    .run = run_jwt,
};
const struct cli_command srv_x509_mint = {
    .path = "x509 mint",
    .synopsis = "Mints an X509-SVID",
    .flags = x509_flags,
    .opts_size = sizeof(struct x509_opts),
    .run = run_x509,
};
