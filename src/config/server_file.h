/* SPDX-License-Identifier: Apache-2.0
 *
 * server.conf as it stands in the file, before defaults and checks. Inside of config only.
 */
#ifndef CS_CONFIG_SERVER_FILE_H
#define CS_CONFIG_SERVER_FILE_H

#include "config/common.h"

struct ca_subject_file {
    struct config_strings country, organization;
    const char *common_name;
    bool given;
    struct config_strings unknown;
};
struct acme_file {
    const char *directory_url, *domain_name, *email;
    struct config_bool tos_accepted;
    bool given;
    struct config_strings unknown;
};
struct bundle_endpoint_file {
    const char *address, *refresh_hint;
    struct config_int port;
    struct acme_file acme;
    struct config_tree profile;
    bool given;
    struct config_strings unknown;
};
struct federates_with_file {
    const char *bundle_endpoint_url;
    struct config_tree bundle_endpoint_profile;
    bool given;
};
struct federation_file {
    struct bundle_endpoint_file bundle_endpoint;
    struct config_map federates_with;
    bool given;
};
struct ratelimit_file {
    struct config_bool attestation, signing;
    struct config_strings unknown;
};
struct opa_local_file {
    const char *rego_path, *policy_data_path;
    bool given;
};
struct opa_file {
    struct opa_local_file local;
    bool given;
};
struct server_experimental_file {
    struct config_bool agent_spiffe_id_as_selector, events_based_cache, require_pq_kem;
    struct opa_file auth_opa_policy_engine;
    const char *cache_reload_interval, *full_cache_reload_interval, *prune_events_older_than, *event_timeout;
    const char *sql_transaction_timeout, *wit_key_type, *wit_issuer, *named_pipe_name;
    struct config_strings feature_flags;
    struct config_strings unknown;
};
struct server_section_file {
    struct config_strings admin_ids, proxy_protocol_trusted_cidrs, profiling_names;
    const char *agent_ttl, *bind_address, *ca_key_type, *ca_ttl, *data_dir, *default_x509_svid_ttl;
    const char *default_jwt_svid_ttl, *jwt_issuer, *jwt_key_type, *log_file, *log_level, *log_format;
    const char *prune_attested_nodes_expired_for, *socket_path, *trust_domain,
        *max_attested_node_info_staleness;
    struct config_bool audit_log_enabled, disable_jwt_svids, log_source_location, prune_tofu_nodes,
        profiling_enabled;
    struct config_int bind_port, prune_attested_nodes_batch_size, profiling_port, profiling_freq;
    struct ca_subject_file ca_subject;
    struct server_experimental_file experimental;
    struct federation_file federation;
    struct ratelimit_file ratelimit;
    struct config_strings unknown;
};
struct server_file {
    struct server_section_file server;
    struct config_tree plugins;
    struct telemetry_file telemetry;
    struct health_file health_checks;
    struct config_strings unknown;
};

extern const struct config_section server_experimental_section;

#endif
