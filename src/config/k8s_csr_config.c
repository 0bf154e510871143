/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of NodeAttestor "k8s_csr", server and agent. Unknown ones are refused: a misspelt allow list must
 * not go by unseen.
 */
#include "config/plugin_config.h"

#include "base/text.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Decodes into *file, whose member `unknown` is at `unknown`. */
static cs_code decode(struct cs_slice text, const struct config_section *section, struct cs_arena *a,
                      void *file, const struct config_strings *unknown, struct cs_err *e)
{
    struct hcl_items items;
    cs_code code = hcl_parse(text, a, &items, e);
    if (code == CS_OK)
        code = config_decode(section, items, "root", a, file, e);
    if (code != CS_OK)
        return code == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : code;
    if (unknown->len > 0)
        return cs_fail(e, CS_INVALID, "unknown setting \"%.128s\" encountered", unknown->at[0]);
    return CS_OK;
}

static const char *or_else(const char *s, const char *fallback)
{
    return s != NULL && *s != '\0' ? s : fallback;
}

/* --- Server --- */

struct cluster_file {
    struct config_strings client_ca_files, node_allow_list, unknown;
};
#define AT(field) offsetof(struct cluster_file, field)
static const struct config_option cluster_options[] = {
    {"client_ca_files", CONFIG_STRINGS, CONFIG_READY, AT(client_ca_files), NULL,
     "PEM files with the CAs that sign client certificates of this cluster's kubelets. Required. Read at "
     "each "
     "attestation.",
     NULL},
    {"node_allow_list", CONFIG_STRINGS, CONFIG_READY, AT(node_allow_list), NULL,
     "Names of the nodes that may attest. Not given: any.", NULL},
};
static const struct config_section cluster_section = {.title = "cluster",
                                                      .strict = true,
                                                      .size = sizeof(struct cluster_file),
                                                      .given = CONFIG_NO_OFFSET,
                                                      .unknown = AT(unknown),
                                                      .options = cluster_options,
                                                      .count = COUNT(cluster_options)};
#undef AT

struct server_file {
    struct config_map clusters;
    struct config_strings unknown;
};
#define AT(field) offsetof(struct server_file, field)
static const struct config_option server_options[] = {
    {"clusters", CONFIG_MAP, CONFIG_READY, AT(clusters), NULL,
     "The clusters whose nodes may attest, by the name that agents give in `cluster`. At least one.",
     &cluster_section},
};
const struct config_section config_k8s_csr_section = {.title = "k8s_csr",
                                                      .strict = true,
                                                      .size = sizeof(struct server_file),
                                                      .given = CONFIG_NO_OFFSET,
                                                      .unknown = AT(unknown),
                                                      .options = server_options,
                                                      .count = COUNT(server_options)};
#undef AT

static cs_code read_one(const char *name, const struct cluster_file *f, struct config_k8s_csr_cluster *out,
                        struct cs_err *e)
{
    if (f->unknown.len > 0)
        return cs_fail(e, CS_INVALID, "cluster \"%.128s\": unknown setting \"%.128s\" encountered", name,
                       f->unknown.at[0]);
    if (f->client_ca_files.len == 0)
        return cs_fail(e, CS_INVALID, "cluster \"%.128s\": client_ca_files is required", name);
    *out = (struct config_k8s_csr_cluster){name, f->client_ca_files, f->node_allow_list};
    return CS_OK;
}

cs_code config_read_k8s_csr(struct cs_slice text, struct cs_arena *a, struct config_k8s_csr *out,
                            struct cs_err *e)
{
    struct server_file f = {0};
    *out = (struct config_k8s_csr){0};
    CS_TRY(decode(text, &config_k8s_csr_section, a, &f, &f.unknown, e));
    if (f.clusters.len == 0)
        return cs_fail(e, CS_INVALID, "at least one cluster is required");
    struct config_k8s_csr_cluster *at = cs_arena_zalloc(a, f.clusters.len * sizeof *at);
    if (at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < f.clusters.len; i++)
        CS_TRY(read_one(f.clusters.labels[i], f.clusters.at[i], &at[i], e));
    *out = (struct config_k8s_csr){at, f.clusters.len};
    return CS_OK;
}

/* --- Agent --- */

#define ID_DIR "/tmp/spire-agent-id" /* where the program node-attestor puts them */
#define TIMEOUT "10m"
#define NODE_NAME_ENV "MY_NODE_NAME"

struct request_file {
    const char *kubeconfig, *ca_cert_path, *client_cert_path, *client_key_path;
    const char *node_name, *node_name_env, *timeout;
    struct config_strings unknown;
    bool given;
};
#define AT(field) offsetof(struct request_file, field)
static const struct config_option request_options[] = {
    {"kubeconfig", CONFIG_STRING, CONFIG_READY, AT(kubeconfig), NULL,
     "How the API server is reached. Not given: by the pod's service account.", NULL},
    {"ca_cert_path", CONFIG_STRING, CONFIG_READY, AT(ca_cert_path), NULL,
     "CA of the API server, or its own certificate, in place of the kubeconfig's.", NULL},
    {"client_cert_path", CONFIG_STRING, CONFIG_READY, AT(client_cert_path), NULL,
     "Client certificate of the user who may create certificate signing requests, in place of the "
     "kubeconfig's user.",
     NULL},
    {"client_key_path", CONFIG_STRING, CONFIG_READY, AT(client_key_path), NULL, "Its private key.", NULL},
    {"node_name", CONFIG_STRING, CONFIG_READY, AT(node_name), NULL,
     "The node's name. Not given: what `node_name_env` says, else the host name in lower case.", NULL},
    {"node_name_env", CONFIG_STRING, CONFIG_READY, AT(node_name_env), NODE_NAME_ENV,
     "Environment variable with the node's name.", NULL},
    {"timeout", CONFIG_STRING, CONFIG_READY, AT(timeout), TIMEOUT,
     "How long one attestation waits for the certificate. The next one goes on waiting for the same request.",
     NULL},
};
static const struct config_section request_section = {.title = "certificate request",
                                                      .strict = true,
                                                      .size = sizeof(struct request_file),
                                                      .given = AT(given),
                                                      .unknown = AT(unknown),
                                                      .options = request_options,
                                                      .count = COUNT(request_options)};
#undef AT

struct agent_file {
    const char *cluster, *id_dir;
    struct request_file request;
    struct config_strings unknown;
};
#define AT(field) offsetof(struct agent_file, field)
static const struct config_option agent_options[] = {
    {"cluster", CONFIG_STRING, CONFIG_READY, AT(cluster), NULL,
     "The cluster's name, as the server's configuration has it. Required.", NULL},
    {"id_dir", CONFIG_STRING, CONFIG_READY, AT(id_dir), ID_DIR,
     "Folder with the node's key and certificate, `id-doc.key` and `id-doc.crt`, as `node-attestor` leaves "
     "them. Read at each attestation.",
     NULL},
    {"certificate_request", CONFIG_BLOCK, CONFIG_READY, AT(request), NULL,
     "Obtain the certificate from the cluster, and a new one before it ends, in place of `node-attestor`.",
     &request_section},
};
const struct config_section config_agent_k8s_csr_section = {.title = "k8s_csr",
                                                            .strict = true,
                                                            .size = sizeof(struct agent_file),
                                                            .given = CONFIG_NO_OFFSET,
                                                            .unknown = AT(unknown),
                                                            .options = agent_options,
                                                            .count = COUNT(agent_options)};
#undef AT

static cs_code read_request(const struct request_file *f, struct config_agent_k8s_csr *out, struct cs_err *e)
{
    if (f->unknown.len > 0)
        return cs_fail(e, CS_INVALID, "certificate_request: unknown setting \"%.128s\" encountered",
                       f->unknown.at[0]);
    out->request = f->given;
    out->kubeconfig = or_else(f->kubeconfig, "");
    out->ca_cert_path = or_else(f->ca_cert_path, "");
    out->client_cert_path = or_else(f->client_cert_path, "");
    out->client_key_path = or_else(f->client_key_path, "");
    out->node_name = or_else(f->node_name, "");
    out->node_name_env = or_else(f->node_name_env, NODE_NAME_ENV);
    if ((*out->client_cert_path == '\0') != (*out->client_key_path == '\0'))
        return cs_fail(e, CS_INVALID,
                       "certificate_request: client_cert_path and client_key_path go together");
    if (cs_duration_parse(cs_slice_str(or_else(f->timeout, TIMEOUT)), &out->timeout_ns, e) != CS_OK)
        return cs_wrap(e, "certificate_request: timeout");
    return out->timeout_ns > 0 ? CS_OK
                               : cs_fail(e, CS_INVALID, "certificate_request: timeout is not positive");
}

cs_code config_read_agent_k8s_csr(struct cs_slice text, struct cs_arena *a, struct config_agent_k8s_csr *out,
                                  struct cs_err *e)
{
    struct agent_file f = {0};
    *out = (struct config_agent_k8s_csr){0};
    CS_TRY(decode(text, &config_agent_k8s_csr_section, a, &f, &f.unknown, e));
    out->cluster = or_else(f.cluster, "");
    out->id_dir = or_else(f.id_dir, ID_DIR);
    if (*out->cluster == '\0')
        return cs_fail(e, CS_INVALID, "cluster is required");
    return read_request(&f.request, out, e);
}
