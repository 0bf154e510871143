/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes attestation documents as the Nitro hypervisor does, with a root of its own: for tests and for the
 * test NSM, never in a product. Single owner, one thread at a time.
 */
#ifndef CS_TESTS_NITRO_MAKE_H
#define CS_TESTS_NITRO_MAKE_H

#include "crypto/key.h"
#include "crypto/x509_cert.h"

#define NITRO_MAKE_CAS 4 /* root, regional, zonal, instance */

/* One certificate to be issued; what hostile tests change. */
struct nitro_make_cert {
    const char *name;
    enum crypto_key_type key_type;
    int64_t not_before, not_after; /* unix seconds */
    bool is_ca;
    int path_len;       /* -1: none */
    uint16_t key_usage; /* X509_KU_*; 0: no extension */
};

/* A chain of keys and certificates, root first, the leaf last. */
struct nitro_authority {
    struct crypto_key *keys[NITRO_MAKE_CAS + 1];
    struct x509_cert *certs[NITRO_MAKE_CAS + 1];
};
/* The defaults for place i (NITRO_MAKE_CAS is the leaf), valid around now_s as AWS's are. */
struct nitro_make_cert nitro_make_cert_default(size_t i, int64_t now_s);
/* Issue certificate i of a, with a new key when there is none, signed by the key of i - 1 (the root by its
 * own). Replaces what was there; those below keep their bytes. */
CS_CHECKED cs_code nitro_authority_issue(struct nitro_authority *a, size_t i, const struct nitro_make_cert *c,
                                         struct cs_err *e);
/* The whole chain with the defaults. */
CS_CHECKED cs_code nitro_authority_make(struct nitro_authority *a, int64_t now_s, struct cs_err *e);
/* Only root from PEM files' texts (certificate and key), the rest new. For a test NSM that shares a root with
 * a server. */
CS_CHECKED cs_code nitro_authority_load(struct nitro_authority *a, struct cs_slice root_cert_pem,
                                        struct cs_slice root_key_pem, int64_t now_s, struct cs_err *e);
void nitro_authority_free(struct nitro_authority *a);

/* What a document says. Empty slices become null. */
struct nitro_make_document {
    const char *module_id;
    int64_t timestamp_ms;
    struct cs_slice pcrs[16]; /* empty: left out */
    struct cs_slice public_key, user_data, nonce;
    bool indefinite; /* the payload map, as hypervisors of 2025 write it */
    bool tagged;     /* COSE tag 18 */
};
/* Append the payload alone. */
void nitro_make_payload(const struct nitro_authority *a, const struct nitro_make_document *d,
                        struct cs_buf *out);
/* Append the signed document. */
CS_CHECKED cs_code nitro_make_document(const struct nitro_authority *a, const struct nitro_make_document *d,
                                       struct cs_buf *out, struct cs_err *e);
/* Append a document with any payload, signed by the leaf's key (P-384 only). */
CS_CHECKED cs_code nitro_make_signed(const struct nitro_authority *a, struct cs_slice payload, bool tagged,
                                     struct cs_buf *out, struct cs_err *e);

#endif
