/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's configuration: file and flags in, typed values out, checked in SPIRE's order with
 * SPIRE's texts (doc/spire_server.md, cmd/spire-server/cli/run/run.go at v1.15).
 *
 * Strings are never NULL ("" is "not given"), live as long as the configuration and must not be
 * changed. Durations are in nanoseconds.
 */
#ifndef CS_CONFIG_SERVER_CONFIG_H
#define CS_CONFIG_SERVER_CONFIG_H

#include "config/config.h"

#define SERVER_CONFIG_DEFAULT_PATH "conf/server/server.conf"
#define SERVER_CONFIG_DEFAULT_SOCKET "/tmp/spire-server/private/api.sock"

/* What the command line says; NULL, "" and 0 leave the file's value. */
struct server_config_flags {
    const char *bind_address, *data_dir, *log_file, *log_format, *log_level, *socket_path, *trust_domain;
    int64_t bind_port; /* -serverPort */
    bool log_source_location;
};

struct server_config {
    struct cs_arena *arena; /* owns everything below */

    const char *bind_address; /* numeric address, resolved */
    uint16_t bind_port;
    const char *socket_path;  /* absolute */
    const char *trust_domain; /* name: "example.org" */
    const char *data_dir;
    struct config_log log;

    struct config_strings admin_ids; /* canonical SPIFFE IDs */
    bool audit_log_enabled;
    struct config_strings proxy_protocol_trusted_cidrs;
    bool ratelimit_attestation, ratelimit_signing;

    int64_t ca_ttl_ns;                /* default 24 h */
    int64_t default_x509_svid_ttl_ns; /* default 1 h */
    int64_t default_jwt_svid_ttl_ns;  /* default 5 min */
    int64_t agent_ttl_ns;             /* 0: default_x509_svid_ttl_ns */
    enum config_key_type ca_key_type, jwt_key_type;
    const char *jwt_issuer;
    bool disable_jwt_svids;
    /* ca_subject; C=US, O=SPIFFE when the file says nothing */
    struct config_strings ca_subject_country, ca_subject_organization;
    const char *ca_subject_common_name;

    int64_t max_attested_node_info_staleness_ns; /* 0: read anew each time */
    int64_t prune_attested_nodes_expired_for_ns; /* 0: no pruning */
    int64_t prune_attested_nodes_batch_size;     /* 0: all at once */
    bool prune_tofu_nodes;

    /* experimental */
    bool agent_spiffe_id_as_selector;
    int64_t cache_reload_interval_ns; /* 0: default (5 s), as the next three */
    int64_t full_cache_reload_interval_ns;
    int64_t prune_events_older_than_ns;
    int64_t event_timeout_ns;
    bool events_based_cache;
    bool require_pq_kem;

    struct config_health health;
    struct config_plugins plugins;
};

/* Reads `path` ("" or NULL: the default path), lays flags over it, fills the defaults, checks.
 *
 * On CS_OK *out is the caller's (server_config_free). Errors carry the text SPIRE prints:
 * CS_NOT_FOUND `could not find config file /x: please use the -config flag`, CS_INVALID
 * `unable to decode configuration at "x": At 3:5: ...`, `trust_domain must be configured`,
 * `unknown configuration detected` (the keys are in a note); CS_UNIMPLEMENTED
 * `experimental.require_pq_kem is not supported yet`. Notes are filled in both cases. The log file
 * is created if need be, as SPIRE does. Any thread, but the environment must not change meanwhile. */
CS_CHECKED cs_code server_config_load(const char *path, bool expand_env,
                                      const struct server_config_flags *flags, struct server_config **out,
                                      struct config_notes *notes, struct cs_err *e);
/* The same from bytes; `name` stands for the path in errors. */
CS_CHECKED cs_code server_config_parse(const char *name, struct cs_slice text, bool expand_env,
                                       const struct server_config_flags *flags, struct server_config **out,
                                       struct config_notes *notes, struct cs_err *e);
void server_config_free(struct server_config *c);
static inline void server_config_drop(struct server_config **c)
{
    server_config_free(*c);
    *c = NULL;
}

/* The whole table, for docs and tests. */
extern const struct config_section server_config_section;

#endif
