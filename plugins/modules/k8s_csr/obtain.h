/* SPDX-License-Identifier: Apache-2.0
 *
 * Obtaining a node's certificate from its cluster: see plugins/shared/k8s_csr/request.h.
 */
#ifndef CS_MODULES_K8S_CSR_OBTAIN_H
#define CS_MODULES_K8S_CSR_OBTAIN_H

#include "plugins/shared/k8s_csr/request.h"

CS_CHECKED cs_code k8s_csr_obtain(const struct k8s_csr_request *r, struct cs_err *e);

#endif
