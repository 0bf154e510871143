/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/kubernetes/sat_token.h"

#include "base/file.h"
#include "crypto/der.h"
#include "crypto/jose.h"
#include "crypto/pem.h"

#define KEY_FILE_MAX ((size_t)1 << 20)
#define JOSE "go-jose/go-jose/jwt: validation failed, "

/* --- Keys --- */

void sat_keys_free(struct sat_keys *k)
{
    for (size_t i = 0; i < k->count; i++)
        crypto_pub_unref(k->at[i]);
    *k = (struct sat_keys){0};
}

/* RSAPublicKey (RFC 8017, appendix A.1.1). */
static cs_code read_pkcs1(struct cs_slice der, struct crypto_pub **out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(der), in;
    struct cs_slice n, exp;
    if (!der_enter(&r, DER_SEQUENCE, &in) || cs_rd_left(&r) != 0 || !der_read_uint(&in, &n) ||
        !der_read_uint(&in, &exp) || cs_rd_left(&in) != 0)
        return cs_fail(e, CS_INVALID, "RSA PUBLIC KEY is malformed");
    return crypto_pub_from_rsa(n, exp, out, e);
}

static cs_code read_certificate(struct cs_slice der, struct crypto_pub **out, struct cs_err *e)
{
    struct x509_cert *cert = NULL;
    CS_TRY(x509_cert_parse(der, &cert, e));
    cs_code rc = x509_cert_pub(cert, out, e);
    x509_cert_unref(cert);
    return rc;
}

static cs_code read_block(const struct pem_block *b, struct crypto_pub **out, struct cs_err *e)
{
    *out = NULL;
    if (cs_slice_is(b->type, "PUBLIC KEY"))
        return crypto_pub_parse(b->der, out, e);
    if (cs_slice_is(b->type, "RSA PUBLIC KEY"))
        return read_pkcs1(b->der, out, e);
    if (cs_slice_is(b->type, PEM_CERTIFICATE))
        return read_certificate(b->der, out, e);
    return CS_OK;
}

cs_code sat_keys_parse(struct cs_slice pem, struct sat_keys *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf scratch = {0};
    struct cs_rd text = cs_rd_of(pem);
    struct pem_block block;
    cs_code rc = CS_OK;
    while (rc == CS_OK && pem_next(&text, &scratch, &block)) {
        if (out->count == SAT_KEYS_MAX)
            rc = cs_fail(e, CS_EXHAUSTED, "more than %d keys", SAT_KEYS_MAX);
        else
            rc = read_block(&block, &out->at[out->count], e);
        if (rc == CS_OK && out->at[out->count] != NULL)
            out->count++;
    }
    if (rc == CS_OK && !cs_buf_ok(&scratch))
        rc = cs_nomem(e);
    if (rc != CS_OK)
        sat_keys_free(out);
    return rc;
}

cs_code sat_keys_load(const char *path, struct sat_keys *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_TRY(cs_file_read(path, KEY_FILE_MAX, &pem, e));
    return sat_keys_parse(cs_buf_slice(&pem), out, e);
}

/* --- Tokens --- */

static cs_code check_signature(const struct jose_jws *j, const struct sat_keys *keys, struct cs_err *e)
{
    struct cs_err why = {0};
    for (size_t i = 0; i < keys->count; i++)
        if (jose_verify(j, keys->at[i], &why) == CS_OK)
            return CS_OK;
    if (keys->count == 0)
        return cs_fail(e, CS_INVALID, "token signed by unknown authority");
    return cs_fail(e, CS_INVALID, "unable to verify token: %s", why.text);
}

/* A NumericDate (RFC 7519, section 2), fractions cut, far-off ones as good as their limits so that sums do
 * not overflow; false: there is none, as with 0. */
static bool read_date(const json_t *claims, const char *name, int64_t *out)
{
    const int64_t limit = INT64_C(1) << 53;
    const json_t *v = json_object_get(claims, name);
    const double real = json_real_value(v); /* 0 for integers */
    if (json_is_real(v))
        *out = real > 9e15 ? limit : real < -9e15 ? -limit : (int64_t)real;
    else
        *out = json_integer_value(v);
    *out = *out > limit ? limit : *out < -limit ? -limit : *out;
    return json_is_number(v) && *out != 0;
}

static cs_code check_time(const json_t *claims, int64_t now, bool *expires, struct cs_err *e)
{
    int64_t exp, nbf, iat;
    *expires = read_date(claims, "exp", &exp);
    if (!*expires)
        return CS_OK;
    if (read_date(claims, "nbf", &nbf) && now + SAT_LEEWAY_S < nbf)
        return cs_fail(e, CS_INVALID, "unable to validate token claims: " JOSE "token not valid yet (nbf)");
    if (now - SAT_LEEWAY_S > exp)
        return cs_fail(e, CS_INVALID, "unable to validate token claims: " JOSE "token is expired (exp)");
    if (read_date(claims, "iat", &iat) && now + SAT_LEEWAY_S < iat)
        return cs_fail(e, CS_INVALID,
                       "unable to validate token claims: " JOSE "token issued in the future (iat)");
    return CS_OK;
}

/* One of the two forms has it, the legacy or the projected one. */
static cs_code pick(const char *legacy, const char *projected, const char *what, struct cs_arena *a,
                    const char **out, struct cs_err *e)
{
    if (legacy[0] == '\0' && projected[0] == '\0')
        return cs_fail(e, CS_INVALID, "error parsing token claims: token missing %s claim", what);
    if (legacy[0] != '\0' && projected[0] != '\0')
        return cs_fail(e, CS_INVALID, "error parsing token claims: malformed token: %s found in two claims",
                       what);
    const char *value = legacy[0] != '\0' ? legacy : projected;
    if (strchr(value, ':') != NULL) /* no name in Kubernetes has one; it would read as another account */
        return cs_fail(e, CS_INVALID, "error parsing token claims: malformed token: %s has a colon", what);
    *out = cs_arena_strdup(a, value);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

static cs_code read_names(const json_t *claims, struct cs_arena *a, struct sat_claims *out, struct cs_err *e)
{
    static const char *const namespace[] = {"kubernetes.io", "namespace", NULL};
    static const char *const account[] = {"kubernetes.io", "serviceaccount", "name", NULL};
    CS_TRY(pick(kube_text(claims, "kubernetes.io/serviceaccount/namespace"), kube_text_at(claims, namespace),
                "namespace", a, &out->namespace, e));
    return pick(kube_text(claims, "kubernetes.io/serviceaccount/service-account.name"),
                kube_text_at(claims, account), "service account name", a, &out->account, e);
}

cs_code sat_token_verify(struct cs_slice token, const struct sat_keys *keys, int64_t now, struct cs_arena *a,
                         struct sat_claims *out, struct cs_err *e)
{
    CS_CLEANUP(jose_jws_free) struct jose_jws j = {0};
    struct cs_err why = {0};
    *out = (struct sat_claims){0};
    if (jose_parse(token, &j, &why) != CS_OK)
        return cs_fail(e, CS_INVALID, "unable to parse token: %s", why.text);
    CS_TRY(check_signature(&j, keys, e));
    CS_CLEANUP(kube_json_drop)
    json_t *claims = json_loadb((const char *)j.payload.data, j.payload.len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(claims))
        return cs_fail(e, CS_INVALID, "unable to verify token: its claims are not a JSON object");
    CS_TRY(check_time(claims, now, &out->expires, e));
    return read_names(claims, a, out, e);
}
