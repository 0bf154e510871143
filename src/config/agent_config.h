/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's configuration: file and flags in, typed values out, checked in SPIRE's order with
 * SPIRE's texts (doc/spire_agent.md, cmd/spire-agent/cli/run/run.go at v1.15).
 *
 * Strings are never NULL ("" is "not given"), live as long as the configuration and must not be
 * changed. Durations are in nanoseconds.
 */
#ifndef CS_CONFIG_AGENT_CONFIG_H
#define CS_CONFIG_AGENT_CONFIG_H

#include "config/config.h"

#define AGENT_CONFIG_DEFAULT_PATH "conf/agent/agent.conf"
#define AGENT_CONFIG_DEFAULT_SOCKET "/tmp/spire-agent/public/api.sock"

/* What the command line says; NULL, "", 0 and false leave the file's value. */
struct agent_config_flags {
    const char *data_dir, *join_token, *join_token_file, *log_file, *log_format, *log_level;
    const char *rebootstrap_delay, *rebootstrap_mode, *server_address, *socket_path;
    const char *trust_bundle_path, *trust_bundle_format, *trust_bundle_url, *trust_domain;
    int64_t server_port;
    bool allow_unauthenticated_verifiers, disable_sds_api, disable_workload_api, insecure_bootstrap;
    bool log_source_location;
};

enum agent_config_rebootstrap { AGENT_REBOOTSTRAP_NEVER, AGENT_REBOOTSTRAP_AUTO, AGENT_REBOOTSTRAP_ALWAYS };
enum agent_config_bundle_format { AGENT_BUNDLE_PEM, AGENT_BUNDLE_SPIFFE };

/* agent { enclave { ... } }: node and workload are one (docs/enclaves.md). Not of SPIRE. */
struct agent_config_enclave {
    bool on;
    const char *svid_dir; /* absolute; "": no files */
    const char *svid_file_name, *svid_key_file_name, *svid_bundle_file_name;
    const char *hint;              /* of the identity that is written; "": the first */
    const char *workload_api_addr; /* "127.0.0.1:5000", a loopback address; "": none */
    const char *server_proxy;      /* URL, see rpc/proxy.h; "": none */
    struct config_strings command; /* the workload to start; empty: none */
    int64_t uid, gid;              /* of the files and the command; -1: the agent's own */
};

struct agent_config {
    struct cs_arena *arena; /* owns everything below */

    const char *data_dir;       /* default "." */
    const char *server_address; /* name or address, without brackets around IPv6 */
    uint16_t server_port;
    const char *trust_domain;      /* name: "example.org" */
    const char *socket_path;       /* absolute; "": both APIs are off */
    const char *admin_socket_path; /* absolute; "": none */
    bool disable_workload_api, disable_sds_api;
    struct config_log log;
    struct config_strings log_selectors;

    const char *join_token; /* also when it came from join_token_file */
    bool insecure_bootstrap;
    const char *trust_bundle_path, *trust_bundle_url, *trust_bundle_unix_socket;
    enum agent_config_bundle_format trust_bundle_format;
    enum agent_config_rebootstrap rebootstrap_mode;
    int64_t rebootstrap_delay_ns; /* default 10 min */

    enum config_key_type workload_x509_svid_key_type;
    int64_t availability_target_ns;                            /* 0: none */
    int64_t x509_svid_cache_max_size, jwt_svid_cache_max_size; /* 0: default (1000) */
    bool allow_unauthenticated_verifiers;
    struct config_strings allowed_foreign_jwt_claims;

    /* sds: names of the resources (defaults "default", "ROOTCA", "ALL") */
    const char *sds_default_svid_name, *sds_default_bundle_name, *sds_default_all_bundles_name;
    bool sds_disable_spiffe_cert_validation;

    /* experimental */
    int64_t sync_interval_ns;              /* 0: default (5 s) */
    int64_t jwt_svid_cache_hit_timeout_ns; /* 0: default */
    bool use_sync_authorized_entries;      /* default true */
    bool require_pq_kem;
    struct {
        int64_t fetch_x509_svid, fetch_jwt_svid, fetch_x509_bundles, fetch_jwt_bundles, stream_secrets,
            fetch_secrets;
    } ratelimit; /* calls per second and selector set; 0: no limit */

    struct agent_config_enclave enclave;
    struct config_health health;
    struct config_plugins plugins;
};

/* Reads `path` ("" or NULL: the default path), lays flags over it, fills the defaults, checks.
 * Errors and notes as server_config_load; a join_token_file is read. The plugins' own data are not
 * looked at here. */
CS_CHECKED cs_code agent_config_load(const char *path, bool expand_env,
                                     const struct agent_config_flags *flags, struct agent_config **out,
                                     struct config_notes *notes, struct cs_err *e);
CS_CHECKED cs_code agent_config_parse(const char *name, struct cs_slice text, bool expand_env,
                                      const struct agent_config_flags *flags, struct agent_config **out,
                                      struct config_notes *notes, struct cs_err *e);
void agent_config_free(struct agent_config *c);
static inline void agent_config_drop(struct agent_config **c)
{
    agent_config_free(*c);
    *c = NULL;
}

extern const struct config_section agent_config_section;

#endif
