/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a kubelet's list of pods, in pieces of any size: no crash, and what is kept of it is whole.
 */
#include "plugins/modules/workload_k8s/selectors.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_pod(const struct k8s_pods *l, const struct k8s_pod *p)
{
    size_t malformed = 0;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    if (p->uid[0] == '\0' || k8s_pods_find(l, p->uid) != p)
        abort();
    if (k8s_add_pod(&v, p, NULL) == CS_OK && v.count < 7)
        abort();
    for (size_t i = 0; i < p->container_count; i++)
        if (k8s_add_container(&v, &p->containers[i], NULL) == CS_OK && v.count < 9)
            abort();
    if (k8s_find_container(p, "09bc3d7ade839efe", &malformed) != NULL && p->container_count == 0 &&
        p->init_container_count == 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_AUTO(k8s_reader) r = NULL;
    CS_AUTO(k8s_pods) l = NULL;
    struct cs_err e;
    if (size == 0 || k8s_reader_new(&r, NULL) != CS_OK)
        return 0;
    size_t step = 1 + data[0];
    for (size_t at = 1; at < size; at += step)
        if (k8s_reader_add(r, cs_slice_of(data + at, size - at < step ? size - at : step), &e) != CS_OK)
            return 0;
    if (k8s_reader_end(r, &l, &e) != CS_OK)
        return 0;
    for (size_t i = 0; i < k8s_pods_count(l); i++)
        check_pod(l, k8s_pods_at(l, i));
    return 0;
}
