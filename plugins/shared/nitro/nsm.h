/* SPDX-License-Identifier: Apache-2.0
 *
 * The Nitro Security Module: who signs attestation documents inside an enclave (docs/attestation_process.md
 * and src/driver of aws/aws-nitro-enclaves-nsm-api). One request, one answer, both CBOR. Reached at a path
 * that is
 *
 *   a character device   the module itself: /dev/nsm and its raw ioctl, which wants CAP_SYS_ADMIN
 *   a Unix socket        somebody who passes requests on: each of them, and each answer, behind its length in
 *                        four bytes, the most significant first
 *
 * No thread of its own; one thread at a time. Blocking, NITRO_NSM_WAIT_NS at most per request over a socket.
 */
#ifndef CS_PLUGINS_NITRO_NSM_H
#define CS_PLUGINS_NITRO_NSM_H

#include "base/buf.h"
#include "base/clock.h"

#define NITRO_NSM_PATH "/dev/nsm"
#define NITRO_NSM_REQUEST_MAX 0x1000u  /* bytes, the driver's bounds */
#define NITRO_NSM_RESPONSE_MAX 0x3000u /* bytes */
#define NITRO_NSM_PARAM_MAX 1024       /* bytes of user_data, nonce, public_key each */
#define NITRO_NSM_WAIT_NS (INT64_C(10) * CS_NS_PER_S)

struct nitro_nsm;
/* CS_NOT_FOUND, CS_DENIED, CS_UNAVAILABLE; CS_INVALID when something else is at the path. Texts name it. */
CS_CHECKED cs_code nitro_nsm_open(const char *path, struct nitro_nsm **out, struct cs_err *e);
void nitro_nsm_free(struct nitro_nsm *n); /* NULL is fine */
static inline void nitro_nsm_drop(struct nitro_nsm **n)
{
    nitro_nsm_free(*n);
    *n = NULL;
}

/* What a document is to say. Empty: null. CS_INVALID past NITRO_NSM_PARAM_MAX. */
struct nitro_nsm_params {
    struct cs_slice user_data, nonce, public_key;
};
/* Each function: CS_UNAVAILABLE when the module cannot be talked to, CS_INVALID for an answer that is none,
 * and CS_INTERNAL `NSM: InvalidArgument` and so on when the module refuses. */

/* Appends a fresh document (COSE_Sign1). */
CS_CHECKED cs_code nitro_nsm_attest(struct nitro_nsm *n, const struct nitro_nsm_params *p,
                                    struct cs_buf *document, struct cs_err *e);
/* Appends what the module's generator gives in one answer, at least one byte. */
CS_CHECKED cs_code nitro_nsm_random(struct nitro_nsm *n, struct cs_buf *out, struct cs_err *e);

#define NITRO_NSM_MODULE_ID_MAX 128
struct nitro_nsm_description {
    char module_id[NITRO_NSM_MODULE_ID_MAX + 1];
    uint16_t major, minor, patch, max_pcrs;
};
CS_CHECKED cs_code nitro_nsm_describe(struct nitro_nsm *n, struct nitro_nsm_description *out,
                                      struct cs_err *e);

/* --- The answers alone: for tests and fuzzing. Views into the answer. --- */
CS_CHECKED cs_code nitro_nsm_parse_document(struct cs_slice response, struct cs_slice *out, struct cs_err *e);
CS_CHECKED cs_code nitro_nsm_parse_random(struct cs_slice response, struct cs_slice *out, struct cs_err *e);
CS_CHECKED cs_code nitro_nsm_parse_description(struct cs_slice response, struct nitro_nsm_description *out,
                                               struct cs_err *e);

#endif
