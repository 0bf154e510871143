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
#include "plugin/settings.h"
#include "plugins/modules/kube/kube.h"

extern const struct plugin_builtin plugin_nodeattestor_k8s_psat;
extern const struct plugin_builtin plugin_nodeattestor_k8s_sat;
extern const struct plugin_builtin plugin_notifier_k8sbundle;
extern const struct plugin_builtin plugin_bundlepublisher_k8s_configmap;

/* Hands a reader's remarks on. */
CS_CHECKED cs_code k8s_note_remarks(const struct config_remarks *r, struct plugin_notes *notes,
                                    struct cs_err *e);

/* --- Node attestors: what is configured --- */

struct sat_keys; /* sat_token.h */

/* A cluster that agents may come from. */
struct k8s_cluster {
    const char *name;
    const struct config_strings *service_accounts; /* those allowed: k8s_account.full */
    struct kube_client *client;                    /* of its API server; NULL: it is not asked */
    json_t *audience;      /* of tokens, with client: an array; empty: the API server's own */
    struct sat_keys *keys; /* "k8s_sat" without client; else NULL */
    const struct config_k8s_psat_cluster *psat; /* NULL: "k8s_sat" */
};
/* The settings of both attestors; all else that is const in them lives in their arena. */
struct k8s_clusters {
    struct k8s_cluster *at;
    size_t count;
};
/* Room for so many, all zero. */
CS_CHECKED cs_code k8s_clusters_alloc(struct k8s_clusters *s, size_t count, struct cs_err *e);
/* Sets client and audience. The kubeconfig ("": in-cluster) is looked at when an agent comes: a cluster may
 * be there later than the server. */
CS_CHECKED cs_code k8s_cluster_connect(struct k8s_cluster *c, const char *kubeconfig,
                                       const struct config_strings *audience, struct cs_err *e);

/* --- Node attestors: life --- */

struct k8s_attestor {
    const struct plugin_env *env;
    struct plugin_slot clusters; /* of struct k8s_clusters */
    struct cs_log_limit warnings;
};
/* plugin_builtin.create and .destroy */
CS_CHECKED cs_code k8s_attestor_create(const struct plugin_env *env, void **self, struct cs_err *e);
void k8s_attestor_destroy(void *self);
/* The clusters that `read` finds in plugin_data are in force from now on. */
CS_CHECKED cs_code k8s_attestor_configure(struct k8s_attestor *a, struct cs_slice data,
                                          cs_code (*read)(struct cs_slice data, struct k8s_clusters *out,
                                                          struct cs_err *e),
                                          struct cs_err *e);
/* nodeattestor_ops.respond of attestors that send no challenge. */
CS_CHECKED cs_code k8s_attestor_respond(void *self, void *session, struct cs_slice response,
                                        struct nodeattestor_step *step, struct cs_err *e);

/* One attestation; all borrowed. */
struct k8s_visit {
    const struct k8s_cluster *cluster;
    struct cs_slice token;
    struct k8s_session *session;
    const struct crypto_stop *stop; /* the agent went, or the server ends */
};
/* nodeattestor_ops.start: finds the cluster, then asks `attest`. bad_payload: what SPIRE's says of a payload
 * that cannot be read. */
CS_CHECKED cs_code k8s_attestor_start(struct k8s_attestor *a, const struct nodeattestor_request *request,
                                      const char *bad_payload,
                                      cs_code (*attest)(struct k8s_attestor *a, const struct k8s_visit *v,
                                                        struct nodeattestor_step *step, struct cs_err *e),
                                      void **session, struct nodeattestor_step *step, struct cs_err *e);

/* --- Node attestors: parts --- */

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
