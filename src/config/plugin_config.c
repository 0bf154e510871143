/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables and readers of the built-in plugins' own options.
 */
#include "config/plugin_config.h"

#include "base/text.h"
#include "config/attestor_config.h"
#include "config/kubernetes_config.h"

#include <stdio.h>
#include <strings.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static cs_code read_text(struct cs_slice text, const struct config_section *s, struct cs_arena *a, void *out,
                         struct cs_err *e)
{
    struct hcl_items items;
    CS_TRY(hcl_parse(text, a, &items, e));
    return config_decode(s, items, "root", a, out, e);
}

static const char *or_empty(const char *s)
{
    return s == NULL ? "" : s;
}

/* --- DataStore "sql" --- */

struct sql_file {
    struct config_tree database_type;
    const char *connection_string, *ro_connection_string, *root_ca_path, *client_cert_path, *client_key_path;
    const char *conn_max_lifetime;
    struct config_int max_open_conns, max_idle_conns;
    struct config_bool disable_migration, log_sql;
};
#define AT(field) offsetof(struct sql_file, field)
static const struct config_option sql_options[] = {
    {"database_type", CONFIG_TREE, CONFIG_READY, AT(database_type), NULL,
     "`\"sqlite3\"`. Others (mysql, postgres, aws_mysql, aws_postgres) are not supported yet. Needed.", NULL},
    {"connection_string", CONFIG_STRING, CONFIG_READY, AT(connection_string), NULL,
     "For sqlite3: path of the database file. Needed.", NULL},
    {"ro_connection_string", CONFIG_STRING, CONFIG_READY, AT(ro_connection_string), NULL,
     "Database for reads that may be slightly old.", NULL},
    {"root_ca_path", CONFIG_STRING, CONFIG_READY, AT(root_ca_path), NULL,
     "Authorities of the database (MySQL).", NULL},
    {"client_cert_path", CONFIG_STRING, CONFIG_READY, AT(client_cert_path), NULL,
     "Certificate shown to the database (MySQL).", NULL},
    {"client_key_path", CONFIG_STRING, CONFIG_READY, AT(client_key_path), NULL, "Its private key (MySQL).",
     NULL},
    {"max_open_conns", CONFIG_INT, CONFIG_READY, AT(max_open_conns), NULL,
     "Most connections that read at a time; 4 at most, however many are asked for.", NULL},
    {"max_idle_conns", CONFIG_INT, CONFIG_READY, AT(max_idle_conns), NULL,
     "Of no effect: connections are kept.", NULL},
    {"conn_max_lifetime", CONFIG_STRING, CONFIG_READY, AT(conn_max_lifetime), NULL,
     "Of no effect: connections to a file do not age.", NULL},
    {"disable_migration", CONFIG_BOOL, CONFIG_READY, AT(disable_migration), "false",
     "Do not bring an older schema up to date.", NULL},
    {"log_sql", CONFIG_BOOL, CONFIG_READY, AT(log_sql), "false", "Of no effect: statements are not logged.",
     NULL},
};
#undef AT
static const struct config_section sql_section = {.title = "sql",
                                                  .size = sizeof(struct sql_file),
                                                  .given = CONFIG_NO_OFFSET,
                                                  .unknown = CONFIG_NO_OFFSET,
                                                  .options = sql_options,
                                                  .count = COUNT(sql_options)};

static bool text_in(const char *text, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

/* database_type is a word, or a block named for one. */
static cs_code database_type(const struct config_tree *t, struct cs_arena *a, const char **out,
                             struct cs_err *e)
{
    static const char *const blocks[] = {"aws_mysql", "aws_postgres", NULL};
    if (t->literal != NULL && t->literal->kind != HCL_LIST) {
        /* As SPIRE: the source text without its quotes. */
        const char *p = (const char *)t->literal->raw.data;
        size_t n = t->literal->raw.len;
        while (n > 0 && p[0] == '"') {
            p++;
            n--;
        }
        while (n > 0 && p[n - 1] == '"')
            n--;
        *out = cs_arena_strndup(a, p, n);
        return *out == NULL ? cs_nomem(e) : CS_OK;
    }
    if (!t->given || t->literal != NULL)
        return cs_fail(e, CS_INVALID, "malformed database type configuration");
    if (t->items.len != 1)
        return cs_fail(e, CS_INVALID, "exactly one database type is expected");
    if (t->items.at[0]->key_count != 1)
        return cs_fail(e, CS_INVALID, "exactly one key is expected");
    *out = t->items.at[0]->keys[0].text;
    return text_in(*out, blocks) ? CS_OK : cs_fail(e, CS_INVALID, "unknown database type: %s", *out);
}

cs_code config_read_sql(struct cs_slice text, struct cs_arena *a, struct config_sql *out, struct cs_err *e)
{
    static const char *const later[] = {"mysql", "aws_mysql", "postgres", "aws_postgres", NULL};
    struct sql_file f = {0};
    *out = (struct config_sql){0};
    CS_TRY(read_text(text, &sql_section, a, &f, e));
    CS_TRY(database_type(&f.database_type, a, &out->database_type, e));
    if (*out->database_type == 0)
        return cs_fail(e, CS_INVALID, "datastore-sql: database_type must be set");
    out->connection_string = or_empty(f.connection_string);
    if (*out->connection_string == 0)
        return cs_fail(e, CS_INVALID, "datastore-sql: connection_string must be set");
    out->ro_connection_string = or_empty(f.ro_connection_string);
    out->root_ca_path = or_empty(f.root_ca_path);
    out->client_cert_path = or_empty(f.client_cert_path);
    out->client_key_path = or_empty(f.client_key_path);
    out->conn_max_lifetime_ns = -1;
    if (f.conn_max_lifetime != NULL &&
        cs_duration_parse(cs_slice_str(f.conn_max_lifetime), &out->conn_max_lifetime_ns, e) != CS_OK)
        return cs_wrap(e, "failed to parse conn_max_lifetime \"%s\"", f.conn_max_lifetime);
    out->max_open_conns = f.max_open_conns.given ? f.max_open_conns.value : -1;
    out->max_idle_conns = f.max_idle_conns.given ? f.max_idle_conns.value : -1;
    out->disable_migration = f.disable_migration.value;
    out->log_sql = f.log_sql.value;
    if (text_in(out->database_type, later))
        return cs_fail(e, CS_UNIMPLEMENTED, "datastore-sql: database_type \"%s\" is not supported yet",
                       out->database_type);
    return CS_OK;
}

/* --- KeyManager "disk" of the server --- */

#define AT(field) offsetof(struct config_keymanager_disk, field)
static const struct config_option keymanager_disk_options[] = {
    {"keys_path", CONFIG_STRING, CONFIG_READY, AT(keys_path), NULL,
     "File the private keys are kept in. Needed. Its folder must be there.", NULL},
};
#undef AT
static const struct config_section keymanager_disk_section = {.title = "disk",
                                                              .size = sizeof(struct config_keymanager_disk),
                                                              .given = CONFIG_NO_OFFSET,
                                                              .unknown = CONFIG_NO_OFFSET,
                                                              .options = keymanager_disk_options,
                                                              .count = COUNT(keymanager_disk_options)};

cs_code config_read_keymanager_disk(struct cs_slice text, struct cs_arena *a,
                                    struct config_keymanager_disk *out, struct cs_err *e)
{
    *out = (struct config_keymanager_disk){0};
    cs_code code = read_text(text, &keymanager_disk_section, a, out, e);
    out->keys_path = or_empty(out->keys_path);
    if (code != CS_OK)
        return cs_wrap(e, "unable to decode configuration");
    return *out->keys_path == 0 ? cs_fail(e, CS_INVALID, "keys_path is required") : CS_OK;
}

/* --- UpstreamAuthority "disk" --- */

#define AT(field) offsetof(struct config_upstream_disk, field)
static const struct config_option upstream_disk_options[] = {
    {"cert_file_path", CONFIG_STRING, CONFIG_READY, AT(cert_file_path), NULL,
     "PEM file with the CA certificate, the intermediates that lead to the root after it. Needed.", NULL},
    {"key_file_path", CONFIG_STRING, CONFIG_READY, AT(key_file_path), NULL,
     "PEM file with the private key of the first certificate: PKCS #8, PKCS #1 or SEC 1, not encrypted. "
     "Needed.",
     NULL},
    {"bundle_file_path", CONFIG_STRING, CONFIG_READY, AT(bundle_file_path), NULL,
     "PEM file with the root certificates, needed when the CA certificate is not a root itself.", NULL},
};
#undef AT
static const struct config_section upstream_disk_section = {.title = "disk",
                                                            .size = sizeof(struct config_upstream_disk),
                                                            .given = CONFIG_NO_OFFSET,
                                                            .unknown = CONFIG_NO_OFFSET,
                                                            .options = upstream_disk_options,
                                                            .count = COUNT(upstream_disk_options)};

cs_code config_read_upstream_disk(struct cs_slice text, struct cs_arena *a, struct config_upstream_disk *out,
                                  struct cs_err *e)
{
    *out = (struct config_upstream_disk){0};
    cs_code code = read_text(text, &upstream_disk_section, a, out, e);
    out->cert_file_path = or_empty(out->cert_file_path);
    out->key_file_path = or_empty(out->key_file_path);
    out->bundle_file_path = or_empty(out->bundle_file_path);
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "plugin configuration is malformed") : code;
    if (*out->cert_file_path == 0 || *out->key_file_path == 0)
        return cs_fail(e, CS_INVALID, "'cert_file_path' and 'key_file_path' must be set and not empty");
    return CS_OK;
}

/* --- NodeAttestor "join_token" of the server --- */

struct join_token_file {
    struct config_strings unknown;
};
static const struct config_section join_token_section = {.title = "join_token",
                                                         .strict = true,
                                                         .size = sizeof(struct join_token_file),
                                                         .given = CONFIG_NO_OFFSET,
                                                         .unknown = offsetof(struct join_token_file, unknown),
                                                         .options = NULL,
                                                         .count = 0};

cs_code config_read_join_token(struct cs_slice text, struct cs_arena *a, struct config_strings *unknown,
                               struct cs_err *e)
{
    struct join_token_file f = {0};
    cs_code code = read_text(text, &join_token_section, a, &f, e);
    *unknown = f.unknown;
    return code == CS_INVALID ? cs_wrap(e, "plugin configuration is malformed") : code;
}

/* --- KeyManager "disk" of the agent --- */

#define AT(field) offsetof(struct config_agent_keymanager_disk, field)
static const struct config_option agent_keymanager_disk_options[] = {
    {"directory", CONFIG_STRING, CONFIG_READY, AT(directory), NULL,
     "Folder the private keys are kept in; made when it is missing. Needed.", NULL},
};
#undef AT
static const struct config_section agent_keymanager_disk_section = {
    .title = "disk",
    .size = sizeof(struct config_agent_keymanager_disk),
    .given = CONFIG_NO_OFFSET,
    .unknown = CONFIG_NO_OFFSET,
    .options = agent_keymanager_disk_options,
    .count = COUNT(agent_keymanager_disk_options)};

cs_code config_read_agent_keymanager_disk(struct cs_slice text, struct cs_arena *a,
                                          struct config_agent_keymanager_disk *out, struct cs_err *e)
{
    *out = (struct config_agent_keymanager_disk){0};
    cs_code code = read_text(text, &agent_keymanager_disk_section, a, out, e);
    out->directory = or_empty(out->directory);
    if (code != CS_OK)
        return cs_wrap(e, "unable to decode configuration");
    return *out->directory == 0 ? cs_fail(e, CS_INVALID, "directory must be configured") : CS_OK;
}

/* --- NodeAttestor "nitro_enclave" of the agent --- */

#define NSM_PATH "/dev/nsm"
struct agent_nitro_enclave_file {
    const char *nsm_path;
    struct config_strings unknown;
};
#define AT(field) offsetof(struct agent_nitro_enclave_file, field)
static const struct config_option agent_nitro_enclave_options[] = {
    {"nsm_path", CONFIG_STRING, CONFIG_READY, AT(nsm_path), NSM_PATH,
     "The Nitro Security Module: its device, or a Unix socket of a program that passes requests on to it.",
     NULL},
};
static const struct config_section agent_nitro_enclave_section = {
    .title = "nitro_enclave",
    .strict = true,
    .size = sizeof(struct agent_nitro_enclave_file),
    .given = CONFIG_NO_OFFSET,
    .unknown = AT(unknown),
    .options = agent_nitro_enclave_options,
    .count = COUNT(agent_nitro_enclave_options)};
#undef AT

cs_code config_read_agent_nitro_enclave(struct cs_slice text, struct cs_arena *a,
                                        struct config_agent_nitro_enclave *out, struct cs_err *e)
{
    struct agent_nitro_enclave_file f = {0};
    *out = (struct config_agent_nitro_enclave){0};
    if (read_text(text, &agent_nitro_enclave_section, a, &f, e) != CS_OK)
        return cs_wrap(e, "unable to decode configuration");
    if (f.unknown.len > 0)
        return cs_fail(e, CS_INVALID, "unknown option \"%s\"", f.unknown.at[0]);
    out->nsm_path = f.nsm_path != NULL && *f.nsm_path != 0 ? f.nsm_path : NSM_PATH;
    return *out->nsm_path == '/' ? CS_OK : cs_fail(e, CS_INVALID, "nsm_path must be absolute");
}

/* --- WorkloadAttestor "unix" --- */

struct unix_file {
    struct config_bool discover_workload_path;
    struct config_int workload_size_limit;
};
#define AT(field) offsetof(struct unix_file, field)
static const struct config_option unix_options[] = {
    {"discover_workload_path", CONFIG_BOOL, CONFIG_READY, AT(discover_workload_path), "false",
     "Makes the selectors `unix:path` and `unix:sha256`. The agent then needs the right to read other users' "
     "/proc/PID/exe.",
     NULL},
    {"workload_size_limit", CONFIG_INT, CONFIG_READY, AT(workload_size_limit), "0",
     "Largest program, in bytes, that is hashed for `unix:sha256`. 0: any; negative: none is hashed.", NULL},
};
#undef AT
static const struct config_section unix_section = {.title = "unix",
                                                   .size = sizeof(struct unix_file),
                                                   .given = CONFIG_NO_OFFSET,
                                                   .unknown = CONFIG_NO_OFFSET,
                                                   .options = unix_options,
                                                   .count = COUNT(unix_options)};

cs_code config_read_unix(struct cs_slice text, struct cs_arena *a, struct config_unix *out, struct cs_err *e)
{
    struct unix_file f = {0};
    *out = (struct config_unix){0};
    if (read_text(text, &unix_section, a, &f, e) != CS_OK)
        return cs_wrap(e, "failed to decode configuration");
    out->discover_workload_path = f.discover_workload_path.value;
    out->workload_size_limit = f.workload_size_limit.value;
    return CS_OK;
}

/* --- what SPIRE 1.15 has built in --- */

static const struct {
    const char *program, *type, *names; /* names with a blank around each */
} known[] = {
    {"server", "DataStore", " sql "},
    {"server", "KeyManager", " aws_kms azure_key_vault disk gcp_kms hashicorp_vault memory "},
    {"server", "NodeAttestor",
     " aws_iid azure_imds azure_msi gcp_iit http_challenge join_token k8s_psat sshpop tpm_devid x509pop "},
    {"server", "UpstreamAuthority", " aws_pca awssecret cert-manager disk gcp_cas spire vault "},
    {"server", "CredentialComposer", " uniqueid "},
    {"server", "Notifier", " gcs_bundle k8sbundle "},
    {"server", "BundlePublisher",
     " aws_rolesanywhere_trustanchor aws_s3 azure_blob gcp_cloudstorage k8s_configmap "},
    {"agent", "KeyManager", " disk memory "},
    {"agent", "NodeAttestor",
     " aws_iid azure_imds azure_msi gcp_iit http_challenge join_token k8s_psat sshpop tpm_devid x509pop "},
    {"agent", "WorkloadAttestor", " docker k8s slurm systemd unix windows "},
    {"agent", "SVIDStore", " aws_secretsmanager gcp_secretmanager "},
};

bool config_plugin_is_known(const char *program, const char *type, const char *name)
{
    char word[64];
    if (strchr(name, ' ') != NULL || strlen(name) > sizeof word - 3)
        return false;
    (void)snprintf(word, sizeof word, " %s ", name);
    for (size_t i = 0; i < COUNT(known); i++)
        if (strcmp(known[i].program, program) == 0 && strcmp(known[i].type, type) == 0)
            return strstr(known[i].names, word) != NULL;
    return false;
}

const struct config_plugin_doc config_plugin_docs[] = {
    {"server", "DataStore", "sql", "Keeps everything in an SQL database.", &sql_section},
    {"server", "KeyManager", "disk", "Keeps the private keys of the authorities in a file.",
     &keymanager_disk_section},
    {"server", "KeyManager", "memory", "Private keys of the authorities live as long as the process.", NULL},
    {"server", "NodeAttestor", "join_token", "Agents prove themselves with a token made by `token generate`.",
     NULL},
    {"server", "NodeAttestor", "k8s_csr",
     "Nodes of Kubernetes prove themselves with a client certificate of their cluster.",
     &config_k8s_csr_section},
    {"server", "NodeAttestor", "k8s_psat",
     "Agents in Kubernetes prove themselves with a projected service account token.",
     &config_k8s_psat_section},
    {"server", "NodeAttestor", "k8s_sat",
     "Agents in Kubernetes prove themselves with a service account token. Use `k8s_psat` instead.",
     &config_k8s_sat_section},
    {"server", "NodeAttestor", "nitro_enclave",
     "Enclaves of AWS Nitro prove themselves with an attestation document.", &config_nitro_enclave_section},
    {"server", "Notifier", "k8sbundle",
     "Brings the bundle to a ConfigMap, webhook configurations and API services of Kubernetes.",
     &config_k8sbundle_section},
    {"server", "BundlePublisher", "k8s_configmap", "Brings the bundle to ConfigMaps of Kubernetes.",
     &config_k8s_configmap_section},
    {"server", "UpstreamAuthority", "disk",
     "The server's CA is signed by a CA whose files are on disk. Also taken under its name of 2018, "
     "`UpstreamCA`.",
     &upstream_disk_section},
    {"agent", "KeyManager", "disk",
     "Keeps the agent's private keys in a folder, so that it survives a restart.",
     &agent_keymanager_disk_section},
    {"agent", "KeyManager", "memory", "The agent's private keys live as long as the process.", NULL},
    {"agent", "NodeAttestor", "join_token", "Proves the agent with a join token.", NULL},
    {"agent", "NodeAttestor", "k8s_csr",
     "Proves a node of Kubernetes by its client certificate, which it can request itself.",
     &config_agent_k8s_csr_section},
    {"agent", "NodeAttestor", "k8s_psat",
     "Proves the agent with a projected service account token of Kubernetes.",
     &config_k8s_psat_agent_section},
    {"agent", "NodeAttestor", "k8s_sat",
     "Proves the agent with a service account token of Kubernetes. Use `k8s_psat` instead.",
     &config_k8s_sat_agent_section},
    {"agent", "NodeAttestor", "nitro_enclave", "Proves an AWS Nitro Enclave by its attestation document.",
     &agent_nitro_enclave_section},
    {"agent", "SVIDStore", "aws_secretsmanager", "Keeps SVIDs as secrets of AWS Secrets Manager.",
     &config_aws_secretsmanager_section},
    {"agent", "SVIDStore", "disk",
     "Writes SVIDs to files, and tells programs that they were replaced. Ours: SPIRE has no such plugin.",
     &config_svidstore_disk_section},
    {"agent", "SVIDStore", "gcp_secretmanager", "Keeps SVIDs as secrets of Google Cloud's Secret Manager.",
     &config_gcp_secretmanager_section},
    {"agent", "SVIDStore", "sconecas_sessionmanager",
     "Stores SVIDs and bundles as sessions of a SCONE CAS, for confidential workloads.",
     &config_sconecas_section},
    {"agent", "WorkloadAttestor", "docker", "Selectors from the Docker or Podman container of a process.",
     &config_docker_section},
    {"agent", "WorkloadAttestor", "k8s", "Selectors from the Kubernetes pod and container of a process.",
     &config_k8s_section},
    {"agent", "WorkloadAttestor", "slurm", "Selectors from the Slurm job and step of a process.", NULL},
    {"agent", "WorkloadAttestor", "systemd", "Selectors from the systemd unit of a process.", NULL},
    {"agent", "WorkloadAttestor", "unix", "Selectors from the user, groups and program of a process.",
     &unix_section},
    {NULL, NULL, NULL, NULL, NULL},
};
