/* SPDX-License-Identifier: Apache-2.0
 *
 * Selector values of a pod and a container (doc/plugin_agent_workloadattestor_k8s.md of SPIRE).
 */
#ifndef CS_MODULES_WORKLOAD_K8S_SELECTORS_H
#define CS_MODULES_WORKLOAD_K8S_SELECTORS_H

#include "plugin/workloadattestor.h"
#include "plugins/modules/workload_k8s/pods.h"

/* The container of this ID, by the statuses of containers and then of init containers; NULL: it is not in
 * this pod (any more, or yet). *malformed counts IDs that are none. */
const struct k8s_container *k8s_find_container(const struct k8s_pod *p, const char *id, size_t *malformed);

CS_CHECKED cs_code k8s_add_pod(struct workloadattestor_values *out, const struct k8s_pod *p,
                               struct cs_err *e);
CS_CHECKED cs_code k8s_add_container(struct workloadattestor_values *out, const struct k8s_container *c,
                                     struct cs_err *e);

#endif
