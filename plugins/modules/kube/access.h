/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an API server is and with what one comes, read from a kubeconfig or from a pod's files.
 */
#ifndef CS_MODULES_KUBE_ACCESS_H
#define CS_MODULES_KUBE_ACCESS_H

#include "base/mem.h"
#include "plugins/modules/kube/kube.h"

/* Zero-initialise; kube_access_free wipes. Texts are NULL when not given. */
struct kube_access {
    char *server; /* "https://10.0.0.1:6443", no slash at the end */
    char *server_name, *proxy;
    struct cs_buf ca;                      /* PEM; empty: the system's */
    struct cs_buf client_cert, client_key; /* PEM; both or none */
    struct cs_buf authorization;           /* "Bearer ..."; empty: none */
    bool insecure;
    /* Said before reading: others take the place of the CA, or of the user, so what is said of it counts
     * nothing and may be missing. */
    bool ca_replaced, user_replaced;
};
void kube_access_free(struct kube_access *a);

/* kubeconfig.c: what a kubeconfig's current context says. `folder` is where relative paths begin, `name` is
 * for texts. Files it names are read. */
CS_CHECKED cs_code kube_access_parse(struct cs_slice text, const char *folder, const char *name,
                                     struct kube_access *out, struct cs_err *e);
/* access.c: all that options say. */
CS_CHECKED cs_code kube_access_read(const struct kube_options *o, struct kube_access *out, struct cs_err *e);

/* credentials.c: a file, whole, into an empty buffer that does not grow. */
CS_CHECKED cs_code kube_file_read(const char *path, struct cs_buf *out, struct cs_err *e);
/* Turns a token, as its file has it, into the header's value, with a NUL behind it. */
CS_CHECKED cs_code kube_bearer(struct cs_slice token, const char *where, struct cs_buf *out,
                               struct cs_err *e);

#endif
