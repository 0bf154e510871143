/* SPDX-License-Identifier: Apache-2.0
 *
 * agent.conf as it stands in the file, before defaults and checks. Inside of config only.
 */
#ifndef CS_CONFIG_AGENT_FILE_H
#define CS_CONFIG_AGENT_FILE_H

#include "config/agent_config.h"
#include "config/common.h"

struct sds_file {
    const char *default_svid_name, *default_bundle_name, *default_all_bundles_name;
    struct config_bool disable_spiffe_cert_validation;
};
struct workload_ratelimit_file {
    struct config_int fetch_x509_svid, fetch_jwt_svid, fetch_x509_bundles, fetch_jwt_bundles;
    struct config_int stream_secrets, fetch_secrets;
    struct config_strings unknown;
};
struct broker_type_file {
    const char *type_url;
    struct config_bool allow_over_tcp;
    struct config_strings unknown;
};
struct broker_entry_file {
    const char *id;
    struct config_blocks allowed_reference_types;
    struct config_strings unknown;
};
struct broker_file {
    const char *socket_path, *bind_address;
    struct config_blocks brokers;
    bool given;
    struct config_strings unknown;
};
struct agent_experimental_file {
    const char *sync_interval, *jwt_svid_cache_hit_timeout, *named_pipe_name, *admin_named_pipe_name;
    struct config_bool use_sync_authorized_entries, require_pq_kem;
    struct workload_ratelimit_file ratelimit;
    struct broker_file broker;
    struct config_strings feature_flags;
};
struct enclave_file {
    const char *svid_dir, *svid_file_name, *svid_key_file_name, *svid_bundle_file_name, *hint;
    const char *workload_api_addr, *server_proxy;
    struct config_strings command;
    struct config_int uid, gid;
    bool given;
    struct config_strings unknown;
};
struct agent_section_file {
    const char *data_dir, *admin_socket_path, *rebootstrap_mode, *rebootstrap_delay, *join_token,
        *join_token_file;
    const char *log_file, *log_format, *log_level, *server_address, *socket_path,
        *workload_x509_svid_key_type;
    const char *trust_bundle_format, *trust_bundle_path, *trust_bundle_spiffe_workload_api,
        *trust_bundle_unix_socket;
    const char *trust_bundle_url, *trust_domain, *availability_target;
    struct config_bool insecure_bootstrap, log_source_location, disable_workload_api, disable_sds_api;
    struct config_bool allow_unauthenticated_verifiers, profiling_enabled;
    struct config_strings log_selectors, allowed_foreign_jwt_claims, authorized_delegates, profiling_names;
    struct config_int server_port, x509_svid_cache_max_size, jwt_svid_cache_max_size, profiling_port,
        profiling_freq;
    struct sds_file sds;
    struct agent_experimental_file experimental;
    struct enclave_file enclave;
    struct config_strings unknown;
};
struct agent_file {
    struct agent_section_file agent;
    struct config_tree plugins;
    struct telemetry_file telemetry;
    struct health_file health_checks;
    struct config_strings unknown;
};

extern const struct config_section agent_experimental_section;

/* agent_enclave.c */
CS_CHECKED cs_code load_enclave(struct load *l, const struct enclave_file *f, struct agent_config_enclave *c);

#endif
