/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/workload_k8s/selectors.h"

#include <stdio.h>

static bool is_scheme(const char *text, const char *end)
{
    for (const char *p = text; p < end; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');
        bool other = (*p >= '0' && *p <= '9') || *p == '+' || *p == '-' || *p == '.';
        if (!letter && (p == text || !other))
            return false;
    }
    return end > text;
}

/* What is between "scheme://" and the next slash. */
static bool id_of(const char *url, struct cs_slice *out)
{
    const char *mark = strstr(url, "://");
    if (mark == NULL || !is_scheme(url, mark))
        return false;
    *out = cs_slice_of(mark + 3, strcspn(mark + 3, "/?#"));
    return true;
}

static const struct k8s_container *find_in(const struct k8s_container *at, size_t count, const char *id,
                                           size_t *malformed)
{
    for (size_t i = 0; i < count; i++) {
        struct cs_slice have;
        if (at[i].id[0] == '\0') /* not started yet */
            continue;
        if (!id_of(at[i].id, &have))
            (*malformed)++;
        else if (cs_slice_is(have, id))
            return &at[i];
    }
    return NULL;
}

const struct k8s_container *k8s_find_container(const struct k8s_pod *p, const char *id, size_t *malformed)
{
    const struct k8s_container *c = find_in(p->containers, p->container_count, id, malformed);
    return c != NULL ? c : find_in(p->init_containers, p->init_container_count, id, malformed);
}

static bool used_before(const struct k8s_container *at, size_t i, const char *image)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(at[k].image, image) == 0 || strcmp(at[k].image_id, image) == 0)
            return true;
    return false;
}

/* Each image by its name and by its digest, as both are used in entries; each value once. */
static cs_code add_images(struct workloadattestor_values *out, const char *kind,
                          const struct k8s_container *at, size_t count, struct cs_err *e)
{
    for (size_t i = 0; i < count; i++) {
        if (!used_before(at, i, at[i].image_id))
            CS_TRY(workloadattestor_add(out, kind, at[i].image_id, e));
        if (strcmp(at[i].image, at[i].image_id) != 0 && !used_before(at, i, at[i].image))
            CS_TRY(workloadattestor_add(out, kind, at[i].image, e));
    }
    return CS_OK;
}

/* KIND:KEY:VALUE */
static cs_code add_pair(struct workloadattestor_values *out, const char *kind, const char *key,
                        const char *value, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pair = {0};
    cs_buf_printf(&pair, "%s:%s", kind, key);
    return cs_buf_ok(&pair) ? workloadattestor_add(out, cs_buf_cstr(&pair), value, e) : cs_nomem(e);
}

static cs_code add_count(struct workloadattestor_values *out, const char *kind, size_t n, struct cs_err *e)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%zu", n);
    return workloadattestor_add(out, kind, text, e);
}

cs_code k8s_add_pod(struct workloadattestor_values *out, const struct k8s_pod *p, struct cs_err *e)
{
    CS_TRY(workloadattestor_add(out, "sa", p->service_account, e));
    CS_TRY(workloadattestor_add(out, "ns", p->ns, e));
    CS_TRY(workloadattestor_add(out, "node-name", p->node, e));
    CS_TRY(workloadattestor_add(out, "pod-uid", p->uid, e));
    CS_TRY(workloadattestor_add(out, "pod-name", p->name, e));
    CS_TRY(add_count(out, "pod-image-count", p->container_count, e));
    CS_TRY(add_count(out, "pod-init-image-count", p->init_container_count, e));
    CS_TRY(add_images(out, "pod-image", p->containers, p->container_count, e));
    CS_TRY(add_images(out, "pod-init-image", p->init_containers, p->init_container_count, e));
    for (size_t i = 0; i < p->label_count; i++)
        CS_TRY(add_pair(out, "pod-label", p->labels[i].key, p->labels[i].value, e));
    for (size_t i = 0; i < p->owner_count; i++) {
        CS_TRY(add_pair(out, "pod-owner", p->owners[i].kind, p->owners[i].name, e));
        CS_TRY(add_pair(out, "pod-owner-uid", p->owners[i].kind, p->owners[i].uid, e));
    }
    return CS_OK;
}

cs_code k8s_add_container(struct workloadattestor_values *out, const struct k8s_container *c,
                          struct cs_err *e)
{
    CS_TRY(workloadattestor_add(out, "container-name", c->name, e));
    return add_images(out, "container-image", c, 1, e);
}
