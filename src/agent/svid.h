/* SPDX-License-Identifier: Apache-2.0
 *
 * An X509-SVID of a workload as the agent keeps it, in the bytes that the Workload API hands out. Immutable,
 * reference counted; any thread.
 */
#ifndef CS_AGENT_SVID_H
#define CS_AGENT_SVID_H

#include "crypto/key.h"
#include "crypto/x509_cert.h"

struct agent_svid {
    struct cs_slice chain;         /* certificates one after the other, leaf first */
    const struct cs_secret *key;   /* PKCS #8 */
    int64_t not_before, not_after; /* of the leaf, unix seconds */
    int64_t rotate_at;             /* wall clock, ns */
};
/* Copies both. target_ns is the availability target (rotation.h). */
CS_CHECKED cs_code agent_svid_new(const struct x509_chain *chain, const struct crypto_key *key,
                                  int64_t target_ns, struct agent_svid **out, struct cs_err *e);
/* Is the certificate what was asked for: of this key and this SPIFFE ID? CS_INTERNAL when not,
 * CS_INVALID when it is no X509-SVID at all. */
CS_CHECKED cs_code agent_svid_check(const struct x509_cert *leaf, const struct crypto_pub *key,
                                    const char *spiffe_id, struct cs_err *e);
struct agent_svid *agent_svid_ref(const struct agent_svid *s);
void agent_svid_unref(const struct agent_svid *s); /* NULL is fine */
static inline void agent_svid_drop(struct agent_svid **s)
{
    agent_svid_unref(*s);
    *s = NULL;
}

#endif
