/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/svid.h"

#include "agent/rotation.h"
#include "spiffe/x509svid.h"

#include <stdatomic.h>

struct holder {
    struct agent_svid svid; /* first: what callers see */
    atomic_uint refs;
    uint8_t bytes[]; /* the chain */
};

static struct holder *holder_of(const struct agent_svid *s)
{
    return (struct holder *)(uintptr_t)s;
}

cs_code agent_svid_new(const struct x509_chain *chain, const struct crypto_key *key, int64_t target_ns,
                       struct agent_svid **out, struct cs_err *e)
{
    *out = NULL;
    if (chain->count == 0)
        return cs_fail(e, CS_INTERNAL, "empty SVID cert chain");
    size_t len = 0;
    for (size_t i = 0; i < chain->count; i++)
        len += chain->at[i]->der.len;
    CS_AUTO(cs_secret) pkcs8 = NULL;
    CS_TRY(crypto_key_pkcs8(key, &pkcs8, e));
    struct holder *h = cs_malloc(sizeof *h + len);
    if (h == NULL)
        return cs_nomem(e);
    size_t at = 0;
    for (size_t i = 0; i < chain->count; i++) {
        memcpy(h->bytes + at, chain->at[i]->der.data, chain->at[i]->der.len);
        at += chain->at[i]->der.len;
    }
    const struct x509_cert *leaf = chain->at[0];
    h->svid = (struct agent_svid){
        .chain = cs_slice_of(h->bytes, len),
        .key = CS_MOVE(pkcs8),
        .not_before = leaf->not_before,
        .not_after = leaf->not_after,
        .rotate_at = agent_rotation_time(leaf->not_before, leaf->not_after, target_ns),
    };
    atomic_init(&h->refs, 1);
    *out = &h->svid;
    return CS_OK;
}

cs_code agent_svid_check(const struct x509_cert *leaf, const struct crypto_pub *key, const char *spiffe_id,
                         struct cs_err *e)
{
    struct spiffe_id id;
    if (!cs_slice_eq(leaf->spki, crypto_pub_spki(key))) /* no need to decode a key that is our own */
        return cs_fail(e, CS_INTERNAL, "the X509-SVID that the server sent is for another key");
    CS_TRY(spiffe_x509_id(leaf, &id, e));
    if (!cs_slice_is(id.text, spiffe_id))
        return cs_fail(e, CS_INTERNAL, "the X509-SVID that the server sent is for \"%.*s\"", (int)id.text.len,
                       (const char *)id.text.data);
    return CS_OK;
}

struct agent_svid *agent_svid_ref(const struct agent_svid *s)
{
    atomic_fetch_add_explicit(&holder_of(s)->refs, 1, memory_order_relaxed);
    return (struct agent_svid *)(uintptr_t)s;
}

void agent_svid_unref(const struct agent_svid *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&holder_of(s)->refs, 1, memory_order_acq_rel) != 1)
        return;
    cs_secret_free((struct cs_secret *)(uintptr_t)s->key);
    cs_free(holder_of(s));
}
