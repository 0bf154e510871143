/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/upstreamauthority.h"

#include "base/mem.h"

static cs_code append(struct cs_buf **list, size_t *count, struct cs_slice der)
{
    struct cs_buf *grown = cs_realloc(*list, (*count + 1) * sizeof *grown);
    if (grown == NULL)
        return CS_INTERNAL;
    *list = grown;
    grown[*count] = (struct cs_buf){0};
    cs_buf_add_slice(&grown[*count], der);
    if (!cs_buf_ok(&grown[*count])) {
        cs_buf_free(&grown[*count]);
        return CS_INTERNAL;
    }
    (*count)++;
    return CS_OK;
}

cs_code upstreamauthority_result_add_cert(struct upstreamauthority_result *r, struct cs_slice der)
{
    return append(&r->chain, &r->chain_count, der);
}

cs_code upstreamauthority_result_add_root(struct upstreamauthority_result *r, struct cs_slice der,
                                          bool tainted)
{
    bool *flags = cs_realloc(r->roots_tainted, (r->root_count + 1) * sizeof *flags);
    if (flags == NULL)
        return CS_INTERNAL;
    r->roots_tainted = flags;
    flags[r->root_count] = tainted;
    return append(&r->roots, &r->root_count, der);
}

void upstreamauthority_result_free(struct upstreamauthority_result *r)
{
    for (size_t i = 0; i < r->chain_count; i++)
        cs_buf_free(&r->chain[i]);
    for (size_t i = 0; i < r->root_count; i++)
        cs_buf_free(&r->roots[i]);
    cs_free(r->chain);
    cs_free(r->roots);
    cs_free(r->roots_tainted);
    *r = (struct upstreamauthority_result){0};
}
