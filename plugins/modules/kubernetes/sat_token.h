/* SPDX-License-Identifier: Apache-2.0
 *
 * Service account tokens that are verified here, with the cluster's public keys.
 */
#ifndef CS_MODULES_KUBERNETES_SAT_TOKEN_H
#define CS_MODULES_KUBERNETES_SAT_TOKEN_H

#include "plugins/modules/kubernetes/plugins.h"

#define SAT_KEYS_MAX 64
#define SAT_LEEWAY_S 300

/* Zero-initialise. */
struct sat_keys {
    struct crypto_pub *at[SAT_KEYS_MAX];
    size_t count;
};
void sat_keys_free(struct sat_keys *k);
/* From a PEM file: PUBLIC KEY, RSA PUBLIC KEY, CERTIFICATE; other blocks are passed over. On failure nothing
 * is kept. */
CS_CHECKED cs_code sat_keys_load(const char *path, struct sat_keys *out, struct cs_err *e);
/* The same from its text. */
CS_CHECKED cs_code sat_keys_parse(struct cs_slice pem, struct sat_keys *out, struct cs_err *e);

struct sat_claims {
    const char *namespace, *account; /* in the arena */
    bool expires;
};
/* Signature, time (if it ends; `now` is in unix seconds), and whose it is. CS_INVALID with SPIRE's texts:
 * `unable to parse token: ...`, `unable to verify token: ...`, `unable to validate token claims: ...`, `error
 * parsing token claims: ...`. */
CS_CHECKED cs_code sat_token_verify(struct cs_slice token, const struct sat_keys *keys, int64_t now,
                                    struct cs_arena *a, struct sat_claims *out, struct cs_err *e);

#endif
