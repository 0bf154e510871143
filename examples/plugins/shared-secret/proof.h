/* SPDX-License-Identifier: Apache-2.0
 *
 * What both halves of the shared-secret attestation need: secrets in files, and the proof of knowing one.
 */
#ifndef PROOF_H
#define PROOF_H

#include <cspire/plugin.h>

#define NONCE_LEN 32
#define PROOF_LEN 32
#define SECRET_MIN 32
#define SECRET_MAX 4096
#define NAME_MAX_LEN 63

struct secret {
    unsigned char bytes[SECRET_MAX];
    size_t len;
};

/* A node's name goes into paths and SPIFFE IDs: letters, digits, '-', '_' and '.', but not first. */
bool name_ok(const char *name, size_t len);

/* The file without a last end of line. Files that others than their owner may read are refused. Wipe *out
 * after use, also when it failed. */
enum cspire_code secret_read(struct cspire_call *call, const char *path, struct secret *out);

/* HMAC-SHA256 of the protocol, the node's name and the server's nonce: a proof serves one attestation of
 * one node. */
enum cspire_code proof_make(struct cspire_call *call, const struct secret *secret, const char *name,
                            const unsigned char nonce[NONCE_LEN], unsigned char out[PROOF_LEN]);

#endif
