/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the plugins for Kubernetes: NodeAttestors "k8s_psat" and "k8s_sat", Notifier "k8sbundle",
 * BundlePublisher "k8s_configmap". As in plugin_config.h: strings live in `a` and are never NULL unless said.
 *
 * SPIRE's plugins collect remarks, of which faults (the first is the error) and mere hints are two kinds.
 */
#ifndef CS_CONFIG_KUBERNETES_CONFIG_H
#define CS_CONFIG_KUBERNETES_CONFIG_H

#include "config/config.h"

#define CONFIG_REMARKS_MAX 64
/* Zero-initialise. */
struct config_remarks {
    const char *at[CONFIG_REMARKS_MAX]; /* live in the reader's arena */
    size_t len;
    bool faulty; /* one of them is a fault */
};

/* --- Server NodeAttestor "k8s_psat" --- */
struct config_k8s_psat_cluster {
    const char *name;
    struct config_strings service_accounts; /* "namespace:name" */
    struct config_strings audience;         /* may be empty: the API server's own */
    const char *kube_config_file;           /* "": in-cluster */
    struct config_strings node_labels, pod_labels;
    bool use_pod_uid;
};
struct config_k8s_psat {
    const struct config_k8s_psat_cluster *clusters;
    size_t count;
};
extern const struct config_section config_k8s_psat_section;
/* CS_INVALID `plugin configuration is malformed`, `cluster "x" configuration must have at least one service
 * account allowed`. */
CS_CHECKED cs_code config_read_k8s_psat(struct cs_slice text, struct cs_arena *a, struct config_k8s_psat *out,
                                        struct config_remarks *remarks, struct cs_err *e);

/* --- Server NodeAttestor "k8s_sat" --- */
struct config_k8s_sat_cluster {
    const char *name;
    struct config_strings service_accounts;
    bool use_token_review;
    const char *key_file; /* without TokenReview: PEM */
    const char *kube_config_file;
};
struct config_k8s_sat {
    const struct config_k8s_sat_cluster *clusters;
    size_t count;
};
extern const struct config_section config_k8s_sat_section;
CS_CHECKED cs_code config_read_k8s_sat(struct cs_slice text, struct cs_arena *a, struct config_k8s_sat *out,
                                       struct config_remarks *remarks, struct cs_err *e);

/* --- Agent NodeAttestors "k8s_psat" and "k8s_sat" --- */
struct config_k8s_agent {
    const char *cluster, *token_path;
};
extern const struct config_section config_k8s_psat_agent_section, config_k8s_sat_agent_section;
/* `unable to decode configuration: ...`, `missing required cluster block` */
CS_CHECKED cs_code config_read_k8s_psat_agent(struct cs_slice text, struct cs_arena *a,
                                              struct config_k8s_agent *out, struct cs_err *e);
/* `unable to decode configuration: ...`, `configuration missing cluster` */
CS_CHECKED cs_code config_read_k8s_sat_agent(struct cs_slice text, struct cs_arena *a,
                                             struct config_k8s_agent *out, struct cs_err *e);

/* --- Notifier "k8sbundle" --- */
struct config_k8sbundle_cluster {
    const char *namespace, *config_map, *config_map_key;
    const char *webhook_label, *api_service_label; /* "": none */
    const char *kube_config_file_path;             /* "": in-cluster */
};
struct config_k8sbundle {
    const struct config_k8sbundle_cluster *clusters; /* the one of the root first, when it counts */
    size_t count;
};
extern const struct config_section config_k8sbundle_section;
/* `plugin configuration is malformed`, `cluster configuration is missing kube_config_file_path` */
CS_CHECKED cs_code config_read_k8sbundle(struct cs_slice text, struct cs_arena *a,
                                         struct config_k8sbundle *out, struct cs_err *e);

/* --- BundlePublisher "k8s_configmap" --- */
enum config_bundle_format { CONFIG_BUNDLE_SPIFFE, CONFIG_BUNDLE_JWKS, CONFIG_BUNDLE_PEM };
struct config_k8s_configmap_cluster {
    const char *name, *namespace, *configmap_name, *configmap_key;
    const char *kubeconfig_path; /* "": in-cluster */
    enum config_bundle_format format;
    const char *format_name;
    int64_t refresh_hint_s; /* 0: the bundle's own */
};
struct config_k8s_configmap {
    const struct config_k8s_configmap_cluster *clusters;
    size_t count;
};
extern const struct config_section config_k8s_configmap_section;
CS_CHECKED cs_code config_read_k8s_configmap(struct cs_slice text, struct cs_arena *a,
                                             struct config_k8s_configmap *out, struct config_remarks *remarks,
                                             struct cs_err *e);

#endif
