/* SPDX-License-Identifier: Apache-2.0
 *
 * An UpstreamAuthority written with nothing but the kit and libcrypto, whose trust changes of itself.
 *
 * plugin_data: root, a PEM file with certificate and key that sign; more, a PEM certificate that is trusted
 * as well as soon as it is there. A thread looks for it.
 */
#include <cspire/plugin.h>

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct self {
    struct cspire_env *env;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t watcher;
    bool watching, ending;
    X509 *root, *more;
    EVP_PKEY *key;
    char *more_path;
};

static X509 *read_certificate(const char *path)
{
    FILE *f = fopen(path, "re");
    X509 *x = f != NULL ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    if (f != NULL)
        fclose(f);
    return x;
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *f = fopen(path, "re");
    EVP_PKEY *k = f != NULL ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
    if (f != NULL)
        fclose(f);
    return k;
}

/* DER in memory of the call. */
static struct cspire_bytes der_of(struct cspire_call *call, X509 *x)
{
    int len = i2d_X509(x, NULL);
    unsigned char *der = len > 0 ? cspire_alloc(call, (size_t)len) : NULL, *p = der;
    if (der != NULL)
        len = i2d_X509(x, &p);
    return (struct cspire_bytes){der, der != NULL && len > 0 ? (size_t)len : 0};
}

/* All roots there are. Under the lock. */
static size_t roots_of(struct self *s, struct cspire_call *call, struct cspire_authority out[2])
{
    size_t n = 0;
    out[n++] = (struct cspire_authority){der_of(call, s->root), false};
    if (s->more != NULL)
        out[n++] = (struct cspire_authority){der_of(call, s->more), false};
    return n;
}

/* --- Changes --- */

static void *watch(void *arg)
{
    struct self *s = arg;
    struct cspire_call *call = cspire_call_new(s->env);
    pthread_mutex_lock(&s->lock);
    while (call != NULL && !s->ending && s->more == NULL) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 50000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&s->changed, &s->lock, &until);
        s->more = read_certificate(s->more_path);
    }
    struct cspire_authority roots[2];
    size_t n = call != NULL && s->more != NULL ? roots_of(s, call, roots) : 0;
    pthread_mutex_unlock(&s->lock);
    if (n > 0)
        cspire_logf(s->env, CSPIRE_INFO, "pushed %zu roots: %d", n,
                    (int)cspire_push_authorities(s->env, roots, n));
    cspire_call_free(call);
    return NULL;
}

/* --- Signing --- */

static bool add_extension(X509 *x, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    bool ok = e != NULL && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

/* The name the CSR asks for, which is the trust domain's. */
static bool copy_names(X509 *x, X509_REQ *csr)
{
    STACK_OF(X509_EXTENSION) *asked = X509_REQ_get_extensions(csr);
    int at = X509v3_get_ext_by_NID(asked, NID_subject_alt_name, -1);
    bool ok = at >= 0 && X509_add_ext(x, X509v3_get_ext(asked, at), -1) == 1;
    sk_X509_EXTENSION_pop_free(asked, X509_EXTENSION_free);
    return ok;
}

static bool fill(struct self *s, X509 *x, X509_REQ *csr, int64_t ttl_s)
{
    uint64_t serial = 0;
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, s->root, x, NULL, NULL, 0);
    return RAND_bytes((unsigned char *)&serial, sizeof serial) == 1 && X509_set_version(x, 2) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) == 1 &&
           X509_set_issuer_name(x, X509_get_subject_name(s->root)) == 1 &&
           X509_set_subject_name(x, X509_REQ_get_subject_name(csr)) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), -10) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(x), ttl_s > 0 ? (long)ttl_s : 3600) != NULL &&
           X509_set_pubkey(x, X509_REQ_get0_pubkey(csr)) == 1 && copy_names(x, csr) &&
           add_extension(x, &ctx, NID_basic_constraints, "critical,CA:TRUE") &&
           add_extension(x, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           add_extension(x, &ctx, NID_subject_key_identifier, "hash") &&
           add_extension(x, &ctx, NID_authority_key_identifier, "keyid") &&
           X509_sign(x, s->key, EVP_sha256()) > 0;
}

static enum cspire_code mint(void *arg, struct cspire_call *call, struct cspire_bytes csr_der, int64_t ttl_s)
{
    struct self *s = arg;
    const unsigned char *p = csr_der.data;
    X509_REQ *csr = d2i_X509_REQ(NULL, &p, (long)csr_der.len);
    X509 *x = X509_new();
    enum cspire_code code = CSPIRE_OK;
    pthread_mutex_lock(&s->lock);
    if (csr == NULL || X509_REQ_verify(csr, X509_REQ_get0_pubkey(csr)) != 1)
        code = cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "the request is not a signed request");
    else if (s->root == NULL || x == NULL || !fill(s, x, csr, ttl_s))
        code = cspire_fail(call, CSPIRE_INTERNAL, "the certificate cannot be made");
    if (code == CSPIRE_OK)
        code = cspire_reply_certificate(call, der_of(call, x));
    struct cspire_authority roots[2];
    size_t n = code == CSPIRE_OK ? roots_of(s, call, roots) : 0;
    for (size_t i = 0; code == CSPIRE_OK && i < n; i++)
        code = cspire_reply_authority(call, &roots[i]);
    pthread_mutex_unlock(&s->lock);
    X509_REQ_free(csr);
    X509_free(x);
    return code;
}

/* What is published is known, and one key of ours beside it, pushed right after. */
static enum cspire_code publish(void *arg, struct cspire_call *call, const struct cspire_jwt_key *key)
{
    struct self *s = arg;
    struct cspire_jwt_key keys[2] = {*key, *key};
    keys[1].key_id = "from-above";
    enum cspire_code code = cspire_reply_jwt_key(call, key);
    if (code == CSPIRE_OK && cspire_push_jwt_keys(s->env, keys, 2) != CSPIRE_OK)
        code = cspire_fail(call, CSPIRE_INTERNAL, "nobody listens");
    return code;
}

static const struct cspire_upstream_authority_ops ops = {
    .size = sizeof ops, .mint_x509_ca = mint, .publish_jwt_key = publish};

/* --- Life --- */

static enum cspire_code create(struct cspire_call *call, void **out)
{
    struct self *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    s->env = cspire_call_env(call);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    *out = s;
    return CSPIRE_OK;
}

static void destroy(void *arg)
{
    struct self *s = arg;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->watching)
        pthread_join(s->watcher, NULL);
    X509_free(s->root);
    X509_free(s->more);
    EVP_PKEY_free(s->key);
    free(s->more_path);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Once is enough for a test. */
static enum cspire_code configure(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct self *s = arg;
    const char *root = "", *more = "";
    enum cspire_code code = cspire_config_string(call, config, "root", &root);
    if (code == CSPIRE_OK)
        code = cspire_config_string(call, config, "more", &more);
    if (code != CSPIRE_OK || s->watching)
        return code;
    s->root = read_certificate(root);
    s->key = read_key(root);
    s->more_path = strdup(more);
    if (s->root == NULL || s->key == NULL || s->more_path == NULL)
        return cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "root holds no certificate and key");
    s->watching = pthread_create(&s->watcher, NULL, watch, s) == 0;
    return s->watching ? CSPIRE_OK : cspire_fail(call, CSPIRE_INTERNAL, "no thread");
}

static const struct cspire_plugin plugin = {.size = sizeof plugin,
                                            .kind = CSPIRE_UPSTREAM_AUTHORITY,
                                            .ops = {.upstream_authority = &ops},
                                            .create = create,
                                            .destroy = destroy,
                                            .configure = configure};

int main(int argc, char **argv)
{
    return cspire_plugin_main(argc, argv, &plugin);
}
