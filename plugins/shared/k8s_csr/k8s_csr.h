/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_csr": what agent and server say to each other, and what they and `node-attestor` know of
 * a node's certificate.
 *
 * The agent sends {"cluster": NAME, "certificates": [base64 of DER, leaf first]}, is sent {"nonce": base64 of
 * 32 bytes}, and answers {"nonce": base64 of 32 bytes of its own, "signature": base64}. Signed is
 * k8s_csr_claim by the leaf's key with its default scheme.
 */
#ifndef CS_PLUGINS_K8S_CSR_H
#define CS_PLUGINS_K8S_CSR_H

#include "base/mem.h"
#include "crypto/x509_cert.h"

#define K8S_CSR_NAME "k8s_csr"
#define K8S_CSR_NONCE_LEN 32
#define K8S_CSR_CHAIN_MAX 8
#define K8S_CSR_PAYLOAD_MAX ((size_t)64 * 1024)
#define K8S_CSR_NODE_MAX 253 /* characters of a node's name (RFC 1123 subdomain) */

/* Subject of a kubelet's client certificate: O=system:nodes, CN=system:node:NAME. */
#define K8S_CSR_ORGANIZATION "system:nodes"
#define K8S_CSR_USER_PREFIX "system:node:"

/* Files in a folder of `node-attestor`. */
#define K8S_CSR_KEY_FILE "id-doc.key"
#define K8S_CSR_CERT_FILE "id-doc.crt"

/* Can it be the name of a node, and part of a SPIFFE ID? Letters, digits, '-', '_' and '.', but not "." or
 * "..". */
bool k8s_csr_node_name_ok(struct cs_slice name);

/* The host name as kubelets make the name of their node of it: in lower case. False: it is not
 * known. Any thread. */
#define K8S_CSR_HOST_SIZE 256
bool k8s_csr_host_name(char out[K8S_CSR_HOST_SIZE]);
/* The node's name from a subject that has O=system:nodes and CN=system:node:NAME once each, and nothing else;
 * views der. CS_DENIED. */
CS_CHECKED cs_code k8s_csr_subject(struct cs_slice subject, struct cs_slice *node, struct cs_err *e);

/* --- Messages. What is read lives in the arena. CS_INVALID. --- */

struct k8s_csr_hello {
    const char *cluster;
    struct cs_slice certs[K8S_CSR_CHAIN_MAX]; /* DER */
    size_t count;
};
void k8s_csr_hello_write(struct cs_buf *out, const char *cluster, const struct x509_chain *chain);
CS_CHECKED cs_code k8s_csr_hello_read(struct cs_slice in, struct cs_arena *a, struct k8s_csr_hello *out,
                                      struct cs_err *e);

void k8s_csr_challenge_write(struct cs_buf *out, const uint8_t nonce[K8S_CSR_NONCE_LEN]);
CS_CHECKED cs_code k8s_csr_challenge_read(struct cs_slice in, uint8_t nonce[K8S_CSR_NONCE_LEN],
                                          struct cs_err *e);

struct k8s_csr_response {
    uint8_t nonce[K8S_CSR_NONCE_LEN];
    struct cs_slice signature;
};
void k8s_csr_response_write(struct cs_buf *out, const struct k8s_csr_response *r);
CS_CHECKED cs_code k8s_csr_response_read(struct cs_slice in, struct cs_arena *a, struct k8s_csr_response *out,
                                         struct cs_err *e);

/* --- Proof of possession --- */

/* All borrowed. What is signed: fields with their length before them, so that no two sets of them are the
 * same bytes, behind a text that nothing else which uses the key signs. */
struct k8s_csr_claim {
    const char *trust_domain, *cluster;
    struct cs_slice server_nonce, agent_nonce;
    struct cs_slice spki;     /* of the key that the SVID is for */
    const uint8_t *cert_hash; /* SHA-256 of the leaf, 32 bytes */
};
void k8s_csr_claim_write(struct cs_buf *out, const struct k8s_csr_claim *c);

#endif
