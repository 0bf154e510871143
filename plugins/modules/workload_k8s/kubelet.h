/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking the kubelet for its pods (pkg/agent/plugin/workloadattestor/k8s of SPIRE: kubeletclient.go,
 * podlistfetcher.go).
 */
#ifndef CS_MODULES_WORKLOAD_K8S_KUBELET_H
#define CS_MODULES_WORKLOAD_K8S_KUBELET_H

#include "base/clock.h"
#include "config/attestor_config.h"
#include "plugins/modules/http/http.h"
#include "plugins/modules/workload_k8s/pods.h"

#define K8S_KUBELET_TIMEOUT_NS (10 * CS_NS_PER_S)

/* --- One way to the kubelet, with the credentials of one moment --- */

/* Never changes; shared by reference count. */
struct k8s_kubelet;
/* Reads the files that the configuration names. `before` (may be NULL) lends its connections when nothing but
 * the token changed. Texts are SPIRE's: `unable to load kubelet CA: ...`. */
CS_CHECKED cs_code k8s_kubelet_new(const struct config_k8s *c, struct k8s_kubelet *before,
                                   struct k8s_kubelet **out, struct cs_err *e);
struct k8s_kubelet *k8s_kubelet_ref(struct k8s_kubelet *k);
void k8s_kubelet_unref(struct k8s_kubelet *k); /* wipes; NULL is fine */
static inline void k8s_kubelet_drop(struct k8s_kubelet **k)
{
    k8s_kubelet_unref(*k);
    *k = NULL;
}
CS_CHECKED cs_code k8s_kubelet_pods(struct k8s_kubelet *k, const struct crypto_stop *stop,
                                    struct k8s_pods **out, struct cs_err *e);

/* --- One list for all who ask --- */

/* At most one request is under way; requests begin at least poll_retry_interval apart; what came is good for
 * everybody until the next may begin. Any thread. */
struct k8s_fetcher;
CS_CHECKED cs_code k8s_fetcher_new(const struct cs_clock *clock, const struct crypto_stop *stop,
                                   struct k8s_fetcher **out, struct cs_err *e);
void k8s_fetcher_free(struct k8s_fetcher *f); /* nobody may be waiting; NULL is fine */
/* *c is borrowed until the next call has succeeded, or the fetcher is freed. Waits for a request under way.
 * Failing leaves everything as it was. */
CS_CHECKED cs_code k8s_fetcher_configure(struct k8s_fetcher *f, const struct config_k8s *c, struct cs_err *e);
/* A list that is newer than *version (0: any), which it sets. Blocking. CS_CANCELLED: `stop` asked for it. */
CS_CHECKED cs_code k8s_fetcher_next(struct k8s_fetcher *f, uint64_t *version, struct k8s_pods **out,
                                    struct cs_err *e);

#endif
