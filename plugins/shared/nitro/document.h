/* SPDX-License-Identifier: Apache-2.0
 *
 * AWS Nitro Enclaves attestation documents: a COSE_Sign1 whose payload is signed by a certificate that chains
 * to AWS's root. Source: "Verifying the root of trust" (docs/attestation_process.md of
 * aws/aws-nitro-enclaves-nsm-api). Rules beyond it are marked in document.c.
 */
#ifndef CS_PLUGINS_NITRO_DOCUMENT_H
#define CS_PLUGINS_NITRO_DOCUMENT_H

#include "crypto/x509_cert.h"
#include "plugins/shared/nitro/memory.h"

#define NITRO_PCR_COUNT 32
#define NITRO_DOCUMENT_MAX ((size_t)17 * 1024)   /* bytes, COSE envelope included */
#define NITRO_CABUNDLE_MAX 8                     /* certificates; AWS sends 4 */
#define NITRO_FIELD_MAX 1024                     /* bytes of public_key, user_data, nonce, a certificate */
#define NITRO_MODULE_ID_MAX 128                  /* bytes; AWS's have 39 */
#define NITRO_SKEW_NS (INT64_C(60) * 1000000000) /* how far the hypervisor's clock may be ahead of ours */

/* What a document says. Views into the input; a field that was null or absent is empty. */
struct nitro_document {
    struct cs_slice payload; /* the signed bytes: equal for equal documents, whatever their signature */
    struct cs_slice module_id;
    int64_t timestamp_ms; /* unix */
    struct cs_slice pcrs[NITRO_PCR_COUNT];
    struct cs_slice public_key, user_data, nonce;
};

struct nitro_policy {
    const struct x509_cert *const *roots; /* pinned; borrowed */
    size_t root_count;
    int64_t now_ns;     /* unix: for the document's age and for the certificates */
    int64_t max_age_ns; /* oldest timestamp that is taken */
    bool allow_debug;   /* take a PCR0 of zeros: an enclave in debug mode, which its parent can look into */
    struct nitro_memory *chains; /* certificates whose signature was found right before; NULL: none */
};

/* Parse and verify. CS_INVALID: malformed; CS_DENIED: well formed and not acceptable; the text names the
 * field or certificate. On failure *out is zero. At most NITRO_CABUNDLE_MAX + 1 signatures are checked, the
 * cheap rules before, and of a chain that is remembered only the document's own. When the hypervisor's clock
 * is ahead of ours, within NITRO_SKEW_NS, certificates are judged at its time. Any thread. */
CS_CHECKED cs_code nitro_document_verify(struct cs_slice in, const struct nitro_policy *policy,
                                         struct nitro_document *out, struct cs_err *e);

/* "i-0123456789abcdef0" and "enc0123456789abcdef" of "i-0123456789abcdef0-enc0123456789abcdef". False when
 * the module ID has another shape. */
bool nitro_module_id_split(struct cs_slice module_id, struct cs_slice *instance, struct cs_slice *enclave);

/* May this certificate be a root: a CA with a key on P-384? */
bool nitro_root_fits(const struct x509_cert *c);

bool nitro_pcr_is_zero(struct cs_slice pcr); /* only zero bytes, or none */

/* AWS's root certificate "G1" for the commercial regions, PEM. */
extern const char nitro_root_g1_pem[];

#endif
