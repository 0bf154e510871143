/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages of NodeAttestor "k8s_csr", and subjects of node certificates: what is taken keeps to its limits.
 */
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)                                                                                          \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cs_slice in = cs_slice_of(data, size);
    struct cs_arena *a = cs_arena_new(0, 0);
    struct k8s_csr_hello hello;
    struct k8s_csr_response response;
    struct cs_slice node;
    uint8_t nonce[K8S_CSR_NONCE_LEN];
    struct cs_err e;
    if (a == NULL)
        return 0;
    if (k8s_csr_hello_read(in, a, &hello, &e) == CS_OK)
        CHECK(hello.count >= 1 && hello.count <= K8S_CSR_CHAIN_MAX && hello.cluster[0] != '\0');
    if (k8s_csr_challenge_read(in, nonce, &e) == CS_OK) {
        struct cs_buf again = {0};
        uint8_t same[K8S_CSR_NONCE_LEN];
        k8s_csr_challenge_write(&again, nonce);
        CHECK(k8s_csr_challenge_read(cs_buf_slice(&again), same, &e) == CS_OK);
        CHECK(memcmp(nonce, same, sizeof same) == 0);
        cs_buf_free(&again);
    }
    if (k8s_csr_response_read(in, a, &response, &e) == CS_OK)
        CHECK(response.signature.len > 0);
    if (k8s_csr_subject(in, &node, &e) == CS_OK)
        CHECK(k8s_csr_node_name_ok(node) && memchr(node.data, '/', node.len) == NULL);
    cs_arena_free(a);
    return 0;
}
