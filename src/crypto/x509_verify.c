/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_verify.h"

#include "base/text.h"
#include "crypto/x509_constraints.h"
#include "crypto/x509_verify_cache.h"

#define MAX_SIGNATURE_CHECKS 100

struct search {
    const struct x509_chain *given;
    const struct x509_verify_params *params;
    const struct x509_cert *path[X509_CHAIN_MAX + 1]; /* leaf first */
    size_t depth;
    unsigned checks;
    struct cs_err *e; /* the first telling failure of a candidate */
    bool told;
};

static cs_code fail_time(struct cs_err *e, int64_t now, const char *how, int64_t limit)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf a = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_time_rfc3339(&a, now);
    cs_time_rfc3339(&b, limit);
    return cs_fail(e, CS_UNAUTHENTICATED,
                   "x509: certificate has expired or is not yet valid: current time %s is %s %s",
                   cs_buf_cstr(&a), how, cs_buf_cstr(&b));
}

/* What holds for every certificate of a path. */
static cs_code check_alone(const struct x509_cert *c, int64_t now, struct cs_err *e)
{
    if (c->ext.unknown_critical)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509: unhandled critical extension");
    if (now < c->not_before)
        return fail_time(e, now, "before", c->not_before);
    if (now > c->not_after)
        return fail_time(e, now, "after", c->not_after);
    return CS_OK;
}

/* May `ca` stand above the path found so far? Everything but the signature and names. */
static cs_code check_issuer(const struct search *s, const struct x509_cert *ca, struct cs_err *e)
{
    CS_TRY(check_alone(ca, s->params->now, e));
    if (!ca->ext.has_basic_constraints || !ca->ext.is_ca)
        return cs_fail(e, CS_UNAUTHENTICATED,
                       "x509: certificate is not authorized to sign other certificates");
    if (ca->ext.has_key_usage && (ca->ext.key_usage & X509_KU_CERT_SIGN) == 0)
        return cs_fail(e, CS_UNAUTHENTICATED,
                       "x509: invalid signature: parent certificate cannot sign this kind of certificate");
    if (ca->ext.path_len >= 0 && s->depth - 1 > (size_t)ca->ext.path_len)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509: too many intermediates for path length constraint");
    return CS_OK;
}

static bool purpose_allowed(const struct x509_cert *c, enum x509_purpose purpose)
{
    uint32_t wanted = purpose == X509_PURPOSE_SERVER ? X509_EKU_SERVER_AUTH : X509_EKU_CLIENT_AUTH;
    return purpose == X509_PURPOSE_ANY || !c->ext.has_eku || (c->ext.eku & (wanted | X509_EKU_ANY)) != 0;
}

static void tell(struct search *s, const struct cs_err *why)
{
    if (!s->told)
        (void)cs_fail(s->e, CS_UNAUTHENTICATED, "%s", why->text);
    s->told = true;
}

/* Must the path have a certificate policy (RFC 5280, 6.1)? SVIDs have none, and we look at none: the answer
 * is about a path without. What the root says of this does not count. */
static bool needs_policy(const struct search *s)
{
    size_t left = s->depth;
    for (size_t i = s->depth - 1; i-- > 1;) {
        const struct x509_cert *ca = s->path[i];
        if (left == 0)
            return true;
        left -= !cs_slice_eq(ca->subject, ca->issuer);
        if (ca->ext.explicit_policy >= 0 && (size_t)ca->ext.explicit_policy < left)
            left = (size_t)ca->ext.explicit_policy;
    }
    return s->depth > 1 && (left <= 1 || s->path[0]->ext.explicit_policy == 0);
}

/* What is asked of a whole path. Constraints come last: only who holds a path to a root can make us compare
 * names. */
static bool path_is_good(struct search *s)
{
    struct cs_err why = {0};
    for (size_t i = 0; i < s->depth; i++)
        if (!purpose_allowed(s->path[i], s->params->purpose)) {
            (void)cs_fail(&why, CS_UNAUTHENTICATED, "x509: certificate specifies an incompatible key usage");
            tell(s, &why);
            return false;
        }
    if (needs_policy(s)) {
        (void)cs_fail(&why, CS_UNAUTHENTICATED,
                      "x509: no valid chains built: 1 candidate chains with invalid policies");
        tell(s, &why);
        return false;
    }
    for (size_t ca = 1; ca < s->depth; ca++)
        for (size_t i = 0; i < ca; i++)
            if (x509_check_name_constraints(s->path[ca], s->path[i], &why) != CS_OK) {
                tell(s, &why);
                return false;
            }
    return true;
}

/* Does `ca` sign the end of the path? Remembers why not. */
static bool candidate_fits(struct search *s, const struct x509_cert *ca)
{
    const struct x509_cert *child = s->path[s->depth - 1];
    struct cs_err why = {0};
    if (!cs_slice_eq(ca->subject, child->issuer) || s->checks >= MAX_SIGNATURE_CHECKS)
        return false;
    if (check_issuer(s, ca, &why) != CS_OK) {
        tell(s, &why);
        return false;
    }
    s->checks++;
    return x509_cert_check_signature(child, ca, NULL) == CS_OK;
}

static bool in_path(const struct search *s, const struct x509_cert *c)
{
    for (size_t i = 0; i < s->depth; i++)
        if (x509_cert_equal(s->path[i], c) ||
            (cs_slice_eq(s->path[i]->subject, c->subject) && cs_slice_eq(s->path[i]->spki, c->spki)))
            return true;
    return false;
}

static bool is_root(const struct x509_verify_params *p, const struct x509_cert *c)
{
    for (size_t i = 0; i < p->root_count; i++)
        if (x509_cert_equal(p->roots[i], c))
            return true;
    return false;
}

/* Depth-first: roots first, then the certificates that came with the leaf. */
static bool extend(struct search *s)
{
    for (size_t i = 0; i < s->params->root_count; i++) {
        const struct x509_cert *root = s->params->roots[i];
        if (!candidate_fits(s, root))
            continue;
        s->path[s->depth++] = root;
        if (path_is_good(s))
            return true;
        s->depth--;
    }
    if (s->depth >= X509_CHAIN_MAX)
        return false;
    for (size_t i = 1; i < s->given->count; i++) {
        const struct x509_cert *ca = s->given->at[i];
        if (in_path(s, ca) || !candidate_fits(s, ca))
            continue;
        s->path[s->depth++] = ca;
        if (extend(s))
            return true;
        s->depth--;
    }
    return false;
}

static cs_code find_path(struct search *s, struct cs_err *e)
{
    const struct x509_cert *leaf = s->given->at[0];
    CS_TRY(check_alone(leaf, s->params->now, e));
    s->path[s->depth++] = leaf;
    if (is_root(s->params, leaf) && path_is_good(s))
        return CS_OK;
    if (extend(s))
        return CS_OK;
    if (s->told)
        return CS_UNAUTHENTICATED;
    return cs_fail(e, CS_UNAUTHENTICATED, "x509: certificate signed by unknown authority");
}

static const struct x509_cert *root_by_hash(const struct x509_verify_params *p, const uint8_t sha256[32])
{
    for (size_t i = 0; i < p->root_count; i++)
        if (memcmp(p->roots[i]->sha256, sha256, 32) == 0)
            return p->roots[i];
    return NULL;
}

static bool cached(const struct x509_verify_params *p, const struct x509_verified *v,
                   const struct x509_cert **root, int64_t *expires)
{
    if (p->now < v->not_before || p->now > v->not_after)
        return false;
    const struct x509_cert *found = root_by_hash(p, v->root_sha256);
    if (found == NULL)
        return false;
    *root = found;
    *expires = v->not_after;
    return true;
}

static struct x509_verified verdict(const struct search *s)
{
    struct x509_verified v = {.not_before = INT64_MIN, .not_after = INT64_MAX};
    for (size_t i = 0; i < s->depth; i++) {
        if (s->path[i]->not_before > v.not_before)
            v.not_before = s->path[i]->not_before;
        if (s->path[i]->not_after < v.not_after)
            v.not_after = s->path[i]->not_after;
    }
    memcpy(v.root_sha256, s->path[s->depth - 1]->sha256, 32);
    return v;
}

cs_code x509_verify(const struct x509_chain *chain, const struct x509_verify_params *params,
                    const struct x509_cert **root, int64_t *expires, struct cs_err *e)
{
    const struct x509_cert *found_root = NULL;
    int64_t found_expires = 0;
    struct x509_verify_key key;
    struct x509_verified v;
    bool keyed = false;
    if (root != NULL)
        *root = NULL;
    if (expires != NULL)
        *expires = 0;
    if (chain->count == 0 || chain->count > X509_CHAIN_MAX)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509: chain of %zu certificates", chain->count);
    if (params->cache != NULL && params->roots_id != 0)
        keyed = x509_verify_key_make(chain, params, &key);
    bool hit = keyed && x509_verify_cache_get(params->cache, &key, &v) &&
               cached(params, &v, &found_root, &found_expires);
    if (!hit) {
        struct search s = {.given = chain, .params = params, .e = e};
        CS_TRY(find_path(&s, e));
        v = verdict(&s);
        found_root = s.path[s.depth - 1];
        found_expires = v.not_after;
        if (keyed)
            x509_verify_cache_put(params->cache, &key, &v);
    }
    if (root != NULL)
        *root = found_root;
    if (expires != NULL)
        *expires = found_expires;
    return CS_OK;
}
