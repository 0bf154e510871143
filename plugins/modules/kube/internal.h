/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the Kubernetes client.
 */
#ifndef CS_MODULES_KUBE_INTERNAL_H
#define CS_MODULES_KUBE_INTERNAL_H

#include "plugins/modules/http/http.h"
#include "plugins/modules/kube/access.h"

#include <pthread.h>
#include <stdatomic.h>

/* A connection to a server as its files were; shared by the calls under way. */
struct kube_link {
    atomic_uint refs;
    uint8_t digest[32]; /* of all that went into it */
    char *server;
    struct cs_buf authorization; /* secret; a C string, for all threads to read */
    struct http_client *http;
};
void kube_link_unref(struct kube_link *l);
static inline void kube_link_drop(struct kube_link **l)
{
    if (*l != NULL)
        kube_link_unref(*l);
    *l = NULL;
}

struct kube_client {
    struct kube_options o; /* copies of our own */
    struct cs_arena *arena;
    pthread_mutex_t lock; /* over the pointer */
    struct kube_link *link;
};

/* link.c: reads the files again; the old link when nothing changed. */
CS_CHECKED cs_code kube_link_get(struct kube_client *c, struct kube_link **out, struct cs_err *e);

/* client.c: one attempt. on_body as in http_request: for watches. */
struct kube_attempt {
    const struct kube_call *call;
    struct cs_slice body; /* data NULL: none */
    int64_t timeout_ns;
    CS_CHECKED cs_code (*on_body)(void *arg, struct cs_slice piece, struct cs_err *e);
    void *on_body_arg;
};
/* The response may be there in part after an error; http_response_free it. */
CS_CHECKED cs_code kube_attempt_make(struct kube_client *c, const struct kube_attempt *a,
                                     struct http_response *out, struct cs_err *e);
/* The error that a status of failure stands for. */
cs_code kube_status_fail(const struct http_response *r, struct cs_err *e);

#endif
