/* SPDX-License-Identifier: Apache-2.0
 *
 * The kubelet's list of pods, read as it comes in: of each pod only what selectors are made of is kept. A
 * finished list never changes and is shared by reference count.
 */
#ifndef CS_MODULES_WORKLOAD_K8S_PODS_H
#define CS_MODULES_WORKLOAD_K8S_PODS_H

#include "base/buf.h"

#define K8S_PODS_MAX 16384                   /* a node has a few hundred */
#define K8S_PODS_KEPT_MAX ((size_t)64 << 20) /* bytes of what is kept of it */
#define K8S_POD_KEPT_MAX ((size_t)128 << 10) /* of one pod: a larger one has a fault */

struct k8s_container {
    const char *name, *image, *image_id;
    const char *id; /* "containerd://0123..."; "" while there is none */
};
struct k8s_owner {
    const char *kind, *name, *uid;
};
struct k8s_label {
    const char *key, *value;
};
/* Texts are "" when not given. */
struct k8s_pod {
    const char *uid, *name, *ns, *service_account, *node;
    const struct k8s_label *labels;
    const struct k8s_owner *owners;
    const struct k8s_container *containers, *init_containers; /* from the pod's status */
    size_t label_count, owner_count, container_count, init_container_count;
    const char *fault; /* a part that is not what it should be: "metadata.name is not a string"; NULL: none */
};

/* Any thread. */
struct k8s_pods;
size_t k8s_pods_count(const struct k8s_pods *l);
const struct k8s_pod *k8s_pods_at(const struct k8s_pods *l, size_t i); /* sorted by UID, each UID once */
const struct k8s_pod *k8s_pods_find(const struct k8s_pods *l, const char *uid); /* NULL: not there */
size_t k8s_pods_nameless(const struct k8s_pods *l); /* how many had no UID and were left out */
struct k8s_pods *k8s_pods_ref(struct k8s_pods *l);
void k8s_pods_unref(struct k8s_pods *l); /* NULL is fine */
static inline void k8s_pods_drop(struct k8s_pods **l)
{
    k8s_pods_unref(*l);
    *l = NULL;
}

/* One list being read; one thread. */
struct k8s_reader;
CS_CHECKED cs_code k8s_reader_new(struct k8s_reader **out, struct cs_err *e);
/* CS_INVALID: `unable to parse kubelet response: ...`, `invalid kubelet response: expected an items array`;
 * CS_EXHAUSTED: past one of the limits above. No call may follow an error but k8s_reader_free. */
CS_CHECKED cs_code k8s_reader_add(struct k8s_reader *r, struct cs_slice piece, struct cs_err *e);
CS_CHECKED cs_code k8s_reader_end(struct k8s_reader *r, struct k8s_pods **out, struct cs_err *e);
void k8s_reader_free(struct k8s_reader *r); /* NULL is fine */
static inline void k8s_reader_drop(struct k8s_reader **r)
{
    k8s_reader_free(*r);
    *r = NULL;
}

#endif
