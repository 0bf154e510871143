/* SPDX-License-Identifier: Apache-2.0
 *
 * What is in this module, and what its node attestors have in common.
 */
#ifndef CS_MODULES_KUBERNETES_PLUGINS_H
#define CS_MODULES_KUBERNETES_PLUGINS_H

#include "base/coll.h"
#include "base/mem.h"
#include "config/kubernetes_config.h"
#include "plugin/nodeattestor_server.h"
#include "plugins/modules/kube/kube.h"

extern const struct plugin_builtin plugin_nodeattestor_k8s_psat;
extern const struct plugin_builtin plugin_nodeattestor_k8s_sat;
extern const struct plugin_builtin plugin_notifier_k8sbundle;
extern const struct plugin_builtin plugin_bundlepublisher_k8s_configmap;

/* Hands a reader's remarks on. */
CS_CHECKED cs_code k8s_note_remarks(const struct config_remarks *r, struct plugin_notes *notes,
                                    struct cs_err *e);

/* --- Node attestors --- */

/* What an agent sends: the name of its cluster and its token. */
struct k8s_payload {
    json_t *object;      /* holds both */
    const char *cluster; /* view */
    struct cs_slice token;
};
/* CS_INVALID `missing attestation payload`, `WHAT: ...`, `missing cluster in attestation data`, `missing
 * token in attestation data`. */
CS_CHECKED cs_code k8s_payload_read(struct cs_slice in, const char *what, struct k8s_payload *out,
                                    struct cs_err *e);
void k8s_payload_free(struct k8s_payload *p); /* wipes the token */

/* "system:serviceaccount:NAMESPACE:NAME". CS_INTERNAL with SPIRE's texts. */
struct k8s_account {
    const char *namespace, *name, *full; /* "NAMESPACE:NAME"; in the arena */
};
CS_CHECKED cs_code k8s_account_read(const char *username, struct cs_arena *a, struct k8s_account *out,
                                    struct cs_err *e);
bool k8s_list_has(const struct config_strings *list, const char *text);

/* What comes of an attestation; the session of a step. */
struct k8s_session {
    struct cs_arena *arena;
    struct cs_vec selectors; /* of texts in the arena */
};
CS_CHECKED cs_code k8s_session_new(struct k8s_session **out, struct cs_err *e);
void k8s_session_end(void *self, void *session); /* nodeattestor_ops.end; self is not used */
static inline void k8s_session_drop(struct k8s_session **s)
{
    if (*s != NULL)
        k8s_session_end(NULL, *s);
    *s = NULL;
}
/* "KIND:VALUE" */
CS_CHECKED cs_code k8s_select(struct k8s_session *s, const char *kind, const char *value, struct cs_err *e);
/* spiffe://TRUST_DOMAIN/spire/agent/ATTESTOR/CLUSTER/LAST, and the selectors so far. */
CS_CHECKED cs_code k8s_admit(struct k8s_session *s, const char *trust_domain, const char *attestor,
                             const char *cluster, const char *last, struct nodeattestor_step *step,
                             struct cs_err *e);

/* Either of two, each may be NULL: the agent went, the server ends. */
struct k8s_stop {
    const struct crypto_stop *any[2];
    struct crypto_stop stop; /* pass &stop */
};
void k8s_stop_init(struct k8s_stop *s, const struct crypto_stop *a, const struct crypto_stop *b);

#endif
