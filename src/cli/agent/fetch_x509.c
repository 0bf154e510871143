/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-agent api fetch [x509]
 */
#include "base/clock.h"
#include "base/file.h"
#include "cli/agent/internal.h"
#include "crypto/pem.h"

struct fetch_opts {
    struct cli_common common;
    const char *write;
    int64_t timeout;
    bool silent;
};

static const struct cli_flag fetch_flags[] = {
    {"silent", CLI_BOOL, offsetof(struct fetch_opts, silent), "Print nothing but the files written", NULL},
    {"write", CLI_STRING, offsetof(struct fetch_opts, write),
     "Folder to write SVIDs, keys and bundles to (pretty output only)", NULL},
    {"timeout", CLI_TIMEOUT, offsetof(struct fetch_opts, timeout), "How long to wait for an answer", "5s"},
    CLI_AGENT_SOCKET_FLAGS(struct fetch_opts),
    CLI_OUTPUT_FLAG(struct fetch_opts),
    CLI_END,
};

/* The path of a file in the folder; the caller frees it. */
static char *join(const char *dir, const char *name)
{
    size_t len = strlen(dir);
    return cs_asprintf("%s%s%s", dir, dir[len - 1] == '/' ? "" : "/", name);
}

static cs_code write_chain(const char *path, const struct x509_chain *chain, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    for (size_t i = 0; i < chain->count; i++)
        pem_write(&b, PEM_CERTIFICATE, chain->at[i]->der);
    return cs_buf_ok(&b) ? cs_file_write_atomic(path, cs_buf_slice(&b), 0644, e) : cs_nomem(e);
}

static cs_code write_key(const char *path, const struct crypto_key *key, struct cs_err *e)
{
    CS_AUTO(cs_secret) pem = NULL;
    CS_TRY(crypto_key_pem(key, &pem, e));
    return cs_file_write_atomic(path, cs_slice_of(pem->data, pem->len), 0600, e);
}

static cs_code write_federated(struct cli_env *env, const char *dir, const struct agt_svids *all, size_t i,
                               struct cs_err *e)
{
    for (size_t j = 0; j < all->federated_count; j++) {
        char name[64];
        snprintf(name, sizeof name, "federated_bundle.%zu.%zu.pem", i, j);
        CS_CLEANUP(cs_freep) char *path = join(dir, name);
        if (path == NULL)
            return cs_nomem(e);
        fprintf(env->out, "Writing federated bundle #%zu for trust domain %s to file %s.\n", j,
                all->federated[j].id, path);
        CS_TRY(write_chain(path, &all->federated[j].bundle, e));
    }
    return CS_OK;
}

static cs_code write_svid(struct cli_env *env, const char *dir, const struct agt_svid *s, size_t i,
                          struct cs_err *e)
{
    char svid_name[40], key_name[40], bundle_name[40];
    snprintf(svid_name, sizeof svid_name, "svid.%zu.pem", i);
    snprintf(key_name, sizeof key_name, "svid.%zu.key", i);
    snprintf(bundle_name, sizeof bundle_name, "bundle.%zu.pem", i);
    CS_CLEANUP(cs_freep) char *svid = join(dir, svid_name);
    CS_CLEANUP(cs_freep) char *key = join(dir, key_name);
    CS_CLEANUP(cs_freep) char *bundle = join(dir, bundle_name);
    if (svid == NULL || key == NULL || bundle == NULL)
        return cs_nomem(e);
    fprintf(env->out, "Writing SVID #%zu to file %s.\n", i, svid);
    CS_TRY(write_chain(svid, &s->chain, e));
    fprintf(env->out, "Writing key #%zu to file %s.\n", i, key);
    CS_TRY(write_key(key, s->key, e));
    fprintf(env->out, "Writing bundle #%zu to file %s.\n", i, bundle);
    return write_chain(bundle, &s->bundle, e);
}

static cs_code show(struct cli_env *env, const struct fetch_opts *o, const ProtobufCMessage *reply,
                    int64_t took, struct cs_err *e)
{
    CS_CLEANUP(agt_svids_free) struct agt_svids all = {0};
    CS_TRY(agt_svids_parse((const Workload__X509SVIDResponse *)reply, &all, e));
    if (!o->silent)
        CS_TRY(agt_svids_print(env, &all, took, AGT_FETCH, e));
    if (o->write == NULL || o->write[0] == '\0')
        return CS_OK;
    for (size_t i = 0; i < all.count; i++) {
        CS_TRY(write_svid(env, o->write, &all.svid[i], i, e));
        CS_TRY(write_federated(env, o->write, &all, i, e));
    }
    return CS_OK;
}

static cs_code run_fetch(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct fetch_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(agt_session_open(&o->common, o->timeout, &s, e));
    Workload__X509SVIDRequest req = WORKLOAD__X509_SVIDREQUEST__INIT;
    ProtobufCMessage *reply;
    int64_t start = cs_mono_ns(&cs_clock_system);
    CS_TRY(agt_first(s, WORKLOAD_SERVICE "FetchX509SVID", MSG(req), &workload__x509_svidresponse__descriptor,
                     &reply, e));
    int64_t took = cs_mono_ns(&cs_clock_system) - start;
    return o->common.output.json ? cli_print_json(env, reply, e) : show(env, o, reply, took, e);
}

#define COMMAND(name, words)                                                                                 \
    const struct cli_command name = {                                                                        \
        .path = words,                                                                                       \
        .set_name = "fetch x509",                                                                            \
        .synopsis = "Fetches X509 SVIDs from the Workload API",                                              \
        .flags = fetch_flags,                                                                                \
        .opts_size = sizeof(struct fetch_opts),                                                              \
        .run = run_fetch,                                                                                    \
        .quirks = CLI_HELP_SILENT | CLI_FLAG_ERROR_TWICE | CLI_BARE_ERRORS,                                  \
    }
COMMAND(agt_fetch, "api fetch");
COMMAND(agt_fetch_x509, "api fetch x509");
