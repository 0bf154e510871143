/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the credentials are: in a kubeconfig, in a pod's service account, in files that replace those.
 */
#include "plugins/modules/kube/access.h"

#include <stdlib.h>

#define SERVICE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

void kube_access_free(struct kube_access *a)
{
    cs_free(a->server);
    cs_free(a->server_name);
    cs_free(a->proxy);
    cs_buf_free(&a->ca);
    cs_buf_free(&a->client_cert);
    cs_buf_wipe(&a->client_key);
    cs_buf_wipe(&a->authorization);
    *a = (struct kube_access){0};
}

/* --- In a pod --- */

static cs_code read_in_cluster(const struct kube_options *o, struct kube_access *out, struct cs_err *e)
{
    const char *folder = o->service_account_dir != NULL ? o->service_account_dir : SERVICE_ACCOUNT_DIR;
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    if (host == NULL || port == NULL || host[0] == '\0' || port[0] == '\0')
        return cs_fail(e, CS_PRECONDITION,
                       "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and "
                       "KUBERNETES_SERVICE_PORT must be defined");
    out->server = cs_asprintf(strchr(host, ':') != NULL ? "https://[%s]:%s" : "https://%s:%s", host, port);
    CS_CLEANUP(cs_freep) char *token_path = cs_asprintf("%s/token", folder);
    CS_CLEANUP(cs_freep) char *ca_path = cs_asprintf("%s/ca.crt", folder);
    if (out->server == NULL || token_path == NULL || ca_path == NULL)
        return cs_nomem(e);
    CS_CLEANUP(cs_buf_wipe) struct cs_buf token = {0};
    CS_TRY(kube_file_read(token_path, &token, e));
    CS_TRY(kube_bearer(cs_buf_slice(&token), token_path, &out->authorization, e));
    return kube_file_read(ca_path, &out->ca, e);
}

/* --- A kubeconfig --- */

static cs_code read_kubeconfig(const char *path, struct kube_access *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    CS_CLEANUP(cs_freep) char *folder = cs_strdup(path);
    if (folder == NULL)
        return cs_nomem(e);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        *slash = '\0';
    CS_TRY(kube_file_read(path, &text, e));
    const char *where = slash == NULL ? "." : folder[0] != '\0' ? folder : "/";
    return kube_access_parse(cs_buf_slice(&text), where, path, out, e);
}

/* --- Files that replace what a kubeconfig says --- */

static cs_code replace(const struct kube_options *o, struct kube_access *out, struct cs_err *e)
{
    if ((o->client_cert_file != NULL) != (o->client_key_file != NULL))
        return cs_fail(e, CS_INVALID, "a client certificate needs its private key, and the other way round");
    if (o->ca_file != NULL) {
        cs_buf_free(&out->ca);
        out->insecure = false;
        CS_TRY(kube_file_read(o->ca_file, &out->ca, e));
    }
    if (o->client_cert_file != NULL) {
        cs_buf_free(&out->client_cert);
        cs_buf_wipe(&out->client_key);
        cs_buf_wipe(&out->authorization);
        CS_TRY(kube_file_read(o->client_cert_file, &out->client_cert, e));
        CS_TRY(kube_file_read(o->client_key_file, &out->client_key, e));
    }
    return CS_OK;
}

cs_code kube_access_read(const struct kube_options *o, struct kube_access *out, struct cs_err *e)
{
    if (o->kubeconfig == NULL || o->kubeconfig[0] == '\0') {
        CS_TRY(read_in_cluster(o, out, e));
    } else {
        out->ca_replaced = o->ca_file != NULL;
        out->user_replaced = o->client_cert_file != NULL;
        CS_TRY(read_kubeconfig(o->kubeconfig, out, e));
    }
    CS_TRY(replace(o, out, e));
    if (out->authorization.len > 0 && strncmp(out->server, "https://", 8) != 0)
        return cs_fail(e, CS_INVALID, "the token would be sent to %s in the clear", out->server);
    return CS_OK;
}
