/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the built-in plugins (plugin_data), read from the text a plugin is given. One table
 * per plugin, also printed into the reference pages.
 *
 * Each reader fills *out with strings that live in `a` and are never NULL. CS_INVALID carries the
 * text SPIRE's plugin reports; where SPIRE checks nothing, neither is anything checked here.
 */
#ifndef CS_CONFIG_PLUGIN_CONFIG_H
#define CS_CONFIG_PLUGIN_CONFIG_H

#include "config/config.h"

/* DataStore "sql". CS_UNIMPLEMENTED for a database_type that is known and not built yet. */
struct config_sql {
    const char *database_type; /* "sqlite3" */
    const char *connection_string, *ro_connection_string;
    const char *root_ca_path, *client_cert_path, *client_key_path;
    int64_t conn_max_lifetime_ns; /* -1: not given */
    int64_t max_open_conns;       /* -1: not given (100) */
    int64_t max_idle_conns;       /* -1: not given (100) */
    bool disable_migration, log_sql;
};
CS_CHECKED cs_code config_read_sql(struct cs_slice text, struct cs_arena *a, struct config_sql *out,
                                   struct cs_err *e);

/* Server KeyManager "disk": `keys_path is required`. */
struct config_keymanager_disk {
    const char *keys_path;
};
CS_CHECKED cs_code config_read_keymanager_disk(struct cs_slice text, struct cs_arena *a,
                                               struct config_keymanager_disk *out, struct cs_err *e);

/* UpstreamAuthority "disk": `'cert_file_path' and 'key_file_path' must be set and not empty`. */
struct config_upstream_disk {
    const char *cert_file_path, *key_file_path, *bundle_file_path;
};
CS_CHECKED cs_code config_read_upstream_disk(struct cs_slice text, struct cs_arena *a,
                                             struct config_upstream_disk *out, struct cs_err *e);

/* Server NodeAttestor "join_token" has no options. Unknown ones are notes for `validate`
 * (`unknown setting "x" encountered`) and nothing to `run`: their names are put in *unknown. */
CS_CHECKED cs_code config_read_join_token(struct cs_slice text, struct cs_arena *a,
                                          struct config_strings *unknown, struct cs_err *e);

/* Server NodeAttestor "nitro_enclave". Unknown options are an error: `unknown setting "x" encountered`. */
struct config_nitro_enclave {
    const char *root_ca_path;           /* "": AWS's root */
    const char *agent_path_template;    /* "": not given */
    int64_t max_age_ns;                 /* positive */
    struct config_strings allowed_pcr0; /* 96 lower-case hex digits each; none: any */
    bool allow_debug, require_key_binding;
};
extern const struct config_section config_nitro_enclave_section;
CS_CHECKED cs_code config_read_nitro_enclave(struct cs_slice text, struct cs_arena *a,
                                             struct config_nitro_enclave *out, struct cs_err *e);

/* Server NodeAttestor "k8s_csr". Unknown options are an error; `at least one cluster is required`,
 * `cluster "x": client_ca_files is required`. */
struct config_k8s_csr_cluster {
    const char *name;
    struct config_strings client_ca_files; /* paths, at least one */
    struct config_strings node_allow_list; /* none: any */
};
struct config_k8s_csr {
    const struct config_k8s_csr_cluster *at;
    size_t len;
};
extern const struct config_section config_k8s_csr_section;
CS_CHECKED cs_code config_read_k8s_csr(struct cs_slice text, struct cs_arena *a, struct config_k8s_csr *out,
                                       struct cs_err *e);

/* Agent KeyManager "disk": `directory must be configured`. */
struct config_agent_keymanager_disk {
    const char *directory;
};
CS_CHECKED cs_code config_read_agent_keymanager_disk(struct cs_slice text, struct cs_arena *a,
                                                     struct config_agent_keymanager_disk *out,
                                                     struct cs_err *e);

/* Agent NodeAttestor "nitro_enclave": `nsm_path must be absolute`. */
struct config_agent_nitro_enclave {
    const char *nsm_path; /* default "/dev/nsm" */
};
CS_CHECKED cs_code config_read_agent_nitro_enclave(struct cs_slice text, struct cs_arena *a,
                                                   struct config_agent_nitro_enclave *out, struct cs_err *e);

/* Agent NodeAttestor "k8s_csr": `cluster is required`. */
struct config_agent_k8s_csr {
    const char *cluster;
    const char *id_dir; /* default "/tmp/spire-agent-id" */
    bool request;       /* certificate_request is there; what follows counts only then */
    const char *kubeconfig, *ca_cert_path, *client_cert_path, *client_key_path; /* "": not given */
    const char *node_name, *node_name_env; /* "": not given; default "MY_NODE_NAME" */
    int64_t timeout_ns;                    /* positive */
};
extern const struct config_section config_agent_k8s_csr_section;
CS_CHECKED cs_code config_read_agent_k8s_csr(struct cs_slice text, struct cs_arena *a,
                                             struct config_agent_k8s_csr *out, struct cs_err *e);

/* WorkloadAttestor "unix". */
struct config_unix {
    bool discover_workload_path;
    int64_t workload_size_limit; /* bytes; 0: none; negative: no hash is made */
};
CS_CHECKED cs_code config_read_unix(struct cs_slice text, struct cs_arena *a, struct config_unix *out,
                                    struct cs_err *e);

/* SVIDStore "aws_secretsmanager": `region is required`. */
struct config_aws_secretsmanager {
    const char *access_key_id, *secret_access_key, *region; /* the first two may be "" */
};
extern const struct config_section config_aws_secretsmanager_section;
CS_CHECKED cs_code config_read_aws_secretsmanager(struct cs_slice text, struct cs_arena *a,
                                                  struct config_aws_secretsmanager *out, struct cs_err *e);

/* SVIDStore "gcp_secretmanager": `unknown configurations detected: a,b`. */
struct config_gcp_secretmanager {
    const char *service_account_file; /* "": found where Google's libraries look */
    struct config_strings unknown;    /* none */
};
extern const struct config_section config_gcp_secretmanager_section;
CS_CHECKED cs_code config_read_gcp_secretmanager(struct cs_slice text, struct cs_arena *a,
                                                 struct config_gcp_secretmanager *out, struct cs_err *e);

/* SVIDStore "disk". Unknown options are an error. */
struct config_svidstore_hook {
    const char *name;
    struct config_strings command; /* first one absolute; len 0: none */
    const char *pid_file;          /* absolute; "": none */
    int signal;
    int64_t timeout_ns; /* of the command; positive */
};
struct config_svidstore_disk {
    struct config_strings directories; /* absolute, no slash at the end; the first is for relative paths */
    const struct config_svidstore_hook *hooks;
    size_t hook_count;
};
extern const struct config_section config_svidstore_disk_section;
CS_CHECKED cs_code config_read_svidstore_disk(struct cs_slice text, struct cs_arena *a,
                                              struct config_svidstore_disk *out, struct cs_err *e);

/* SVIDStore "sconecas_sessionmanager". All but the flag are needed: `cas_client_key is required`. */
struct config_sconecas {
    const char *cas_connection_string; /* begins with https:// */
    const char *cas_client_certificate, *cas_client_key, *trust_anchor_certificate;
    const char *cas_predecessor_dir;
    const char *svid_session_template_file, *bundle_session_template_file,
        *federated_bundles_session_template_file;
    bool insecure_skip_verify_tls;
};
extern const struct config_section config_sconecas_section;
CS_CHECKED cs_code config_read_sconecas(struct cs_slice text, struct cs_arena *a, struct config_sconecas *out,
                                        struct cs_err *e);

/* True when SPIRE 1.15 has a built-in of this type and name (so that it is "not supported yet"
 * rather than unknown). `program` is "server" or "agent". */
bool config_plugin_is_known(const char *program, const char *type, const char *name);

/* The tables, for docs: NULL-terminated list. */
struct config_plugin_doc {
    const char *program, *type, *name, *doc;
    const struct config_section *section; /* NULL: no options */
};
extern const struct config_plugin_doc config_plugin_docs[];
/* Appends the table of the plugin's options, as its page in docs/plugins has it. */
void config_print_plugin_options(struct cs_buf *out, const struct config_plugin_doc *d);

#endif
