/* SPDX-License-Identifier: Apache-2.0
 *
 * UpstreamAuthority "disk": a CA certificate and key in files. They are read again for each request;
 * when that fails, the last ones that were good go on serving.
 */
#include "base/file.h"
#include "config/plugin_config.h"
#include "crypto/pem.h"
#include "crypto/x509_csr.h"
#include "crypto/x509_issue.h"
#include "crypto/x509_verify.h"
#include "plugin/upstreamauthority.h"
#include "spiffe/id.h"

#include <pthread.h>

#define FILE_MAX ((size_t)1024 * 1024)
#define CERTS_MAX 1000
#define DEFAULT_TTL_S 3600
#define BACKDATE_S 10

struct files {
    char *cert, *key, *bundle; /* paths; bundle "" when there is none */
};
/* What was read from them. */
struct upstream {
    struct x509_issuer *issuer;
    struct x509_chain intermediates; /* sent along: the CA certificate and what it came with */
    struct x509_chain roots;
};
struct disk {
    const struct plugin_env *env;
    pthread_mutex_t lock;
    struct files files;
    struct upstream current;
};

static void files_free(struct files *f)
{
    cs_free(f->cert);
    cs_free(f->key);
    cs_free(f->bundle);
    *f = (struct files){0};
}

static void upstream_free(struct upstream *u)
{
    x509_issuer_unref(u->issuer);
    x509_chain_free(&u->intermediates);
    x509_chain_free(&u->roots);
    *u = (struct upstream){0};
}

/* --- Reading the files --- */

static cs_code load_key(const char *path, struct crypto_key **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf pem = {0};
    if (!cs_buf_reserve(&pem, 16 * 1024))
        return cs_nomem(e);
    CS_TRY(cs_file_read(path, FILE_MAX, &pem, e));
    return crypto_key_parse_pem(cs_buf_slice(&pem), out, e);
}

static cs_code load_certs(const char *path, struct x509_chain *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_TRY(cs_file_read(path, FILE_MAX, &pem, e));
    return x509_chain_parse_pem(cs_buf_slice(&pem), CERTS_MAX, out, e);
}

/* Does the CA certificate lead to the bundle (or to itself)? */
static cs_code check_trusted(const struct x509_chain *certs, const struct x509_chain *roots, int64_t now,
                             struct cs_err *e)
{
    const struct x509_verify_params params = {
        .roots = (const struct x509_cert *const *)roots->at,
        .root_count = roots->count,
        .now = now,
        /* Go's default when none is asked for. */
        .purpose = X509_PURPOSE_SERVER,
    };
    if (x509_verify(certs, &params, NULL, NULL, NULL) == CS_OK)
        return CS_OK;
    return cs_fail(
        e, CS_INVALID,
        "unable to load upstream CA: certificate cannot be validated with the provided bundle or is "
        "not self-signed");
}

static cs_code make_issuer(const struct x509_cert *cert, struct crypto_key *key, struct x509_issuer **out,
                           struct cs_err *e)
{
    struct crypto_pub *pub = NULL;
    CS_TRY(x509_cert_pub(cert, &pub, e));
    if (!crypto_pub_equal(pub, crypto_key_pub(key)))
        return cs_fail(e, CS_INVALID, "unable to load upstream CA: certificate and private key do not match");
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(crypto_signer_of_key(key, &signer, e));
    return x509_issuer_new(cert, signer, out, e);
}

static cs_code load_files(const struct files *f, int64_t now, struct upstream *u, struct cs_err *e)
{
    CS_AUTO(crypto_key) key = NULL;
    cs_code rc = load_key(f->key, &key, e);
    if (rc != CS_OK)
        return cs_wrap(e, "unable to load upstream CA key");
    CS_CLEANUP(x509_chain_free) struct x509_chain certs = {0};
    if (load_certs(f->cert, &certs, e) != CS_OK)
        return cs_wrap(e, "unable to load upstream CA cert");

    if (f->bundle[0] == '\0') {
        /* Without a bundle the CA must be its own root, and is not sent along. */
        if (certs.count != 1)
            return cs_fail(e, CS_INVALID,
                           "with no bundle_file_path configured only self-signed CAs are supported");
        CS_TRY(x509_chain_copy(&certs, &u->roots, e));
    } else {
        if (load_certs(f->bundle, &u->roots, e) != CS_OK)
            return cs_wrap(e, "unable to load upstream CA bundle");
        CS_TRY(x509_chain_copy(&certs, &u->intermediates, e));
    }
    CS_TRY(make_issuer(certs.at[0], key, &u->issuer, e));
    return check_trusted(&certs, &u->roots, now, e);
}

/* Files at fault are the configuration's fault. */
static cs_code load(const struct files *f, int64_t now, struct upstream *u, struct cs_err *e)
{
    cs_code rc = load_files(f, now, u, e);
    if (rc == CS_OK)
        return CS_OK;
    upstream_free(u);
    if (e != NULL)
        e->code = CS_INVALID;
    return CS_INVALID;
}

/* --- Signing --- */

static cs_code check_csr(const struct x509_csr *csr, const char *trust_domain, struct cs_slice *uri,
                         struct cs_err *e)
{
    if (x509_csr_verify(csr, e) != CS_OK)
        return cs_wrap(e, "CSR signature check failed");
    if (csr->ext.san.uris != 1 || !x509_san_get(&csr->ext.san, X509_SAN_URI, 0, uri))
        return cs_fail(e, CS_INVALID, "CSR must have exactly one URI SAN");
    struct spiffe_id id;
    if (spiffe_id_parse(*uri, &id, e) != CS_OK)
        return cs_wrap(e, "CSR with SPIFFE ID \"%.*s\" is invalid", (int)uri->len, (const char *)uri->data);
    if (!cs_slice_is(spiffe_id_td(id), trust_domain) || spiffe_id_path(id).len != 0)
        return cs_fail(
            e, CS_INVALID,
            "CSR with SPIFFE ID \"%.*s\" is invalid: must use the trust domain ID for trust domain "
            "\"%s\"",
            (int)uri->len, (const char *)uri->data, trust_domain);
    return CS_OK;
}

static cs_code sign(const struct disk *d, const struct upstream *u, struct cs_slice der, int64_t ttl_s,
                    struct cs_buf *out, struct cs_err *e)
{
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, e) != CS_OK)
        return cs_wrap(e, "unable to parse CSR");
    struct cs_slice uri;
    CS_TRY(check_csr(&csr, d->env->trust_domain, &uri, e));
    int64_t now = cs_now_s(d->env->clock);
    int64_t end = now + (ttl_s > 0 ? ttl_s : DEFAULT_TTL_S);
    int64_t cap = x509_issuer_cert(u->issuer)->not_after;
    const struct x509_issue_params params = {
        .spki = csr.spki,
        .subject = csr.subject,
        .uri = uri,
        .not_before = now - BACKDATE_S,
        .not_after = end < cap ? end : cap,
        .extra = csr.extensions,
    };
    return x509_issue_ca(u->issuer, &params, out, NULL, e);
}

static cs_code fill(const struct upstream *u, struct cs_slice ca, struct upstreamauthority_result *out,
                    struct cs_err *e)
{
    if (upstreamauthority_result_add_cert(out, ca) != CS_OK)
        return cs_nomem(e);
    for (size_t i = 0; i < u->intermediates.count; i++)
        if (upstreamauthority_result_add_cert(out, u->intermediates.at[i]->der) != CS_OK)
            return cs_nomem(e);
    for (size_t i = 0; i < u->roots.count; i++)
        if (upstreamauthority_result_add_root(out, u->roots.at[i]->der, false) != CS_OK)
            return cs_nomem(e);
    return CS_OK;
}

static cs_code mint(struct disk *d, struct cs_slice csr, int64_t ttl_s, struct upstreamauthority_result *out,
                    struct cs_err *e)
{
    struct upstream fresh = {0};
    struct cs_err fault;
    if (load(&d->files, cs_now_s(d->env->clock), &fresh, &fault) == CS_OK) {
        upstream_free(&d->current);
        d->current = fresh;
    } else if (d->current.issuer == NULL) {
        return cs_fail(e, CS_UNKNOWN, "no cached CA and failed to load CA: %s", fault.text);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf ca = {0};
    if (sign(d, &d->current, csr, ttl_s, &ca, e) != CS_OK) {
        (void)cs_wrap(e, "unable to sign CSR");
        if (e != NULL)
            e->code = CS_INTERNAL;
        return CS_INTERNAL;
    }
    cs_code rc = fill(&d->current, cs_buf_slice(&ca), out, e);
    if (rc != CS_OK)
        upstreamauthority_result_free(out);
    return rc;
}

static cs_code mint_x509_ca(void *self, struct cs_slice csr, int64_t ttl_s,
                            struct upstreamauthority_result *out, struct cs_err *e)
{
    struct disk *d = self;
    *out = (struct upstreamauthority_result){0};
    pthread_mutex_lock(&d->lock);
    cs_code rc = mint(d, csr, ttl_s, out, e);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    *self = NULL;
    CS_CLEANUP(cs_freep) struct disk *d = cs_calloc(1, sizeof *d);
    if (d == NULL)
        return cs_nomem(e);
    d->env = env;
    int rc = pthread_mutex_init(&d->lock, NULL);
    if (rc != 0)
        return cs_fail_errno(e, CS_INTERNAL, rc, "upstream authority lock");
    *self = CS_MOVE(d);
    return CS_OK;
}

static void destroy(void *self)
{
    struct disk *d = self;
    if (d == NULL)
        return;
    files_free(&d->files);
    upstream_free(&d->current);
    pthread_mutex_destroy(&d->lock);
    cs_free(d);
}

static cs_code read_config(struct cs_slice data, struct files *f, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_upstream_disk cfg;
    CS_TRY(config_read_upstream_disk(data, a, &cfg, e));
    f->cert = cs_strdup(cfg.cert_file_path);
    f->key = cs_strdup(cfg.key_file_path);
    f->bundle = cs_strdup(cfg.bundle_file_path);
    return f->cert != NULL && f->key != NULL && f->bundle != NULL ? CS_OK : cs_nomem(e);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct disk *d = self;
    CS_CLEANUP(files_free) struct files files = {0};
    CS_TRY(read_config(data, &files, e));
    struct upstream fresh = {0};
    CS_TRY(load(&files, cs_now_s(d->env->clock), &fresh, e));
    pthread_mutex_lock(&d->lock);
    upstream_free(&d->current);
    d->current = fresh;
    struct files old = d->files;
    d->files = files;
    files = old;
    pthread_mutex_unlock(&d->lock);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_CLEANUP(files_free) struct files files = {0};
    struct cs_err fault;
    return plugin_notes_fault(notes, read_config(data, &files, &fault), &fault, e);
}

static const struct upstreamauthority_ops ops = {.mint_x509_ca = mint_x509_ca};

const struct plugin_builtin plugin_upstreamauthority_disk = {
    .name = "disk",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
