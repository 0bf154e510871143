/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the agent's WorkloadAttestors that ask somebody else about a process: docker and k8s. Readers
 * work as those of plugin_config.h do; unknown options are CS_INVALID `unknown configurations detected: a,b`,
 * and what is not built CS_UNIMPLEMENTED `sigstore is not supported yet`.
 */
#ifndef CS_CONFIG_ATTESTOR_CONFIG_H
#define CS_CONFIG_ATTESTOR_CONFIG_H

#include "config/plugin_config.h"

/* WorkloadAttestor "docker". Sockets are "unix:///path" or "tcp://host:port". */
struct config_docker {
    const char *docker_socket_path; /* "unix:///var/run/docker.sock" */
    const char *docker_version;     /* "": the engine's own */
    struct config_strings container_id_cgroup_matchers;
    const char *podman_socket_path, *podman_socket_path_template; /* the latter has one %d, and maybe %% */
    bool use_new_container_locator, verbose_container_locator_logs;
};
extern const struct config_section config_docker_section;
CS_CHECKED cs_code config_read_docker(struct cs_slice text, struct cs_arena *a, struct config_docker *out,
                                      struct cs_err *e);

/* WorkloadAttestor "k8s". */
struct config_k8s {
    bool secure; /* https, else http on 127.0.0.1 */
    int port;    /* of the kubelet */
    bool disable_kubelet_client, skip_kubelet_verification, use_anonymous_authentication;
    bool disable_container_selectors, use_new_container_locator, verbose_container_locator_logs;
    bool enable_namespace_labels;
    int64_t max_poll_attempts;                       /* positive */
    int64_t poll_retry_interval_ns;                  /* positive */
    int64_t reload_interval_ns;                      /* positive */
    const char *kubelet_ca_path, *token_path;        /* with their defaults */
    const char *certificate_path, *private_key_path; /* "": none */
    const char *node_name; /* from the option, or the environment; "": 127.0.0.1, whatever its name */
};
extern const struct config_section config_k8s_section;
CS_CHECKED cs_code config_read_k8s(struct cs_slice text, struct cs_arena *a, struct config_k8s *out,
                                   struct cs_err *e);

#endif
