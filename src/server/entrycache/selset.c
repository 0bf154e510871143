/* SPDX-License-Identifier: Apache-2.0 */
#include "server/entrycache/entrycache.h"

#include <stdlib.h>

struct selset {
    _Atomic uint32_t refs;
    size_t n;
    struct cs_slice *at; /* into text */
    uint8_t *text;
};

static int order(struct cs_slice a, struct cs_slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int d = n > 0 ? memcmp(a.data, b.data, n) : 0;
    return d != 0 ? d : (a.len > b.len) - (a.len < b.len);
}

static int by_bytes(const void *a, const void *b)
{
    return order(*(const struct cs_slice *)a, *(const struct cs_slice *)b);
}

cs_code selset_new(const struct cs_slice *keys, size_t n, struct selset **out, struct cs_err *e)
{
    *out = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += keys[i].len;
    struct selset *s = cs_malloc(sizeof *s + n * sizeof *s->at + bytes + 1);
    if (s == NULL)
        return cs_nomem(e);
    *s = (struct selset){.refs = 1, .at = (struct cs_slice *)(void *)(s + 1)};
    s->text = (uint8_t *)(s->at + n);
    for (size_t i = 0; i < n; i++)
        s->at[i] = keys[i];
    if (n > 0)
        qsort(s->at, n, sizeof *s->at, by_bytes);
    uint8_t *p = s->text;
    for (size_t i = 0; i < n; i++) {
        if (s->n > 0 && cs_slice_eq(s->at[s->n - 1], s->at[i]))
            continue;
        if (s->at[i].len > 0)
            memcpy(p, s->at[i].data, s->at[i].len);
        s->at[s->n++] = cs_slice_of(p, s->at[i].len);
        p += s->at[s->n - 1].len;
    }
    *out = s;
    return CS_OK;
}

struct selset *selset_ref(struct selset *s)
{
    if (s != NULL)
        s->refs++;
    return s;
}

void selset_unref(struct selset *s)
{
    if (s != NULL && --s->refs == 0)
        cs_free(s);
}

size_t selset_len(const struct selset *s)
{
    return s != NULL ? s->n : 0;
}

struct cs_slice selset_at(const struct selset *s, size_t i)
{
    return s->at[i];
}

bool selset_has(const struct selset *s, struct cs_slice key)
{
    return selset_len(s) > 0 && bsearch(&key, s->at, s->n, sizeof *s->at, by_bytes) != NULL;
}
