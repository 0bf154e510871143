/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a kubelet's list of pods: no crash, the same in pieces of any size, what is kept is whole, and
 * it is what another reader of JSON finds, if that takes the text.
 */
#include "plugins/modules/workload_k8s/selectors.h"

#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool what)
{
    if (!what)
        abort();
}

static cs_code read_list(struct cs_slice text, size_t step, struct k8s_pods **out, struct cs_err *e)
{
    CS_AUTO(k8s_reader) r = NULL;
    *out = NULL;
    CS_TRY(k8s_reader_new(&r, e));
    for (size_t at = 0; at < text.len; at += step)
        CS_TRY(
            k8s_reader_add(r, cs_slice_of(text.data + at, text.len - at < step ? text.len - at : step), e));
    return k8s_reader_end(r, out, e);
}

/* --- What is kept --- */

static void check_pod(const struct k8s_pods *l, const struct k8s_pod *p)
{
    size_t malformed = 0;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    demand(p->uid[0] != '\0' && k8s_pods_find(l, p->uid) == p);
    demand(k8s_add_pod(&v, p, NULL) != CS_OK || v.count >= 7);
    for (size_t i = 0; i < p->container_count; i++)
        demand(k8s_add_container(&v, &p->containers[i], NULL) != CS_OK || v.count >= 9);
    demand(k8s_find_container(p, "09bc3d7ade839efe", &malformed) == NULL ||
           p->container_count + p->init_container_count > 0);
}

/* --- The same as before --- */

static void same_text(const char *a, const char *b)
{
    demand((a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0));
}

static void same_containers(const struct k8s_container *a, const struct k8s_container *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        same_text(a[i].name, b[i].name);
        same_text(a[i].image, b[i].image);
        same_text(a[i].image_id, b[i].image_id);
        same_text(a[i].id, b[i].id);
    }
}

static void same_pod(const struct k8s_pod *a, const struct k8s_pod *b)
{
    same_text(a->uid, b->uid);
    same_text(a->name, b->name);
    same_text(a->ns, b->ns);
    same_text(a->service_account, b->service_account);
    same_text(a->node, b->node);
    same_text(a->fault, b->fault);
    demand(a->label_count == b->label_count && a->owner_count == b->owner_count &&
           a->container_count == b->container_count && a->init_container_count == b->init_container_count);
    for (size_t i = 0; i < a->label_count; i++) {
        same_text(a->labels[i].key, b->labels[i].key);
        same_text(a->labels[i].value, b->labels[i].value);
    }
    for (size_t i = 0; i < a->owner_count; i++) {
        same_text(a->owners[i].kind, b->owners[i].kind);
        same_text(a->owners[i].name, b->owners[i].name);
        same_text(a->owners[i].uid, b->owners[i].uid);
    }
    same_containers(a->containers, b->containers, a->container_count);
    same_containers(a->init_containers, b->init_containers, a->init_container_count);
}

static void same_list(const struct k8s_pods *a, const struct k8s_pods *b)
{
    demand(k8s_pods_count(a) == k8s_pods_count(b) && k8s_pods_nameless(a) == k8s_pods_nameless(b));
    for (size_t i = 0; i < k8s_pods_count(a); i++)
        same_pod(k8s_pods_at(a, i), k8s_pods_at(b, i));
}

/* --- What jansson finds --- */

static bool given(const json_t *v)
{
    return v != NULL && !json_is_null(v);
}

static bool has_nul(const json_t *v)
{
    return strlen(json_string_value(v)) != json_string_length(v);
}

/* Any kind but the right one, or null, is a fault. */
static bool find_text(const json_t *of, const char *key, const char *have)
{
    const json_t *v = json_object_get(of, key);
    if (given(v) && (!json_is_string(v) || has_nul(v)))
        return false;
    same_text(given(v) ? json_string_value(v) : "", have);
    return true;
}

/* What is given and not of that type is a fault. *count: elements that are not null, which are none. */
static bool find_array(const json_t *of, const char *key, const json_t **list, size_t *count)
{
    *list = json_object_get(of, key);
    *count = 0;
    if (given(*list) && !json_is_array(*list))
        return false;
    for (size_t i = 0; i < json_array_size(*list); i++) {
        const json_t *v = json_array_get(*list, i);
        if (given(v) && !json_is_object(v))
            return false;
        *count += given(v);
    }
    return true;
}

static bool find_containers(const json_t *status, const char *key, const struct k8s_container *at,
                            size_t count)
{
    const json_t *list;
    size_t found, i = 0;
    if (!find_array(status, key, &list, &found))
        return false;
    demand(found == count);
    for (size_t k = 0; k < json_array_size(list); k++) {
        const json_t *v = json_array_get(list, k);
        if (given(v) && (!find_text(v, "name", at[i].name) || !find_text(v, "image", at[i].image) ||
                         !find_text(v, "imageID", at[i].image_id) || !find_text(v, "containerID", at[i].id)))
            return false;
        i += given(v);
    }
    return true;
}

static bool find_owners(const json_t *metadata, const struct k8s_pod *p)
{
    const json_t *list;
    size_t found, i = 0;
    if (!find_array(metadata, "ownerReferences", &list, &found))
        return false;
    demand(found == p->owner_count);
    for (size_t k = 0; k < json_array_size(list); k++) {
        const json_t *v = json_array_get(list, k);
        if (given(v) && (!find_text(v, "kind", p->owners[i].kind) ||
                         !find_text(v, "name", p->owners[i].name) || !find_text(v, "uid", p->owners[i].uid)))
            return false;
        i += given(v);
    }
    return true;
}

static bool find_labels(json_t *labels, const struct k8s_pod *p)
{
    const char *key;
    json_t *v;
    size_t i = 0;
    if (given(labels) && !json_is_object(labels))
        return false;
    json_object_foreach(labels, key, v)
    {
        if (given(v) && (!json_is_string(v) || has_nul(v)))
            return false;
    }
    demand(json_object_size(labels) == p->label_count);
    json_object_foreach(labels, key, v)
    {
        for (i = 0; i < p->label_count && strcmp(p->labels[i].key, key) != 0; i++)
            ;
        demand(i < p->label_count);
        same_text(p->labels[i].value, given(v) ? json_string_value(v) : "");
    }
    return true;
}

static bool find_pod(const json_t *pod, const struct k8s_pod *p)
{
    const json_t *metadata = json_object_get(pod, "metadata"), *spec = json_object_get(pod, "spec"),
                 *status = json_object_get(pod, "status");
    if ((given(spec) && !json_is_object(spec)) || (given(status) && !json_is_object(status)))
        return false;
    return find_text(metadata, "name", p->name) && find_text(metadata, "namespace", p->ns) &&
           find_text(spec, "serviceAccountName", p->service_account) &&
           find_text(spec, "nodeName", p->node) && find_labels(json_object_get(metadata, "labels"), p) &&
           find_owners(metadata, p) &&
           find_containers(status, "containerStatuses", p->containers, p->container_count) &&
           find_containers(status, "initContainerStatuses", p->init_containers, p->init_container_count);
}

/* "": it has none. */
static const char *uid_of(const json_t *pod)
{
    const json_t *uid = json_object_get(json_object_get(pod, "metadata"), "uid");
    return json_is_string(uid) && !has_nul(uid) ? json_string_value(uid) : "";
}

static bool is_there_twice(const json_t *items, size_t at)
{
    for (size_t i = 0; i < json_array_size(items); i++)
        if (i != at && strcmp(uid_of(json_array_get(items, i)), uid_of(json_array_get(items, at))) == 0)
            return true;
    return false;
}

static void find_list(const json_t *root, const struct k8s_pods *l)
{
    const json_t *items = json_object_get(root, "items");
    size_t nameless = 0;
    demand(json_is_object(root) && (json_is_array(items) || json_is_null(items)));
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *pod = json_array_get(items, i);
        if (uid_of(pod)[0] == '\0') {
            nameless++;
            continue;
        }
        const struct k8s_pod *p = k8s_pods_find(l, uid_of(pod));
        demand(p != NULL);
        if (!is_there_twice(items, i))
            demand(find_pod(pod, p) == (p->fault == NULL));
    }
    demand(k8s_pods_nameless(l) == nameless && k8s_pods_count(l) <= json_array_size(items));
}

/* Whether it was refused for what it is, and not for JSON that is none or too much. */
static bool of_wrong_kind(const struct cs_err *e)
{
    return strstr(e->text, "invalid kubelet response: ") != NULL;
}

static void check_against_jansson(struct cs_slice text, const struct k8s_pods *l, const struct cs_err *e)
{
    json_t *root =
        json_loadb((const char *)text.data, text.len,
                   JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
    if (root == NULL)
        return;
    if (l != NULL)
        find_list(root, l);
    else
        demand(of_wrong_kind(e) || strstr(e->text, "nested deeper") != NULL ||
               strstr(e->text, "a word or number of more than") != NULL);
    if (l == NULL && of_wrong_kind(e))
        demand(!json_is_object(root) || !(json_is_array(json_object_get(root, "items")) ||
                                          json_is_null(json_object_get(root, "items"))));
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_AUTO(k8s_pods) whole = NULL;
    if (size < 2)
        return 0;
    const struct cs_slice text = cs_slice_of(data + 1, size - 1);
    struct cs_err fault = {0};
    const cs_code rc = read_list(text, text.len, &whole, &fault);
    const size_t steps[] = {1, 2 + (size_t)data[0], 64};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        CS_AUTO(k8s_pods) l = NULL;
        struct cs_err e = {0};
        demand(read_list(text, steps[i], &l, &e) == rc);
        if (rc == CS_OK)
            same_list(whole, l);
        else
            same_text(fault.text, e.text);
    }
    for (size_t i = 0; rc == CS_OK && i < k8s_pods_count(whole); i++)
        check_pod(whole, k8s_pods_at(whole, i));
    check_against_jansson(text, whole, &fault);
    return 0;
}
