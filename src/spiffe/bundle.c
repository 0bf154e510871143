/* SPDX-License-Identifier: Apache-2.0
 *
 * The bundle and its builder. A builder collects in growing lists; build() moves them into the bundle.
 */
#include "spiffe/bundle.h"

#include "crypto/x509_verify.h"

#include <stdatomic.h>

/* The public part first: a pointer to it is a pointer to the whole. The public tables are the lists' own
 * memory. */
struct bundle {
    struct spiffe_bundle pub;
    atomic_uint refs;
    char *trust_domain;
    struct spiffe_x509_authority *x509;
    const struct x509_cert **roots;
    struct key_list *jwt, *wit;
};

/* JWT and WIT authorities with the memory behind them. `keys` runs parallel to `at`. */
struct key_list {
    struct spiffe_jwt_authority *at;
    struct crypto_pub **keys;
    size_t count;
};

struct spiffe_bundle_builder {
    struct cs_slice trust_domain; /* owned */
    struct x509_chain certs;
    bool *tainted; /* parallel to certs */
    struct key_list *jwt, *wit;
    int64_t refresh_hint;
    uint64_t sequence_number;
    bool failed; /* out of memory somewhere */
};

static struct bundle *bundle_of(const struct spiffe_bundle *b)
{
    return (struct bundle *)(uintptr_t)b;
}

/* --- Lists of keys --- */

static void key_free(struct key_list *l, size_t i)
{
    cs_free((void *)(uintptr_t)l->at[i].kid); /* the SPKI is the key's own */
    crypto_pub_unref(l->keys[i]);
}

static void list_clear(struct key_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        key_free(l, i);
    cs_free(l->at);
    cs_free(l->keys);
    *l = (struct key_list){0};
}

static void list_free(struct key_list *l)
{
    if (l == NULL)
        return;
    list_clear(l);
    cs_free(l);
}

static bool list_grow(struct key_list *l)
{
    void *at = cs_realloc(l->at, (l->count + 1) * sizeof *l->at);
    if (at == NULL)
        return false;
    l->at = at;
    void *keys = cs_realloc(l->keys, (l->count + 1) * sizeof(struct crypto_pub *));
    if (keys == NULL)
        return false;
    l->keys = keys;
    return true;
}

/* Takes a reference to key; replaces the authority of the same kid in its place. */
static cs_code list_put(struct key_list *l, struct cs_slice kid, struct crypto_pub *key, int64_t expires_at,
                        bool tainted, struct cs_err *e)
{
    char *name = cs_strndup((const char *)kid.data, kid.len);
    size_t i = 0;
    while (i < l->count && !cs_slice_is(kid, l->at[i].kid))
        i++;
    if (name == NULL || (i == l->count && !list_grow(l))) {
        cs_free(name);
        return cs_nomem(e);
    }
    if (i == l->count)
        l->count++;
    else
        key_free(l, i);
    l->keys[i] = crypto_pub_ref(key);
    l->at[i] = (struct spiffe_jwt_authority){name, crypto_pub_spki(key), expires_at, tainted};
    return CS_OK;
}

/* --- Bundle --- */

struct spiffe_bundle *spiffe_bundle_ref(const struct spiffe_bundle *b)
{
    atomic_fetch_add_explicit(&bundle_of(b)->refs, 1, memory_order_relaxed);
    return &bundle_of(b)->pub;
}

void spiffe_bundle_unref(const struct spiffe_bundle *bundle)
{
    if (bundle == NULL)
        return;
    struct bundle *b = bundle_of(bundle);
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < b->pub.x509_count; i++)
        x509_cert_unref(b->x509[i].cert);
    cs_free(b->x509);
    cs_free(b->roots);
    cs_free(b->trust_domain);
    list_free(b->jwt);
    list_free(b->wit);
    cs_free(b);
}

static bool keys_equal(const struct spiffe_jwt_authority *a, size_t a_count,
                       const struct spiffe_jwt_authority *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (strcmp(a[i].kid, b[i].kid) != 0 || !cs_slice_eq(a[i].spki, b[i].spki) ||
            a[i].expires_at != b[i].expires_at || a[i].tainted != b[i].tainted)
            return false;
    return true;
}

bool spiffe_bundle_same_authorities(const struct spiffe_bundle *a, const struct spiffe_bundle *b)
{
    if (strcmp(a->trust_domain, b->trust_domain) != 0 || a->x509_count != b->x509_count)
        return false;
    for (size_t i = 0; i < a->x509_count; i++)
        if (!x509_cert_equal(a->x509[i].cert, b->x509[i].cert) || a->x509[i].tainted != b->x509[i].tainted)
            return false;
    return keys_equal(a->jwt, a->jwt_count, b->jwt, b->jwt_count) &&
           keys_equal(a->wit, a->wit_count, b->wit, b->wit_count);
}

bool spiffe_bundle_equal(const struct spiffe_bundle *a, const struct spiffe_bundle *b)
{
    return a->refresh_hint == b->refresh_hint && a->sequence_number == b->sequence_number &&
           spiffe_bundle_same_authorities(a, b);
}

const struct spiffe_jwt_authority *spiffe_bundle_find_jwt(const struct spiffe_bundle *b, struct cs_slice kid)
{
    for (size_t i = 0; i < b->jwt_count; i++)
        if (cs_slice_is(kid, b->jwt[i].kid))
            return &b->jwt[i];
    return NULL;
}

const struct spiffe_x509_authority *spiffe_bundle_find_x509(const struct spiffe_bundle *b, struct cs_slice id)
{
    const struct spiffe_x509_authority *found = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    for (size_t i = 0; i < b->x509_count && found == NULL && id.len > 0; i++) {
        cs_buf_reset(&hex);
        x509_cert_key_id_hex(&hex, b->x509[i].cert);
        if (cs_slice_eq(cs_buf_slice(&hex), id))
            found = &b->x509[i];
    }
    return found;
}

cs_code spiffe_bundle_jwt_pub(const struct spiffe_bundle *bundle, const struct spiffe_jwt_authority *a,
                              struct crypto_pub **out, struct cs_err *e)
{
    const struct bundle *b = bundle_of(bundle);
    const struct key_list *lists[] = {b->jwt, b->wit};
    *out = NULL;
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < lists[i]->count; j++)
            if (&lists[i]->at[j] == a) {
                *out = lists[i]->keys[j];
                return CS_OK;
            }
    return cs_fail(e, CS_INVALID, "JWT authority is not one of this bundle");
}

int64_t spiffe_bundle_refresh_seconds(const struct spiffe_bundle *b)
{
    int64_t seconds = b->refresh_hint;
    if (seconds <= 0 && b->x509_count > 0) {
        int64_t shortest = INT64_MAX;
        for (size_t i = 0; i < b->x509_count; i++) {
            int64_t life = b->x509[i].cert->not_after - b->x509[i].cert->not_before;
            shortest = life < shortest ? life : shortest;
        }
        seconds = shortest / 10;
    }
    return seconds < 60 ? 60 : seconds;
}

/* --- Builder --- */

cs_code spiffe_bundle_builder_new(struct cs_slice trust_domain, struct spiffe_bundle_builder **out,
                                  struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(spiffe_bundle_builder) b = cs_calloc(1, sizeof *b);
    if (b == NULL)
        return cs_nomem(e);
    b->jwt = cs_calloc(1, sizeof *b->jwt);
    b->wit = cs_calloc(1, sizeof *b->wit);
    char *td = cs_strndup(trust_domain.len ? (const char *)trust_domain.data : "", trust_domain.len);
    b->trust_domain = cs_slice_of(td, trust_domain.len);
    if (td == NULL || b->jwt == NULL || b->wit == NULL)
        return cs_nomem(e);
    *out = CS_MOVE(b);
    return CS_OK;
}

static cs_code copy_keys(const struct key_list *from, struct key_list *to, struct cs_err *e)
{
    for (size_t i = 0; i < from->count; i++)
        CS_TRY(list_put(to, cs_slice_str(from->at[i].kid), from->keys[i], from->at[i].expires_at,
                        from->at[i].tainted, e));
    return CS_OK;
}

cs_code spiffe_bundle_builder_from(const struct spiffe_bundle *from, struct spiffe_bundle_builder **out,
                                   struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str(from->trust_domain), &b, e));
    for (size_t i = 0; i < from->x509_count; i++)
        CS_TRY(spiffe_bundle_add_x509(b, from->x509[i].cert, from->x509[i].tainted, e));
    CS_TRY(copy_keys(bundle_of(from)->jwt, b->jwt, e));
    CS_TRY(copy_keys(bundle_of(from)->wit, b->wit, e));
    b->refresh_hint = from->refresh_hint;
    b->sequence_number = from->sequence_number;
    *out = CS_MOVE(b);
    return CS_OK;
}

void spiffe_bundle_builder_free(struct spiffe_bundle_builder *b)
{
    if (b == NULL)
        return;
    cs_free((void *)(uintptr_t)b->trust_domain.data);
    x509_chain_free(&b->certs);
    cs_free(b->tainted);
    list_free(b->jwt);
    list_free(b->wit);
    cs_free(b);
}

cs_code spiffe_bundle_add_x509(struct spiffe_bundle_builder *b, const struct x509_cert *cert, bool tainted,
                               struct cs_err *e)
{
    for (size_t i = 0; i < b->certs.count; i++)
        if (x509_cert_equal(b->certs.at[i], cert)) {
            b->tainted[i] |= tainted;
            return CS_OK;
        }
    bool *flags = cs_realloc(b->tainted, (b->certs.count + 1) * sizeof *flags);
    b->failed |= flags == NULL;
    if (flags == NULL)
        return cs_nomem(e);
    b->tainted = flags;
    b->tainted[b->certs.count] = tainted;
    cs_code code = x509_chain_add(&b->certs, cert, e);
    b->failed |= code != CS_OK;
    return code;
}

/* Upstream sets no bound on the authorities of a bundle; a document's size bounds ours. */
#define MAX_AUTHORITIES 4096

cs_code spiffe_bundle_add_x509_der(struct spiffe_bundle_builder *b, struct cs_slice der, bool tainted,
                                   struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(x509_chain_parse_der(der, MAX_AUTHORITIES, &chain, e));
    for (size_t i = 0; i < chain.count; i++)
        CS_TRY(spiffe_bundle_add_x509(b, chain.at[i], tainted, e));
    return CS_OK;
}

static cs_code add_key(struct spiffe_bundle_builder *b, struct key_list *l, struct cs_slice kid,
                       struct cs_slice spki, int64_t expires_at, bool tainted, struct cs_err *e)
{
    CS_AUTO(crypto_pub) key = NULL;
    if (kid.len == 0)
        return cs_fail(e, CS_INVALID, "missing key ID");
    if (memchr(kid.data, 0, kid.len) != NULL)
        return cs_fail(e, CS_INVALID, "key ID contains a NUL character");
    CS_TRY(crypto_pub_parse(spki, &key, e));
    cs_code code = list_put(l, kid, key, expires_at, tainted, e);
    b->failed |= code != CS_OK;
    return code;
}

cs_code spiffe_bundle_add_jwt(struct spiffe_bundle_builder *b, struct cs_slice kid, struct cs_slice spki,
                              int64_t expires_at, bool tainted, struct cs_err *e)
{
    return add_key(b, b->jwt, kid, spki, expires_at, tainted, e);
}

cs_code spiffe_bundle_add_wit(struct spiffe_bundle_builder *b, struct cs_slice kid, struct cs_slice spki,
                              int64_t expires_at, bool tainted, struct cs_err *e)
{
    return add_key(b, b->wit, kid, spki, expires_at, tainted, e);
}

void spiffe_bundle_clear_x509(struct spiffe_bundle_builder *b)
{
    x509_chain_free(&b->certs);
}
void spiffe_bundle_clear_jwt(struct spiffe_bundle_builder *b)
{
    list_clear(b->jwt);
}
void spiffe_bundle_clear_wit(struct spiffe_bundle_builder *b)
{
    list_clear(b->wit);
}

void spiffe_bundle_set_refresh_hint(struct spiffe_bundle_builder *b, int64_t seconds)
{
    b->refresh_hint = seconds;
}

void spiffe_bundle_set_sequence(struct spiffe_bundle_builder *b, uint64_t n)
{
    b->sequence_number = n;
}

cs_code spiffe_bundle_build(struct spiffe_bundle_builder *b, struct spiffe_bundle **out, struct cs_err *e)
{
    *out = NULL;
    size_t n = b->certs.count;
    struct bundle *made = b->failed || b->jwt == NULL ? NULL : cs_calloc(1, sizeof *made);
    if (made == NULL)
        return cs_nomem(e);
    /* one row more than needed: an empty table is still a valid pointer */
    made->x509 = cs_calloc(n + 1, sizeof *made->x509);
    made->roots = cs_calloc(n + 1, sizeof(struct x509_cert *));
    if (made->x509 == NULL || made->roots == NULL) {
        cs_free(made->x509);
        cs_free(made->roots);
        cs_free(made);
        return cs_nomem(e);
    }
    atomic_init(&made->refs, 1);
    for (size_t i = 0; i < n; i++) {
        made->x509[i] = (struct spiffe_x509_authority){x509_cert_ref(b->certs.at[i]), b->tainted[i]};
        made->roots[i] = b->certs.at[i];
    }
    made->trust_domain = (char *)(uintptr_t)b->trust_domain.data;
    b->trust_domain = (struct cs_slice){0};
    made->jwt = CS_MOVE(b->jwt);
    made->wit = CS_MOVE(b->wit);
    made->pub = (struct spiffe_bundle){
        .trust_domain = made->trust_domain,
        .x509 = made->x509,
        .x509_count = n,
        .roots = made->roots,
        .jwt = made->jwt->at,
        .jwt_count = made->jwt->count,
        .wit = made->wit->at,
        .wit_count = made->wit->count,
        .refresh_hint = b->refresh_hint,
        .sequence_number = b->sequence_number,
        .roots_id = x509_roots_id(made->roots, n),
    };
    *out = &made->pub;
    return CS_OK;
}
