/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of Notifier "k8sbundle": the kinds of objects that carry a bundle.
 */
#ifndef CS_MODULES_KUBERNETES_K8SBUNDLE_H
#define CS_MODULES_KUBERNETES_K8SBUNDLE_H

#include "plugins/modules/kubernetes/plugins.h"

/* What objects of one kind are, and how a bundle gets into them. */
struct k8s_carrier {
    const char *name;       /* "MutatingWebhookConfiguration" */
    const char *collection; /* "/apis/..."; NULL: one object, the ConfigMap of the configuration */
    /* The patch that brings the bundle into the object; NULL in *out: it is there already. `key` is of the
     * ConfigMap. */
    CS_CHECKED cs_code (*patch)(const json_t *object, const char *key, struct cs_slice pem, json_t **out,
                                struct cs_err *e);
};
extern const struct k8s_carrier k8s_config_map, k8s_mutating_webhook, k8s_validating_webhook, k8s_api_service;

#endif
