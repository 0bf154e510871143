/* SPDX-License-Identifier: Apache-2.0
 *
 * Obtaining a node's certificate from its cluster. Needs the Kubernetes client, so it is in the module
 * "k8s_csr" (plugins/modules/k8s_csr), which the agent's plugin opens when it is to do that, and in the
 * program `node-attestor`.
 */
#ifndef CS_PLUGINS_K8S_CSR_REQUEST_H
#define CS_PLUGINS_K8S_CSR_REQUEST_H

#include "crypto/key.h"

/* All borrowed. NULL and "" are "not given". */
struct k8s_csr_request {
    const char *kubeconfig;                                   /* not given: the pod's service account */
    const char *ca_file, *client_cert_file, *client_key_file; /* instead of what the kubeconfig says */
    const char *node_name;                                    /* one that k8s_csr_node_name_ok takes */
    const char *id_dir; /* made, with its parents, when it is not there */
    int64_t timeout_ns; /* for all of it */
    const struct crypto_stop *stop;
    /* What is going on, a sentence each, for people. */
    void (*tell)(void *arg, const char *text);
    void *arg;
};

/* In `ops` of what the module has under K8S_CSR_REQUESTER. */
struct k8s_csr_requester {
    /* Leaves the key and the certificate in id_dir, or what was there before. A request that was made earlier
     * and not answered yet is waited for. CS_DENIED: the request was denied, or the signer failed;
     * CS_DEADLINE; CS_CANCELLED; CS_INVALID: the certificate is of another key; and what kube_call says.
     * Blocking; once at a time for one id_dir. */
    CS_CHECKED cs_code (*obtain)(const struct k8s_csr_request *r, struct cs_err *e);
};
#define K8S_CSR_MODULE "k8s_csr"
#define K8S_CSR_REQUESTER "k8s_csr requester"

#endif
